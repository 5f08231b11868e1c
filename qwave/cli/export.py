"""``qwave export``: models of a finished search, refitted, packed, proven, described, registered.

qwave export TRIAL | --front | --budget 50kB [--sweep NAME] [--store DIR] [--out DIR|FILE.qwave]
    [--no-refit] [--onnx] [--no-register] [--device cpu|cuda|mps] [--json]
"""

from __future__ import annotations

import argparse

from qwave.cli.running import add_device, add_store, say
from qwave.config import ConfigError
from qwave.text import typed_path

SUMMARY = "hand over models of a finished search"
DESCRIPTION = (
    "Train a trial of a finished search on all rows, pack it, prove that the file predicts what "
    "was trained, calibrate its probabilities, and write it with a model card."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``qwave export``."""
    switch = argparse.BooleanOptionalAction
    which = parser.add_argument_group("which model (one of these)")
    which.add_argument("trial", metavar="TRIAL", nargs="?", type=int, help="a trial's number")
    which.add_argument("--front", action="store_true", help="every member of the front")
    which.add_argument("--budget", metavar="SIZE", help="the best that fits: 50kB, 2000, 20KiB")
    parser.add_argument("--sweep", default="moe_pareto", help="default: moe_pareto")
    add_store(parser)
    parser.add_argument(
        "--out",
        type=typed_path,
        help="the folder that models are written in (default: models/SWEEP in the store), or "
        "FILE.qwave for a copy of the one model",
    )
    parser.add_argument(
        "--refit",
        action=switch,
        default=True,
        help="train on all rows (default), or take the model of the first fold",
    )
    parser.add_argument(
        "--onnx", action="store_true", help="write model.onnx too: probabilities and routes"
    )
    parser.add_argument(
        "--register", action=switch, default=True, help="register it in MLflow (default)"
    )
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Export what was asked for, and say where it is; returns 0, or 1 if a proof failed.

    Raises:
        QwaveError: Wrong input.
    """
    given = [arguments.trial is not None, arguments.front, arguments.budget is not None]
    if sum(given) != 1:
        raise ConfigError(
            f"say which model, in one of three ways, but got {sum(given)} of them: `qwave export "
            "12` (a trial's number), `qwave export --front` (every member of the front), or "
            "`qwave export --budget 50kB` (the most accurate that fits)"
        )
    say(arguments, f"{arguments.store}: reading the search {arguments.sweep!r}")
    from qwave.cli.exporting import export_and_show

    return export_and_show(arguments)
