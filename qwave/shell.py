"""What passes between qwave and a person's shell: paths as typed, commands that can be pasted."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def expanded(text: str) -> str:
    """A path with its leading ``~`` or ``~user`` replaced, which a shell does not do after ``=``.

    The path as it is where there is no such user or no home, and where it exists as typed and
    the home folder has nothing of that name.
    """
    full = os.path.expanduser(text)
    return text if os.path.lexists(text) and not os.path.lexists(full) else full


def typed_path(text: str) -> Path:
    """A path from the command line, its ``~`` replaced: a `type` for argparse."""
    return Path(expanded(text))


def typed_encoder(spec: str) -> str:
    """An encoder as typed, ``NAME`` or ``NAME:FOLDER``, the ``~`` of its folder replaced."""
    name, colon, folder = spec.partition(":")
    return f"{name}:{expanded(folder)}" if colon else spec


def command_line(*words: str | Path) -> str:
    """A command that a POSIX shell reads as these words; paths are made absolute.

    Whatever the paths hold (spaces, quotes, ``$``), the line can be pasted from any working
    directory.
    """
    return shlex.join(
        os.path.abspath(word) if isinstance(word, Path) else str(word) for word in words
    )
