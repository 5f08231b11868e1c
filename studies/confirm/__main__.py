"""``python -m studies.confirm`` runs the study in ``studies/confirm/__init__.py``."""

from studies.confirm import main

raise SystemExit(main())
