"""``python -m studies.mixtures`` runs the study in ``studies/mixtures/__init__.py``."""

import sys

from studies.mixtures import main

sys.exit(main())
