"""Fixtures of this folder: every backend that trains on a CPU."""

from __future__ import annotations

from typing import Any, Literal

import pytest

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
