"""C sources that ship with the package, compiled once a machine for its own processor.

`torch.compile` could fuse the engine's loops as well, but anew for every shape and in every
process, 10 s and more each time: a study meets a new shape in every other trial. These sources
compile once, in a second, and serve all shapes.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import multiprocessing
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qwave.caching import find_cache_folder

_log = logging.getLogger(__name__)

# Sums may be taken in any order; NaN stays NaN.
_FLAGS = (
    *("-O3", "-march=native", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-signed-zeros", "-fassociative-math"),
    # Left to itself GCC uses half of the vectors of AVX-512, at 60 % of the speed here.
    *(("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()),
)


@functools.cache
def compiled(source: Path, flags: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """The library of a C source; None if there is no C compiler.

    Also None, with a warning, if the compiler fails or the library cannot be loaded.

    The library is kept in the user's cache folder. Its name follows from the sources, the flags
    and this processor: it is built for the processor that it runs on.

    Args:
        source: The C file; it may include headers of its folder.
        flags: Further flags of the compiler, after those of all sources.
    """
    command = shlex.split(os.environ.get("CC") or "cc")
    compiler = shutil.which(command[0])
    if compiler is None:
        _log.info("no C compiler: goes on without %s, several times slower", source.name)
        return None
    key = hashlib.sha256()
    sources = [path.read_bytes() for path in sorted(source.parent.glob("*.[ch]"))]
    words = " ".join((compiler, *command[1:], *_FLAGS, *flags))
    for part in (*sources, words.encode(), _processor()):
        key.update(part)
    folder, is_kept = find_cache_folder()
    if not is_kept and multiprocessing.parent_process() is None:  # workers need not repeat it
        _note_not_kept()
    library = folder / f"{source.stem}-{key.hexdigest()[:16]}.so"
    if library.exists():
        try:
            return ctypes.CDLL(str(library))
        except OSError as error:
            _log.info("%s cannot be loaded (%s): compiled anew", library, error)
    # Two processes may compile at once: each writes its own file, and renames it whole.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / library.name
        arguments = [*command[1:], *_FLAGS, *flags, str(source), "-o", str(made), "-lm"]
        done = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            _log.warning(
                "%s could not compile %s; goes on without it, several times slower: %s",
                compiler,
                source.name,
                done.stderr.strip() or f"exit code {done.returncode}",
            )
            return None
        made.replace(library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:  # such as a folder from which nothing may be run
        _log.warning("%s cannot be loaded, goes on without it, slower: %s", library, error)
        return None


def require_sizes(
    library: ctypes.CDLL, mirrors: Mapping[str, type[ctypes.Structure]], source: Path
) -> None:
    """Compare the size of each C structure with that of its mirror in Python.

    Args:
        library: A compiled library; it exports ``qwave_size_of_<name>`` for every structure.
        mirrors: Name of each structure in C, and the class that mirrors it.
        source: The C file, for the message.

    Raises:
        RuntimeError: A size differs: the fields were changed on one side only.
    """
    for name, mirror in mirrors.items():
        in_c = ctypes.c_int64.in_dll(library, f"qwave_size_of_{name}").value
        if in_c != ctypes.sizeof(mirror):
            raise RuntimeError(
                f"the structure `{name}` of {source} has {in_c} bytes, but `{mirror.__name__}`, "
                f"which mirrors it in {mirror.__module__}, has {ctypes.sizeof(mirror)}: give both "
                "the same fields in the same order"
            )


@functools.cache
def _note_not_kept() -> None:
    """Warn once, not for every source."""
    _log.warning(
        "note: the cache folder cannot be written: C sources are compiled anew at every start; "
        "XDG_CACHE_HOME may name another one"
    )


def _processor() -> bytes:
    """Model and instruction sets of this processor."""
    described = Path("/proc/cpuinfo")
    if not described.exists():
        return " ".join(os.uname()).encode()
    lines = described.read_bytes().splitlines()
    return b"\n".join(sorted({line for line in lines if line.startswith((b"flags", b"model"))}))
