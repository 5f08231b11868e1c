"""A launcher for tests, which trains where it is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.crossval import cross_validate
from qwave.packing import to_bytes
from qwave.sweep.launcher import FinishedTrial, Launcher

Fault = Callable[[int, TrialConfig], Exception | None]


class InProcess:
    """Trains here and now.

    Attributes:
        fault: What a trial raises instead of being trained, by its place among the submitted ones
            and its configuration.
        trained: Configurations that were trained, in order.
    """

    n_parallel = 1

    def __init__(self, data: EmbeddingSet, fault: Fault = lambda *_: None) -> None:
        self.data, self.fault = data, fault
        self.trained: list[TrialConfig] = []
        self.n_submitted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, config: TrialConfig) -> Future[FinishedTrial]:
        future: Future[FinishedTrial] = Future()
        fault = self.fault(self.n_submitted, config)
        self.n_submitted += 1
        if fault is not None:
            future.set_exception(fault)
            return future
        self.trained.append(config)
        result = cross_validate(config, self.data)
        packed = tuple(to_bytes(model.packed) for model in result.models)
        future.set_result(FinishedTrial(dataclasses.replace(result, models=()), packed))
        return future

    def run(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future

    def why_lost(self, option: str) -> str:
        return f"ended by the system (out of memory?); the same command, {option}=1"


if TYPE_CHECKING:
    _: type[Launcher] = InProcess
