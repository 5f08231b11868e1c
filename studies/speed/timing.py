"""What `studies.speed` measures: sizes of work, the plain loop and the engine, timed.

Times are scaled to 100 epochs and all folds; on a GPU the engine runs all 100. The engine's
preparation and its evaluations of held-out rows count as often as they occur in 100 epochs.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import Precision, train_folds
from qwave.engine.compiled import training_library
from qwave.engine.usage import Memory, peak_memory, reset_peak_memory
from qwave.processes import processor_count
from studies.speed.plain_loop import train_plain

EPOCHS = 100
N_EVALUATIONS = 10  # of held-out rows, in a training of any length
EXPERTS = ("int1", "int2", "int4", "int16")


@dataclass(frozen=True)
class Shape:
    """Size of the work: data set, model, and the epochs that are really run.

    Attributes:
        name: Name of the data set.
        n_clips, n_features, n_classes, n_folds: Size of the data set.
        plain_epochs: Epochs of the plain loop, on one fold.
        engine_epochs: Epochs of the engine on a CPU, on all folds.
        hidden: Widths of the experts' hidden layers.
    """

    name: str
    n_clips: int
    n_features: int
    n_classes: int
    n_folds: int
    plain_epochs: int = 2
    engine_epochs: int = 5
    hidden: tuple[int, ...] = (640, 320)


SHAPES = (
    Shape("ESC-10", 400, 1280, 10, 5, 4, 20),
    Shape("ESC-50", 2000, 1536, 50, 5, 2, 8),
    Shape("UrbanSound8K", 8732, 1536, 10, 10, 1, 1),
)


@dataclass(frozen=True)
class Task:
    """One timed run in a process of its own."""

    shape: Shape
    device: str
    n_epochs: int
    n_threads: int = 1
    precision: Precision = "float32"


@dataclass(frozen=True)
class Timing:
    """Seconds of one trial of 100 epochs, in each round.

    Attributes:
        plain: Seconds of the plain loop alone, by number of threads.
        plain_on_each: Seconds of the plain loop, one process on each processor.
        engine: Seconds of the engine, a trial on each processor, by precision of the moments.
        peak_bytes: Highest memory by precision: of the engine's processes and of this one
            together, shared memory counted once; on a GPU, memory of the GPU.
    """

    plain: Mapping[int, Sequence[float]]
    plain_on_each: Sequence[float]
    engine: Mapping[Precision, Sequence[float]]
    peak_bytes: Mapping[Precision, int]

    @property
    def best_threads(self) -> int:
        """Number of threads at which the plain loop is fastest."""
        return min(self.plain, key=lambda n: float(np.median(self.plain[n])))

    @property
    def plain_seconds(self) -> float:
        """Seconds of the plain loop alone at its best number of threads, median over rounds."""
        return float(np.median(self.plain[self.best_threads]))

    @property
    def plain_on_each_seconds(self) -> float:
        """Seconds for each trial where every processor runs a plain loop, median over rounds."""
        return float(np.median(self.plain_on_each))

    def engine_seconds(self, precision: Precision) -> float:
        """Seconds for each trial where every processor runs the engine, median over rounds."""
        return float(np.median(self.engine[precision]))

    def ratio(self, precision: Precision) -> float:
        """How many times as fast the engine is as the plain loop alone at its best."""
        return self.plain_seconds / self.engine_seconds(precision)

    def ratio_on_each(self, precision: Precision) -> float:
        """How many times as fast the engine is as a plain loop on each processor."""
        return self.plain_on_each_seconds / self.engine_seconds(precision)


def measure(shape: Shape, device: str, n_rounds: int) -> Timing:
    """Time the plain loop and the engine in turns.

    Each runs in new processes, and its first run, which is slow, is not counted.
    """
    n = processor_count() if device == "cpu" else 1
    has_both = device.startswith("cuda") or (device == "cpu" and training_library() is not None)
    precisions: tuple[Precision, ...] = ("bfloat16", "float32") if has_both else ("float32",)
    # On a GPU all epochs are run, because the first few steps take longest.
    n_epochs = shape.engine_epochs if device == "cpu" else EPOCHS
    plain: dict[int, list[float]] = {n_threads: [] for n_threads in sorted({1, n})}
    on_each: list[float] = []
    engine: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    peak_bytes = dict.fromkeys(engine, 0)
    own = peak_memory(torch.device("cpu")) if device == "cpu" else Memory(0, 0)
    for _ in range(n_rounds):
        with _new_pool(n) as pool:
            _together(pool, n, _run_plain, Task(shape, device, 1))
            for n_threads, rounds in plain.items():
                task = Task(shape, device, shape.plain_epochs, n_threads=n_threads)
                rounds.append(_together(pool, 1, _run_plain, task)[0])
            task = Task(shape, device, shape.plain_epochs)
            on_each.append(_together(pool, n, _run_plain, task)[0])
        for precision, rounds in engine.items():
            with _new_pool(n) as pool:
                _together(pool, n, _run_engine, Task(shape, device, 1, precision=precision))
                task = Task(shape, device, n_epochs, precision=precision)
                seconds, used = _together(pool, n, _run_engine, task)
                rounds.append(seconds)
                peak_bytes[precision] = max(peak_bytes[precision], total_bytes([own, *used]))
    return Timing(plain, on_each, engine, peak_bytes)


def _new_pool(n: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"))


def _together(
    pool: ProcessPoolExecutor,
    n: int,
    run: Callable[[Task], tuple[float, Memory]],
    task: Task,
) -> tuple[float, list[Memory]]:
    """Seconds for each trial when n run at once, and the memory of each process."""
    found = [each.result() for each in [pool.submit(run, task) for _ in range(n)]]
    return float(np.mean([seconds for seconds, _ in found])) / n, [used for _, used in found]


def _run_plain(task: Task) -> tuple[float, Memory]:
    """Seconds of a trial from one fold: the other folds are equal work, one after another."""
    torch.set_num_threads(task.n_threads)
    data, config = synthetic(task.shape), config_of(task.shape, task.n_epochs)
    start = time.perf_counter()
    train_plain(config, data, make_folds(data, config.data)[:1], device=task.device)
    seconds = time.perf_counter() - start
    scaled = seconds / task.n_epochs * EPOCHS * task.shape.n_folds
    return scaled, peak_memory(torch.device(task.device))


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
    evaluations = phases["evaluate"] / len(trained.checkpoints) * N_EVALUATIONS
    seconds = phases["prepare"] + phases["steps"] / task.n_epochs * EPOCHS + evaluations
    return seconds, peak_memory(torch.device(task.device))


def config_of(shape: Shape, n_epochs: int = EPOCHS) -> TrialConfig:
    """Configuration of the timed trial."""
    model = ModelConfig(
        schemes=EXPERTS, hidden=shape.hidden, top_k=1, dropout=0.2, input_dropout=0.2
    )
    return TrialConfig(
        data=DataConfig(shape.name, "sqrt_layer", shape.n_folds),
        model=model,
        train=TrainConfig(epochs=n_epochs, batch_size=64, learning_rate=1e-3, distillation=0.0),
    ).canonical()


def synthetic(shape: Shape) -> EmbeddingSet:
    """Random data of a shape: skewed non-negative features around class centres, with folds."""
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
    """Memory of several processes: each one's private pages, and the shared pages once."""
    shared = max(memory.shared for memory in memories)
    return sum(memory.private for memory in memories) + shared
