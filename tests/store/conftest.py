"""A store that was searched in, made once a process: tests copy it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qwave.data import EmbeddingSet
from tests.store.stores import Place, make_place


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, gaussians: Callable[..., EmbeddingSet]
) -> Place:
    """Two trials of a sweep, one of which was exported and registered."""
    data = gaussians(5, n_per_class=10, num_features=6, distance=0.7)
    place = make_place(tmp_path_factory.mktemp("searched"), data.x, data.y)
    assert place.search() == 0
    assert place.export() == 0
    return place


@pytest.fixture
def place(searched: Place, tmp_path: Path) -> Place:
    """A copy of it, which no command has seen yet."""
    store = tmp_path / "store"
    shutil.copytree(searched.store, store)
    return searched._replace(store=store)
