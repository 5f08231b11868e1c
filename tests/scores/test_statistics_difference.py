"""Two models: intervals, p-values and equivalence against SciPy, fractions and known worlds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from qwave.scores import bootstrap_difference, equivalence

from .worlds import GROUP, WORLDS, random_hits, two_models, weights_of


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


@pytest.mark.slow
@pytest.mark.parametrize(("accuracy", "difference"), WORLDS)
def test_intervals_hold_the_true_difference_as_often_as_they_say(
    accuracy: float, difference: float
) -> None:
    rng = np.random.default_rng(21)
    n_missed = np.zeros(2)
    for seed in range(400):
        a, b = two_models(rng, accuracy, difference)
        got = bootstrap_difference(a, b, GROUP, n_resamples=400, seed=seed)
        n_missed += got.low > difference, got.high < difference
    share = n_missed / 400
    assert 0.92 <= 1 - share.sum() <= 0.98, f"missed {share} of 400 sets of generator 21"


@pytest.mark.slow
@pytest.mark.parametrize(("accuracy", "_"), WORLDS)
def test_equally_good_models_are_told_apart_as_seldom_as_the_level_says(
    accuracy: float, _: float
) -> None:
    rng = np.random.default_rng(31)
    n_rejected = 0
    for seed in range(400):
        a, b = two_models(rng, accuracy, 0.0)
        p_value = bootstrap_difference(a, b, GROUP, n_resamples=400, seed=seed).p_value
        n_rejected += p_value <= 0.05
    assert 0.02 <= n_rejected / 400 <= 0.08, f"{n_rejected} of 400 sets of generator 31"


@pytest.mark.slow
@pytest.mark.parametrize(("accuracy", "margin"), WORLDS)
def test_models_that_differ_by_the_margin_are_seldom_called_equivalent(
    accuracy: float, margin: float
) -> None:
    rng = np.random.default_rng(41)
    n_equivalent = 0
    for seed in range(400):
        a, b = two_models(rng, accuracy, margin)
        n_equivalent += equivalence(a, b, GROUP, margin, n_resamples=400, seed=seed).is_equivalent
    assert 0.015 <= n_equivalent / 400 <= 0.08, f"{n_equivalent} of 400 sets of generator 41"


@pytest.mark.parametrize("seed", range(8))
def test_a_p_value_says_what_the_interval_of_the_same_level_says(seed: int) -> None:
    (a, b), group = random_hits(seed, m=2)
    for n_resamples, confidence in [(199, 0.9), (200, 0.9), (99, 0.95), (99, 0.68)]:
        got = bootstrap_difference(
            a, b, group, n_resamples=n_resamples, confidence=confidence, seed=seed
        )
        leaves_out_zero = got.low > 0 or got.high < 0
        assert (got.p_value <= 1 - confidence + 1e-12) == leaves_out_zero, f"{seed=} {got}"
        assert 2 / (n_resamples + 1) <= got.p_value <= 1, f"{seed=} {got}"


@pytest.mark.parametrize("seed", range(8))
def test_p_values_equal_those_of_exact_fractions(seed: int) -> None:
    """Thirds and halves do not add up to nothing in floats, and to nothing in fractions."""
    (a, b), group = random_hits(seed, m=2)
    weights = weights_of(group, len(group), 99, seed).tolist()
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


@pytest.mark.parametrize("seed", range(8))
def test_which_model_comes_first_changes_the_sign_only(seed: int) -> None:
    (a, b), group = random_hits(seed, m=2)
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


@pytest.mark.parametrize("seed", range(8))
def test_equivalence_is_a_90_percent_interval_inside_the_margin(seed: int) -> None:
    (a, b), group = random_hits(seed, m=2)
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
    a, b = two_models(np.random.default_rng(2), 0.75, 0.0)
    assert equivalence(a, b, GROUP, 0.08, seed=2).is_equivalent
    assert not equivalence(a, b, GROUP, 0.03, seed=2).is_equivalent
    assert not equivalence(a[::8], b[::8], GROUP[::8], 0.08, seed=2).is_equivalent
