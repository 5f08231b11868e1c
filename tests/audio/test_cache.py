"""The cache of embeddings: what it finds again, and what it does when it cannot be trusted."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from qwave.audio import cache as cache_module
from qwave.audio.cache import ClipEmbedding, EmbeddingCache, open_cache
from qwave.config import AudioError

ENCODER = "logmel@1a2b3c4d"
CONTENT = hashlib.sha256(b"clip").hexdigest()
X = np.arange(8, dtype=np.float16) / 3
LONG_AGO = 1_600_000_000_000_000_000


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache lies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qwave" / "embeddings.db"


def filled(file: Path, n: int = 20) -> None:
    """A closed cache of n embeddings."""
    with open_cache() as cache:
        for row in range(n):
            cache.keep(f"{row:064x}", ENCODER, ClipEmbedding(X + np.float16(row), row % 2 == 0))
    assert file.is_file()


def counts(file: Path) -> dict[str, int]:
    with closing(sqlite3.connect(file)) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("embeddings", "files")
        }


# --- embeddings ---


@pytest.mark.parametrize("is_silent", [False, True])
def test_an_embedding_is_found_again_by_content_and_encoder(file: Path, is_silent: bool) -> None:
    with open_cache() as cache:
        assert cache.find(CONTENT, ENCODER, 8) is None
        cache.keep(CONTENT, ENCODER, ClipEmbedding(X, is_silent))
    with open_cache() as cache:
        found = cache.find(CONTENT, ENCODER, 8)
        assert found is not None
        np.testing.assert_array_equal(found.x, X)
        assert found.x.dtype == np.float16
        assert found.is_silent is is_silent
        assert cache.find(CONTENT, "logmel@00000000", 8) is None
        assert cache.find(CONTENT[::-1], ENCODER, 8) is None


@pytest.mark.slow
def test_what_is_kept_is_there_when_the_process_is_killed(file: Path) -> None:
    code = (
        "import os, signal\n"
        "import numpy as np\n"
        "from qwave.audio.cache import ClipEmbedding, open_cache\n"
        "with open_cache() as cache:\n"
        f"    cache.keep({CONTENT!r}, {ENCODER!r}, ClipEmbedding(np.arange(8.0), True))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with open_cache() as cache:
        found = cache.find(CONTENT, ENCODER, 8)
    assert found is not None
    assert found.x.tolist() == list(range(8))


@pytest.mark.slow
def test_many_processes_that_open_a_new_file_at_once_all_keep_what_they_make(file: Path) -> None:
    """Also the change to a log, for which SQLite itself does not wait."""
    code = (
        "import sys, time\n"
        "import numpy as np\n"
        "from qwave.audio.cache import ClipEmbedding, EmbeddingCache\n"
        "from pathlib import Path\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    row, path = line.split(maxsplit=1)\n"
        "    cache = EmbeddingCache(Path(path.strip()))\n"
        f"    cache.keep(row, {ENCODER!r}, ClipEmbedding(np.full(8, int(row)), False))\n"
        "    cache.close()\n"
        "    print('kept', flush=True)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    n_processes, n_files = 6, 10
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(n_processes)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    files = [file.with_name(f"{place}.db") for place in range(n_files)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for new in files:  # each opened by all, at one moment
        for row, process in enumerate(running):
            assert process.stdin is not None
            process.stdin.write(f"{row} {new}\n")
            process.stdin.flush()
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "kept\n"
    for process in running:
        process.communicate()
    assert [process.returncode for process in running] == [0] * n_processes
    assert [counts(new)["embeddings"] for new in files] == [n_processes] * n_files


def test_a_fault_that_passes_is_waited_for(file: Path) -> None:
    """SQLite itself refuses at once to change to a log while another process writes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE held (x)")
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(filled, file, 3)
            time.sleep(0.2)
            assert not opening.done()
            other.execute("COMMIT")
            opening.result(60)
    assert counts(file)["embeddings"] == 3


# --- files ---


def write(path: Path, content: bytes, mtime_ns: int = LONG_AGO) -> str:
    """Write a file that was last changed then; returns the SHA-256 of its content."""
    path.write_bytes(content)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return hashlib.sha256(content).hexdigest()


def test_a_file_that_has_not_changed_is_not_read_again(file: Path, tmp_path: Path) -> None:
    clip = tmp_path / "a.wav"
    known = write(clip, b"one")
    with open_cache() as cache:
        assert cache.content_of(clip) == known
    # Neither size nor time tell that it was changed: what is answered was not read.
    write(clip, b"two")
    with open_cache() as cache:
        assert cache.content_of(clip) == known
        (tmp_path / "link.wav").symlink_to(clip)
        assert cache.content_of(tmp_path / "link.wav") == known
        cache.forget(clip)
        assert cache.content_of(clip) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize(("content", "mtime_ns"), [(b"longer", LONG_AGO), (b"two", LONG_AGO + 1)])
def test_a_file_of_another_size_or_time_is_read(
    file: Path, tmp_path: Path, content: bytes, mtime_ns: int
) -> None:
    clip = tmp_path / "a.wav"
    write(clip, b"one")
    with open_cache() as cache:
        cache.content_of(clip)
        expected = write(clip, content, mtime_ns)
        assert cache.content_of(clip) == expected


