"""`python -m aegis_core` is the same program as `aegis`."""

import sys

from .cli import main

sys.exit(main())
