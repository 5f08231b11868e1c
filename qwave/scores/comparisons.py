"""Models compared on the same clips: differences of two, equivalence, many at once.

Arguments: see `qwave.scores`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qwave.scores.intervals import Interval
from qwave.scores.resampling import (
    Group,
    bounds,
    checked,
    cluster_weights,
    mean_of,
    resampled_means,
    rounded,
    share,
    tail_of,
)

EQUIVALENCE_LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """Difference of two models' scores on the same clips, a - b, with its interval.

    Attributes:
        estimate: The difference found.
        low: Lower end of the interval.
        high: Upper end of the interval.
        standard_error: Standard deviation of the difference over resamples.
        p_value: Two-sided, of no difference; above 0 and at most 1.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    p_value: float

    @property
    def interval(self) -> Interval:
        """The difference without its p-value, as tables and pictures take it."""
        return Interval(self.estimate, self.low, self.high, self.standard_error)


@dataclass(frozen=True)
class Equivalence:
    """The mean of a - b, its 90 % interval, and the p-value of a difference >= the margin."""

    estimate: float
    low: float
    high: float
    margin: float
    p_value: float
    is_equivalent: bool


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    group: Group,
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int,
) -> Difference:
    """Mean of a - b, hits [n] of two models on the same clips, and the p-value of no difference.

    Paired: a resample holds the same recordings for both. The interval is the basic one, of the
    reflected resamples ``d - (d* - d)`` (d the estimate, d* a resample's): how far resamples lie
    from d is how far d may lie from the truth (Davison and Hinkley 1997, "Bootstrap Methods and
    their Application", eq. 5.6; Hall and Wilson 1991, "Two guidelines for bootstrap hypothesis
    testing", Biometrics 47, 757-762). It may reach beyond the largest possible difference. (At
    0.94 and a correlation of 0.8 BCa covered 90 % and percentiles 93 % where this covers 95 %.)
    The p-value inverts it, so that ``p <= 1 - confidence`` exactly where the interval leaves 0
    out: twice the share ``(1 + count) / (1 + r)`` of reflected resamples at 0 or beyond, on the
    side that has fewer, at most 1. One is added, so that p is never 0 (eq. 4.11).
    """
    tail = tail_of(confidence, n_resamples)
    return _difference(*_paired(a, b, group, n_resamples, seed), tail)


def bootstrap_score_difference(
    score: Callable[[np.ndarray], np.ndarray],
    group: Group,
    n: int,
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int,
) -> Difference:
    """Any score of n clips that is a difference, with interval and p-value of no difference.

    Both are those of `bootstrap_difference`, on the same resamples.

    Args:
        score: Weights of the clips, [b, n], to differences, finite [b]. It is asked about the
            clips as they are (weights of 1), and about resamples.
        group: Recording of each clip.
        n: Number of clips.
        n_resamples: Number of resamples of the recordings.
        confidence: Coverage of the interval, between 0 and 1.
        seed: Seed of the resamples.
    """
    tail = tail_of(confidence, n_resamples)
    drawn = cluster_weights(group, n, n_resamples=n_resamples, seed=seed)
    resampled = np.concatenate([score(weights) for weights in drawn])
    (estimate,) = score(np.ones((1, n), dtype=np.int64))
    if not (np.isfinite(estimate) and np.isfinite(resampled).all()):
        raise ValueError("scores must be finite for every resample")
    reflected = rounded(np.sort(2 * estimate - resampled))
    return _difference(float(rounded(estimate)), reflected, tail)


