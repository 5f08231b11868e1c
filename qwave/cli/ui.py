"""``qwave ui``: the MLflow UI and optuna-dashboard of a store, both at once.

qwave ui [--store DIR] [--mlflow-port N] [--optuna-port N]
"""

from __future__ import annotations

import argparse

from qwave.cli.running import add_store

SUMMARY = "open the MLflow UI and optuna-dashboard of a store"
DESCRIPTION = (
    "Serve the MLflow UI and optuna-dashboard of a store on this machine alone (127.0.0.1), and "
    "print their addresses. Ctrl-C ends both. A port that is in use is replaced by a free one."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``qwave ui``."""
    add_store(parser)
    parser.add_argument("--mlflow-port", type=int, default=5000, metavar="N", help="default: 5000")
    parser.add_argument("--optuna-port", type=int, default=8080, metavar="N", help="default: 8080")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; returns 130 then, and 1 if a server ended by itself.

    Raises:
        StoreError: There is no such store.
    """
    from qwave.cli.serving import serve

    return serve(arguments)
