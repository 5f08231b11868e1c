"""``python -m studies.speed`` runs the study in ``studies/speed/__init__.py``."""

import sys

from studies.speed import main

sys.exit(main())
