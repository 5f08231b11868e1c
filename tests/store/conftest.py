"""A store that was searched in, made once a process: tests copy it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwave.data import EmbeddingSet
from tests.here import workers_here
from tests.store.stores import Place, make_place


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, gaussians: Callable[..., EmbeddingSet]
) -> Place:
    """Two trials of a sweep, one of which was exported and registered."""
    data = gaussians(5, n_per_class=10, num_features=6, distance=0.7)
    place = make_place(tmp_path_factory.mktemp("searched"), data.x, data.y)
    with workers_here():
        assert place.search() == 0
        assert place.export() == 0
    return place


@pytest.fixture
def commands_here() -> Iterator[None]:
    """Commands train in this process, as those did that made the store."""
    with workers_here():
        yield


@pytest.fixture
def place(searched: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of it, which no command has seen yet; commands train in this process."""
    store = tmp_path / "store"
    shutil.copytree(searched.store, store)
    with workers_here():
        yield searched._replace(store=store)
