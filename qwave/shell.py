"""Paths as a person types them on a command line."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from pathlib import Path


def expanded(text: str) -> str:
    """A path with its leading ``~`` or ``~user`` replaced, which a shell does not do after ``=``.

    The path as it is where there is no such user or no home, and where it exists as typed and
    the home folder has nothing of that name.
    """
    full = os.path.expanduser(text)
    return text if os.path.lexists(text) and not os.path.lexists(full) else full


def typed_path(text: str) -> Path:
    """A path from the command line, its ``~`` replaced: a `type` for argparse.

    Raises:
        ArgumentTypeError: The text is empty, as a shell leaves a variable that is not set.
    """
    if not text:
        raise ArgumentTypeError("a path is wanted, but got ''")
    return Path(expanded(text))


def typed_encoder(spec: str) -> str:
    """An encoder as typed, ``NAME`` or ``NAME:FOLDER``, the ``~`` of its folder replaced."""
    name, colon, folder = spec.partition(":")
    return f"{name}:{expanded(folder)}" if colon else spec
