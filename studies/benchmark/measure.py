"""What `studies.benchmark` measures of one configuration."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.runtime import PackedClassifier
from qwave.scores import Interval
from qwave.scores.evaluate import score_intervals
from qwave.sweep import Repeat
from qwave.sweep.confirm import RESAMPLE_SEED

N_LATENCY_CALLS = 200


@dataclass(frozen=True, eq=False)
class Variant:
    """One configuration and what was measured of it.

    Attributes:
        name: Name in the YAML file.
        config: Configuration as the file has it.
        hits: Share of the seeds that classified each clip rightly, [n].
        scores: Scores with 95 % intervals over recordings.
        size_bytes: Length of the packed file.
        active_bytes: Bytes of the file that one prediction reads, on average.
        latency: Microseconds of a prediction of one clip: median and 95th percentile.
        train_seconds: Seconds of training, median over the seeds.
        peak_memory_bytes: Memory of the training process, largest over the seeds.
        kernels: Kernels that computed the networks while the latency was measured.
    """

    name: str
    config: TrialConfig
    hits: np.ndarray
    scores: Mapping[str, Interval]
    size_bytes: int
    active_bytes: float
    latency: tuple[float, float]
    train_seconds: float
    peak_memory_bytes: int
    kernels: tuple[str, ...] = ()


def measured(
    name: str, config: TrialConfig, repeats: Sequence[Repeat], data: EmbeddingSet
) -> Variant:
    """Scores, bytes, latency and cost of training of one configuration, from its repeats."""
    predicted = np.array([repeat.predictions.predicted for repeat in repeats])
    model = repeats[0].models()[0]
    return Variant(
        name=name,
        config=config,
        hits=(predicted == data.y).mean(axis=0),
        scores=score_intervals(data.y, predicted, data.group, seed=RESAMPLE_SEED),
        size_bytes=int(repeats[0].scores["size_bytes"]),
        active_bytes=float(np.mean([repeat.scores["active_bytes"] for repeat in repeats])),
        latency=latency_of(model, data.x[:N_LATENCY_CALLS]),
        train_seconds=float(np.median([repeat.train_seconds for repeat in repeats])),
        peak_memory_bytes=max(repeat.peak_memory_bytes for repeat in repeats),
        kernels=model.kernels,
    )


def latency_of(model: PackedClassifier, clips: np.ndarray) -> tuple[float, float]:
    """Median and 95th percentile of the microseconds of one clip's prediction, on one thread."""
    with threadpool_limits(1):
        model.predict_proba(clips[:1])
        seconds = []
        for row in range(len(clips)):
            start = time.perf_counter()
            model.predict_proba(clips[row : row + 1])
            seconds.append(time.perf_counter() - start)
    median, late = np.quantile(seconds, [0.5, 0.95])
    return 1e6 * float(median), 1e6 * float(late)
