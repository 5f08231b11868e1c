"""What is a store, what is not, and what a killed process can leave in one."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)

from qwave.config import StoreError
from qwave.store import Store
from qwave.store import journal as store_module
from qwave.store.folder import check_store, made_report_folder, opened_store
from qwave.sweep.study import load_study


def n_trials(journal: Path) -> int:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return len(optuna.load_study(study_name="small", storage=storage).trials)


def test_a_store_in_use_is_refused(tmp_path: Path) -> None:
    with (
        opened_store(Store(tmp_path / "store")),
        pytest.raises(StoreError, match="in use by another process"),
        opened_store(Store(tmp_path / "store")),
    ):
        pass


def test_a_folder_with_other_things_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    with (
        pytest.raises(StoreError, match=r"is not a qwave store: it holds 0 but no qwave\.json"),
        opened_store(Store(tmp_path)),
    ):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["0"]


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('{"format": "qwave-store", "version": 99}', "of another format or version"),
        ("not json", "is damaged"),
        ("[]", "of another format or version"),
    ],
)
def test_a_store_of_another_version_is_refused(tmp_path: Path, marker: str, message: str) -> None:
    (tmp_path / "qwave.json").write_text(marker)
    with pytest.raises(StoreError, match=message), opened_store(Store(tmp_path)):
        pass


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="is a file"), opened_store(Store(tmp_path / "store")):
        pass


@pytest.mark.parametrize("name", ["what?", "100%20", "a#b", "two words", "ü"])
def test_a_path_with_any_sign_can_be_a_store(tmp_path: Path, name: str) -> None:
    with opened_store(Store(tmp_path / name)):
        pass
    check_store(Store(tmp_path / name))


@pytest.mark.parametrize("damage", ["", "not json", None])
def test_a_store_that_lost_its_marker_says_what_to_paste(
    tmp_path: Path, damage: str | None
) -> None:
    store = tmp_path / "my store"
    with opened_store(Store(store)):
        pass
    for name in ("optuna.journal", "mlflow.db"):
        (store / name).touch()
    marker = store / "qwave.json"
    marker.unlink()
    if damage is not None:
        marker.write_text(damage)
    with pytest.raises(StoreError, match="if qwave made this folder, write it again: ") as caught:
        check_store(Store(store))
    command = str(caught.value).rpartition("write it again: ")[2]
    subprocess.run(command, shell=True, check=True)
    check_store(Store(store))


@pytest.mark.parametrize("name", ["artifacts", "mlflow.db", "optuna.journal", "store.lock"])
def test_what_cannot_be_written_is_found_before_anything_is_trained(
    tmp_path: Path, name: str
) -> None:
    """A file where a folder belongs, and the other way round: not even root may write there."""
    with opened_store(Store(tmp_path)):
        pass
    place = tmp_path / name
    if name == "artifacts":
        place.rmdir()
        place.touch()
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    with (
        pytest.raises(StoreError, match=rf"^--store {tmp_path} cannot be written: .*{name}"),
        opened_store(Store(tmp_path)),
    ):
        pass


def test_a_report_folder_is_made_or_refused(tmp_path: Path) -> None:
    assert made_report_folder(Store(tmp_path), "sweep") == tmp_path / "reports" / "sweep"
    assert list((tmp_path / "reports" / "sweep").iterdir()) == []
    (tmp_path / "reports" / "other").touch()
    with pytest.raises(StoreError, match=rf"^--store {tmp_path} cannot be written: .*other"):
        made_report_folder(Store(tmp_path), "other")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with (
        pytest.raises(StoreError, match="cannot be written"),
        opened_store(Store(tmp_path / "store")),
    ):
        pass


@pytest.mark.parametrize("lock", [JournalFileSymlinkLock, JournalFileOpenLock])
def test_a_lock_that_a_killed_process_left_on_the_journal_is_dropped(
    tmp_path: Path, lock: type[JournalFileSymlinkLock | JournalFileOpenLock]
) -> None:
    with opened_store(Store(tmp_path)):
        pass
    left = lock(str(tmp_path / "optuna.journal"))
    left.acquire()
    with opened_store(Store(tmp_path)):
        assert not [entry.name for entry in tmp_path.iterdir() if "journal.lock" in entry.name]
        again = JournalFileSymlinkLock(str(tmp_path / "optuna.journal"))
        assert again.acquire()
        again.release()


def test_a_lock_that_is_let_go_in_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a dashboard that writes a note: it finds its lock where it left it."""
    monkeypatch.setattr(store_module, "_LOCK_SECONDS", 60.0)
    with opened_store(Store(tmp_path)):
        pass
    held = JournalFileSymlinkLock(str(tmp_path / "optuna.journal"))
    held.acquire()

    is_written = threading.Event()

    def write() -> None:
        time.sleep(0.2)
        is_written.set()
        held.release()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        with opened_store(Store(tmp_path)):
            assert is_written.is_set()
    writing.result()


