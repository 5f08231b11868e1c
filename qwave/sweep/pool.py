"""The launcher of one machine: processes that train, one thread each."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from threadpoolctl import threadpool_limits

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet, Fold, folds_and_notes
from qwave.engine import SoftTargets, teacher_key, train_teacher
from qwave.engine.crossval import cross_validate
from qwave.packing import to_bytes
from qwave.processes import WorkerPool, processor_count
from qwave.sweep.launcher import FinishedTrial, Launcher


@dataclass(frozen=True)
class SharedData:
    """Embeddings whose features lie in a file: processes that map it hold them once.

    Attributes:
        file: The file of x.
        rest: The other fields of the `EmbeddingSet`, by name.
        folds: The folds of every trial; None: each trial makes those that its configuration asks
            for.
    """

    file: Path
    rest: dict[str, Any]
    folds: Sequence[Fold] | None = None

    @classmethod
    def write(
        cls, data: EmbeddingSet, folder: Path, folds: Sequence[Fold] | None = None
    ) -> SharedData:
        """Put x into a file in this folder."""
        fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
        file = folder / "x.npy"
        np.save(file, fields.pop("x"))
        return cls(file, fields, folds)

    def open(self) -> EmbeddingSet:
        """The embeddings; a process that writes into x changes no other process's x."""
        return EmbeddingSet(x=np.load(self.file, mmap_mode="c"), **self.rest)


class TrainingPool:
    """The `Launcher` of processes on this machine."""

    def __init__(
        self,
        n_workers: int,
        data: EmbeddingSet,
        device: str,
        folds: Sequence[Fold] | None = None,
    ) -> None:
        """Describe the pool; nothing is started.

        Args:
            n_workers: Number of processes, see `worker_count`.
            data: Embeddings to train on; processes map one file of their features.
            device: ``cpu``, ``cuda`` or ``mps``.
            folds: The folds of every trial; default: each trial makes those that its
                configuration asks for.
        """
        self.n_parallel = n_workers
        self.workers = WorkerPool(n_workers, _prepare, is_work_dropped=True)
        self._data, self._folds, self._device = data, folds, device

    def __enter__(self) -> Self:
        """Start the processes; each imports torch at once.

        Raises:
            ConfigError: As `qwave.processes.require_main_guard`.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="qwave-"))
            stack.enter_context(self.workers)
            self.shared = SharedData.write(self._data, Path(folder), self._folds)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes; a trial that still runs is dropped."""
        self._stack.close()

    def submit(self, config: TrialConfig) -> Future[FinishedTrial]:
        """Queue a trial."""
        return self.workers.submit(run_trial, config, self.shared, self._device)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Queue a call of a function, see `Launcher`."""
        return self.workers.submit(function, *arguments)

    def why_lost(self, option: str) -> str:
        """What to tell a person when a worker was ended from outside, see `Launcher`."""
        return self.workers.why_none_began() or (
            "a training process was ended by the system (out of memory?); the same command goes "
            f"on from here, with less memory under {option}=1"
        )


if TYPE_CHECKING:
    _: type[Launcher] = TrainingPool


def run_trial(config: TrialConfig, data: SharedData, device: str) -> FinishedTrial:
    """One trial, as a worker runs it."""
    embeddings = data.open()
    # Without warnings about the folds: a study shows them once, when it begins.
    folds = data.folds or folds_and_notes(embeddings, config.data)[0]
    soft_targets = _soft_targets(config, embeddings, folds, data.file.parent, device)
    result = cross_validate(config, embeddings, folds, soft_targets=soft_targets, device=device)
    packed = tuple(to_bytes(model.packed) for model in result.models)
    return FinishedTrial(dataclasses.replace(result, models=()), packed)


def _soft_targets(
    config: TrialConfig, data: EmbeddingSet, folds: Sequence[Fold], folder: Path, device: str
) -> list[SoftTargets] | None:
    """Soft targets of a trial with a teacher: read from a file, or made and written to it.

    Two workers that need the same file at the same time both make it, with equal content.
    """
    if not config.train.distillation:
        return None
    file = folder / f"{teacher_key(config)}.npz"
    names = [field.name for field in dataclasses.fields(SoftTargets)]
    if not file.exists():
        made = train_teacher(config.canonical(), data, folds, device=device)
        arrays = {
            f"{fold}.{name}": getattr(own, name) for fold, own in enumerate(made) for name in names
        }
        unfinished = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, **arrays)
        unfinished.replace(file)
    with np.load(file) as arrays:
        return [
            SoftTargets(*(arrays[f"{fold}.{name}"] for name in names))
            for fold in range(len(folds))
        ]


def worker_count(wanted: int | None, device: str) -> int:
    """Number of processes to train with: as wanted, else one a processor, or one on a GPU."""
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
