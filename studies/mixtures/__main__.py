"""``python -m studies.mixtures``: the study in `studies/mixtures/__init__.py`."""

import sys

from studies.mixtures import main

if __name__ == "__main__":
    sys.exit(main())
