"""What the program `aegis` beside the frozen window starts with."""

import sys

from aegis_core.engine.terminal import main

sys.exit(main())
