"""Optuna's journal: opened, checked, and repaired after a killed process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from qwave.config import StoreError
from qwave.text import for_shell

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_LOCK_SECONDS = 1.0


def open_journal(journal: Path) -> BaseStorage:
    """The storage in this file, which is made where it is not there."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(journal)))


def check_journal(journal: Path) -> None:
    """Refuse a journal that Optuna cannot read.

    The last line may be torn: another process may be writing it.

    Raises:
        StoreError: Says which line, and what to do.
    """
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


def repair_journal(journal: Path) -> None:
    """Drop what a killed process left: Optuna's lock on the file, and a half-written last line.

    The caller holds the store's lock, so that no other sweep writes.
    """
    _drop_stale_lock(journal)
    _cut_torn_line(journal)


def _drop_stale_lock(journal: Path) -> None:
    """Drop Optuna's lock unless it is released within a second.

    A dashboard, the only other writer, holds it for milliseconds. Optuna itself would wait for
    half a minute.
    """
    lock = journal.with_name(f"{journal.name}.lock")
    deadline = time.monotonic() + _LOCK_SECONDS
    while os.path.lexists(lock):  # a link to the journal, which may not be there
        if time.monotonic() > deadline:
            lock.unlink(missing_ok=True)
        time.sleep(0.01)


def _cut_torn_line(journal: Path) -> None:
    """Drop a last line that is not whole.

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


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return False
    return isinstance(entry, dict) and {"op_code", "worker_id"} <= entry.keys()
