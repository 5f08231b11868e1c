"""Work of worker processes done in this one: a spawned process takes seconds to import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Self

import pytest


class _Here:
    """In place of `qwave.processes.WorkerPool`: work is done where it is submitted.

    That processes give the same bits is what `tests/sweep/test_sweep_pool.py` shows.
    """

    def __init__(self, n_workers: int, *_: object, **__: object) -> None:
        self.n_workers = n_workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def why_none_began(self) -> None:
        return None


@contextmanager
def workers_here() -> Iterator[None]:
    """Meanwhile, clips are embedded and trials trained in this process, whatever `workers` says.

    A teacher has fewer members and rounds, and timings are short: neither matters to what a
    store holds and says.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qwave.sweep.pool.WorkerPool", _Here)
        patch.setattr("qwave.audio.workers.WorkerPool", _Here)
        patch.setattr("qwave.engine.teacher._N_MEMBERS", 1)
        patch.setattr("qwave.engine.teacher._N_ROUNDS", 2)
        patch.setattr("qwave.exporting.facts._SECONDS", 0.01)
        yield
