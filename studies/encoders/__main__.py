"""``python -m studies.encoders`` runs the study in ``studies/encoders/__init__.py``."""

from studies.encoders import main

raise SystemExit(main())
