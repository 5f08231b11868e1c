"""``python -m studies.speed``: the study in `studies/speed/__init__.py`."""

import sys

from studies.speed import main

if __name__ == "__main__":
    sys.exit(main())
