"""Fronts scored with fresh seeds, and their hypervolumes if the recordings were others.

The models are fixed; resampled is which recordings they are scored on. A hypervolume has the unit
of `qwave.scores.pareto.hypervolume`: accuracy times powers of ten of bytes.

Shapes: m models, n clips, b resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qwave.data import EmbeddingSet
from qwave.scores import Difference, Interval, bootstrap_score, bootstrap_score_difference
from qwave.scores.pareto import hypervolume
from qwave.sweep import Repeat
from qwave.sweep.confirm import RESAMPLE_SEED, FreshScore, fresh_scores
from studies.mixtures.equal_compute import Search


@dataclass(frozen=True)
class Reference:
    """The worst accuracy and the largest size that `scores.pareto.hypervolume` counts."""

    accuracy: float
    size_bytes: float


@dataclass(frozen=True, eq=False)
class Models:
    """Hits and sizes of several models.

    Attributes:
        hits: Share of the seeds that classified each clip rightly, [m, n].
        size_bytes: Size of each model, [m], above 0.
    """

    hits: np.ndarray
    size_bytes: np.ndarray

    def hypervolume(self, reference: Reference) -> float:
        """Hypervolume of the mean hits."""
        return hypervolume(
            self.hits.mean(axis=1),
            self.size_bytes,
            reference_accuracy=reference.accuracy,
            reference_bytes=reference.size_bytes,
        )

    def hypervolumes(self, weights: np.ndarray, reference: Reference) -> np.ndarray:
        """Hypervolume on each resample, from the clips' weights [b, n] to [b].

        All resamples are computed together: the height of the staircase over each step from one
        size to the next, times the width of the step.
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
    """The front of one search, scored with fresh seeds.

    Attributes:
        search: The search that found the front.
        models: Hits and sizes of the members with fresh seeds, smallest first.
        scores: Accuracy of each member, and whether it is still on the front.
        volume: Hypervolume with its interval.
    """

    search: Search
    models: Models
    scores: list[FreshScore]
    volume: Interval


def confirm_front(
    search: Search,
    repeats: Mapping[str, Sequence[Repeat]],
    data: EmbeddingSet,
    reference: Reference,
) -> Front:
    """Score the front of a search by its repeats with fresh seeds; `repeats` are by digest."""
    scores = fresh_scores(search.front, repeats, data)
    models = Models(
        np.array([score.hits for score in scores]),
        np.array([point.size_bytes for point in search.front], dtype=np.float64),
    )
    volume = bootstrap_score(
        lambda weights: models.hypervolumes(weights, reference),
        data.group,
        len(data.y),
        seed=RESAMPLE_SEED,
    )
    return Front(search, models, scores, volume)


def hypervolume_difference(
    models: Models, others: Models, reference: Reference, group: np.ndarray | None
) -> Difference:
    """Hypervolume of `models` less that of `others`, both on the same resampled recordings.

    `qwave.scores.bootstrap_score_difference` reflects resamples at the estimate. That matters
    here: a front takes the best of its members, and the best of resampled scores is too high, by
    twice as much as the best of the scores themselves. Percentiles would count this bias double.
    """
    return bootstrap_score_difference(
        lambda weights: (
            models.hypervolumes(weights, reference) - others.hypervolumes(weights, reference)
        ),
        group,
        models.hits.shape[1],
        seed=RESAMPLE_SEED,
    )
