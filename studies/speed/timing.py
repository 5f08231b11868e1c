"""What `studies.speed` measures: shapes of work, and the two ways of doing it, timed.

Times are scaled to 100 epochs and all folds; on a GPU the engine runs all 100. The engine's
preparation and its looks at held-out rows are counted as often as they occur in 100 epochs.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import Precision, train_folds
from qwave.engine.compiled import training_library
from qwave.engine.crossval import cross_validate
from qwave.engine.usage import Memory, peak_memory, reset_peak_memory
from qwave.processes import processor_count
from studies.plain_loop import train_plain

EPOCHS = 100
LOOKS = 10  # at held-out rows, in a training of any length
EXPERTS = ("int1", "int2", "int4", "int16")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Size of the work: data set and model."""

    name: str
    n_clips: int
    n_features: int
    n_classes: int
    n_folds: int
    plain_epochs: int = 2  # run of the plain loop, on one fold
    engine_epochs: int = 5  # run of the engine, on all folds
    schemes: tuple[str, ...] = EXPERTS
    hidden: tuple[int, ...] = (640, 320)


SHAPES = (
    Shape("ESC-10", 400, 1280, 10, 5, 4, 20),
    Shape("ESC-50", 2000, 1536, 50, 5, 2, 8),
    Shape("UrbanSound8K", 8732, 1536, 10, 10, 1, 1),
)


@dataclasses.dataclass(frozen=True)
class Task:
    """One run of one way of training."""

    shape: Shape
    device: str
    n_epochs: int
    n_threads: int = 1
    precision: Precision = "float32"


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one trial, of all epochs, in each round.

    Attributes:
        plain: By number of threads, alone.
        plain_on_each: A process on each processor.
        engine: By precision of the moments, a trial on each processor.
        peak_bytes: Highest memory of the engine's processes and of this one together, what they
            share counted once, by precision; on a GPU, its own.
    """

    plain: Mapping[int, Sequence[float]]
    plain_on_each: Sequence[float]
    engine: Mapping[Precision, Sequence[float]]
    peak_bytes: Mapping[Precision, int]

    @property
    def best_threads(self) -> int:
        """Number of threads that the plain loop is fastest with."""
        return min(self.plain, key=lambda n: float(np.median(self.plain[n])))

    @property
    def plain_seconds(self) -> float:
        """Of the plain loop alone, at its best number of threads; median over rounds."""
        return float(np.median(self.plain[self.best_threads]))

    @property
    def plain_on_each_seconds(self) -> float:
        """A trial's share where each processor runs one; median over rounds."""
        return float(np.median(self.plain_on_each))

    def engine_seconds(self, precision: Precision) -> float:
        """Median over rounds."""
        return float(np.median(self.engine[precision]))

    def ratio(self, precision: Precision) -> float:
        """How many times as fast as the plain loop alone, at its best."""
        return self.plain_seconds / self.engine_seconds(precision)

    def ratio_on_each(self, precision: Precision) -> float:
        """The same with a plain loop on each processor."""
        return self.plain_on_each_seconds / self.engine_seconds(precision)


def measure(shape: Shape, device: str, n_rounds: int) -> Timing:
    """Rounds in which the plain loop and the engine take turns."""
    n = processor_count() if device == "cpu" else 1
    plain: dict[int, list[float]] = {n_threads: [] for n_threads in sorted({1, n})}
    on_each: list[float] = []
    engine: dict[Precision, list[float]] = {precision: [] for precision in precisions(device)}
    peak_bytes = dict.fromkeys(engine, 0)
    own = peak_memory(torch.device("cpu")) if device == "cpu" else Memory(0, 0)
    for _ in range(n_rounds):
        # Each in processes of its own, so that neither meets what the other has left behind, and
        # the first run of anything, which is slow, counts for nothing.
        with pool_of(n) as pool:
            _together(pool, n, _run_plain, Task(shape, device, 1))
            for n_threads, rounds in plain.items():
                task = Task(shape, device, shape.plain_epochs, n_threads=n_threads)
                rounds.append(_together(pool, 1, _run_plain, task)[0])
            task = Task(shape, device, shape.plain_epochs)
            on_each.append(_together(pool, n, _run_plain, task)[0])
        for precision, rounds in engine.items():
            with pool_of(n) as pool:
                _together(pool, n, _run_engine, Task(shape, device, 1, precision=precision))
                task = Task(shape, device, epochs_of_engine(shape, device), precision=precision)
                seconds, used = _together(pool, n, _run_engine, task)
                rounds.append(seconds)
                peak_bytes[precision] = max(peak_bytes[precision], total_bytes([own, *used]))
    return Timing(plain, on_each, engine, peak_bytes)


