"""``python -m qwave`` is the command ``qwave``."""

import sys

from qwave.cli import main

if __name__ == "__main__":
    sys.exit(main())
