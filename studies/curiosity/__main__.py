"""``python -m studies.curiosity`` runs the study in ``studies/curiosity/__init__.py``."""

import sys

from studies.curiosity import main

sys.exit(main())
