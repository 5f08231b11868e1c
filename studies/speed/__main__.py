"""``python -m studies.speed`` runs the study in ``studies/speed/__init__.py``."""

from studies.speed import main

raise SystemExit(main())
