"""Processes that train: one thread each, deaf to Ctrl-C, which is for the process that asks.

Threads inside one small training step fight each other and lose to any other process on the
machine; processes do not.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import Lessons, lessons_key, teach
from qwave.engine.crossval import cross_validate
from qwave.packing import to_bytes
from qwave.processes import (
    end_with_parent,
    processor_count,
    spawning,
    submitted,
    why_no_worker_began,
)
from qwave.sweep.record import FinishedTrial


class WorkerLostError(RuntimeError):
    """A training process was ended from outside."""


@dataclass(frozen=True)
class SharedData:
    """Embeddings whose features lie in a file: processes that map it hold them once.

    Attributes:
        file: Where x lies.
        rest: The other fields of the `EmbeddingSet`.
    """

    file: Path
    rest: dict[str, Any]

    @classmethod
    def write(cls, data: EmbeddingSet, folder: Path) -> SharedData:
        """Put x into a file in this folder."""
        fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
        file = folder / "x.npy"
        np.save(file, fields.pop("x"))
        return cls(file, fields)

    def open(self) -> EmbeddingSet:
        """The embeddings. What a process writes into x it keeps to itself."""
        return EmbeddingSet(x=np.load(self.file, mmap_mode="c"), **self.rest)


class TrainingPool:
    """Workers that train trials on one data set."""

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        data: SharedData,
        device: str,
        ready: Sequence[Future[int]] = (),
    ) -> None:
        self._pool, self._data, self._device, self._ready = pool, data, device, ready

    def submit(self, config: TrialConfig) -> Future[FinishedTrial]:
        """Queue a trial."""
        return submitted(self._pool, run_trial, config, self._data, self._device)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Queue a call of a function that workers can import."""
        return submitted(self._pool, function, *arguments)

    def why_lost(self, option: str) -> str:
        """What to tell a person when a worker was ended from outside.

        Args:
            option: The key that sets the number of workers, ``budget.workers`` or ``workers``.
        """
        if self._ready and all(future.done() and future.exception() for future in self._ready):
            return why_no_worker_began()
        return (
            "a training process was ended by the system (out of memory?); the same command goes "
            f"on from here, with less memory under {option}=1"
        )


@contextmanager
def training_pool(n_workers: int, data: EmbeddingSet, device: str) -> Iterator[TrainingPool]:
    """Workers that import torch at once; on exit those that still train are ended.

    Raises:
        ConfigError: This process is itself a worker that imports the program that started it, see
            `qwave.processes.require_main_guard`.
    """
    with spawning():
        pool = ProcessPoolExecutor(
            n_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare
        )
        ready = [submitted(pool, os.getpid) for _ in range(n_workers)]
    with tempfile.TemporaryDirectory(prefix="qwave-") as folder:
        try:
            yield TrainingPool(pool, SharedData.write(data, Path(folder)), device, ready)
        finally:
            # No trial is waited for: on a normal end none runs any more, and what runs when a
            # person stops a study is queued again. The pool's thread is: left to the end of the
            # interpreter, it may find its pipes closed, and says so on the terminal.
            # Its own processes: the program around may have others.
            for child in list((pool._processes or {}).values()):
                child.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


def run_trial(config: TrialConfig, data: SharedData, device: str) -> FinishedTrial:
    """One trial, as a worker runs it."""
    embeddings = data.open()
    lessons = _lessons(config, embeddings, data.file.parent, device)
    result = cross_validate(config, embeddings, lessons=lessons, device=device)
    packed = tuple(to_bytes(model.packed) for model in result.models)
    return FinishedTrial(dataclasses.replace(result, models=()), packed)


def _lessons(
    config: TrialConfig, data: EmbeddingSet, folder: Path, device: str
) -> list[Lessons] | None:
    """What trials with a teacher are taught: read from a file, or made and left in one.

    Two workers that need the same lessons at the same time both make them: they are equal.
    """
    if not config.train.distillation:
        return None
    file = folder / f"{lessons_key(config)}.npz"
    if not file.exists():
        made = teach(config.canonical(), data, make_folds(data, config.data), device=device)
        arrays = {
            f"{fold}.{field.name}": getattr(lessons, field.name)
            for fold, lessons in enumerate(made)
            for field in dataclasses.fields(Lessons)
        }
        unfinished = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, **arrays)
        unfinished.replace(file)
    with np.load(file) as arrays:
        n_folds = 1 + max(int(name.split(".")[0]) for name in arrays)
        names = [field.name for field in dataclasses.fields(Lessons)]
        return [Lessons(*(arrays[f"{fold}.{n}"] for n in names)) for fold in range(n_folds)]


def worker_count(wanted: int | None, device: str) -> int:
    """Processes to train with: as wanted, else one for each processor, or one on a GPU."""
    if wanted is not None:
        return wanted
    if not device.startswith("cpu"):
        return 1
    return processor_count()


def _prepare() -> None:
    import torch

    torch.set_num_threads(1)
    # NumPy's products have threads of their own: two workers' fight for the processors made
    # predictions take four times as long.
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What make_folds warns of was shown once, when the study began.
    warnings.simplefilter("ignore", UserWarning)
    end_with_parent()
