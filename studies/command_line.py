"""The arguments that the studies share."""

from __future__ import annotations

import argparse

from qwave.cli.running import EXIT_CODES, add_device, add_store, add_talk


def study_parser(name: str, description: str, default: str) -> argparse.ArgumentParser:
    """The arguments that every study has; `default` names its YAML file."""
    parser = argparse.ArgumentParser(
        prog=f"python -m studies.{name}", description=description, epilog=EXIT_CODES
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="STUDY.yaml | key=value",
        help=f"the study (default {default}) and overrides such as train.epochs=20",
    )
    add_store(parser)
    add_device(parser)
    parser.add_argument("--smoke", action="store_true", help="the same path: few, short trials")
    parser.add_argument("--fresh", action="store_true", help="train again what the store holds")
    add_talk(parser)
    return parser
