"""Weights of rows as repetitions of rows.

A weight says how often a row stands in the training data. Trained on repeated rows, everything
sees the weights: the normaliser's constants, the centroids that linear experts begin at, the
teacher and the range of curiosity.

Notation: n rows, d features, c classes, m rows after repetition.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from qwave.config import ConfigError, DataError

# Whole weights are repetitions up to this many a row, on average; beyond it they are shares.
_MOST_WHOLE = 100
# Shares end in at most this many repetitions a row, on average: that bounds the time of training.
_MOST_SHARED = 8


def training_rows(
    x: np.ndarray,
    y: np.ndarray,
    labels: np.ndarray,
    sample_weight: np.ndarray | None,
    class_weight: Mapping[object, float] | str | None,
) -> np.ndarray:
    """The rows to train on, repeated by their weights.

    Sample weights come first; class weights are those of the rows that they lead to, as if these
    had been given. Rows come out by class, and within a class in an order of their features:
    neither the order of the data nor whether rows were repeated or weighted makes a difference.

    Args:
        x: float32 [n, d], finite.
        y: int64 [n], 0 to c - 1.
        labels: The classes as a person names them, [c].
        sample_weight: [n]; None for ones.
        class_weight: Label to weight, ``balanced``, or None for ones; as of
            `sklearn.utils.class_weight.compute_sample_weight`.

    Returns:
        Indices into x, int64 [m].

    Raises:
        ConfigError: `class_weight` is none of the above.
        DataError: A weight is negative or not finite, or all of them are 0.
        ValueError: A label has no weight, and `class_weight` has other keys instead.
    """
    rows = _canonical_order(x, y)
    if sample_weight is not None:
        rows = rows.repeat(repetitions(sample_weight[rows], y[rows], "sample_weight"))
    if class_weight is not None:
        if not isinstance(class_weight, Mapping) and str(class_weight) != "balanced":
            raise ConfigError(
                "class_weight must be None, 'balanced' or a mapping of labels to weights, but got "
                f"{class_weight!r}"
            )
        by_class = compute_sample_weight(class_weight, labels[y[rows]])
        rows = rows.repeat(repetitions(by_class, y[rows], "class_weight"))
    return rows


def repetitions(weights: np.ndarray, y: np.ndarray, name: str) -> np.ndarray:
    """How often each row is to stand in the training data.

    Whole weights say it themselves, unless they are more than 100 on average. All others are
    shares: the lightest row stands once, or less often where that would make more than 8 rows of
    one. A share that is not whole is rounded up or down, so that the total of any run of rows is
    within one of its shares' (systematic resampling, from the middle of the first interval). A
    class whose share is less than a row keeps its heaviest row, the first of them among equals.

    Args:
        weights: [n]. Rows of weight 0 stand nowhere.
        y: Class of each row, [n].
        name: Of the weights, for errors.

    Returns:
        int64 [n]

    Raises:
        DataError: A weight is negative or not finite, or all of them are 0.
    """
    is_weight = np.isfinite(weights) & (weights >= 0)
    if not is_weight.all():
        raise DataError(
            f"{name} must be finite and 0 or above, but holds {weights[~is_weight][0]:g}"
        )
    has_weight = weights > 0
    if not has_weight.any():
        raise DataError(
            f"{name} is zero for all {len(weights)} rows; at least two classes need a row whose "
            "weight is above 0"
        )
    # Of the heaviest row: sums of weights near the largest float would overflow.
    shares = weights.astype(np.float64) / weights.max()
    n_rows = int(has_weight.sum())
    is_whole = bool((weights == np.rint(weights)).all())
    if is_whole and shares.sum() <= _MOST_WHOLE * n_rows / weights.max():
        return weights.astype(np.int64)
    lightest = max(shares[has_weight].min(), shares.sum() / (_MOST_SHARED * n_rows))
    ends = np.floor(np.cumsum(shares) / lightest + 0.5)
    counts = np.diff(ends, prepend=0.0).astype(np.int64)
    for label in np.unique(y[has_weight]):
        own = np.flatnonzero(y == label)
        if not counts[own].any():
            counts[own[weights[own].argmax()]] = 1
    return counts


def _canonical_order(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rows by class, then by the bytes of their features; equal rows stand side by side."""
    # One sort of rows as bytes; by columns of numbers it would take d sorts.
    keys = np.ascontiguousarray(x).view(f"V{x.itemsize * x.shape[1]}").ravel()
    order = np.argsort(keys, kind="stable")
    return order[np.argsort(y[order], kind="stable")]
