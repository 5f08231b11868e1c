"""The command ``qwave``. Every sub-command is a module with `SUMMARY`, `add_arguments` and `run`.

Those modules import what they need when they run: ``--help`` takes a tenth of a second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType

from qwave.cli import embed, export, front, predict, search, ui
from qwave.cli.running import add_talk, run_command

_COMMANDS: dict[str, ModuleType] = {
    "search": search,
    "front": front,
    "export": export,
    "predict": predict,
    "embed": embed,
    "ui": ui,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Returns:
        The exit code: 0 done; 1 no model, a model failed its proof, or some clips could not be
        decoded; 2 wrong input; 130 stopped by Ctrl-C; 141 nobody reads stdout any more. Arguments
        that do not parse end the program with 2, as argparse does.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in _COMMANDS:
        command = _COMMANDS[words[0]]
        # Options may stand between positional arguments, which sub-parsers do not allow.
        arguments = command_parser(words[0], command).parse_intermixed_args(words[1:])
        return run_command(command.run, arguments)
    _overview().parse_args(words)
    raise AssertionError("without a command, argparse ends the program")


def command_parser(name: str, command: ModuleType) -> argparse.ArgumentParser:
    """The arguments of one command."""
    parser = argparse.ArgumentParser(
        prog=f"qwave {name}",
        description=command.DESCRIPTION,
        epilog=getattr(command, "EPILOG", None),
    )
    command.add_arguments(parser)
    add_talk(parser)
    return parser


def _overview() -> argparse.ArgumentParser:
    """What ``qwave --help`` shows."""
    parser = argparse.ArgumentParser(
        prog="qwave", description="Quantized mixtures of experts on audio embeddings."
    )
    version = metadata.version("qwave")
    parser.add_argument("--version", action="version", version=f"qwave {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        commands.add_parser(name, help=command.SUMMARY)
    return parser
