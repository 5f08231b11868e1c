"""What the studies' command lines share: their arguments, errors for people, exit codes."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from qwave.config import ConfigError, QwaveError
from qwave.sweep import StudyStoppedError, WorkerLostError
from qwave.text import escape_what_cannot_be_encoded, for_terminal


def study_parser(name: str, description: str, default: str) -> argparse.ArgumentParser:
    """The arguments that every study has; `default` is its YAML file."""
    parser = argparse.ArgumentParser(prog=f"python -m studies.{name}", description=description)
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="STUDY.yaml | key=value",
        help=f"the study (default {default}) and overrides such as train.epochs=20",
    )
    parser.add_argument("--store", type=Path, default=Path("mlruns"), help="default: mlruns")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or mps")
    parser.add_argument("--smoke", action="store_true", help="the same path in a minute or two")
    parser.add_argument("--fresh", action="store_true", help="train again what the store holds")
    return parser


def split_positionals(arguments: Sequence[str], default: str) -> tuple[str, list[str]]:
    """The YAML file and the overrides among the positional arguments."""
    files = [argument for argument in arguments if "=" not in argument]
    if len(files) > 1:
        raise ConfigError(f"one YAML file at a time, but got {', '.join(files)}")
    return (files or [default])[0], [a for a in arguments if "=" in a]


def guarded(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a study; returns its exit code: 0 done, 1 a worker was lost, 2 wrong input, 130
    stopped."""
    escape_what_cannot_be_encoded(sys.stdout)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_note
            return run(arguments)
    except QwaveError as error:
        print(f"error: {for_terminal(error, keeps_lines=True)}", file=sys.stderr)
        return 2
    except WorkerLostError as error:
        print(f"error: {for_terminal(error, keeps_lines=True)}", file=sys.stderr)
        return 1
    except StudyStoppedError as error:
        print(for_terminal(error, keeps_lines=True), file=sys.stderr)
        return 130
    except KeyboardInterrupt:  # before the study began: while clips were embedded
        print("stopped", file=sys.stderr)
        return 130


def _show_note(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a person wants to read it."""
    print(f"note: {for_terminal(message, keeps_lines=True)}", file=sys.stderr)
