"""``python -m studies.latency`` runs the study in ``studies/latency/__init__.py``."""

from studies.latency import main

raise SystemExit(main())
