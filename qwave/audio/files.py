"""Files that may be opened: regular ones.

What else bears the name of a recording (a pipe, a device, a socket) could keep whoever opens it
waiting for ever.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from qwave.config import AudioError

# Each on the systems that have it: not to wait for who writes to a pipe; bytes as they are.
_MODE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def require_file(path: Path, name: str | None = None) -> None:
    """Refuse a path that is no regular file, links followed; it is not opened.

    Args:
        path: File of the recording.
        name: For errors; the path by default.

    Raises:
        AudioError: The path is a folder, a pipe, a device or a socket.
        OSError: Nothing has that path, or its kind may not be asked for.
    """
    _require_regular(os.stat(path).st_mode, name or str(path))


def open_file(path: Path, name: str | None = None) -> BinaryIO:
    """Open a regular file to be read; arguments and errors as of `require_file`.

    It is checked once more when it is open, which never waits: the path may be a pipe by then.
    """
    require_file(path, name)
    descriptor = os.open(path, os.O_RDONLY | _MODE)
    try:
        _require_regular(os.fstat(descriptor).st_mode, name or str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int, name: str) -> None:
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise AudioError(f"{name} is {what}, not a file")
