"""Scores of the points of a search by fresh seeds: on front or not, and the search's optimism."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import predict_holdout
from qwave.scores import (
    FrontPoint,
    Interval,
    bootstrap_difference,
    bootstrap_means,
    front_probability,
    holm,
)
from qwave.scores.pareto import hypervolume
from qwave.sweep import Repeat
from studies.presenting import LEVEL, RESAMPLE_SEED, FreshScore, fresh_scores


@dataclass(frozen=True, eq=False)
class Confirmed:
    """A point of the search, scored with fresh seeds.

    Attributes:
        point: The point as the search found it.
        score: Accuracy with fresh seeds.
        probability: How often the point is on the front if recordings are resampled, 0 to 1.
        is_possibly_dominated: Whether its lead on the best point that is not larger could be
            chance: the p-value of the difference, corrected by Holm, is above 5 %.
        holdout: Accuracy with its interval on the fold that the search never saw, or None.
    """

    point: FrontPoint
    score: FreshScore
    probability: float
    is_possibly_dominated: bool
    holdout: Interval | None = None


def confirm(
    points: Sequence[FrontPoint], repeats: Mapping[str, Sequence[Repeat]], data: EmbeddingSet
) -> list[Confirmed]:
    """Score every point by its repeats with fresh seeds; `repeats` are by digest."""
    scores = fresh_scores(points, repeats, data)
    hits = np.array([score.hits for score in scores])
    sizes = np.array([point.size_bytes for point in points])
    probability = front_probability(hits, sizes, data.group, seed=RESAMPLE_SEED)
    is_better = better_than_smaller(hits, sizes, data.group)
    return [
        Confirmed(point, score, float(share), not is_shown)
        for point, score, share, is_shown in zip(
            points, scores, probability, is_better, strict=True
        )
    ]


def better_than_smaller(
    hits: np.ndarray, sizes: np.ndarray, group: np.ndarray | None
) -> list[bool]:
    """Whether each model [m] is shown to be better than the best other that is not larger.

    One test for each model, corrected by Holm. The smallest has nothing to beat and counts as
    better.
    """
    means = hits.mean(axis=1)
    p_values = []
    for model, size in enumerate(sizes):
        rivals = [other for other in range(len(sizes)) if other != model and sizes[other] <= size]
        if not rivals:
            p_values.append(0.0)
            continue
        best = max(rivals, key=lambda other: means[other])
        difference = bootstrap_difference(hits[model], hits[best], group, seed=RESAMPLE_SEED)
        p_values.append(difference.p_value if difference.estimate > 0 else 1.0)
    return [bool(p <= LEVEL) for p in holm(p_values)]


def with_holdout(
    confirmed: Sequence[Confirmed],
    configs: Mapping[str, TrialConfig],
    seeds: Sequence[int],
    full: EmbeddingSet,
    device: str,
) -> list[Confirmed]:
    """Score the confirmed front on the fold that the search never saw.

    Only the front: choosing among more points by these scores would be a search on that fold.
    """
    front = [entry for entry in confirmed if entry.score.is_front]
    seeded = [
        dataclasses.replace(configs[entry.point.digest], seed=seed)
        for entry in front
        for seed in seeds
    ]
    rows, predicted = predict_holdout(seeded, full, device=device)
    hits = (predicted == full.y[rows]).reshape(len(front), len(seeds), -1).mean(axis=1)
    group = None if full.group is None else full.group[rows]
    intervals = bootstrap_means(hits, group, seed=RESAMPLE_SEED)
    found = {
        entry.point.digest: interval for entry, interval in zip(front, intervals, strict=True)
    }
    return [
        dataclasses.replace(entry, holdout=found.get(entry.point.digest)) for entry in confirmed
    ]


def optimism(confirmed: Sequence[Confirmed], reference: Mapping[str, Any]) -> dict[str, float]:
    """How much higher the search saw its front than fresh seeds do, for MLflow and the report.

    Args:
        confirmed: All points.
        reference: Attributes of the study, with `reference_accuracy` and `reference_bytes`.
    """
    members = [entry for entry in confirmed if entry.point.is_front]
    gaps = [entry.point.accuracy - entry.score.accuracy.estimate for entry in members]

    def volume(accuracy: Sequence[float], entries: Sequence[Confirmed]) -> float:
        return hypervolume(
            accuracy,
            [entry.point.size_bytes for entry in entries],
            reference_accuracy=reference["reference_accuracy"],
            reference_bytes=reference["reference_bytes"],
        )

    return {
        "optimism": float(np.mean(gaps)),
        "largest_optimism": float(np.max(gaps)),
        "hypervolume_searched": volume([entry.point.accuracy for entry in members], members),
        "hypervolume_confirmed": volume([e.score.accuracy.estimate for e in confirmed], confirmed),
        # Equal points count once, as in the search.
        "front_size_searched": float(
            len({(e.point.accuracy, e.point.size_bytes) for e in members})
        ),
        "front_size_confirmed": float(sum(entry.score.is_front for entry in confirmed)),
    }
