"""``qwave front``: the accuracy-vs-size fronts that a store holds.

qwave front [--sweep NAME] [--store DIR] [--csv | --json]
"""

from __future__ import annotations

import argparse

from qwave.cli.running import add_store

SUMMARY = "print the fronts of finished searches"
DESCRIPTION = (
    "Print, for every search that the store holds, the models of its front, smallest first. "
    "Nothing is written; the store may be in use."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``qwave front``."""
    parser.add_argument("--sweep", metavar="NAME", help="only this search (default: all)")
    add_store(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="comma-separated values on stdout")
    form.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Print the fronts; returns 0, or 1 where no search has a trained trial yet.

    Raises:
        StoreError: There is no such store, or no such study in it.
    """
    from qwave.cli.fronts import show_fronts

    return show_fronts(arguments)
