"""Intervals of any score: against means, SciPy, a plain loop and a world of known truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from qwave.scores import bootstrap_means, bootstrap_score, cluster_weights

Score = Callable[[np.ndarray], np.ndarray]


def _clips(seed: int, n_groups: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, predictions that are right more often of some, and recordings of 1 to 4 clips."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), rng.integers(1, 5, size=n_groups))
    y = rng.choice(3, size=n_groups, p=[0.6, 0.25, 0.15])[group]
    is_right = rng.random(len(y)) < np.array([0.9, 0.6, 0.75])[y]
    return y, np.where(is_right, y, (y + rng.integers(1, 3, size=len(y))) % 3), group


def _balanced(y: np.ndarray, predicted: np.ndarray) -> Score:
    """Balanced accuracy of weighted clips, of the classes that have a weight."""
    is_class = (y[:, None] == np.arange(3)).astype(float)

    def score(weights: np.ndarray) -> np.ndarray:
        support = weights @ is_class
        hits = weights @ (is_class * (predicted == y)[:, None])
        recalls = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
        return np.asarray(recalls.sum(axis=1) / (support > 0).sum(axis=1))

    return score


def _bca(
    estimate: float, resampled: list[float], without: list[float], confidence: float
) -> tuple[float, float]:
    """Efron 1987, as in the books: bias, acceleration, and then two order statistics."""
    r = len(resampled)
    values = sorted(round(value, 12) for value in resampled)
    below = sum(value < estimate for value in values)
    ties = sum(value == estimate for value in values)
    bias = stats.norm.ppf((below + ties / 2 + 0.5) / (r + 1))
    mean = sum(without) / len(without)
    cubes = sum((mean - value) ** 3 for value in without)
    squares = sum((mean - value) ** 2 for value in without)
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    places = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + stats.norm.ppf(tail)
        places.append((r + 1) * stats.norm.cdf(bias + z / (1 - acceleration * z)))
    first, last = max(1, math.floor(places[0])), min(r, math.ceil(places[1]))
    return values[first - 1], values[last - 1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("has_groups", [True, False])
def test_a_weighted_mean_has_the_interval_of_the_mean(seed: int, has_groups: bool) -> None:
    y, predicted, group = _clips(seed)
    values = (predicted == y) + np.random.default_rng(seed).integers(0, 3, size=len(y)) / 3
    recordings = group if has_groups else None
    (expected,) = bootstrap_means(values[None], recordings, n_resamples=499, seed=seed)
    got = bootstrap_score(
        lambda weights: weights @ values / weights.sum(axis=1),
        recordings,
        len(y),
        n_resamples=499,
        seed=seed,
    )
    assert (got.estimate, got.low, got.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high), abs=1e-11
    ), f"{seed=}"
    assert got.standard_error == pytest.approx(expected.standard_error, rel=1e-9), f"{seed=}"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_an_interval_of_a_score_is_that_of_a_loop_over_clips_drawn(
    seed: int, confidence: float
) -> None:
    y, predicted, group = _clips(seed)
    (weights,) = cluster_weights(group, len(y), n_resamples=299, seed=seed)

    def score(rows: np.ndarray) -> float:
        true, said = y[rows], predicted[rows]
        return float(np.mean([(said[true == label] == label).mean() for label in set(true)]))

    clips = np.arange(len(y))
    resampled = [score(np.repeat(clips, row)) for row in weights]
    without = [score(np.flatnonzero(group != left_out)) for left_out in np.unique(group)]
    estimate = score(clips)
    assert estimate == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    expected = _bca(round(estimate, 12), resampled, without, confidence)
    got = bootstrap_score(
        _balanced(y, predicted),
        group,
        len(y),
        n_resamples=299,
        confidence=confidence,
        seed=seed,
    )
    assert got.estimate == pytest.approx(estimate, abs=1e-11), f"{seed=}"
    assert (got.low, got.high) == pytest.approx(expected, abs=1e-11), f"{seed=}"
    assert got.standard_error == pytest.approx(np.std(resampled, ddof=1)), f"{seed=}"


@pytest.mark.parametrize("seed", range(5))
def test_resamples_that_tie_with_the_estimate_count_half(seed: int) -> None:
    """Hits of six recordings: a third of the resamples score what the clips score."""
    rng = np.random.default_rng(seed)
    hits = rng.permutation([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    (weights,) = cluster_weights(None, 6, n_resamples=99, seed=seed)
    resampled = [float(hits @ row / 6) for row in weights]
    assert resampled.count(hits.mean()) > 20, f"{seed=}"
    without = [float(np.delete(hits, clip).mean()) for clip in range(6)]
    expected = _bca(round(hits.mean(), 12), resampled, without, 0.8)
    got = bootstrap_score(
        lambda weights: weights @ hits / weights.sum(axis=1),
        None,
        6,
        n_resamples=99,
        confidence=0.8,
        seed=seed,
    )
    assert (got.low, got.high) == pytest.approx(expected, abs=1e-11), f"{seed=}"


@pytest.mark.parametrize("seed", range(2))
def test_an_interval_of_a_score_is_scipys_bca_interval(seed: int) -> None:
    y, predicted, group = _clips(seed, n_groups=60)
    is_class = y[:, None] == np.arange(3)
    # Of each recording: clips of each class, and hits among them.
    support = np.stack([np.bincount(group, weights=column) for column in is_class.T])
    hits = np.stack([np.bincount(group, weights=c * (predicted == y)) for c in is_class.T])

    def score(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        totals = np.stack([column.sum(axis=axis) for column in columns])
        recalls = totals[3:] / np.maximum(totals[:3], 1)
        return np.asarray(recalls.sum(axis=0) / (totals[:3] > 0).sum(axis=0))

    expected = stats.bootstrap(
        (*support, *hits),
        score,
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    got = bootstrap_score(_balanced(y, predicted), group, len(y), n_resamples=20_000, seed=seed)
    interval = expected.confidence_interval
    width = interval.high - interval.low
    assert got.low == pytest.approx(interval.low, abs=0.02 * width), f"{seed=}"
    assert got.high == pytest.approx(interval.high, abs=0.02 * width), f"{seed=}"
    assert got.standard_error == pytest.approx(expected.standard_error, rel=0.02), f"{seed=}"


@pytest.mark.slow
def test_intervals_hold_the_true_balanced_accuracy_as_often_as_they_say() -> None:
    """Recordings of one to three clips that mostly share their luck; recalls 0.9, 0.7, 0.8."""
    rng = np.random.default_rng(71)
    recall = np.array([0.9, 0.7, 0.8])
    n_sets, n_held = 300, 0
    for seed in range(n_sets):
        group = np.repeat(np.arange(120), rng.integers(1, 4, size=120))
        y = rng.choice(3, size=120, p=[0.5, 0.3, 0.2])[group]
        is_shared = rng.random(120)[group] < 0.6
        luck = np.where(is_shared, rng.random(120)[group], rng.random(len(y)))
        predicted = np.where(luck < recall[y], y, (y + 1) % 3)
        got = bootstrap_score(_balanced(y, predicted), group, len(y), n_resamples=300, seed=seed)
        n_held += got.low <= recall.mean() <= got.high
    assert 0.92 <= n_held / n_sets <= 0.98, f"{n_held} of {n_sets} sets of generator 71"


def test_a_score_is_asked_about_all_clips_about_resamples_and_without_each_recording() -> None:
    group = np.array([5, 5, 7, 9])
    asked: list[np.ndarray] = []

    def score(weights: np.ndarray) -> np.ndarray:
        asked.append(weights.copy())
        return np.asarray(weights[:, 0] / weights.sum(axis=1))

    got = bootstrap_score(score, group, 4, n_resamples=60, seed=3)
    rows = np.concatenate(asked).tolist()
    expected = np.concatenate(list(cluster_weights(group, 4, n_resamples=60, seed=3)))
    assert rows == [
        *expected.tolist(),
        *([0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]),
        [1, 1, 1, 1],
    ]
    assert got.estimate == 0.25


def test_a_score_that_never_changes_has_an_interval_of_no_width() -> None:
    got = bootstrap_score(lambda weights: np.full(len(weights), 0.7), None, 9, seed=0)
    assert (got.estimate, got.low, got.high) == (0.7, 0.7, 0.7)
    assert got.standard_error == pytest.approx(0, abs=1e-15)


def test_seeds_and_groups_decide_the_interval() -> None:
    y, predicted, group = _clips(3)
    score = _balanced(y, predicted)
    one, same, other = (bootstrap_score(score, group, len(y), seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    shuffled = bootstrap_score(score, np.random.default_rng(0).permutation(group), len(y), seed=1)
    assert shuffled.estimate == one.estimate
    assert shuffled != one


BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", ["resamples", "without", "estimate"])
def test_scores_that_are_not_finite_are_refused(bad: float, place: str) -> None:
    def score(weights: np.ndarray) -> np.ndarray:
        is_whole = (weights == 1).all(axis=1)
        is_part = (weights.max(axis=1) == 1) & ~is_whole
        kind = {"estimate": is_whole, "without": is_part, "resamples": weights.max(axis=1) > 2}
        return np.where(kind[place], bad, weights[:, 0])

    with pytest.raises(
        ValueError,
        match=r"^scores must be finite for every resample, and without any recording$",
    ):
        bootstrap_score(score, np.arange(6), 6, n_resamples=60, seed=0)


def _first(weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights[:, 0])


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`group` must name 3 clips' recordings, but got shape"):
        bootstrap_score(_first, [0, 1], 3, seed=0)
    with pytest.raises(ValueError, match="at least 2 recordings are needed, but got 1"):
        bootstrap_score(_first, ["a", "a"], 2, seed=0)
    with pytest.raises(ValueError, match="`group` has a NaN"):
        bootstrap_score(_first, [0.0, math.nan], 2, seed=0)
    with pytest.raises(ValueError, match=r"`n_resamples >= 39` must hold for confidence=0\.95"):
        bootstrap_score(_first, None, 3, n_resamples=38, seed=0)
    with pytest.raises(ValueError, match=r"`0 < confidence < 1` must hold, but got confidence=1"):
        bootstrap_score(_first, None, 3, confidence=1, seed=0)
