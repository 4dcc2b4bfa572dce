"""What the frozen window starts with."""

import sys

from aegis_gui.app import main

sys.exit(main())
