"""How fast is a trial? The engine against the plain loop, side by side on this machine.

python -m studies.speed [--device cpu|cuda] [--quick] [--json]

Four experts of 1, 2, 4 and 16 bits, top-1, 640 and 320 hidden units, batch 64, 100 epochs, at the
shapes of three data sets, filled with random numbers. A few epochs are run, and their time scaled
to 100. The plain loop runs alone, at its best number of threads; the engine as in a study, a trial
on each processor at once, one thread each. Because that comparison favours the engine, the plain
loop is also run as a process on each processor, and both ratios are shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Literal

import numpy as np
import torch

from qwave.config import DataConfig, ModelConfig, QwaveError, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import resolve_device, train_folds
from studies.plain_loop import train_plain

EPOCHS = 100


@dataclasses.dataclass(frozen=True)
class Shape:
    """Size of a data set."""

    name: str
    n_clips: int
    n_features: int
    n_classes: int
    n_folds: int
    plain_epochs: int  # run of the plain loop, on one fold
    engine_epochs: tuple[int, int]  # two runs of the engine; ten epochs have all looks at a fold


SHAPES = (
    Shape("ESC-10", 400, 1280, 10, 5, 4, (10, 30)),
    Shape("ESC-50", 2000, 1536, 50, 5, 2, (10, 20)),
    Shape("UrbanSound8K", 8732, 1536, 10, 10, 1, (1, 2)),
)


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one way of training took.

    Attributes:
        seconds: Wall time of one trial, scaled to all epochs.
        way: Threads and processes.
        peak_bytes: Highest memory: of all processes together, or on the GPU.
    """

    seconds: float
    way: str
    peak_bytes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.speed", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--quick", action="store_true", help="ESC-50's shape only, few epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    arguments = parser.parse_args(argv)
    try:
        resolve_device(arguments.device)
    except QwaveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stream = sys.stderr if arguments.json else sys.stdout
    print(
        f"{'shape':14} {'plain, alone':>14} {'on each':>10} {'engine':>10} {'ratio':>8} "
        f"{'on each':>8} {'peak memory':>12}",
        file=stream,
    )
    results = {}
    for shape in SHAPES[1:2] if arguments.quick else SHAPES:
        alone, on_each = measure_plain(shape, arguments.device)
        engine = measure_engine(shape, arguments.device)
        results[shape.name] = alone, on_each, engine
        print(
            f"{shape.name:14} {alone.seconds:12.1f} s {on_each.seconds:8.1f} s "
            f"{engine.seconds:8.1f} s {alone.seconds / engine.seconds:7.1f}x "
            f"{on_each.seconds / engine.seconds:7.1f}x {engine.peak_bytes / 2**20:8.0f} MiB"
            f"  (alone: {alone.way})",
            file=stream,
            flush=True,
        )
    if arguments.json:
        alone, on_each, engine = results["ESC-50"]
        found = {
            "ratio": alone.seconds / engine.seconds,
            "ratio_at_equal_processes": on_each.seconds / engine.seconds,
            "plain_seconds": alone.seconds,
            "plain_seconds_at_equal_processes": on_each.seconds,
            "engine_seconds": engine.seconds,
            "engine_peak_bytes": engine.peak_bytes,
            "shape": "ESC-50",
            "device": arguments.device,
        }
        print(json.dumps(found))
    return 0


def measure_plain(shape: Shape, device: str) -> tuple[Timing, Timing]:
    """The plain loop alone, at its best number of threads, and as a process on each processor."""
    n = n_processors() if device == "cpu" else 1
    by_threads = [_measure("plain", shape, device, 1, n_threads) for n_threads in {1, n}]
    alone = min(by_threads, key=lambda timing: timing.seconds)
    return alone, alone if n == 1 else _measure("plain", shape, device, n, 1)


def measure_engine(shape: Shape, device: str) -> Timing:
    """The engine as a study uses it: a trial on each processor."""
    return _measure("engine", shape, device, n_processors() if device == "cpu" else 1, 1)


def n_processors() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


def _measure(kind: str, shape: Shape, device: str, n_processes: int, n_threads: int) -> Timing:
    """Seconds of one trial when as many run at once as there are processes."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=context) as pool:
        tasks = [pool.submit(_train, kind, shape, device, n_threads) for _ in range(n_processes)]
        each = [task.result() for task in tasks]
    seconds = float(np.mean([seconds for seconds, _ in each])) / n_processes
    way = f"{n_processes} process(es) of {n_threads} thread(s)"
    return Timing(seconds, way, sum(peak for _, peak in each))


def _train(kind: str, shape: Shape, device: str, n_threads: int) -> tuple[float, int]:
    """Seconds for all epochs and peak memory of one trial, in a process of its own."""
    torch.set_num_threads(n_threads)
    data = synthetic(shape)
    config = config_of(shape)
    folds = make_folds(data, config.data)

    def run(n_epochs: int) -> float:
        train = dataclasses.replace(config.train, epochs=n_epochs)
        short = dataclasses.replace(config, train=train)
        start = time.perf_counter()
        if kind == "plain":
            train_plain(short, data, folds[:1], device=device)
        else:
            steps: Literal["routed", "stacked"] = "routed" if device == "cpu" else "stacked"
            train_folds(short, data, folds, device=device, steps=steps)
        return time.perf_counter() - start

    run(1)  # the first run of anything is slow
    if kind == "plain":
        # One fold: the others are the same work, one after another.
        seconds = run(shape.plain_epochs) / shape.plain_epochs * EPOCHS * shape.n_folds
    else:
        # Set-up and looks at held-out folds do not grow with epochs; steps do.
        short, long = shape.engine_epochs
        first = run(short)
        seconds = first + (run(long) - first) / (long - short) * (EPOCHS - short)
    return seconds, _peak_bytes(device)


def config_of(shape: Shape) -> TrialConfig:
    """The trial that is timed."""
    model = ModelConfig(
        schemes=("int1", "int2", "int4", "int16"),
        hidden=(640, 320),
        top_k=1,
        dropout=0.2,
        input_dropout=0.2,
    )
    return TrialConfig(
        data=DataConfig(shape.name, "sqrt_layer", shape.n_folds),
        model=model,
        train=TrainConfig(epochs=EPOCHS, batch_size=64, learning_rate=1e-3),
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


def _peak_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