def test_a_torn_last_line_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    with opened_store(Store(tmp_path)):
        journal = tmp_path / "optuna.journal"
        study = optuna.create_study(
            study_name="small", storage=JournalStorage(JournalFileBackend(str(journal)))
        )
        study.tell(study.ask(), 1.0)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "work')
    with opened_store(Store(tmp_path)):
        assert journal.read_bytes() == whole
        assert n_trials(journal) == 1


def _journal(store: Path, n_attributes: int) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(store / "optuna.journal")))
    study = optuna.create_study(study_name="s", storage=storage)
    for number in range(n_attributes):
        study.set_user_attr("number", number)
    return study


@pytest.mark.parametrize("line", ["garbage{{{", "[]", "{}", "\udcff\udcfe", '{"op_code": 4'])
def test_a_damaged_line_of_the_journal_is_named_and_the_file_can_be_set_aside(
    tmp_path: Path, line: str
) -> None:
    store = tmp_path / "my store"
    with opened_store(Store(store)):
        _journal(store, 4)
    journal = store / "optuna.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = [*lines[:2], line.encode(errors="surrogateescape") + b"\n", *lines[2:]]
    journal.write_bytes(b"".join(damaged))
    with pytest.raises(StoreError, match="is damaged: line 3 is no entry of Optuna's"):
        load_study(store, "s")
    with (
        pytest.raises(StoreError, match="line 3 is no entry") as caught,
        opened_store(Store(store)),
    ):
        pass
    command = str(caught.value).partition("set it aside with ")[2].partition(" and search")[0]
    subprocess.run(command, shell=True, check=True)
    with opened_store(Store(store)):
        _journal(store, 1)
    assert (store / "optuna.damaged").read_bytes() == b"".join(damaged)


@pytest.mark.parametrize("line", [b"garbage{{{\n", b'{"op_code": 4', b"\0\0\0\n", b"\n"])
def test_a_torn_last_line_is_cut_and_nothing_else(tmp_path: Path, line: bytes) -> None:
    with opened_store(Store(tmp_path)):
        _journal(tmp_path, 4)
    journal = tmp_path / "optuna.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + line)
    for number in range(2):  # what is written behind it must be read again
        with opened_store(Store(tmp_path)):
            study = load_study(tmp_path, "s")
            assert study.user_attrs["number"] == (3 if number == 0 else 7)
            study.set_user_attr("number", 7)
    assert journal.read_bytes().startswith(whole)


def test_a_name_that_is_too_long_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read: .*File name too long"):
        check_store(Store(tmp_path / ("x" * 300)))


def test_what_is_not_there_is_not_to_be_copied(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = tmp_path / "file" / "store"
    with (
        pytest.raises(StoreError, match="cannot be written") as caught,
        opened_store(Store(store)),
    ):
        pass
    assert "copy it" not in str(caught.value)
