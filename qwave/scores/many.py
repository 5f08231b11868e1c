"""Many models at once: corrected p-values, and who is on the front.

Arguments: see `qwave.scores`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qwave.scores.resampling import Group, checked, resampled_means, rounded


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
