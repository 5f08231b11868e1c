"""``python -m studies.confirm``: the study in `studies/confirm/__init__.py`."""

import sys

from studies.confirm import main

if __name__ == "__main__":
    sys.exit(main())