def equivalence(
    a: ArrayLike, b: ArrayLike, group: Group, margin: float, *, n_resamples: int = 2000, seed: int
) -> Equivalence:
    """Whether the mean of a - b is nearer to 0 than a margin: two one-sided tests.

    TOST (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680) with the
    interval of `bootstrap_difference`. The p-value is the larger of those of both sides, each the
    share ``(1 + count) / (1 + r)`` of reflected resamples at that side's margin or beyond. It is
    at most 5 % exactly where the 90 % interval lies inside (-margin, margin): `is_equivalent`.
    The margin is above 0, in the unit of the hits, and to be chosen before looking at them.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"`0 < margin < inf` must hold, but got {margin=}")
    tail = tail_of(1 - 2 * EQUIVALENCE_LEVEL, n_resamples)
    difference, reflected = _paired(a, b, group, n_resamples, seed)
    low, high = bounds(reflected, tail, 1 - tail)
    return Equivalence(
        difference,
        low,
        high,
        margin=float(margin),
        p_value=max(share(reflected <= -margin), share(reflected >= margin)),
        is_equivalent=-margin < low and high < margin,
    )


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values [m], adjusted so that each may be read for itself though there are m of them.

    To reject where the adjusted value is at most alpha keeps the chance of any false rejection
    at most alpha, however the tests depend on each other (Holm 1979, "A simple sequentially
    rejective multiple test procedure", Scandinavian Journal of Statistics 6, 65-70): of sorted
    values ``max over j <= i of min(1, (m - j) p_j)``, j from 0.
    Equal values stay equal; none are adjusted to none; NaN and what is outside 0 to 1 is refused.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"`p_values` must be [m], but got shape {p.shape}")
    for index in np.flatnonzero(~((p >= 0) & (p <= 1))):
        raise ValueError(f"`0 <= p <= 1` must hold, but got {p[index]} at index {index}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def front_probability(
    hits: ArrayLike, size_bytes: ArrayLike, group: Group, *, n_resamples: int = 2000, seed: int
) -> np.ndarray:
    """How often each model is on the front of mean hits against size, were the clips others.

    That is the share of resamples in which no model dominates it: none is as small with as many
    hits and better in one of both. Hits are [m, n], all on the same resamples; sizes are [m],
    finite. A share is no p-value: a model just as good as a smaller one has about a half.
    Equal models are on the front together. Returns float64 [m]; for no models, none.
    """
    values, sizes = checked(hits), np.asarray(size_bytes, dtype=np.float64)
    if sizes.shape != values.shape[:1] or not np.isfinite(sizes).all():
        raise ValueError(f"{len(values)} models, as many finite sizes, but got {sizes.tolist()}")
    means = rounded(resampled_means(values, group, n_resamples, seed))
    is_kept = np.zeros(means.shape, dtype=bool)
    best_smaller = np.full((len(means), 1), -np.inf)
    # `qwave.scores.pareto.non_dominated` of all resamples at once (tests): smallest models first,
    # and of each size the best ones, if they beat everything smaller.
    for size in np.unique(sizes):
        is_same = sizes == size
        best = means[:, is_same].max(axis=1, keepdims=True)
        is_kept[:, is_same] = (means[:, is_same] == best) & (best > best_smaller)
        best_smaller = np.maximum(best_smaller, best)
    return is_kept.mean(axis=0)


def _difference(estimate: float, reflected: np.ndarray, tail: float) -> Difference:
    """From a difference and its reflected resamples, sorted [r]."""
    return Difference(
        estimate,
        *bounds(reflected, tail, 1 - tail),
        standard_error=float(reflected.std(ddof=1)),
        p_value=min(1.0, 2 * min(share(reflected <= 0), share(reflected >= 0))),
    )


def _paired(
    a: ArrayLike, b: ArrayLike, group: Group, n_resamples: int, seed: int
) -> tuple[float, np.ndarray]:
    """Mean of a - b, and that of each resample, reflected at it, sorted [r]."""
    shapes = np.shape(a), np.shape(b)
    if shapes[0] != shapes[1] or len(shapes[0]) != 1:
        raise ValueError(f"`a` and `b` must be [n], of the same clips, but got shapes {shapes}")
    first, second = checked(np.stack([a, b]))
    difference = first - second
    means = resampled_means(difference[None], group, n_resamples, seed)[:, 0]
    # Rounded only now: of rounded numbers, 2 * 1/3 - 2/3 is not 0.
    return mean_of(difference), rounded(np.sort(2 * difference.mean() - means))
