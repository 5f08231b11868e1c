"""Intervals of means and of other scores. Arguments: see `qwave.scores`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from qwave.scores.resampling import (
    Group,
    bounds,
    checked,
    cluster_weights,
    mean_of,
    recordings,
    resampled_means,
    rounded,
    tail_of,
)


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval: of a mean, of a difference, of a share.

    Attributes:
        estimate: The value found.
        low: Lower end of the interval.
        high: Upper end of the interval. With few recordings it may lie below ``estimate``.
        standard_error: Standard deviation of the estimate over resamples; NaN where there were
            none.
    """

    estimate: float
    low: float
    high: float
    standard_error: float = math.nan


def bootstrap_mean(
    hits: ArrayLike, group: Group, *, n_resamples: int = 2000, confidence: float = 0.95, seed: int
) -> Interval:
    """Mean of one model's hits [n] with its interval, as of `bootstrap_means`."""
    if np.ndim(hits) != 1:
        raise ValueError(f"`hits` must be [n], one a clip, but got shape {np.shape(hits)}")
    (interval,) = bootstrap_means(
        np.asarray(hits)[None], group, n_resamples=n_resamples, confidence=confidence, seed=seed
    )
    return interval


def bootstrap_means(
    hits: ArrayLike, group: Group, *, n_resamples: int = 2000, confidence: float = 0.95, seed: int
) -> list[Interval]:
    """Mean of every model's hits [m, n] with its interval; all models on the same resamples.

    The interval is the bias-corrected and accelerated one (BCa; Efron 1987, "Better bootstrap
    confidence intervals", Journal of the American Statistical Association 82, 171-185), its
    acceleration from leaving out one recording at a time. (The percentile interval of 0.94 at a
    correlation of 0.8 covered 92.3 %, and lay above it six times as often as below; studentised
    ones are infinitely wide where resamples have no miss.) No models have no intervals.
    """
    values = checked(hits)
    tail = tail_of(confidence, n_resamples)
    means = rounded(np.sort(resampled_means(values, group, n_resamples, seed), axis=0))
    index = recordings(group, values.shape[1])
    counts = np.bincount(index)
    intervals = []
    for row, resampled in zip(values, means.T, strict=True):
        totals = np.bincount(index, weights=row)
        without = (totals.sum() - totals) / (counts.sum() - counts)
        intervals.append(_bca_interval(mean_of(row), without, resampled, tail))
    return intervals


def bootstrap_score(
    score: Callable[[np.ndarray], np.ndarray],
    group: Group,
    n: int,
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int,
) -> Interval:
    """Any score of n clips with its interval, as of `bootstrap_means`.

    Args:
        score: Weights of the clips, [b, n], to scores, finite [b]. It is asked about the clips as
            they are (weights of 1), about resamples, and about all but one recording.
        group: Recording of each clip.
        n: Number of clips.
        n_resamples: Number of resamples of the recordings.
        confidence: Coverage of the interval, between 0 and 1.
        seed: Seed of the resamples, which are those of `bootstrap_means`.
    """
    tail = tail_of(confidence, n_resamples)
    index = recordings(group, n)
    drawn = cluster_weights(group, n, n_resamples=n_resamples, seed=seed)
    resampled = rounded(np.sort(np.concatenate([score(weights) for weights in drawn])))
    without = np.concatenate(
        [score((index != left_out)[None].astype(np.int64)) for left_out in range(index.max() + 1)]
    )
    estimate = float(rounded(score(np.ones((1, n), dtype=np.int64)))[0])
    if not np.isfinite([estimate, *resampled, *without]).all():
        raise ValueError("scores must be finite for every resample, and without any recording")
    return _bca_interval(estimate, without, resampled, tail)


def _bca_interval(
    estimate: float, without: np.ndarray, resampled: np.ndarray, tail: float
) -> Interval:
    """From the score without each recording [G] and its sorted resamples [r]."""
    normal = NormalDist()
    # Ties count half, as in scipy.stats.bootstrap. One more resample, half on either side, keeps
    # the share away from 0 and 1, where the correction is infinite.
    below = (resampled < estimate).sum() + (resampled == estimate).sum() / 2
    bias = normal.inv_cdf((below + 0.5) / (len(resampled) + 1))
    influence = without.mean() - without
    scale = 6 * float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / scale if scale > 0 else 0.0
    z = bias + np.array([normal.inv_cdf(tail), normal.inv_cdf(1 - tail)])
    low, high = map(normal.cdf, bias + z / (1 - acceleration * z))
    ends = bounds(resampled, low, high)
    return Interval(estimate, *ends, standard_error=float(resampled.std(ddof=1)))
