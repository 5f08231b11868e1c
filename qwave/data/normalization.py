"""Normalisation of embeddings: per clip (nothing to store) or per feature (two values each).

A per-clip transform `t` comes first, then per-feature constants `(t(x) - offset) * factor`:

| normalization | per clip | constants, from training rows only |
|---|---|---|
| `raw` | identity | none |
| `l2` | x / norm(x) | none |
| `layer` | (x - mean(x)) / std(x) over the clip's own features | none |
| `sqrt_layer` | the same after sign(x) * sqrt(abs(x)) | none |
| `standard` | identity | mean, 1 / standard deviation |
| `min_max` | identity | minimum, 1 / range |

Shapes: n clips, d features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from qwave.config import DataError
from qwave.config.trial import Normalization

_FITTED = ("standard", "min_max")
EPSILON = 1e-6
_CONSTANT = 1e-6  # a feature whose range is this share of its size, or less, is constant


@dataclass(frozen=True, eq=False)
class Normalizer:
    """A fitted normalisation.

    Attributes:
        normalization: Name of the normalisation, a row of the table above.
        offset: What is subtracted from each feature, float16 [d]; None where the normalisation
            has no constants.
        factor: What each feature is then multiplied with, float16 [d]; None where the
            normalisation has no constants. Both constants have the precision they are stored
            with, so that training sees what the packed file will compute.
    """

    normalization: Normalization
    offset: np.ndarray | None = field(default=None, repr=False)
    factor: np.ndarray | None = field(default=None, repr=False)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise clips: float32 [n, d] to float32 [n, d]."""
        x = normalize_clips(x, self.normalization)
        if self.offset is None or self.factor is None:
            return x
        return (x - self.offset.astype(np.float32)) * self.factor.astype(np.float32)


def normalize_clips(x: np.ndarray, normalization: str) -> np.ndarray:
    """The per-clip part of a normalisation: float32 [n, d] to float32 [n, d].

    A clip whose features are all equal becomes zeros under `layer` and `sqrt_layer`, a clip of
    zeros stays zero under `l2`: no division by zero anywhere.
    """
    x = np.asarray(x, dtype=np.float32)
    if normalization == "sqrt_layer":
        x = np.sign(x) * np.sqrt(np.abs(x))
    if normalization in ("layer", "sqrt_layer"):
        centred, variance = centre(x)
        return (centred / np.maximum(np.sqrt(variance), EPSILON)).astype(np.float32)
    if normalization == "l2":
        norm = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        return (x / np.maximum(norm, EPSILON)).astype(np.float32)
    if normalization not in get_args(Normalization):
        raise ValueError(f"unknown normalization {normalization!r}")
    return x


def centre(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row of x [n, d] less its mean, float64 [n, d], and its variance, [n, 1].

    Sums in float64: the mean of equal float32 numbers is then that number, and squares of large
    ones do not overflow.
    """
    # `x.mean()` is the same sum behind five microseconds of Python, half of a small prediction.
    total = np.add.reduce(x, axis=1, dtype=np.float64, keepdims=True)
    centred = x - total / x.shape[1]
    squares = np.add.reduce(np.square(centred), axis=1, keepdims=True)
    return centred, squares / x.shape[1]


def has_constants(normalization: str) -> bool:
    """Whether a normalisation stores two float16 values for each feature."""
    return normalization in _FITTED


def fit_normalizer(x_train: np.ndarray, normalization: Normalization) -> Normalizer:
    """Fit the constants of a normalisation on training rows, float32 [n, d].

    Constant features get the factor 0: they carry nothing, and would otherwise blow up.

    Raises:
        DataError: A constant does not fit float16 (features far beyond +-65504).
    """
    if not has_constants(normalization):
        return Normalizer(normalization)
    extent = np.ptp(x_train.astype(np.float64), axis=0)
    if normalization == "standard":
        offset = x_train.mean(axis=0, dtype=np.float64)
        spread = x_train.std(axis=0, dtype=np.float64)
    else:
        offset, spread = x_train.min(axis=0), extent
    is_constant = extent <= _CONSTANT * np.abs(x_train).max(axis=0)
    factor = np.where(is_constant, 0.0, 1.0 / np.where(is_constant, 1.0, spread))
    with np.errstate(over="ignore"):
        offset16, factor16 = offset.astype(np.float16), factor.astype(np.float16)
    finite = np.isfinite(offset16) & np.isfinite(factor16)
    if not finite.all():
        column = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"data.normalization: {normalization} cannot store feature column {column} (offset "
            f"{offset[column]:.4g}, spread {spread[column]:.4g}) as float16; use 'layer', or "
            "rescale the features"
        )
    return Normalizer(normalization, offset16, factor16)
