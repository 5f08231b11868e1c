"""Where qwave keeps what it can make again: compiled sources, embeddings of clips."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The user's cache folder; one for this process alone where that cannot be written.

    ``$XDG_CACHE_HOME/qwave``, or ``~/.cache/qwave``.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwave"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        _log.info("%s cannot be written (%s): made anew in this process", folder, error)
        return _own_folder()


@functools.cache
def _own_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="qwave-"))
