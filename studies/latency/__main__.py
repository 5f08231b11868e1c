"""``python -m studies.latency``: the study in `studies/latency/__init__.py`."""

import sys

from studies.latency import main

if __name__ == "__main__":
    sys.exit(main())
