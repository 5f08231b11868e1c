"""Runnable questions: ``python -m studies.<name>``."""
