"""``python -m studies.encoders`` runs the study in ``studies/encoders/__init__.py``."""

import sys

from studies.encoders import main

sys.exit(main())
