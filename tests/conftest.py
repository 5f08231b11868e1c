"""What all tests share: one torch thread, small made-up data sets, and a fresh interpreter."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwave.data import EmbeddingSet

REPOSITORY = Path(__file__).resolve().parents[1]


# What PyTorch's compiler says while it works: an error would make it seem that it does not.
COMPILER_SAYS = (
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
    "ignore:TensorFloat32 tensor cores for float32 matrix multiplication:UserWarning",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests marked `gpu` compile kernels."""
    if item.get_closest_marker("gpu") is not None:
        for says in COMPILER_SAYS:
            item.add_marker(pytest.mark.filterwarnings(says))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` run where there is one, each with kernels of its own."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    # Of a function's sizes only the first few are compiled.
    torch._dynamo.reset()


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """Small products gain nothing from threads, and other tests run beside these."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MLflow database of a store after its first opening, which takes seconds."""
    from qwave.store import Store, Tracker

    store = Store(tmp_path_factory.mktemp("empty"))
    Tracker(store)
    return store.database


@pytest.fixture(scope="session")
def native() -> ctypes.CDLL:
    """The compiled part of the engine."""
    from qwave.engine.compiled import training_library

    found = training_library()
    if found is None:
        pytest.skip("no C compiler here")
    return found


@pytest.fixture(scope="session")
def make_set() -> Callable[..., EmbeddingSet]:
    """An `EmbeddingSet` from arrays, without a file."""

    def make(
        x: np.ndarray,
        y: np.ndarray,
        fold: np.ndarray | None = None,
        group: np.ndarray | None = None,
    ) -> EmbeddingSet:
        class_names = tuple(f"class {label}" for label in range(int(y.max()) + 1))
        names = tuple(f"clip {row}" for row in range(len(y)))
        x, y = x.astype(np.float32), y.astype(np.int64)
        return EmbeddingSet(x, y, fold, group, class_names, names, "0123456789abcdef")

    return make


@pytest.fixture(scope="session")
def gaussians(make_set: Callable[..., EmbeddingSet]) -> Callable[..., EmbeddingSet]:
    """Classes as Gaussian clouds around random centres, with official folds and recordings."""

    def make(
        seed: int,
        *,
        n_per_class: int = 20,
        num_classes: int = 3,
        num_features: int = 12,
        distance: float = 2.0,
        n_folds: int = 3,
    ) -> EmbeddingSet:
        rng = np.random.default_rng(seed)
        y = np.repeat(np.arange(num_classes), n_per_class)
        centres = rng.normal(size=(num_classes, num_features)) * distance
        x = centres[y] + rng.normal(size=(len(y), num_features))
        # Two clips a recording, both in one fold.
        place = np.tile(np.arange(n_per_class), num_classes)
        fold = place % n_folds
        group = 1000 * y + n_folds * (place // (2 * n_folds)) + fold
        return make_set(x, y, fold=fold, group=group)

    return make


@pytest.fixture(scope="session")
def fresh_python() -> Callable[..., str]:
    """Run code in an interpreter of its own, from the repository; returns what it prints."""

    def run(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
