"""`python -m aegis_gui`: the window."""

import sys

from .app import main

sys.exit(main())
