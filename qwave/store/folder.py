"""A store: one folder with everything that a sweep leaves behind.

| in the folder | what it is |
|---|---|
| `qwave.json` | format and version of the store |
| `optuna.journal` | Optuna's journal: all studies |
| `mlflow.db`, `artifacts/` | MLflow's store: all experiments |
| `repeats/` | what trials of other studies predicted, by the digests of data and configuration |
| `reports/<study>/` | tables, pictures and a page, such as front.csv, front.png, report.html |
| `models/<sweep>/trial_0012/` | what `qwave export` wrote: model.qwave, its card, model.onnx |
| `store.lock` | held while a process uses the store |

Optuna decides, MLflow tells people: nothing is read back from MLflow to make a choice.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from qwave.config import StoreError
from qwave.text import for_shell

FORMAT_VERSION = 1
_MARKER = "qwave.json"
_LOCK_SECONDS = 1.0
_CONTENT = {"format": "qwave-store", "version": FORMAT_VERSION}
# What only a store holds: with it, a folder without a marker is one that lost it.
_JOURNAL, _DATABASE, _ARTIFACTS = "optuna.journal", "mlflow.db", "artifacts"


def check_store(store: Path) -> None:
    """Refuse a folder that is not a store of this version; writes nothing.

    A folder that does not exist, is empty, or holds dot-files only will become a store.

    Raises:
        StoreError: Says what was found and what to do.
    """
    try:
        _check_folder(store)
    except OSError as error:  # may not be entered or read, a name that is too long
        raise StoreError(
            f"--store {store} cannot be read: {error}; choose another --store, or make it readable"
        ) from error


def _check_folder(store: Path) -> None:
    if store.exists() and not store.is_dir():
        raise StoreError(f"--store {store} is a file; name a folder")
    if not store.is_dir():
        return
    marker = store / _MARKER
    if not marker.exists():
        others = sorted(entry.name for entry in store.iterdir() if entry.name[0] != ".")
        if {_JOURNAL, _DATABASE} <= set(others):
            raise StoreError(
                f"--store {store} holds all of a store but its {_MARKER}; {_marker_advice(marker)}"
            )
        if others:
            raise StoreError(
                f"--store {store} is not a qwave store: it holds {', '.join(others[:5])} but no "
                f"{_MARKER}; choose an empty or new folder"
            )
        return
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{marker} is damaged ({error}); {_marker_advice(marker)}") from error
    if found != _CONTENT:
        raise StoreError(
            f"--store {store} is a store of another format or version: found {found}, this qwave "
            f"uses {_CONTENT}; choose another --store"
        )


def _marker_advice(marker: Path) -> str:
    content = shlex.quote(json.dumps(_CONTENT))
    return (
        f"if qwave made this folder, write it again: echo {content} > {shlex.quote(str(marker))}"
    )


@contextmanager
def opened_store(store: Path) -> Iterator[Path]:
    """Make a folder a store where it is none yet, and hold its lock.

    Repairs what a killed process can leave: Optuna's lock on the journal, and a half-written last
    line of it.

    Raises:
        StoreError: As `check_store` and `check_journal`; or another process holds the lock, or
            the folder cannot be written.
    """
    check_store(store)
    _require_writable(store)
    lock = FileLock(store / "store.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(
            f"--store {store} is in use by another process; wait for it, or choose another --store"
        ) from error
    except OSError as error:
        raise _unwritable(store, error) from error
    try:
        _drop_stale_lock(journal_path(store))
        _cut_torn_line(journal_path(store))
        check_journal(store)
        yield store
    finally:
        lock.release()


def _require_writable(store: Path) -> None:
    """Make a store of a folder, and find out before anything is trained what cannot be written."""
    marker = store / _MARKER
    try:
        require_folder(store)
        if not marker.exists():
            # A file that bears its name is whole.
            unfinished = store / f".{_MARKER}.{os.getpid()}"
            unfinished.write_text(json.dumps(_CONTENT) + "\n", encoding="utf-8")
            unfinished.replace(marker)
        require_folder(store / _ARTIFACTS)
        if repeats_folder(store).exists():
            require_folder(repeats_folder(store))
        for name in (_JOURNAL, _DATABASE):
            file = store / name
            if os.path.lexists(file):
                file.open("r+b").close()
    except OSError as error:
        raise _unwritable(store, error) from error


def require_folder(folder: Path) -> None:
    """Make a folder where there is none, and write into it.

    Raises:
        OSError: The folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _unwritable(store: Path, error: OSError) -> StoreError:
    copy = "copy it to where you may write, and name the copy, or " if store.is_dir() else ""
    return StoreError(f"--store {store} cannot be written: {error}; {copy}choose another --store")


def journal_path(store: Path) -> Path:
    """Optuna's journal in a store."""
    return store / _JOURNAL


def report_folder(store: Path, sweep_name: str) -> Path:
    """Where a sweep's report goes."""
    return store / "reports" / sweep_name


def made_report_folder(store: Path, sweep_name: str) -> Path:
    """Make the folder of a sweep's report, and prove that it can be written.

    Called before anything is trained: what was trained should not be lost to a folder that is not
    there, or is another user's.

    Raises:
        StoreError: The folder cannot be written.
    """
    folder = report_folder(store, sweep_name)
    try:
        require_folder(folder)
    except OSError as error:
        raise _unwritable(store, error) from error
    return folder


def repeats_folder(store: Path) -> Path:
    """Where studies of known configurations keep what was predicted."""
    return store / "repeats"


def _drop_stale_lock(journal: Path) -> None:
    """Drop Optuna's lock if nobody lets it go within a second.

    The store's own lock keeps other sweeps out, and a dashboard writes a line within milliseconds.
    Optuna itself would wait for half a minute.
    """
    lock = journal.with_name(f"{journal.name}.lock")
    deadline = time.monotonic() + _LOCK_SECONDS
    while os.path.lexists(lock):  # a link to the journal, which may not be there
        if time.monotonic() > deadline:
            lock.unlink(missing_ok=True)
        time.sleep(0.01)


def _cut_torn_line(journal: Path) -> None:
    """Drop a last line that is not whole: the process was killed while it wrote.

    Left there, Optuna would pass over it once, write behind it, and never read the file again.
    """
    if not journal.exists():
        return
    content = journal.read_bytes()
    end = content.rfind(b"\n") + 1
    begin = content.rfind(b"\n", 0, max(end - 1, 0)) + 1
    if end and not _is_entry(content[begin:end]):
        end = begin
    if end != len(content):
        with journal.open("r+b") as file:
            file.truncate(end)


def check_journal(store: Path) -> None:
    """Refuse a journal that Optuna cannot read; a last line that is being written may be torn.

    Raises:
        StoreError: Says which line, and what to do.
    """
    journal = journal_path(store)
    if not journal.exists():
        return
    try:
        lines = journal.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"{journal} cannot be read: {error}") from error
    for number, line in enumerate(lines[:-1], 1):
        if not _is_entry(line):
            # Taking the line out would give the trials behind it other numbers.
            aside = for_shell("mv", journal.resolve(), journal.resolve().with_suffix(".damaged"))
            raise StoreError(
                f"{journal} is damaged: line {number} is no entry of Optuna's; put back a copy "
                f"of the file, or set it aside with {aside} and search anew: what MLflow holds "
                "of the earlier trials stays"
            )


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return False
    return isinstance(entry, dict) and {"op_code", "worker_id"} <= entry.keys()
