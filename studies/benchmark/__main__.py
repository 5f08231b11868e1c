"""``python -m studies.benchmark`` runs the study in ``studies/benchmark/__init__.py``."""

import sys

from studies.benchmark import main

sys.exit(main())
