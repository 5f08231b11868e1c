"""Intervals of one model against SciPy, formulas and worlds of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from qwave.scores import bootstrap_difference, bootstrap_mean, bootstrap_means
from qwave.scores.evaluate import clustered_standard_error

from .worlds import GROUP, random_hits, two_models


def _mean_of_recordings(totals: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(totals.sum(axis=axis) / counts.sum(axis=axis))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_an_interval_of_recordings_is_scipys_bca_interval(seed: int, confidence: float) -> None:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(25), rng.integers(1, 5, size=25))
    values = rng.exponential(size=25)[group] ** 2 + rng.exponential(size=len(group))
    expected = stats.bootstrap(
        (np.bincount(group, weights=values), np.bincount(group)),
        _mean_of_recordings,
        paired=True,
        vectorized=True,
        n_resamples=30_000,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    got = bootstrap_mean(values, group, n_resamples=30_000, confidence=confidence, seed=seed)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert got.estimate == pytest.approx(values.mean())
    assert got.standard_error == pytest.approx(expected.standard_error, rel=0.02), f"{seed=}"
    # A plain percentile interval of these is off by a tenth of the width.
    assert got.low == pytest.approx(expected.confidence_interval.low, abs=0.015 * width), seed
    assert got.high == pytest.approx(expected.confidence_interval.high, abs=0.015 * width), seed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("group", [GROUP, None])
def test_the_standard_error_is_the_one_of_the_formula(seed: int, group: np.ndarray | None) -> None:
    hits, _ = two_models(np.random.default_rng(seed), 0.75, 0.0)
    got = bootstrap_mean(hits, group, n_resamples=4000, seed=seed).standard_error
    assert got == pytest.approx(clustered_standard_error(hits, group), rel=0.06), f"{seed=}"


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.75, 0.94])
def test_intervals_hold_the_true_accuracy_as_often_as_they_say(accuracy: float) -> None:
    rng = np.random.default_rng(11)
    n_missed = np.zeros(2)
    for seed in range(50):
        sets = [two_models(rng, accuracy, 0.0)[0] for _ in range(10)]
        for interval in bootstrap_means(sets, GROUP, n_resamples=600, seed=seed):
            n_missed += interval.low > accuracy, interval.high < accuracy
    share = n_missed / 500
    assert 0.92 <= 1 - share.sum() <= 0.98, f"missed {share} of 500 sets of generator 11"
    # The percentile interval of 0.94 misses on the one side six times as often as on the other.
    assert share.max() <= 0.05, f"missed {share} of 500 sets of generator 11"


@pytest.mark.parametrize("seed", range(8))
def test_models_together_have_the_intervals_that_they_have_alone(seed: int) -> None:
    hits, group = random_hits(seed, m=7)
    together = bootstrap_means(hits, group, n_resamples=99, seed=seed)
    alone = [bootstrap_mean(row, group, n_resamples=99, seed=seed) for row in hits]
    assert together == alone, f"{seed=}"


@pytest.mark.parametrize("seed", range(8))
def test_misses_have_the_mirrored_interval_of_hits(seed: int) -> None:
    (hits,), group = random_hits(seed)
    of_hits = bootstrap_mean(hits, group, n_resamples=199, seed=seed)
    of_misses = bootstrap_mean(1 - hits, group, n_resamples=199, seed=seed)
    assert of_misses.low == pytest.approx(1 - of_hits.high, abs=1e-9), f"{seed=}"
    assert of_misses.high == pytest.approx(1 - of_hits.low, abs=1e-9), f"{seed=}"
    assert of_hits.low <= of_hits.estimate <= of_hits.high, f"{seed=}"


def test_the_order_and_the_type_of_clips_do_not_matter() -> None:
    hits, other = two_models(np.random.default_rng(5), 0.75, 0.08)
    order = np.random.default_rng(5).permutation(400)
    one = bootstrap_mean(hits, GROUP, seed=5)
    assert bootstrap_mean(hits[order], GROUP[order], seed=5) == one
    assert bootstrap_mean((hits == 1).tolist(), GROUP.tolist(), seed=5) == one
    difference = bootstrap_difference(hits, other, GROUP, seed=5)
    assert bootstrap_difference(hits == 1, other == 1, GROUP, seed=5) == difference


def test_more_confidence_makes_an_interval_wider_and_never_leaves_the_range_of_hits() -> None:
    hits, _ = two_models(np.random.default_rng(6), 0.94, 0.0)
    lows, highs = [], []
    for confidence in (0.5, 0.8, 0.95, 0.99, 0.999):
        interval = bootstrap_mean(hits, GROUP, confidence=confidence, seed=6)
        lows.append(interval.low)
        highs.append(interval.high)
    assert sorted(lows, reverse=True) == lows
    assert sorted(highs) == highs
    assert 0 <= lows[-1] < lows[0] < highs[0] < highs[-1] <= 1


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, 0.1])
def test_equal_hits_have_an_interval_of_no_width(value: float) -> None:
    got = bootstrap_mean(np.full(7, value), [0, 0, 1, 1, 1, 2, 3], seed=0)
    assert got.low == got.estimate == got.high
    assert got.estimate == pytest.approx(value)
    assert got.standard_error == pytest.approx(0, abs=1e-12)


def test_two_recordings_are_the_fewest_that_can_be_resampled() -> None:
    got = bootstrap_mean([1.0, 0.0], None, seed=0)
    assert (got.low, got.estimate, got.high) == (0, 0.5, 1)


def test_no_models_have_no_intervals() -> None:
    assert bootstrap_means(np.empty((0, 4)), None, seed=0) == []
