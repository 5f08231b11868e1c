"""``python -m studies.encoders``: the study in `studies/encoders/__init__.py`."""

import sys

from studies.encoders import main

if __name__ == "__main__":
    sys.exit(main())
