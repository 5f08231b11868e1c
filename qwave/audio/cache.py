"""The cache of embeddings, found by the contents of the clips' files.

``embeddings.db`` in the cache folder is a SQLite file of two tables: `embeddings`, from the
SHA-256 of a clip's bytes and the identity of an encoder to float16 [d]; and `files`, from a path,
a size and a time of change to that SHA-256, so that a file that has not changed is not read again.
Every row is a transaction: a process that is killed loses the row it was writing, and several
processes may share the file. It may be removed at any time; what it held is then made again.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwave.caching import find_cache_folder
from qwave.config import AudioError

_TABLES = (
    "CREATE TABLE IF NOT EXISTS embeddings (content TEXT NOT NULL, encoder TEXT NOT NULL, "
    "x BLOB NOT NULL, is_silent INTEGER NOT NULL, checksum INTEGER NOT NULL, "
    "PRIMARY KEY (content, encoder))",
    "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, "
    "mtime_ns INTEGER NOT NULL, content TEXT NOT NULL)",
)
# A file may change again within one tick of its file system's clock, and neither its size nor its
# time would tell: like git's index, files this fresh are not taken for known. FAT ticks in 2 s.
_SETTLED_NS = 2_000_000_000
_WAIT_SECONDS = 30  # for another process that is writing
# Faults of the machine: work goes on without the cache. All others are faults of the file.
_MACHINE_FAULTS = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS),
}
# Faults of the machine that end when another process is done.
_PASSING_FAULTS = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


class ClipEmbedding(NamedTuple):
    """The embedding of one clip.

    Attributes:
        x: Features, float16 [d].
        is_silent: Whether all samples of the clip are zero.
    """

    x: np.ndarray
    is_silent: bool


class EmbeddingCache:
    """An open cache. A cache that cannot be written warns once, and is then empty."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            self._handle(error)
        # A row is safe once it is in the log beside the file, and readers do not wait for writers.
        self._run("PRAGMA journal_mode = WAL")
        self._run("PRAGMA synchronous = NORMAL")
        for table in _TABLES:
            self._run(table)

    def content_of(self, path: Path) -> str:
        """SHA-256 of a file's bytes, 64 hexadecimal digits; the file is read if it may be new.

        Raises:
            OSError: The file cannot be read.
        """
        key, stat = os.fsencode(os.path.realpath(path)), path.stat()
        is_settled = stat.st_mtime_ns < time.time_ns() - _SETTLED_NS  # before it is read
        found = self._run(
            "SELECT content FROM files WHERE path = ? AND size = ? AND mtime_ns = ?",
            (key, stat.st_size, stat.st_mtime_ns),
        )
        if found:
            return str(found[0][0])
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        if is_settled:
            self._run(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                (key, stat.st_size, stat.st_mtime_ns, content),
            )
        return content

    def forget(self, path: Path) -> None:
        """Forget the content of a file, so that it is read again next time."""
        self._run("DELETE FROM files WHERE path = ?", (os.fsencode(os.path.realpath(path)),))

    def find(self, content: str, encoder: str, num_features: int) -> ClipEmbedding | None:
        """The embedding of a clip with this content by this encoder; None if there is none.

        Raises:
            AudioError: The embedding in the file is damaged.
        """
        rows = self._run(
            "SELECT x, is_silent, checksum FROM embeddings WHERE content = ? AND encoder = ?",
            (content, encoder),
        )
        if not rows:
            return None
        x, is_silent, checksum = rows[0]
        if not isinstance(x, bytes) or checksum != _checksum(content, encoder, x, is_silent):
            raise self._damaged("an embedding does not match its checksum")
        if len(x) != 2 * num_features:
            raise self._damaged(f"an embedding has {len(x) // 2} features, not {num_features}")
        return ClipEmbedding(np.frombuffer(x, dtype="<f2"), bool(is_silent))

    def keep(self, content: str, encoder: str, embedding: ClipEmbedding) -> None:
        """Keep an embedding, unless one of this content and encoder is kept already."""
        x, is_silent = embedding.x.astype("<f2").tobytes(), int(embedding.is_silent)
        self._run(
            "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?, ?, ?)",
            (content, encoder, x, is_silent, _checksum(content, encoder, x, is_silent)),
        )

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                return self._connection.execute(statement, values).fetchall()
            except (sqlite3.Error, UnicodeDecodeError) as error:  # of messages that quote the file
                # SQLite itself waits for a writer, but not where waiting could be for ever: for
                # the change to a log, and beside a process that closes or repairs that log.
                if _code(error) in _PASSING_FAULTS and time.monotonic() < deadline:
                    time.sleep(random.uniform(0.001, 0.02))  # not all at the same moment again
                    continue
                self._handle(error)
                return []

    def _handle(self, error: Exception) -> None:
        """Go on without the cache after a fault of the machine; else raise that it is damaged."""
        if _code(error) not in _MACHINE_FAULTS:
            raise self._damaged(str(error)) from error
        self.close()
        warnings.warn(
            f"{self._file} cannot be used ({error}): embeddings made from here on are not kept",
            UserWarning,
            stacklevel=2,
        )

    def _damaged(self, fault: str) -> AudioError:
        self.close()
        return AudioError(
            f"{self._file} is damaged ({fault}): remove it, and {self._file.name}-wal beside it; "
            "embeddings are then made again"
        )


@contextmanager
def open_cache() -> Iterator[EmbeddingCache]:
    """The user's cache; if its folder cannot be written, a cache for this process alone.

    Raises:
        AudioError: The file of the cache is damaged.
    """
    folder, is_kept = find_cache_folder()
    if not is_kept:
        warnings.warn(
            "the cache folder cannot be written: embeddings are not kept for the next time; "
            "XDG_CACHE_HOME may name another one",
            UserWarning,
            stacklevel=3,
        )
    cache = EmbeddingCache(folder / "embeddings.db")
    try:
        yield cache
    finally:
        cache.close()


def _code(error: Exception) -> int | None:
    """The kind of a fault of SQLite, the lower byte of its code; None for other errors."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _checksum(content: str, encoder: str, x: bytes, is_silent: object) -> int:
    """CRC-32 of a row: SQLite does not notice a flipped bit in a value."""
    return zlib.crc32(x, zlib.crc32(f"{content} {encoder} {is_silent}".encode()))
