"""A store to run studies in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qwave.store import Store, opened_store


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> Path:
    """A store that holds no study yet; its MLflow tables are made."""
    with opened_store(Store(tmp_path / "store")) as store:
        shutil.copy(empty_database, store.folder)
    return store.folder
