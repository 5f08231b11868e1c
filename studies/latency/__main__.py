"""``python -m studies.latency`` runs the study in ``studies/latency/__init__.py``."""

import sys

from studies.latency import main

sys.exit(main())
