"""``qwave search``: how accurate can a classifier be at every size? The Pareto front of a sweep.

qwave search [SWEEP.yaml] [dotted.key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--trials N] [--smoke] [--fresh] [--retry-failed] [--dry-run] [--json]
"""

from __future__ import annotations

import argparse

from qwave.cli.running import EXIT_CODES, add_device, add_retry, add_store, say

SUMMARY = "find how accurate a classifier can be at every size"
DESCRIPTION = (
    "Search the accuracy-vs-size Pareto front of a sweep. Every trial is a full cross-validation "
    "and is logged to MLflow. Stopped at any point, the same command goes on."
)
EPILOG = EXIT_CODES
DEFAULT_SWEEP = "moe_pareto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``qwave search``."""
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="SWEEP.yaml | key=value",
        help=f"the sweep (default {DEFAULT_SWEEP}) and overrides such as data.path=my_clips",
    )
    add_store(parser)
    add_device(parser)
    parser.add_argument("--trials", type=int, metavar="N", help="instead of budget.n_trials")
    parser.add_argument("--smoke", action="store_true", help="the same path: few, short trials")
    parser.add_argument("--fresh", action="store_true", help="drop the sweep's earlier trials")
    add_retry(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Search; returns 0 where there is a front, 1 where no trial was trained, 130 if stopped.

    Raises:
        QwaveError: Wrong input.
    """
    from qwave.space.sweep_file import split_positionals

    path, overrides = split_positionals(arguments.arguments, DEFAULT_SWEEP)
    # Before the libraries are loaded, which takes seconds on a cold disk.
    say(arguments, f"{path}: checking the sweep and its data")
    from qwave.cli.searching import search_and_show

    return search_and_show(path, overrides, arguments)