def engine_seconds(shape: Shape, device: str) -> float:
    """Seconds of a trial of the engine, at its fastest precision, a trial on each processor."""
    n = processor_count() if device == "cpu" else 1
    with pool_of(n) as pool:
        _together(pool, n, _run_engine, Task(shape, device, 1))
        n_epochs = epochs_of_engine(shape, device)
        task = Task(shape, device, n_epochs, precision=precisions(device)[0])
        return _together(pool, n, _run_engine, task)[0]


def phase_seconds(shape: Shape, device: str, n_epochs: int) -> Mapping[str, float]:
    """Seconds of each phase of a whole trial, with packing, curiosity and scores."""
    with pool_of(1) as pool:
        return pool.submit(_run_trial, Task(shape, device, n_epochs)).result()


def precisions(device: str) -> tuple[Precision, ...]:
    """What the engine's numbers can be held in, the fastest first."""
    has_both = device.startswith("cuda") or (device == "cpu" and training_library() is not None)
    return ("bfloat16", "float32") if has_both else ("float32",)


def epochs_of_engine(shape: Shape, device: str) -> int:
    """Epochs that are run: on a GPU all of them, as the first few steps take longest."""
    return shape.engine_epochs if device == "cpu" else EPOCHS


def pool_of(n: int) -> ProcessPoolExecutor:
    """Processes that start from nothing."""
    return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"))


def _together(
    pool: ProcessPoolExecutor,
    n: int,
    run: Callable[[Task], tuple[float, Memory]],
    task: Task,
) -> tuple[float, list[Memory]]:
    """Seconds of one trial when n run at once, and the memory of each."""
    found = [each.result() for each in [pool.submit(run, task) for _ in range(n)]]
    return float(np.mean([seconds for seconds, _ in found])) / n, [used for _, used in found]


def _run_plain(task: Task) -> tuple[float, Memory]:
    """One fold: the others are the same work, one after another."""
    torch.set_num_threads(task.n_threads)
    data, config = synthetic(task.shape), config_of(task.shape, task.n_epochs)
    start = time.perf_counter()
    train_plain(config, data, make_folds(data, config.data)[:1], device=task.device)
    seconds = time.perf_counter() - start
    return seconds / task.n_epochs * EPOCHS * task.shape.n_folds, peak_memory(
        torch.device(task.device)
    )


def _run_engine(task: Task) -> tuple[float, Memory]:
    torch.set_num_threads(task.n_threads)
    data, config = synthetic(task.shape), config_of(task.shape, task.n_epochs)
    reset_peak_memory(torch.device(task.device))
    trained = train_folds(
        config,
        data,
        make_folds(data, config.data),
        device=task.device,
        precision=task.precision,
    )
    phases = trained.phase_seconds
    looks = phases["evaluate"] / len(trained.checkpoints) * LOOKS
    seconds = phases["prepare"] + phases["steps"] / task.n_epochs * EPOCHS + looks
    return seconds, peak_memory(torch.device(task.device))


def _run_trial(task: Task) -> Mapping[str, float]:
    torch.set_num_threads(task.n_threads)
    data, config = synthetic(task.shape), config_of(task.shape, task.n_epochs)
    cross_validate(config_of(task.shape, 1), data, device=task.device)
    return cross_validate(config, data, device=task.device).phase_seconds


def config_of(shape: Shape, n_epochs: int = EPOCHS) -> TrialConfig:
    """The trial that is timed."""
    model = ModelConfig(
        schemes=shape.schemes, hidden=shape.hidden, top_k=1, dropout=0.2, input_dropout=0.2
    )
    return TrialConfig(
        data=DataConfig(shape.name, "sqrt_layer", shape.n_folds),
        model=model,
        train=TrainConfig(epochs=n_epochs, batch_size=64, learning_rate=1e-3, distillation=0.0),
    ).canonical()


def synthetic(shape: Shape) -> EmbeddingSet:
    """Skewed, non-negative features around class centres, in official folds."""
    rng = np.random.default_rng(0)
    y = np.arange(shape.n_clips) % shape.n_classes
    centres = rng.normal(size=(shape.n_classes, shape.n_features)) / 2
    x = np.maximum(centres[y] + rng.normal(size=(shape.n_clips, shape.n_features)), 0.0)
    return EmbeddingSet(
        x=x.astype(np.float32),
        y=y.astype(np.int64),
        fold=(np.arange(shape.n_clips) // shape.n_classes % shape.n_folds).astype(np.int64),
        group=None,
        class_names=tuple(f"class {index}" for index in range(shape.n_classes)),
        names=tuple(f"clip {index}" for index in range(shape.n_clips)),
        digest="0" * 16,
    )


def total_bytes(memories: Sequence[Memory]) -> int:
    """Of processes that share what they share."""
    shared = max(memory.shared for memory in memories)
    return sum(memory.private for memory in memories) + shared
