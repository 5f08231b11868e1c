"""The sweep that a command line names: a YAML file, one that comes with qwave, and overrides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qwave.config import ConfigError, nearest
from qwave.text import expanded

BUNDLED = Path(__file__).resolve().parents[1] / "sweeps"
"""The sweeps that come with qwave; in a checkout a link to the folder ``sweeps``."""

_SUFFIXES = (".yaml", ".yml")
_MAX_NAMES = 8
_MAX_NAME = 300


def split_positionals(arguments: Sequence[str], default: str) -> tuple[str, list[str]]:
    """The YAML file and the overrides among the positional arguments.

    What is the name of a file is a file, even one such as ``lr=0.1.yaml``. Else what has a ``=``
    is an override, and the rest names a study that comes with qwave.

    Args:
        arguments: Positional arguments, as typed.
        default: Name of the study to take where none is given.

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
