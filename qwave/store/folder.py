"""A store: one folder with everything that a sweep leaves behind.

| in the folder | what it is |
|---|---|
| `qwave.json` | format and version of the store |
| `optuna.journal` | Optuna's journal: all studies |
| `mlflow.db`, `artifacts/` | MLflow's store: all experiments |
| `repeats/` | predictions of known configurations, by the digests of data and configuration |
| `reports/<study>/` | tables, pictures and a page, such as front.csv, front.png, report.html |
| `models/<sweep>/trial_0012/` | what `qwave export` wrote: model.qwave, its card, model.onnx |
| `store.lock` | held while a process uses the store |

Optuna decides, MLflow tells people: nothing is read back from MLflow to make a choice.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from filelock import FileLock, Timeout

from qwave.config import StoreError
from qwave.store.journal import check_journal, open_journal, repair_journal
from qwave.text import for_shell

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

FORMAT_VERSION = 1
_MARKER = "qwave.json"
_CONTENT = {"format": "qwave-store", "version": FORMAT_VERSION}


@dataclass(frozen=True)
class Store:
    """A store by its folder: where its parts lie, and how Optuna, MLflow and people open them.

    Making the value reads and writes nothing; the folder need not exist. As text it is the folder,
    as a person writes it after ``--store``.

    Attributes:
        folder: The folder, absolute or seen from the working directory.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Store | Path | str) -> Store:
        """The store in a folder; a store is returned as it is."""
        return folder if isinstance(folder, Store) else cls(Path(folder))

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def journal(self) -> Path:
        """The file of Optuna's journal."""
        return self.folder / "optuna.journal"

    @property
    def database(self) -> Path:
        """The file of MLflow's database, absolute."""
        return self.folder.resolve() / "mlflow.db"

    @property
    def artifact_root(self) -> Path:
        """The folder of MLflow's artifacts, absolute."""
        return self.folder.resolve() / "artifacts"

    @property
    def repeats_folder(self) -> Path:
        """The folder in which studies of known configurations keep what was predicted."""
        return self.folder / "repeats"

    def report_folder(self, study_name: str) -> Path:
        """The folder of a study's report."""
        return self.folder / "reports" / study_name

    def models_folder(self, sweep_name: str) -> Path:
        """The folder of a sweep's exported models."""
        return self.folder / "models" / sweep_name

    @property
    def tracking_uri(self) -> str:
        """The address of MLflow's database: ``sqlite:////home/...``.

        Raises:
            StoreError: This SQLAlchemy cannot open a database under such a path.
        """
        path = str(self.database)
        if not set("%?#") & set(path):
            return f"sqlite:///{path}"
        from sqlalchemy.engine import make_url

        # These three only: before 2.1, SQLAlchemy does not decode what is encoded.
        uri = "sqlite:///" + re.sub("[%?#]", lambda found: quote(found[0]), path)
        if make_url(uri).database != path:
            raise StoreError(
                f"--store {self}: SQLAlchemy cannot open a database under a path with '?', '%' or "
                "'#'; choose another place, or install sqlalchemy>=2.1"
            )
        return uri

    def optuna_storage(self) -> BaseStorage:
        """The storage of all studies; opening it makes the journal where there is none."""
        return open_journal(self.journal)

    @property
    def ui_command(self) -> str:
        """The shell command that opens the MLflow UI on this store."""
        return for_shell("mlflow", "ui", "--backend-store-uri", self.tracking_uri)

    @property
    def dashboard_command(self) -> str:
        """The shell command that opens optuna-dashboard on this store."""
        return for_shell("optuna-dashboard", self.journal)


def check_store(store: Store) -> None:
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


def _check_folder(store: Store) -> None:
    folder = store.folder
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"--store {store} is a file; name a folder")
    if not folder.is_dir():
        return
    marker = folder / _MARKER
    if not marker.exists():
        others = sorted(entry.name for entry in folder.iterdir() if entry.name[0] != ".")
        # What only a store holds: this folder is one that lost its marker.
        if {store.journal.name, store.database.name} <= set(others):
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


def has_studies(store: Store) -> bool:
    """Whether there is a store whose journal can be read; writes nothing.

    Raises:
        StoreError: As `check_store` and `check_journal`.
    """
    check_store(store)
    check_journal(store.journal)
    return store.journal.exists()


def _marker_advice(marker: Path) -> str:
    content = shlex.quote(json.dumps(_CONTENT))
    return (
        f"if qwave made this folder, write it again: echo {content} > {shlex.quote(str(marker))}"
    )


@contextmanager
def opened_store(store: Store) -> Iterator[Store]:
    """Make the folder a store where it is none yet, and hold its lock.

    Repairs what a killed process can leave in Optuna's journal, see `repair_journal`.

    Raises:
        StoreError: As `check_store` and `check_journal`; or another process holds the lock, or
            the folder cannot be written.
    """
    check_store(store)
    _require_writable(store)
    lock = FileLock(store.folder / "store.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(
            f"--store {store} is in use by another process; wait for it, or choose another --store"
        ) from error
    except OSError as error:
        raise _unwritable(store, error) from error
    try:
        repair_journal(store.journal)
        check_journal(store.journal)
        yield store
    finally:
        lock.release()


def _require_writable(store: Store) -> None:
    """Make a store of a folder, and find out before anything is trained what cannot be written."""
    marker = store.folder / _MARKER
    try:
        _require_folder(store.folder)
        if not marker.exists():
            # Renamed when it is complete: a file of this name is never half-written.
            unfinished = store.folder / f".{_MARKER}.{os.getpid()}"
            unfinished.write_text(json.dumps(_CONTENT) + "\n", encoding="utf-8")
            unfinished.replace(marker)
        _require_folder(store.artifact_root)
        if store.repeats_folder.exists():
            _require_folder(store.repeats_folder)
        for file in (store.journal, store.database):
            if os.path.lexists(file):
                file.open("r+b").close()
    except OSError as error:
        raise _unwritable(store, error) from error


def _require_folder(folder: Path) -> None:
    """Make a folder where there is none, and write into it; raises OSError where it cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _unwritable(store: Store, error: OSError) -> StoreError:
    is_there = store.folder.is_dir()
    copy = "copy it to where you may write, and name the copy, or " if is_there else ""
    return StoreError(f"--store {store} cannot be written: {error}; {copy}choose another --store")


def made_report_folder(store: Store, study_name: str) -> Path:
    """Make the folder of a study's report, and prove that it can be written.

    Called before anything is trained: hours of training should not end at a folder that is not
    there, or belongs to another user.

    Raises:
        StoreError: The folder cannot be written.
    """
    folder = store.report_folder(study_name)
    try:
        _require_folder(folder)
    except OSError as error:
        raise _unwritable(store, error) from error
    return folder
