"""The runtimes take turns, and their calls are timed; see `studies.latency`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from qwave.config import SCHEMES, ConfigError
from qwave.data import EmbeddingSet, load_embeddings
from qwave.exporting import require_onnx
from qwave.packing import to_bytes
from qwave.report import Cell, Column, Table
from qwave.runtime import Kernel, PackedClassifier
from qwave.runtime.compiled import forward_library
from studies.latency import contenders
from studies.latency.cold_start import ColdStart, cold_starts
from studies.latency.contenders import Layer, Predict

BATCHES = (1, 8, 64)
BASELINE = "torch fp32"
EPOCHS = 5


class Effort(NamedTuple):
    """How long to measure: rounds, and seconds of one runtime at one batch size in each round."""

    rounds: int
    seconds: float


THOROUGH, QUICK = Effort(9, 0.25), Effort(3, 0.05)


class Latency(NamedTuple):
    """Microseconds of a call: median and 95th percentile."""

    median: float
    p95: float


Latencies = Mapping[str, Mapping[int, Latency]]
"""Latency by runtime and batch size."""


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns 0."""
    hidden = parse_hidden(arguments.hidden)
    require_onnx("studies.latency")
    stream = sys.stderr if arguments.json else sys.stdout
    effort = QUICK if arguments.quick else THOROUGH
    torch.set_num_threads(1)
    with threadpool_limits(1):
        data = load_embeddings("esc10")
        layers = contenders.float_layers(data, hidden, EPOCHS)
        runtimes, sizes = all_runtimes(layers, data)
        found = measure(runtimes, data.x, effort)
    print(
        f"{data.x.shape[1]} features, {arguments.hidden}, {data.num_classes} classes\n\n"
        f"{latency_table(found, sizes).text()}\n",
        file=stream,
    )
    starts = cold_starts(layers, data, n_rounds=effort.rounds)
    print(start_table(starts).text(), file=stream)
    if arguments.json:
        print(json.dumps(summary(found, starts)))
    return 0


def parse_hidden(text: str) -> tuple[int, ...]:
    """Widths of hidden layers from ``640-320`` or ``linear``.

    Raises:
        ConfigError: The text is neither.
    """
    if text == "linear":
        return ()
    widths = text.split("-")
    if not all(width.isdecimal() and int(width) > 0 for width in widths):
        raise ConfigError(f"--hidden must be widths such as 640-320, or linear, not {text!r}")
    return tuple(map(int, widths))


def all_runtimes(
    layers: Sequence[Layer], data: EmbeddingSet
) -> tuple[dict[str, Predict], dict[str, int]]:
    """Every runtime by name, and the bytes of this package's files by the same names."""
    runtimes = {
        BASELINE: contenders.torch_float(layers),
        "torch dynamic int8": contenders.torch_int8(layers),
        "onnxruntime fp32": contenders.onnx_float(layers),
        "onnxruntime dynamic int8": contenders.onnx_int8(layers),
        "onnxruntime MatMulNBits 4 bits": contenders.onnx_4_bits(layers),
    }
    models = {scheme: contenders.packed_model(layers, scheme, data) for scheme in SCHEMES}
    has_compiler = forward_library() is not None
    kernels: tuple[Kernel, ...] = ("compiled", "numpy") if has_compiler else ("numpy",)
    sizes = {}
    for kernel in kernels:
        for scheme, packed in models.items():
            name = f"qwave {scheme}, {kernel}"
            runtimes[name] = PackedClassifier(packed, kernel).predict_proba
            sizes[name] = len(to_bytes(packed))
    for scheme, packed in models.items():
        runtimes[f"qwave {scheme}, model.onnx"] = contenders.exported(packed)
    return runtimes, sizes


def measure(
    runtimes: Mapping[str, Predict], x: np.ndarray, effort: Effort
) -> dict[str, dict[int, Latency]]:
    """Latency of every runtime at every batch size, over all calls of all rounds."""
    calls: dict[str, dict[int, list[float]]] = {n: {b: [] for b in BATCHES} for n in runtimes}
    for _ in range(effort.rounds):
        for batch in BATCHES:
            clips = np.ascontiguousarray(x[:: len(x) // batch][:batch])
            for name, predict in runtimes.items():
                predict(clips)  # not timed: the caches hold what the runtime before has read
                end = time.perf_counter() + effort.seconds
                while (start := time.perf_counter()) < end:
                    predict(clips)
                    calls[name][batch].append(time.perf_counter() - start)
    return {
        name: {batch: latency_of(values) for batch, values in by_batch.items()}
        for name, by_batch in calls.items()
    }


def latency_of(seconds: Sequence[float]) -> Latency:
    """Median and 95th percentile of calls that took these seconds."""
    return Latency(*(1e6 * np.quantile(seconds, (0.5, 0.95))).tolist())


def ratio(found: Latencies, name: str, batch: int) -> float:
    """How many times as fast as the baseline a runtime is."""
    return found[BASELINE][batch].median / found[name][batch].median


def latency_table(found: Latencies, sizes: Mapping[str, int]) -> Table:
    """Microseconds of a call, one row for each runtime."""
    columns = [Column("microseconds a call"), Column("bytes", "number", 0)]
    for batch in BATCHES:
        columns += [Column(f"batch {batch}: median", "number", 1), Column("p95", "number", 1)]
        columns += [Column("ratio", "number", 1)]
    rows: list[tuple[Cell, ...]] = []
    for name, by_batch in found.items():
        cells: list[Cell] = [name, sizes.get(name)]
        for batch, latency in by_batch.items():
            cells += [*latency, ratio(found, name, batch)]
        rows.append(tuple(cells))
    return Table(tuple(columns), tuple(rows))


def start_table(starts: Sequence[ColdStart]) -> Table:
    """Cold starts, one row for each kind of process."""
    columns = (
        Column("from a file to the first prediction"),
        Column("to the prediction (s)", "number"),
        Column("process (s)", "number"),
        Column("memory (MiB)", "number", 0),
    )
    rows = tuple(
        (start.name, start.seconds, start.process_seconds, start.peak_bytes / 2**20)
        for start in starts
    )
    return Table(columns, rows)


def summary(found: Latencies, starts: Sequence[ColdStart]) -> dict[str, object]:
    """All measured values, for `--json`."""
    return {
        "microseconds": {
            name: {str(batch): value._asdict() for batch, value in by_batch.items()}
            for name, by_batch in found.items()
        },
        "ratio": {
            name: {str(batch): ratio(found, name, batch) for batch in by_batch}
            for name, by_batch in found.items()
        },
        "cold_start": [start._asdict() for start in starts],
    }
