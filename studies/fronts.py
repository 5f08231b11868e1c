"""Fronts by fresh seeds, and their hypervolumes, were the recordings others.

The models are given; what varies is which recordings they are scored on. A hypervolume has the
unit of `qwave.scores.pareto.hypervolume`: accuracy times powers of ten of bytes.

Shapes: m models, n clips, b resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qwave.data import EmbeddingSet
from qwave.scores import (
    Difference,
    Interval,
    bootstrap_means,
    bootstrap_score,
    bootstrap_score_difference,
)
from qwave.scores.pareto import hypervolume, non_dominated
from qwave.sweep import Repeat
from studies.equal_compute import Search

RESAMPLE_SEED = 0


@dataclass(frozen=True)
class Reference:
    """The worst accuracy and the largest size that `scores.pareto.hypervolume` counts."""

    accuracy: float
    size_bytes: float


@dataclass(frozen=True, eq=False)
class Scored:
    """Models, and how often each was right about each clip.

    Attributes:
        hits: Share of the seeds that were right, [m, n].
        size_bytes: [m], above 0.
    """

    hits: np.ndarray
    size_bytes: np.ndarray

    def hypervolume(self, reference: Reference) -> float:
        """Of the mean hits."""
        return hypervolume(
            self.hits.mean(axis=1),
            self.size_bytes,
            reference_accuracy=reference.accuracy,
            reference_bytes=reference.size_bytes,
        )

    def hypervolumes(self, weights: np.ndarray, reference: Reference) -> np.ndarray:
        """The same of resamples, clips' weights [b, n] to [b].

        All at once: the staircase's height over each step from size to size, times the step.
        """
        order = np.argsort(self.size_bytes, kind="stable")
        means = (weights @ self.hits[order].T) / weights.sum(axis=1, keepdims=True)
        heights = np.maximum(np.maximum.accumulate(means, axis=1) - reference.accuracy, 0)
        edges = np.append(self.size_bytes[order], reference.size_bytes)
        steps = np.diff(np.log10(np.minimum(edges, reference.size_bytes)))
        volumes: np.ndarray = heights @ steps
        return volumes


@dataclass(frozen=True, eq=False)
class Front:
    """The front of one search, and what fresh seeds made of it.

    Attributes:
        search: The search.
        scored: Its members by the fresh seeds, smallest first.
        accuracies: Of each member, with its 95 % interval over recordings.
        seed_deviations: Standard deviation of the seeds' accuracies; NaN with one seed.
        is_kept: Whether no other member dominates it now.
        volume: Hypervolume with its interval.
    """

    search: Search
    scored: Scored
    accuracies: list[Interval]
    seed_deviations: list[float]
    is_kept: list[bool]
    volume: Interval


def confirm_front(
    search: Search,
    repeats: Mapping[str, Sequence[Repeat]],
    data: EmbeddingSet,
    reference: Reference,
) -> Front:
    """What fresh seeds say about the front of a search; `repeats` are by digest."""
    rights = [
        np.array([repeat.predictions.predicted == data.y for repeat in repeats[point.digest]])
        for point in search.front
    ]
    scored = Scored(
        np.array([right.mean(axis=0) for right in rights]),
        np.array([point.size_bytes for point in search.front], dtype=np.float64),
    )
    intervals = bootstrap_means(scored.hits, data.group, seed=RESAMPLE_SEED)
    is_kept = non_dominated([interval.estimate for interval in intervals], scored.size_bytes)
    volume = bootstrap_score(
        lambda weights: scored.hypervolumes(weights, reference),
        data.group,
        len(data.y),
        seed=RESAMPLE_SEED,
    )
    return Front(
        search,
        scored,
        intervals,
        [float(r.mean(axis=1).std(ddof=1)) if len(r) > 1 else math.nan for r in rights],
        is_kept.tolist(),
        volume,
    )


def hypervolume_difference(
    models: Scored, others: Scored, reference: Reference, group: np.ndarray | None
) -> Difference:
    """Hypervolume of models less that of others, both on the same resamples of recordings.

    As of `qwave.scores.bootstrap_score_difference`, which reflects resamples: a front takes
    the best of what it is given, and the best of resampled scores is too good, twice as much as
    that of the scores. Percentiles would count it double.
    """
    return bootstrap_score_difference(
        lambda weights: (
            models.hypervolumes(weights, reference) - others.hypervolumes(weights, reference)
        ),
        group,
        models.hits.shape[1],
        seed=RESAMPLE_SEED,
    )
