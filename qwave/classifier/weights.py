"""Weights of rows as repetitions of rows.

A weight is the number of times that a row is in the training data. Because rows are repeated, all
parts of training respect the weights: the normaliser's constants, the centroids at which linear
experts begin, the teacher and the range of curiosity.

Notation: n rows, d features, c classes, m rows after repetition.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from qwave.config import ConfigError, DataError

# Whole weights are repetitions up to this mean over the rows; beyond it they are shares.
_MOST_WHOLE = 100
# Most repetitions a row, on average, that shares become: this limits the time of training.
_MOST_SHARED = 8


def training_rows(
    x: np.ndarray,
    y: np.ndarray,
    labels: np.ndarray,
    sample_weight: np.ndarray | None,
    class_weight: Mapping[object, float] | str | None,
) -> np.ndarray:
    """The rows to train on, repeated by their weights.

    Sample weights are applied first; class weights are then computed on the repeated rows. Rows
    are sorted by class, then by their features: neither the order of the data, nor whether rows
    are repeated or weighted, makes a difference.

    Args:
        x: Features, float32 [n, d], finite.
        y: Classes, int64 [n], 0 to c - 1.
        labels: Names of the classes, as a person gives them, [c].
        sample_weight: Weights of the rows, [n]; None for ones.
        class_weight: Weights by label, ``balanced``, or None for ones, as
            `sklearn.utils.class_weight.compute_sample_weight` takes them.

    Returns:
        Indices into x, int64 [m].

    Raises:
        ConfigError: `class_weight` is of another kind.
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
    """How often each row is in the training data.

    Whole weights are the repetitions themselves, unless their mean is above 100. All other
    weights are shares: the lightest row is taken once, or less often if the mean would be above 8
    rows. A share that is not whole is rounded up or down, so that the total of consecutive rows
    differs from their shares' by at most one (systematic resampling, from the middle of the first
    interval). A class with a share of less than a row keeps its heaviest row, the first of equals.

    Args:
        weights: Weights of the rows, [n]; rows of weight 0 are left out.
        y: Class of each row, [n].
        name: Name of the weights, for errors.

    Returns:
        Repetitions of each row, int64 [n].

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
    # Shares of the heaviest row's weight: sums of weights near the largest float would overflow.
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
    """Rows sorted by class, then by the bytes of their features; equal rows are neighbours."""
    # This is one sort of rows as bytes; by columns of numbers it would take d sorts.
    keys = np.ascontiguousarray(x).view(f"V{x.itemsize * x.shape[1]}").ravel()
    order = np.argsort(keys, kind="stable")
    return order[np.argsort(y[order], kind="stable")]
