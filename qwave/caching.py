"""Where qwave keeps what it can make again: compiled sources, embeddings of clips."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

_log = logging.getLogger(__name__)


class CacheFolder(NamedTuple):
    """A folder for what can be made again.

    Attributes:
        path: The folder; it is there and can be written.
        is_kept: Whether the folder outlives the process.
    """

    path: Path
    is_kept: bool


def find_cache_folder() -> CacheFolder:
    """The user's cache folder, ``$XDG_CACHE_HOME/qwave`` or ``~/.cache/qwave``.

    A folder that ends with this process where the user has no home (no HOME, and no entry in the
    system's list of users) or may not write there; neither is an error.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwave"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return CacheFolder(folder, is_kept=True)
    except (OSError, RuntimeError) as error:  # a user without a home is a RuntimeError
        _log.info("no cache folder that can be written: %s", error)
        return CacheFolder(_own_folder(), is_kept=False)


def require_home() -> None:
    """Give this process a home, for libraries that ask for one, where the user has none.

    A folder that ends with the process; HOME names it.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_own_folder())


@functools.cache
def _own_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="qwave-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, process: int) -> None:
    """Remove the folder, unless this is a fork of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
