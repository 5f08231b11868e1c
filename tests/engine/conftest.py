"""Fixtures of this folder: every backend that trains on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from qwave.engine import teacher
from qwave.engine.compiled import training_library

Backend = Literal["compiled", "stacked"]


@pytest.fixture(params=["compiled", "stacked"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Both backends."""
    if request.param == "compiled" and training_library() is None:
        pytest.skip("no C compiler here")
    chosen: Backend = request.param
    return chosen


@pytest.fixture(params=["compiled", "compiled, bfloat16", "stacked"])
def how(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Both backends, and both precisions of the one that has two: arguments of `train_folds`."""
    backend, _, precision = request.param.partition(", ")
    if backend == "compiled" and training_library() is None:
        pytest.skip("no C compiler here")
    return {"backend": backend, "precision": precision or "float32"}


@pytest.fixture(scope="module")
def small_teacher() -> Iterator[None]:
    """Fewer members and rounds than a teacher has, which only cost time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "_N_MEMBERS", 2)
        patch.setattr(teacher, "_N_ROUNDS", 3)
        yield
