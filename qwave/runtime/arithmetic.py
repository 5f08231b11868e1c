"""A network in numpy: what every other way of computing it is held against.

Codes enter the products, so that sums of quantized layers are exact and a clip's result does not
depend on the clips beside it. Means and deviations are taken in float64, and rounded once.

Shapes: n clips, d features, i inputs and o outputs of a layer, s MC-dropout samples, c classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qwave.config import SCHEMES, Grid, QwaveError
from qwave.data.normalization import Normalizer, centre
from qwave.packing import PackedLayer

HIDDEN_EPSILON = 1e-5  # added to the variance of hidden units
SMALLEST_SAMPLE_SCALE = np.float32(2.0**-100)

Product = Callable[[np.ndarray], np.ndarray]  # inputs or their codes [n, i] to sums [n, o]


def float_product(layer: PackedLayer) -> Product:
    """The product of inputs, or of their codes, with a layer's, in float32.

    Sums of codes are exact up to 2^24: for 1,040 inputs of int8 whose codes are all the largest.
    """
    transposed = layer.codes.astype(np.float32).T
    return lambda x: x @ transposed


class NumpyNetwork:
    """See `qwave.runtime.kernels.Network`.

    Args:
        normalizer: What is done to raw clips first.
        layers: At least one.
        product: Makes a layer's product.
    """

    def __init__(
        self,
        normalizer: Normalizer,
        layers: Sequence[PackedLayer],
        product: Callable[[PackedLayer], Product] = float_product,
    ) -> None:
        self._normalizer = normalizer
        self.product = product
        self._layers = [_Linear(layer, product(layer)) for layer in layers]

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
    """A layer of codes: inputs [n, i] to outputs [n, o]."""

    def __init__(self, layer: PackedLayer, product: Product) -> None:
        self.product = product
        self.activations = SCHEMES[layer.scheme].activations
        self.factor = row_factor(layer)
        self.bias = layer.bias.astype(np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        sample_factor: np.ndarray | None = None
        if self.activations is not None:
            x, sample_factor = quantise_samples(x, self.activations)
        y = self.product(x)
        for factor in (self.factor, sample_factor):
            y = y if factor is None else y * factor
        return y + self.bias


def row_factor(layer: PackedLayer) -> np.ndarray | None:
    """What a row's codes are multiples of, float32 [o]; None for weights that are no codes."""
    grid = SCHEMES[layer.scheme].weights
    if grid is None or layer.scale is None:
        return None
    return layer.scale.astype(np.float32) / np.float32(grid.denominator)


def multiplies_bytes(layer: PackedLayer) -> bool:
    """Whether a layer multiplies codes with codes, all of which fit signed bytes."""
    scheme = SCHEMES[layer.scheme]
    grids = (scheme.weights, scheme.activations)
    return all(grid is not None and grid.highest <= 127 for grid in grids)


def is_ternary(layer: PackedLayer) -> bool:
    """Whether it multiplies -1, 0 and 1 with the same: bits can be counted instead."""
    scheme = SCHEMES[layer.scheme]
    grids = (scheme.weights, scheme.activations)
    return all(grid is not None and grid.highest == 1 for grid in grids)


def quantise_samples(x: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Codes of each sample [n, i], and what they are multiples of [n, 1]."""
    if grid.scale == "absmax":
        measured = np.maximum.reduce(np.abs(x), axis=1, keepdims=True)
    else:
        total = np.add.reduce(np.abs(x), axis=1, dtype=np.float64, keepdims=True)
        measured = (total / x.shape[1]).astype(np.float32)
    scale = np.maximum(measured * np.float32(grid.scale_factor), SMALLEST_SAMPLE_SCALE)
    denominator = np.float32(grid.denominator)
    codes = x * (denominator / scale)
    np.rint(codes, out=codes)
    np.minimum(codes, grid.highest, out=codes)
    np.maximum(codes, -grid.highest, out=codes)
    return codes, scale / denominator


def standardise(x: np.ndarray) -> np.ndarray:
    """Hidden units of each clip [n, i] to mean 0 and deviation 1: a LayerNorm of no parameters."""
    centred, variance = centre(x)
    return (centred / np.sqrt(variance + HIDDEN_EPSILON)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(logits - np.maximum.reduce(logits, axis=-1, keepdims=True))
    return shifted / np.add.reduce(shifted, axis=-1, keepdims=True)


def refuse_not_finite(x: np.ndarray) -> None:
    """Raise a `QwaveError` that names the first value of x [n, d] that is not finite."""
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise QwaveError(f"x must be finite, but x[{row}, {column}] is {x[row, column]}")