@pytest.mark.parametrize("seconds", [-1, 3600])
def test_a_file_that_may_change_within_a_tick_is_read_every_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    clip = tmp_path / "a.wav"
    monkeypatch.setattr(time, "time_ns", lambda: LONG_AGO)
    fresh = LONG_AGO + seconds * 1_000_000_000
    write(clip, b"one", fresh)
    with open_cache() as cache:
        cache.content_of(clip)
        expected = write(clip, b"two", fresh)
        assert cache.content_of(clip) == expected
        assert counts(file)["files"] == 0


# --- damage ---


def refused(file: Path, fault: str) -> str:
    return (
        f"^{re.escape(str(file))} is damaged \\({fault}\\): remove it, and embeddings.db-wal "
        "beside it; embeddings are then made again$"
    )


def test_what_is_no_database_is_named_and_left_alone(file: Path) -> None:
    file.parent.mkdir(parents=True)
    content = b"not a database " * 100
    file.write_bytes(content)
    with pytest.raises(AudioError, match=refused(file, "file is not a database")), open_cache():
        pass
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "width", "fault"),
    [
        ("x = 'text'", 8, "an embedding does not match its checksum"),
        ("is_silent = 1 - is_silent", 8, "an embedding does not match its checksum"),
        ("x = x", 9, "an embedding has 8 features, not 9"),
    ],
)
def test_a_changed_value_is_noticed(file: Path, change: str, width: int, fault: str) -> None:
    filled(file, 1)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"UPDATE embeddings SET {change}")
    with open_cache() as cache, pytest.raises(AudioError, match=refused(file, fault)):
        cache.find(f"{0:064x}", ENCODER, width)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_gives_no_wrong_embedding(file: Path, seed: int) -> None:
    filled(file)
    content = file.read_bytes()
    rng = np.random.default_rng(seed)
    n_found, refusals = 0, []
    for attempt in range(60):
        damaged = bytearray(content)
        for place in rng.integers(len(damaged), size=int(rng.integers(1, 60))):
            damaged[place] ^= int(rng.integers(1, 256))
        if attempt % 4 == 0:
            damaged = damaged[: int(rng.integers(len(damaged)))]
        file.write_bytes(damaged)
        for beside in ("-wal", "-shm"):
            file.with_name(file.name + beside).unlink(missing_ok=True)
        try:
            with open_cache() as cache:
                for row in range(20):
                    found = cache.find(f"{row:064x}", ENCODER, 8)
                    if found is not None:
                        n_found += 1
                        expected = X + np.float16(row)
                        np.testing.assert_array_equal(found.x, expected, f"{seed=} {attempt=}")
                        assert found.is_silent == (row % 2 == 0), f"{seed=} {attempt=}"
        except AudioError as error:
            refusals.append(str(error))
    assert n_found
    assert refusals
    assert all(text.startswith(f"{file} is damaged (") for text in refusals), f"{seed=}"


# --- faults of the machine ---


def works_without(cache: EmbeddingCache, clip: Path) -> None:
    """What a cache that cannot be used does, without another word."""
    expected = write(clip, b"one")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.content_of(clip) == expected
        cache.keep(CONTENT, ENCODER, ClipEmbedding(X, False))
        assert cache.find(CONTENT, ENCODER, 8) is None
        cache.forget(clip)


def test_a_file_that_cannot_be_opened_is_done_without(file: Path, tmp_path: Path) -> None:
    file.mkdir(parents=True)
    message = f"{file} cannot be used (unable to open database file): embeddings made from here "
    with (
        pytest.warns(UserWarning, match=re.escape(message)) as warned,
        open_cache() as cache,
    ):
        works_without(cache, tmp_path / "a.wav")
    assert len(warned) == 1


def test_a_file_that_another_process_holds_is_done_without(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_WAIT_SECONDS", 0.05)
    filled(file, 1)
    message = "cannot be used (database is locked): embeddings made from here on are not kept"
    with open_cache() as cache, closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.warns(UserWarning, match=re.escape(message)) as warned:
            cache.keep(CONTENT, ENCODER, ClipEmbedding(X, False))
        assert len(warned) == 1
        works_without(cache, tmp_path / "a.wav")


@pytest.mark.slow
def test_a_full_disk_is_done_without(file: Path, fresh_python: Callable[..., str]) -> None:
    # No file of this process may be longer than this.
    code = (
        "import resource, signal, warnings\n"
        "import numpy as np\n"
        "from qwave.audio.cache import ClipEmbedding, open_cache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "with warnings.catch_warnings(record=True) as caught, open_cache() as cache:\n"
        "    warnings.simplefilter('always')\n"
        "    for row in range(200):\n"
        f"        cache.keep(f'{{row:064x}}', {ENCODER!r}, "
        "ClipEmbedding(np.ones(1000), False))\n"
        "print(len(caught), caught[0].message)\n"
    )
    said = fresh_python(code)
    assert re.fullmatch(
        rf"1 {re.escape(str(file))} cannot be used \(.*\): embeddings made .*", said
    )
    with open_cache() as cache:
        assert cache.find(f"{0:064x}", ENCODER, 1000) is not None


def test_a_folder_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    message = "the cache folder cannot be written: embeddings are not kept for the next time"
    with ExitStack() as stack:
        with pytest.warns(UserWarning, match=message):
            cache = stack.enter_context(open_cache())
        cache.keep(CONTENT, ENCODER, ClipEmbedding(X, False))
        assert cache.find(CONTENT, ENCODER, 8) is not None
