"""``python -m studies.benchmark``: the study in `studies/benchmark/__init__.py`."""

import sys

from studies.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
