"""``python -m studies.confirm`` runs the study in ``studies/confirm/__init__.py``."""

import sys

from studies.confirm import main

sys.exit(main())
