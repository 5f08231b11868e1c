"""The front of accuracy against size: which points are on it, and how much it covers.

Notation: n points; an accuracy is maximised (0 to 1), a size minimised (bytes, above 0).

A point dominates another if it is no worse in both and better in one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def non_dominated(accuracy: ArrayLike, size_bytes: ArrayLike) -> np.ndarray:
    """Which points no other point dominates.

    Args:
        accuracy: [n], finite.
        size_bytes: [n], finite.

    Returns:
        bool [n]. Equal points do not dominate each other: all of them are kept.

    Raises:
        ValueError: Lengths differ, or a value is NaN or infinite.
    """
    a, s = _checked(accuracy, size_bytes)
    # Smallest first, and among equal sizes most accurate first: a point is on the front if it
    # beats everything before it, or equals the one that did.
    order = np.lexsort((-a, s))
    kept = np.zeros(len(a), dtype=bool)
    best, best_size = -math.inf, math.nan
    for index in order:
        if a[index] > best:
            best, best_size = a[index], s[index]
            kept[index] = True
        elif a[index] == best and s[index] == best_size:
            kept[index] = True
    return kept


def hypervolume(
    accuracy: ArrayLike,
    size_bytes: ArrayLike,
    *,
    reference_accuracy: float,
    reference_bytes: float,
) -> float:
    """Area that points dominate, over accuracy and the decimal logarithm of size.

    Between the points and the reference point: one unit is an accuracy of 1 over one power of ten
    of bytes. Points that do not beat the reference in both contribute nothing.

    Args:
        accuracy: [n], finite.
        size_bytes: [n], finite, above 0.
        reference_accuracy: Worst accuracy that counts, usually that of chance.
        reference_bytes: Largest size that counts, usually the size budget.

    Returns:
        0 for no points.

    Raises:
        ValueError: As `non_dominated`; or a size is not above 0.
    """
    a, s = _checked(accuracy, size_bytes)
    smallest = s.min(initial=np.inf)
    if smallest <= 0 or reference_bytes <= 0:
        raise ValueError(f"`size_bytes > 0` must hold, but got {smallest}, {reference_bytes=}")
    counts = (a > reference_accuracy) & (s < reference_bytes)
    a, s = a[counts], s[counts]
    kept = non_dominated(a, s)
    order = np.argsort(s[kept], kind="stable")
    edges = np.append(np.log10(s[kept][order]), math.log10(reference_bytes))
    return float((np.diff(edges) * (a[kept][order] - reference_accuracy)).sum())


def _checked(accuracy: ArrayLike, size_bytes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a = np.asarray(accuracy, dtype=np.float64)
    s = np.asarray(size_bytes, dtype=np.float64)
    if a.shape != s.shape or a.ndim != 1:
        raise ValueError(f"as many accuracies as sizes, but got shapes {a.shape} and {s.shape}")
    if not (np.isfinite(a).all() and np.isfinite(s).all()):
        raise ValueError("accuracies and sizes must be finite; refuse NaN before it comes here")
    return a, s
