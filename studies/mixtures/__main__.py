"""``python -m studies.mixtures`` runs the study in ``studies/mixtures/__init__.py``."""

from studies.mixtures import main

raise SystemExit(main())
