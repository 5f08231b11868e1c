"""``python -m studies.curiosity``: the study in `studies/curiosity/__init__.py`."""

import sys

from studies.curiosity import main

if __name__ == "__main__":
    sys.exit(main())
