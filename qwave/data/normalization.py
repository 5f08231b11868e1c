"""Normalisation of embeddings: per clip (nothing to store) or per feature (two values each).

Steps per clip come first, then constants of each feature: ``(x - offset) * factor``.

| normalization | steps per clip | constants, from training rows only |
|---|---|---|
| `raw` | none | none |
| `l2` | `unit` | none |
| `layer` | `standardise` | none |
| `sqrt_layer` | `roots`, `standardise` | none |
| `standard` | none | mean, 1 / standard deviation |
| `min_max` | none | minimum, 1 / range |

The steps are ``unit``: x / norm(x); ``standardise``: (x - mean(x)) / std(x) over the clip's own
features; ``roots``: sign(x) * sqrt(abs(x)). All backends read `clip_steps`, and refuse a step that
they do not know.

Shapes: n clips, d features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qwave.config import DataError, unknown_rule
from qwave.config.trial import Normalization

_CLIP_STEPS: dict[str, tuple[str, ...]] = {
    "raw": (),
    "l2": ("unit",),
    "layer": ("standardise",),
    "sqrt_layer": ("roots", "standardise"),
    "standard": (),
    "min_max": (),
}
_FITTED = ("standard", "min_max")
EPSILON = 1e-6
_CONSTANT = 1e-6  # a feature whose range is this share of its size, or less, is constant


@dataclass(frozen=True, eq=False)
class Normalizer:
    """A fitted normalisation.

    Attributes:
        normalization: Name of the normalisation, a row of the table above.
        offset: Constant subtracted from each feature, float16 [d]; None where the normalisation
            has no constants.
        factor: Constant that each feature is then multiplied with, float16 [d]; None where the
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
    for step in clip_steps(normalization):
        if step == "roots":
            x = np.sign(x) * np.sqrt(np.abs(x))
        elif step == "standardise":
            centred, variance = centre(x)
            x = (centred / np.maximum(np.sqrt(variance), EPSILON)).astype(np.float32)
        elif step == "unit":
            norm = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
            x = (x / np.maximum(norm, EPSILON)).astype(np.float32)
        else:
            raise unknown_rule("numpy", "normalisation step", step)
    return x


def clip_steps(normalization: str) -> tuple[str, ...]:
    """Names of a normalisation's steps per clip, in the order in which they are taken.

    Raises:
        ValueError: There is no such normalisation.
    """
    if normalization not in _CLIP_STEPS:
        raise ValueError(f"unknown normalization {normalization!r}")
    return _CLIP_STEPS[normalization]


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
    elif normalization == "min_max":
        offset, spread = x_train.min(axis=0), extent
    else:
        raise unknown_rule("`fit_normalizer`", "normalization", normalization)
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
