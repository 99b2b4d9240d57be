"""``python -m agentwrap_viewer`` is the command ``agentwrap``."""

import sys

from .cli import main

sys.exit(main())
