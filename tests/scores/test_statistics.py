"""Intervals and tests against SciPy, plain loops, exact fractions and worlds of known truth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

from qwave.scores import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_means,
    cluster_weights,
    equivalence,
    front_probability,
    holm,
    resampling,
)
from qwave.scores.evaluate import clustered_standard_error
from qwave.scores.pareto import non_dominated

# 400 clips of 300 recordings: most alone, some in pairs, ten recordings of six.
GROUP = np.repeat(np.arange(300), np.repeat([1, 2, 6], [240, 50, 10]))
# Chance that all clips of a recording share their luck: the correlation of any two of them.
CORRELATION = 0.8
# Chance that two models share it as well. Without it, pairing would gain nothing.
AGREEMENT = 0.6
WORLDS = [(0.75, 0.08), (0.94, 0.03)]  # accuracy of one model, and how much worse the other is


def _luck(rng: np.random.Generator) -> np.ndarray:
    """A uniform number for each clip, now and then the same one for a whole recording."""
    is_shared = rng.random(300)[GROUP] < CORRELATION
    return np.where(is_shared, rng.random(300)[GROUP], rng.random(400))


def _two_models(
    rng: np.random.Generator, accuracy: float, difference: float
) -> tuple[np.ndarray, np.ndarray]:
    """Hits of a model of this true accuracy, and of one that is worse by this difference."""
    first, other = _luck(rng), _luck(rng)
    second = np.where(rng.random(300)[GROUP] < AGREEMENT, first, other)
    return (first < accuracy).astype(float), (second < accuracy - difference).astype(float)


def _random_hits(seed: int, m: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Few clips of few recordings, hits the means of 1 to 3 seeds: ties in plenty."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 25))
    group = np.append([0, 1], rng.integers(0, max(2, n // 2), size=n - 2))
    n_seeds = int(rng.integers(1, 4))
    return rng.binomial(n_seeds, 0.7, size=(m, n)) / n_seeds, group


def _weights(group: np.ndarray | None, n: int, n_resamples: int, seed: int) -> np.ndarray:
    blocks = list(cluster_weights(group, n, n_resamples=n_resamples, seed=seed))
    return np.concatenate(blocks)


# --- resamples ---


@pytest.mark.parametrize("seed", range(5))
def test_weights_count_how_often_a_plain_loop_draws_each_clip(seed: int) -> None:
    _, group = _random_hits(seed)
    names = [f"recording {chr(97 + number)}" for number in group]
    labels = sorted(set(names))
    rng = np.random.Generator(np.random.PCG64(seed))
    expected = []
    for _ in range(50):
        drawn = [labels[i] for i in rng.integers(len(labels), size=len(labels))]
        expected.append([drawn.count(name) for name in names])
    weights = _weights(np.array(names), len(names), 50, seed)
    assert weights.dtype == np.int64
    assert weights.tolist() == expected, f"{seed=}"


def test_every_clip_is_its_own_recording_where_there_are_none() -> None:
    weights = _weights(None, 30, 200, 1)
    assert weights.tolist() == _weights(np.arange(30), 30, 200, 1).tolist()
    assert (weights.sum(axis=1) == 30).all()
    assert (weights.std(axis=1) > 0).any()


def test_weights_are_those_of_a_multinomial_draw() -> None:
    weights = _weights(GROUP, 400, 4000, 7)
    _, first = np.unique(GROUP, return_index=True)
    assert (weights == weights[:, first][:, GROUP]).all()
    of_recordings = weights[:, first]
    assert (of_recordings.sum(axis=1) == 300).all()
    # Mean 1, variance 1 - 1 / G, covariance -1 / G; four standard errors.
    assert of_recordings.mean(axis=0) == pytest.approx(np.ones(300), abs=4 / math.sqrt(4000))
    assert of_recordings.var() == pytest.approx(1 - 1 / 300, abs=0.01)


def test_weights_come_in_blocks_of_bounded_size_and_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = _weights(GROUP, 400, 55, 3)
    monkeypatch.setattr(resampling, "BLOCK", 4000)
    blocks = list(cluster_weights(GROUP, 400, n_resamples=55, seed=3))
    assert [len(block) for block in blocks] == [10] * 5 + [5]
    assert np.concatenate(blocks).tolist() == whole.tolist()
    monkeypatch.setattr(resampling, "BLOCK", 1)
    assert len(list(cluster_weights(GROUP, 400, n_resamples=55, seed=3))) == 55


def test_a_seed_decides_everything() -> None:
    hits, _ = _two_models(np.random.default_rng(0), 0.75, 0.0)
    one, same, other = (bootstrap_mean(hits, GROUP, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.01)


# --- one mean ---


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
    hits, _ = _two_models(np.random.default_rng(seed), 0.75, 0.0)
    got = bootstrap_mean(hits, group, n_resamples=4000, seed=seed).standard_error
    assert got == pytest.approx(clustered_standard_error(hits, group), rel=0.06), f"{seed=}"


@pytest.mark.parametrize("accuracy", [0.75, 0.94])
def test_intervals_hold_the_true_accuracy_as_often_as_they_say(accuracy: float) -> None:
    rng = np.random.default_rng(11)
    n_missed = np.zeros(2)
    for seed in range(50):
        sets = [_two_models(rng, accuracy, 0.0)[0] for _ in range(10)]
        for interval in bootstrap_means(sets, GROUP, n_resamples=600, seed=seed):
            n_missed += interval.low > accuracy, interval.high < accuracy
    share = n_missed / 500
    assert 0.92 <= 1 - share.sum() <= 0.98, f"missed {share} of 500 sets of generator 11"
    # The percentile interval of 0.94 misses on the one side six times as often as on the other.
    assert share.max() <= 0.05, f"missed {share} of 500 sets of generator 11"


@pytest.mark.parametrize("seed", range(20))
def test_models_together_have_the_intervals_that_they_have_alone(seed: int) -> None:
    hits, group = _random_hits(seed, m=7)
    together = bootstrap_means(hits, group, n_resamples=99, seed=seed)
    alone = [bootstrap_mean(row, group, n_resamples=99, seed=seed) for row in hits]
    assert together == alone, f"{seed=}"


@pytest.mark.parametrize("seed", range(20))
def test_misses_have_the_mirrored_interval_of_hits(seed: int) -> None:
    (hits,), group = _random_hits(seed)
    of_hits = bootstrap_mean(hits, group, n_resamples=199, seed=seed)
    of_misses = bootstrap_mean(1 - hits, group, n_resamples=199, seed=seed)
    assert of_misses.low == pytest.approx(1 - of_hits.high, abs=1e-9), f"{seed=}"
    assert of_misses.high == pytest.approx(1 - of_hits.low, abs=1e-9), f"{seed=}"
    assert of_hits.low <= of_hits.estimate <= of_hits.high, f"{seed=}"


def test_the_order_and_the_type_of_clips_do_not_matter() -> None:
    hits, other = _two_models(np.random.default_rng(5), 0.75, 0.08)
    order = np.random.default_rng(5).permutation(400)
    one = bootstrap_mean(hits, GROUP, seed=5)
    assert bootstrap_mean(hits[order], GROUP[order], seed=5) == one
    assert bootstrap_mean((hits == 1).tolist(), GROUP.tolist(), seed=5) == one
    difference = bootstrap_difference(hits, other, GROUP, seed=5)
    assert bootstrap_difference(hits == 1, other == 1, GROUP, seed=5) == difference


def test_more_confidence_makes_an_interval_wider_and_never_leaves_the_range_of_hits() -> None:
    hits, _ = _two_models(np.random.default_rng(6), 0.94, 0.0)
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


# --- two models ---


def _difference_of_recordings(
    a: np.ndarray, b: np.ndarray, counts: np.ndarray, axis: int = -1
) -> np.ndarray:
    return np.asarray((a.sum(axis=axis) - b.sum(axis=axis)) / counts.sum(axis=axis))


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_a_difference_is_scipys_basic_one_of_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(25), rng.integers(1, 5, size=25))
    a = rng.exponential(size=25)[group] ** 2 + rng.exponential(size=len(group))
    b = 0.7 * a + rng.exponential(size=len(group))
    totals = (np.bincount(group, weights=values) for values in (a, b))
    expected = stats.bootstrap(
        (*totals, np.bincount(group)),
        _difference_of_recordings,
        paired=True,
        vectorized=True,
        n_resamples=30_000,
        method="basic",
        rng=np.random.default_rng(seed),
    )
    got = bootstrap_difference(a, b, group, n_resamples=30_000, seed=seed)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert got.estimate == pytest.approx(a.mean() - b.mean())
    assert got.standard_error == pytest.approx(expected.standard_error, rel=0.02), f"{seed=}"
    assert got.low == pytest.approx(expected.confidence_interval.low, abs=0.015 * width), seed
    assert got.high == pytest.approx(expected.confidence_interval.high, abs=0.015 * width), seed


@pytest.mark.parametrize("effect", [0.0, 0.15, 0.25])
def test_p_values_of_many_independent_clips_are_those_of_the_paired_t_test(effect: float) -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=300)
    b = a + rng.normal(size=300) - effect
    got = bootstrap_difference(a, b, None, n_resamples=20_000, seed=3).p_value
    assert got == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.012)


@pytest.mark.parametrize(("accuracy", "difference"), WORLDS)
def test_intervals_hold_the_true_difference_as_often_as_they_say(
    accuracy: float, difference: float
) -> None:
    rng = np.random.default_rng(21)
    n_missed = np.zeros(2)
    for seed in range(400):
        a, b = _two_models(rng, accuracy, difference)
        got = bootstrap_difference(a, b, GROUP, n_resamples=400, seed=seed)
        n_missed += got.low > difference, got.high < difference
    share = n_missed / 400
    assert 0.92 <= 1 - share.sum() <= 0.98, f"missed {share} of 400 sets of generator 21"


@pytest.mark.parametrize(("accuracy", "_"), WORLDS)
def test_equally_good_models_are_told_apart_as_seldom_as_the_level_says(
    accuracy: float, _: float
) -> None:
    rng = np.random.default_rng(31)
    n_rejected = 0
    for seed in range(400):
        a, b = _two_models(rng, accuracy, 0.0)
        p_value = bootstrap_difference(a, b, GROUP, n_resamples=400, seed=seed).p_value
        n_rejected += p_value <= 0.05
    assert 0.02 <= n_rejected / 400 <= 0.08, f"{n_rejected} of 400 sets of generator 31"


@pytest.mark.parametrize(("accuracy", "margin"), WORLDS)
def test_models_that_differ_by_the_margin_are_seldom_called_equivalent(
    accuracy: float, margin: float
) -> None:
    rng = np.random.default_rng(41)
    n_equivalent = 0
    for seed in range(400):
        a, b = _two_models(rng, accuracy, margin)
        n_equivalent += equivalence(a, b, GROUP, margin, n_resamples=400, seed=seed).is_equivalent
    assert 0.015 <= n_equivalent / 400 <= 0.08, f"{n_equivalent} of 400 sets of generator 41"


@pytest.mark.parametrize("seed", range(60))
def test_a_p_value_says_what_the_interval_of_the_same_level_says(seed: int) -> None:
    (a, b), group = _random_hits(seed, m=2)
    for n_resamples, confidence in [(199, 0.9), (200, 0.9), (99, 0.95), (99, 0.68)]:
        got = bootstrap_difference(
            a, b, group, n_resamples=n_resamples, confidence=confidence, seed=seed
        )
        leaves_out_zero = got.low > 0 or got.high < 0
        assert (got.p_value <= 1 - confidence + 1e-12) == leaves_out_zero, f"{seed=} {got}"
        assert 2 / (n_resamples + 1) <= got.p_value <= 1, f"{seed=} {got}"


@pytest.mark.parametrize("seed", range(60))
def test_p_values_equal_those_of_exact_fractions(seed: int) -> None:
    """Thirds and halves do not add up to nothing in floats, and to nothing in fractions."""
    (a, b), group = _random_hits(seed, m=2)
    weights = _weights(group, len(group), 99, seed).tolist()
    d = [Fraction(x - y).limit_denominator(6) for x, y in zip(a, b, strict=True)]
    estimate = Fraction(sum(d), len(d))
    n_below = n_above = n_beyond_margin = n_beyond_other = 0
    margin = Fraction(1, 10)
    for row in weights:
        mean = sum(w * x for w, x in zip(row, d, strict=True)) / Fraction(sum(row))
        reflected = 2 * estimate - mean
        n_below += reflected <= 0
        n_above += reflected >= 0
        n_beyond_margin += reflected >= margin
        n_beyond_other += reflected <= -margin
    expected = min(1.0, 2 * (1 + min(n_below, n_above)) / 100)
    got = bootstrap_difference(a, b, group, n_resamples=99, seed=seed)
    assert got.p_value == pytest.approx(expected, abs=1e-12), f"{seed=} {a=} {b=}"
    assert got.estimate == pytest.approx(float(estimate), abs=1e-11), f"{seed=}"
    both = equivalence(a, b, group, 0.1, n_resamples=99, seed=seed)
    expected = (1 + max(n_beyond_margin, n_beyond_other)) / 100
    assert both.p_value == pytest.approx(expected, abs=1e-12), f"{seed=} {a=} {b=}"


@pytest.mark.parametrize("seed", range(20))
def test_which_model_comes_first_changes_the_sign_only(seed: int) -> None:
    (a, b), group = _random_hits(seed, m=2)
    one = bootstrap_difference(a, b, group, n_resamples=199, seed=seed)
    other = bootstrap_difference(b, a, group, n_resamples=199, seed=seed)
    assert (other.estimate, other.low, other.high) == (-one.estimate, -one.high, -one.low), seed
    assert other.p_value == one.p_value, f"{seed=}"
    assert other.standard_error == pytest.approx(one.standard_error), f"{seed=}"


def test_p_values_have_a_floor_and_a_ceiling() -> None:
    never, always = np.zeros(50), np.ones(50)
    assert bootstrap_difference(always, never, None, seed=0).p_value == 2 / 2001
    assert bootstrap_difference(never, always, None, n_resamples=99, seed=0).p_value == 0.02
    same = bootstrap_difference(always, always, None, seed=0)
    assert (same.estimate, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert equivalence(always, always, None, 1e-6, seed=0).p_value == 1 / 2001
    assert equivalence(always, never, None, 1.0, seed=0).p_value == 1


@pytest.mark.parametrize("seed", range(60))
def test_equivalence_is_a_90_percent_interval_inside_the_margin(seed: int) -> None:
    (a, b), group = _random_hits(seed, m=2)
    for n_resamples in (19, 199, 200):
        interval = bootstrap_difference(
            a, b, group, n_resamples=n_resamples, confidence=0.9, seed=seed
        )
        # Also a margin on the very edge of the interval, which is not inside.
        edge = max(abs(interval.low), abs(interval.high))
        for margin in (0.1, 0.3, 1.0, *([edge] if edge > 0 else [])):
            got = equivalence(a, b, group, margin, n_resamples=n_resamples, seed=seed)
            assert (got.estimate, got.low, got.high, got.margin) == (
                interval.estimate,
                interval.low,
                interval.high,
                margin,
            ), f"{seed=} {margin=}"
            assert got.is_equivalent == (edge < margin), f"{seed=} {got}"
            assert got.is_equivalent == (got.p_value <= 0.05), f"{seed=} {got}"


def test_equal_models_are_equivalent_given_clips_enough_and_a_margin_wide_enough() -> None:
    a, b = _two_models(np.random.default_rng(2), 0.75, 0.0)
    assert equivalence(a, b, GROUP, 0.08, seed=2).is_equivalent
    assert not equivalence(a, b, GROUP, 0.03, seed=2).is_equivalent
    assert not equivalence(a[::8], b[::8], GROUP[::8], 0.08, seed=2).is_equivalent


# --- many tests ---


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.03], [0.03]),
        # 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04, which may not be below the one before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.5, 0.6, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]),
        ([0.2, 0.01, 0.2], [0.4, 0.03, 0.4]),
    ],
)
def test_adjusted_p_values_are_known(p_values: list[float], expected: list[float]) -> None:
    assert holm(p_values).tolist() == pytest.approx(expected)
    assert holm(p_values).dtype == np.float64


@pytest.mark.parametrize("seed", range(50))
def test_adjusted_p_values_reject_what_holms_procedure_rejects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_values = rng.integers(0, 21, size=int(rng.integers(1, 9))) / 200
    for alpha in (0.02, 0.05, 0.1013, 0.5):
        remaining, rejected = list(range(len(p_values))), set()
        while remaining:
            smallest = min(remaining, key=lambda i: p_values[i])
            if p_values[smallest] > alpha / len(remaining) + 1e-12:
                break
            rejected.add(smallest)
            remaining.remove(smallest)
        got = set(np.flatnonzero(holm(p_values) <= alpha + 1e-9).tolist())
        assert got == rejected, f"{seed=} {alpha=} {p_values}"


@pytest.mark.parametrize("n_false", [0, 4])
def test_the_chance_of_any_false_rejection_is_the_level(n_false: int) -> None:
    """Ten tests that depend on each other; of some the null hypothesis is plainly false."""
    rng = np.random.default_rng(51)
    z = math.sqrt(0.8) * rng.normal(size=(2000, 10)) + math.sqrt(0.2) * rng.normal(size=(2000, 1))
    z[:, :n_false] += 8
    p_values = 2 * stats.norm.sf(np.abs(z))
    adjusted = np.array([holm(row) for row in p_values])
    share = (adjusted[:, n_false:] <= 0.05).any(axis=1).mean()
    # Bonferroni's, which divides by ten whatever is rejected, has 0.03 where four are false.
    assert 0.036 <= share <= 0.06
    assert (p_values[:, n_false:] <= 0.05).any(axis=1).mean() > 0.2
    assert (adjusted[:, :n_false] <= 0.05).all()


# --- fronts ---


@pytest.mark.parametrize("seed", range(40))
def test_shares_on_the_front_are_those_of_a_loop_over_resamples(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    hits, group = _random_hits(seed, m=9)
    hits[3] = hits[4]
    # Equally many hits on other clips of the same recordings: equal in every resample.
    order = np.lexsort((rng.random(len(group)), group))
    hits[5, np.sort(order)] = hits[4, np.sort(order)]
    hits[6] = 0.0
    size_bytes = rng.integers(1, 6, size=9) * 100
    n_resamples = 60
    counts = np.zeros(9)
    for row in _weights(group, len(group), n_resamples, seed):
        means = [
            float(
                sum(
                    int(w) * Fraction(float(x)).limit_denominator(6)
                    for w, x in zip(row, hit, strict=True)
                )
                / int(row.sum())
            )
            for hit in hits
        ]
        counts += non_dominated(means, size_bytes)
    got = front_probability(hits, size_bytes, group, n_resamples=n_resamples, seed=seed)
    assert got.tolist() == pytest.approx((counts / n_resamples).tolist()), f"{seed=}"


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        # Each is right on one of two recordings. Of four draws, one has the first only, one the
        # second only, and in two both are equally good.
        ([100, 200], [1.0, 0.25]),
        ([200, 100], [0.25, 1.0]),
        ([100, 100], [0.75, 0.75]),
    ],
)
def test_shares_of_two_models_on_two_recordings_are_known(
    size_bytes: list[int], expected: list[float]
) -> None:
    got = front_probability([[1, 0], [0, 1]], size_bytes, None, n_resamples=20_000, seed=1)
    assert got.tolist() == pytest.approx(expected, abs=0.015)


def test_a_model_that_is_always_better_or_smaller_is_always_on_the_front() -> None:
    hits = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    got = front_probability(hits, [300, 200, 200, 400, 100], [0, 0, 1, 1], seed=0)
    assert got.tolist() == [1, 1, 1, 0, 1]
    assert front_probability(hits[:1], [5], None, seed=0).tolist() == [1]
    assert front_probability(np.empty((0, 4)), [], None, seed=0).tolist() == []


# --- what is refused ---

A, B = [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]
Call = Callable[..., Any]


def _mean(hits: Any = A, group: Any = None, **options: Any) -> Any:
    return bootstrap_mean(hits, group, seed=0, **options)


def _means(hits: Any = (A, B), group: Any = None, **options: Any) -> Any:
    return bootstrap_means(hits, group, seed=0, **options)


def _difference(hits: Any = A, group: Any = None, **options: Any) -> Any:
    return bootstrap_difference(hits, B, group, seed=0, **options)


def _equivalence(hits: Any = A, group: Any = None, margin: float = 0.1, **options: Any) -> Any:
    return equivalence(hits, B, group, margin, seed=0, **options)


def _front(hits: Any = (A, B), group: Any = None, size: Any = (1, 2), **options: Any) -> Any:
    return front_probability(hits, size, group, seed=0, **options)


ALL = [_mean, _means, _difference, _equivalence, _front]


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([0, 1], r"`group` must name 3 clips' recordings, but got shape \(2,\)"),
        ([[0, 1, 2]], r"3 clips' recordings, but got shape \(1, 3\)"),
        (["a", "a", "a"], "at least 2 recordings are needed, but got 1"),
        ([0.0, math.nan, 1.0], "`group` has a NaN"),
    ],
)
def test_recordings_that_say_nothing_are_refused(call: Call, group: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(group=group)


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_hits_that_are_not_finite_are_refused(call: Call, bad: float) -> None:
    hits = [1.0, bad, 0.0]
    with pytest.raises(ValueError, match="hits must be finite"):
        call([hits, B] if call in (_means, _front) else hits)


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize("n_resamples", [0, -1])
def test_no_resamples_are_refused(call: Call, n_resamples: int) -> None:
    with pytest.raises(ValueError, match=rf"must hold.*but got n_resamples={n_resamples}"):
        call(n_resamples=n_resamples)
    with pytest.raises(ValueError, match=r"`n_resamples >= 1` must hold, but got n_resamples=0"):
        cluster_weights(None, 3, n_resamples=0, seed=0)


@pytest.mark.parametrize("call", [_mean, _means, _difference])
def test_confidence_that_resamples_cannot_give_is_refused(call: Call) -> None:
    call(confidence=0.95, n_resamples=39)
    with pytest.raises(
        ValueError, match=r"`n_resamples >= 39` .* confidence=0.95, but got n_resamples=38"
    ):
        call(confidence=0.95, n_resamples=38)
    for confidence in (0, 1, -0.5, 95, math.nan):
        with pytest.raises(ValueError, match=r"`0 < confidence < 1` must hold, but got"):
            call(confidence=confidence)


def test_equivalence_needs_19_resamples() -> None:
    _equivalence(n_resamples=19)
    with pytest.raises(ValueError, match=r"`n_resamples >= 19` .* but got n_resamples=18"):
        _equivalence(n_resamples=18)


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=f"`0 < margin < inf` must hold, but got margin={margin}"):
        _equivalence(margin=margin)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _mean([A]), r"`hits` must be \[n\], one a clip, but got shape \(1, 3\)"),
        (lambda: _mean([]), "at least 2 recordings are needed, but got 0"),
        (lambda: _means(A), r"`hits` must be \[m, n\], models by clips, but got shape \(3,\)"),
        (lambda: _front(A), r"`hits` must be \[m, n\], models by clips, but got shape \(3,\)"),
        (lambda: _difference(A[:2]), r"of the same clips, but got shapes \(\(2,\), \(3,\)\)"),
        (lambda: _equivalence([A]), r"of the same clips, but got shapes \(\(1, 3\), \(3,\)\)"),
        (lambda: _front(size=[1]), r"2 models, as many finite sizes, but got \[1.0\]"),
        (lambda: _front(size=[1, math.nan]), r"as many finite sizes, but got \[1.0, nan\]"),
        (lambda: _front(size=[1, math.inf]), r"as many finite sizes, but got \[1.0, inf\]"),
        (lambda: holm(0.5), r"`p_values` must be \[m\], but got shape \(\)"),
        (lambda: holm([[0.5]]), r"`p_values` must be \[m\], but got shape \(1, 1\)"),
        (lambda: holm([0.1, math.nan]), "`0 <= p <= 1` must hold, but got nan at index 1"),
        (lambda: holm([-0.1, 0.2]), "`0 <= p <= 1` must hold, but got -0.1 at index 0"),
        (lambda: holm([0.1, 0.2, 1.1]), "`0 <= p <= 1` must hold, but got 1.1 at index 2"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call: Call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_results_cannot_be_changed_and_arguments_are_left_alone() -> None:
    hits, group, p_values = np.array([A, B]), np.array([2, 1, 1]), np.array([0.4, 0.01])
    for result in (_mean(hits[0], group), _difference(hits[0], group), _equivalence(hits[0])):
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.low = 0.0
    _front(hits, group)
    holm(p_values)
    assert hits.tolist() == [A, B]
    assert group.tolist() == [2, 1, 1]
    assert p_values.tolist() == [0.4, 0.01]
