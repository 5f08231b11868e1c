"""What all commands share: options of the store and of talking, and how a command ends."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from qwave.config import QwaveError
from qwave.text import escape_what_cannot_be_encoded, for_terminal, typed_path

EXIT_CODES = (
    "Exit codes: 0 done; 1 no model: the trials failed, or a worker was lost; 2 wrong input; "
    "130 stopped by Ctrl-C or SIGTERM."
)
_BROKEN_PIPE = 141


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add ``--store DIR``, which becomes a path; `Store.at` makes it a store.

    The value itself is not made here: help must not wait for what a store needs.
    """
    parser.add_argument("--store", type=typed_path, default=Path("mlruns"), help="default: mlruns")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or mps")


def add_retry(parser: argparse.ArgumentParser) -> None:
    """Add ``--retry-failed``, for commands that search: failed trials count as trials."""
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="train again what failed; until then failed trials use up the number of trials",
    )


def add_talk(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet`` and ``--verbose``, of which one can be given."""
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument(
        "-q", "--quiet", action="store_true", help="no progress and no notes: results and errors"
    )
    talk.add_argument(
        "-v", "--verbose", action="store_true", help="also say what is done behind the scenes"
    )


def say(arguments: argparse.Namespace, text: str) -> None:
    """Write a line about progress to stderr at once, unless ``--quiet`` was given."""
    if not arguments.quiet:
        sys.stderr.write(f"{for_terminal(text)}\n")
        sys.stderr.flush()


def run_command(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command; returns its exit code.

    An error whose message is for a person (`QwaveError`) is printed as one line and ends the
    command with its exit code. Ctrl-C ends it with 130, and a reader that closed the pipe, as
    ``| head`` does, with 141. Any other error is a fault of the program and keeps its traceback.
    Warnings become notes on stderr.
    """
    escape_what_cannot_be_encoded(sys.stdout)
    _set_talk(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _ignore if arguments.quiet else _show_note
            return run(arguments)
    except QwaveError as error:
        text = for_terminal(error, keeps_lines=True)
        is_stopped = error.exit_code == 130
        sys.stderr.write(f"{text}\n" if is_stopped else f"error: {text}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _set_talk(arguments: argparse.Namespace) -> None:
    if arguments.quiet:
        # Read by tqdm when it is first imported, which commands do only when they run.
        os.environ["TQDM_DISABLE"] = "1"
    if arguments.verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        log = logging.getLogger("qwave")
        log.setLevel(logging.INFO)
        log.handlers = [handler]


def _show_note(message: Warning | str, *_: object, **__: object) -> None:
    """Write a warning as a person wants to read it."""
    sys.stderr.write(f"note: {for_terminal(message, keeps_lines=True)}\n")


def _ignore(*_: object, **__: object) -> None:
    """Write nothing."""
