"""The command ``qwave``. Every sub-command is a module with `SUMMARY`, `add_arguments` and `run`.

Those modules import what they need when they run: ``qwave --help`` takes a tenth of a second.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata

from qwave.cli import embed, export, predict
from qwave.config import QwaveError
from qwave.text import escape_what_cannot_be_encoded, for_terminal

_COMMANDS = {"embed": embed, "export": export, "predict": predict}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Returns:
        The exit code: 0 done, 1 a model failed its proof or some clips could not be decoded,
        2 wrong input, 130 stopped by Ctrl-C, 141 nobody reads stdout any more. Arguments that do
        not parse end the program with 2, as argparse does.
    """
    escape_what_cannot_be_encoded(sys.stdout)
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_note
            return int(arguments.run(arguments))
    except QwaveError as error:
        sys.stderr.write(f"error: {for_terminal(error, keeps_lines=True)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except BrokenPipeError:  # what `| head` does when it has seen enough
        # The interpreter flushes stdout when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qwave", description="Quantized mixtures of experts on audio embeddings."
    )
    version = metadata.version("qwave")
    parser.add_argument("--version", action="version", version=f"qwave {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        sub_parser = commands.add_parser(
            name, help=command.SUMMARY, description=command.DESCRIPTION
        )
        command.add_arguments(sub_parser)
        sub_parser.set_defaults(run=command.run)
    return parser


def _show_note(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a person wants to read it."""
    sys.stderr.write(f"note: {for_terminal(message, keeps_lines=True)}\n")
