"""What the studies' command lines share: their arguments, errors for people, exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from qwave.config import ConfigError, QwaveError, nearest
from qwave.store import Store
from qwave.sweep import StudyStoppedError, TrialFailedError, WorkerLostError
from qwave.text import escape_what_cannot_be_encoded, expanded, for_terminal, typed_path

# In a checkout and where qwave is installed alike, beside this package.
BUNDLED = Path(__file__).resolve().parents[1] / "sweeps"
EXIT_CODES = (
    "Exit codes: 0 done; 1 no model: the trials failed, or a worker was lost; 2 wrong input; "
    "130 stopped by Ctrl-C or SIGTERM."
)
_SUFFIXES = (".yaml", ".yml")
_MAX_NAMES = 8
_MAX_NAME = 300


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
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or mps")
    parser.add_argument("--smoke", action="store_true", help="the same path: few, short trials")
    parser.add_argument("--fresh", action="store_true", help="train again what the store holds")
    return parser


def add_store(parser: argparse.ArgumentParser) -> None:
    """The argument for the store."""
    parser.add_argument(
        "--store",
        type=lambda text: Store(typed_path(text)),
        default=Store(Path("mlruns")),
        help="default: mlruns",
    )


def add_retry(parser: argparse.ArgumentParser) -> None:
    """The argument of studies that search, whose failed trials count."""
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="train again what failed; until then failed trials use up the number of trials",
    )


def split_positionals(arguments: Sequence[str], default: str) -> tuple[str, list[str]]:
    """The YAML file and the overrides among the positional arguments.

    What is the name of a file is a file, even one such as ``lr=0.1.yaml``. Else what has a ``=``
    is an override, and the rest names a study that comes with qwave (`bundled`).

    Args:
        arguments: As typed.
        default: File of the study, as `bundled` takes it.

    Raises:
        ConfigError: More than one file, or one that does not exist.
    """
    files, overrides = [], []
    for argument in arguments:
        if _is_override(argument):
            overrides.append(argument)
        else:
            files.append(argument)
    if len(files) > 1:
        raise ConfigError(f"one YAML file at a time, but got {', '.join(files)}")
    return str(study_file(files[0] if files else default)), overrides


def study_file(name: str) -> Path:
    """The file of that name: in the working directory, else one that comes with qwave.

    Args:
        name: A path; or the name of a bundled study, as in ``sweeps/recipe.yaml``,
            ``recipe.yaml`` or ``recipe``.

    Raises:
        ConfigError: There is none; says what there is.
    """
    typed = Path(expanded(name))
    if _is_file(typed):
        return typed
    known = {path.stem: path for path in sorted(BUNDLED.glob("*.yaml"))}
    plain = Path(name)
    is_bundled = plain.parent in (Path("."), Path("sweeps")) and plain.suffix in ("", ".yaml")
    is_there = os.path.lexists(typed)
    if is_bundled and plain.stem in known and not is_there:
        return known[plain.stem]
    what = " (it is not a regular file)" if is_there else ""
    nearby = sorted(
        path.name for path in _listed(typed.parent) if path.suffix in _SUFFIXES and _is_file(path)
    )
    hint = nearest(plain.name, [*nearby, *known, *(path.name for path in known.values())])
    shown = ", ".join(nearby[:_MAX_NAMES]) + (", ..." if len(nearby) > _MAX_NAMES else "")
    there = f"{typed.parent.resolve()} holds {shown or 'no YAML file'}"
    bundled = f"qwave comes with {', '.join(known)}" if known else "qwave's own are not installed"
    raise ConfigError(
        f"no such sweep file: {name[:_MAX_NAME] or repr(name)}{what}{hint}; {there}; {bundled}"
    )


def _is_override(argument: str) -> bool:
    if "=" not in argument or _is_file(Path(expanded(argument))):
        return False
    # No key has a slash: this is the path of a file that is not there.
    return not ("/" in argument.partition("=")[0] and argument.endswith(_SUFFIXES))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def guarded(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a study; returns its exit code.

    0 done; 1 there is no model, because the trials failed or a worker was lost; 2 wrong input;
    130 stopped by Ctrl-C or SIGTERM.
    """
    escape_what_cannot_be_encoded(sys.stdout)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_note
            return run(arguments)
    except (TrialFailedError, WorkerLostError) as error:
        print(f"error: {for_terminal(error, keeps_lines=True)}", file=sys.stderr)
        return 1
    except QwaveError as error:
        print(f"error: {for_terminal(error, keeps_lines=True)}", file=sys.stderr)
        return 2
    except StudyStoppedError as error:
        print(for_terminal(error, keeps_lines=True), file=sys.stderr)
        return 130
    except KeyboardInterrupt:  # before the study began: while clips were embedded
        print("stopped", file=sys.stderr)
        return 130


def _show_note(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a person wants to read it."""
    print(f"note: {for_terminal(message, keeps_lines=True)}", file=sys.stderr)
