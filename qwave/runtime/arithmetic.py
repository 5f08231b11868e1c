"""A network in numpy: the reference that every other backend is compared with.

Codes enter the products, so that sums of quantized layers are exact and a clip's result does not
depend on the clips beside it. Means and deviations are taken in float64, and rounded once.

Shapes: n clips, d features, i inputs and o outputs of a layer, s MC-dropout samples, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwave.config import SCHEMES, Grid, QwaveError, unknown_rule
from qwave.data.normalization import Normalizer, centre
from qwave.packing import PackedLayer

_BACKEND = "the numpy runtime"
HIDDEN_EPSILON = 1e-5  # added to the variance of hidden units
SMALLEST_SAMPLE_SCALE = np.float32(2.0**-100)


class NumpyNetwork:
    """A network computed in numpy; a `qwave.runtime.kernels.Network`.

    Args:
        normalizer: Normalisation of the raw clips.
        layers: Layers of the network, in order, at least one.
    """

    def __init__(self, normalizer: Normalizer, layers: Sequence[PackedLayer]) -> None:
        self._normalizer = normalizer
        self._layers = [_Linear(layer) for layer in layers]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits of clips [n, d], float32 [n, c]."""
        refuse_not_finite(x)
        return self._forward(self._normalizer(x), None)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of clips [n, d], float32 [n, c]; rows sum to 1."""
        return softmax(self.logits(x))

    def sample(self, x: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities of clips [n, d] under each mask, float32 [s, n, c]."""
        refuse_not_finite(x)
        normalised = self._normalizer(x)
        logits = [self._forward(normalised, sample) for sample in zip(*masks, strict=True)]
        return softmax(np.stack(logits))

    def _forward(self, x: np.ndarray, masks: Sequence[np.ndarray] | None) -> np.ndarray:
        for index, linear in enumerate(self._layers):
            if index > 0:
                x = np.maximum(standardise(x), 0)
            if masks is not None:
                x = x * masks[index]
            x = linear(x)
        return x


class _Linear:
    """A layer of codes: inputs [n, i] to outputs [n, o].

    Codes are multiplied in float32. Their sums are exact up to 2^24: for 1,040 inputs of int8 even
    if all codes are the largest.
    """

    def __init__(self, layer: PackedLayer) -> None:
        self.weights = layer.codes.astype(np.float32).T
        self.activations = SCHEMES[layer.scheme].activations
        self.factor = row_factor(layer)
        self.bias = layer.bias.astype(np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        sample_factor: np.ndarray | None = None
        if self.activations is not None:
            x, sample_factor = quantise_samples(x, self.activations)
        y = x @ self.weights
        for factor in (self.factor, sample_factor):
            y = y if factor is None else y * factor
        return y + self.bias


def row_factor(layer: PackedLayer) -> np.ndarray | None:
    """The value of one code in each row, float32 [o]; None for weights that are floats."""
    grid = SCHEMES[layer.scheme].weights
    if grid is None or layer.scale is None:
        return None
    return layer.scale.astype(np.float32) / np.float32(grid.denominator)


def multiplies_bytes(layer: PackedLayer) -> bool:
    """Whether a layer multiplies codes with codes, and all of them fit signed bytes."""
    scheme = SCHEMES[layer.scheme]
    grids = (scheme.weights, scheme.activations)
    return all(grid is not None and grid.highest <= 127 for grid in grids)


def is_ternary(layer: PackedLayer) -> bool:
    """Whether all codes of a layer and its inputs are -1, 0 or 1, so that bits can be counted."""
    scheme = SCHEMES[layer.scheme]
    grids = (scheme.weights, scheme.activations)
    return all(grid is not None and grid.highest == 1 for grid in grids)


def quantise_samples(x: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Codes of each sample [n, i], and the value of one code [n, 1]."""
    if grid.spacing != 1:
        raise unknown_rule(_BACKEND, "Grid.spacing of activations", grid.spacing)
    if grid.scale == "absmax":
        measured = np.maximum.reduce(np.abs(x), axis=1, keepdims=True)
    elif grid.scale == "absmean":
        total = np.add.reduce(np.abs(x), axis=1, dtype=np.float64, keepdims=True)
        measured = (total / x.shape[1]).astype(np.float32)
    else:
        raise unknown_rule(_BACKEND, "Grid.scale of activations", grid.scale)
    scale = np.maximum(measured * np.float32(grid.scale_factor), SMALLEST_SAMPLE_SCALE)
    denominator = np.float32(grid.denominator)
    codes = x * (denominator / scale)
    np.rint(codes, out=codes)
    np.minimum(codes, grid.highest, out=codes)
    np.maximum(codes, -grid.highest, out=codes)
    return codes, scale / denominator


def standardise(x: np.ndarray) -> np.ndarray:
    """Hidden units [n, i], each clip with mean 0 and deviation 1: LayerNorm without parameters."""
    centred, variance = centre(x)
    return (centred / np.sqrt(variance + HIDDEN_EPSILON)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Exponentials over their sum along the last axis, any shape."""
    shifted = np.exp(logits - np.maximum.reduce(logits, axis=-1, keepdims=True))
    return shifted / np.add.reduce(shifted, axis=-1, keepdims=True)


def refuse_not_finite(x: np.ndarray) -> None:
    """Raise a `QwaveError` that names the first value of clips x [n, d] that is not finite."""
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise QwaveError(f"x must be finite, but x[{row}, {column}] is {x[row, column]}")
