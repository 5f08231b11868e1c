"""The front of a finished search, trained again with fresh seeds.

The best of many noisy scores is too high (the winner's curse). Fresh seeds were not used in the
search: their mean is not chosen by anything, and its interval is over recordings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qwave.config import ConfigError, TrialConfig
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
from qwave.scores.pareto import hypervolume, non_dominated
from qwave.store import Store
from qwave.sweep.repeats import Bench, Repeat, opened_bench
from qwave.sweep.report import collect_points, front_of, point_config
from qwave.sweep.searched import SearchedData, load_searched
from qwave.sweep.study import load_study

LEVEL = 0.05
RESAMPLE_SEED = 0
FRESH_SEEDS = (101, 102, 103, 104, 105)


@dataclass(frozen=True, eq=False)
class FreshScore:
    """Accuracy of one point of a search, trained again with seeds that the search did not use.

    Attributes:
        hits: Share of the seeds that classified each clip rightly, [n].
        accuracy: Mean over clips and seeds, with its 95 % interval over recordings.
        seed_deviation: Standard deviation of the seeds' accuracies; None with one seed.
        is_front: Whether no other of the scored points dominates this one.
    """

    hits: np.ndarray = dataclasses.field(repr=False)
    accuracy: Interval
    seed_deviation: float | None
    is_front: bool


def fresh_scores(
    points: Sequence[FrontPoint], repeats: Mapping[str, Sequence[Repeat]], data: EmbeddingSet
) -> list[FreshScore]:
    """Score points by their repeats with fresh seeds; `repeats` are by digest."""
    rights = [
        np.array([repeat.predictions.predicted == data.y for repeat in repeats[point.digest]])
        for point in points
    ]
    hits = np.array([right.mean(axis=0) for right in rights])
    intervals = bootstrap_means(hits, data.group, seed=RESAMPLE_SEED)
    is_front = non_dominated(
        [interval.estimate for interval in intervals], [point.size_bytes for point in points]
    )
    return [
        FreshScore(
            hits[index],
            intervals[index],
            float(right.mean(axis=1).std(ddof=1)) if len(right) > 1 else None,
            bool(is_front[index]),
        )
        for index, right in enumerate(rights)
    ]


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


@dataclass(frozen=True, eq=False)
class Candidates:
    """The points of a finished search that are trained again.

    Attributes:
        points: The front and the points closely below it, smallest first.
        configs: Configuration of each point, by digest.
        data: The data of the search.
        reference: Attributes of the study: the reference point of the hypervolume among them.
    """

    points: Sequence[FrontPoint]
    configs: Mapping[str, TrialConfig]
    data: SearchedData
    reference: Mapping[str, Any]

    @property
    def source(self) -> str:
        """Where the data were read from."""
        return next(iter(self.configs.values())).data.path


def confirm(
    sweep: str = "moe_pareto",
    *,
    store: Store | Path | str = "mlruns",
    seeds: Sequence[int] = FRESH_SEEDS,
    near_standard_errors: float = 0.5,
    max_points: int = 16,
    device: str = "cpu",
    workers: int | None = None,
    is_fresh: bool = False,
) -> list[Confirmed]:
    """Train the front of a finished search again, with fresh seeds.

    What the store holds already is not trained again. Workers import the program that started
    them, as of `qwave.search`.

    Args:
        sweep: Name of the search.
        store: Folder of the store.
        seeds: Seeds that the search did not use.
        near_standard_errors: Points are trained again as well that lie at most that many of
            their standard errors below the front.
        max_points: Largest number of points; the front is always taken whole.
        device: ``cpu``, ``cuda`` or ``mps``.
        workers: Number of training processes; None: one for each processor.
        is_fresh: Train again what the store holds.

    Returns:
        One value a point, smallest file first.

    Raises:
        QwaveError: There is no such search, its data have changed, a seed is not fresh, a trial
            failed, or a person stopped it.
    """
    found = find_candidates(sweep, store, seeds, near_standard_errors, max_points)
    with opened_bench(
        "confirm",
        found.data.searched,
        found.source,
        store,
        device=device,
        workers=workers,
        is_fresh=is_fresh,
    ) as bench:
        return train_candidates(found, bench, seeds, device)


def find_candidates(
    sweep: str,
    store: Store | Path | str,
    seeds: Sequence[int],
    near_standard_errors: float,
    max_points: int,
) -> Candidates:
    """The points of a finished search that are to be trained again, and its data.

    Raises:
        ConfigError: The search has no complete trial, or was run with one of the seeds.
        StoreError: There is no such search.
        DataError: The data cannot be read, or have changed since the search.
    """
    study = load_study(store, sweep)
    points = near_front(collect_points(study), near_standard_errors, max_points)
    if not points:
        raise ConfigError(f"the study {sweep!r} has no complete trial yet")
    configs = {point.digest: point_config(study, point) for point in points}
    refuse_stale(configs, seeds)
    config = next(iter(configs.values()))
    data = load_searched(config, sweep, study.user_attrs["data_digest"])
    return Candidates(points, configs, data, study.user_attrs)


def train_candidates(
    found: Candidates, bench: Bench, seeds: Sequence[int], device: str
) -> list[Confirmed]:
    """Train points with fresh seeds and score them; the held-out fold, if any, comes last."""
    repeats = bench.train_seeds(found.configs, seeds)
    confirmed = score_points(found.points, repeats, found.data.searched)
    if next(iter(found.configs.values())).data.holdout_fold is None:
        return confirmed
    return with_holdout(confirmed, found.configs, seeds, found.data.full, device)


def near_front(
    points: Sequence[FrontPoint], near_standard_errors: float, max_points: int
) -> list[FrontPoint]:
    """The front and the points closely below it, smallest first.

    Args:
        points: The trained trials of a search.
        near_standard_errors: Largest distance below the front, in a point's standard errors.
        max_points: Largest number of points; the front is always taken whole, then the points
            nearest to it.

    Returns:
        Nothing where there is no point.
    """
    front = front_of(points)

    def below(point: FrontPoint) -> float:
        """Distance in standard errors to the best point that is not larger."""
        best = max(other.accuracy for other in front if other.size_bytes <= point.size_bytes)
        gap = best - point.accuracy
        if gap == 0:
            return 0.0
        return gap / point.standard_error if point.standard_error > 0 else float("inf")

    members = {point.digest for point in front}
    others = [
        point
        for point in points
        if point.digest not in members and below(point) <= near_standard_errors
    ]
    others.sort(key=lambda point: (below(point), point.size_bytes, point.number))
    chosen = [*front, *others[: max(0, max_points - len(front))]]
    return sorted(chosen, key=lambda point: (point.size_bytes, point.number))


def refuse_stale(configs: Mapping[str, TrialConfig], seeds: Sequence[int]) -> None:
    """Refuse seeds that the search trained with: they are not fresh."""
    stale = sorted({config.seed for config in configs.values()} & set(seeds))
    if stale:
        raise ConfigError(
            f"`seeds` must be fresh, but the search itself trained with {stale[0]}; choose others"
        )


def score_points(
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
