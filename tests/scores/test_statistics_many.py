"""Many tests at once, and chances of standing on the front, against plain loops."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from qwave.scores import front_probability, holm
from qwave.scores.pareto import non_dominated

from .worlds import random_hits, weights_of


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


@pytest.mark.parametrize("seed", range(10))
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


@pytest.mark.parametrize("seed", range(8))
def test_shares_on_the_front_are_those_of_a_loop_over_resamples(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    hits, group = random_hits(seed, m=9)
    hits[3] = hits[4]
    # Equally many hits on other clips of the same recordings: equal in every resample.
    order = np.lexsort((rng.random(len(group)), group))
    hits[5, np.sort(order)] = hits[4, np.sort(order)]
    hits[6] = 0.0
    size_bytes = rng.integers(1, 6, size=9) * 100
    n_resamples = 60
    counts = np.zeros(9)
    for row in weights_of(group, len(group), n_resamples, seed):
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
