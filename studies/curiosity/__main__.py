"""``python -m studies.curiosity`` runs the study in ``studies/curiosity/__init__.py``."""

from studies.curiosity import main

raise SystemExit(main())
