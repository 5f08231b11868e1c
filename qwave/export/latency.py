"""How long a packed model takes for its predictions, here and on one thread."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from qwave.runtime import PackedClassifier

BATCHES = (1, 64)

_SECONDS = 0.25  # for each batch size
_LEAST_RUNS = 5


def measure_latency(model: PackedClassifier, x: np.ndarray) -> dict[int, float]:
    """Median time of `predict_proba` by batch size, in microseconds.

    From raw embeddings to probabilities, with as many of the clips x [n, d], n >= 1, as the batch
    has, repeated where there are fewer.
    """
    with threadpool_limits(1):
        return {size: _median_us(model, x[np.arange(size) % len(x)]) for size in BATCHES}


def _median_us(model: PackedClassifier, batch: np.ndarray) -> float:
    model.predict_proba(batch)  # the first run of anything is slow
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        model.predict_proba(batch)
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times))


def processor_name() -> str:
    """The processor's model where the system says it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
