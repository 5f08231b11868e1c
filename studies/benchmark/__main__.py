"""``python -m studies.benchmark`` runs the study in ``studies/benchmark/__init__.py``."""

from studies.benchmark import main

raise SystemExit(main())
