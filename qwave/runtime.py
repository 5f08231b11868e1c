"""Predictions from a packed model, in numpy, without torch.

The arithmetic is that of `qwave.quant` and `qwave.moe`: codes enter the products, so that sums of
quantized layers are exact and a clip's result does not depend on the clips beside it.

Shapes: n clips, d features, e experts, s MC-dropout samples, c classes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qwave.config import SCHEMES, Grid, PackedFileError, QwaveError
from qwave.data.normalization import Normalizer
from qwave.packing import PackedLayer, PackedModel, from_bytes, mc_masks, to_bytes

_NORM_EPSILON = np.float32(1e-5)
_SMALLEST_SAMPLE_SCALE = np.float32(2.0**-100)
_CURIOSITY_ROWS = 512  # clips at a time under MC-dropout: bounds the memory of masked copies


class Prediction(NamedTuple):
    """Everything a model says about clips.

    Attributes:
        probabilities: float32 [n, c], rows sum to 1.
        gates: Weight of each expert, float32 [n, e], rows sum to 1 (all ones for one expert).
        mutual_information: Curiosity, float32 [n], in nats. Of the router of a mixture, of the
            prediction of a plain network.
        variance: Mean variance of the same probabilities over MC samples, float32 [n].
    """

    probabilities: np.ndarray
    gates: np.ndarray
    mutual_information: np.ndarray
    variance: np.ndarray


class PackedClassifier:
    """A packed model, unpacked for prediction. The model is not changed afterwards."""

    def __init__(self, packed: PackedModel) -> None:
        self.packed = packed
        header = packed.header
        self.class_names = header.class_names
        self._normalizer = Normalizer(
            header.normalization,  # type: ignore[arg-type]  # checked where the file is read
            packed.offset,
            packed.factor,
        )
        num_layers = len(header.model.hidden) + 1
        self._experts = [
            [packed.layers[f"e{expert}.{layer}"] for layer in range(num_layers)]
            for expert in range(header.model.num_experts)
        ]
        self._router = [layer for name, layer in packed.layers.items() if name[0] == "r"]
        self._masks = mc_masks(header)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Class probabilities of raw embeddings: [n, d] to float32 [n, c].

        Raises:
            QwaveError: x has the wrong width or is not finite.
        """
        x = self._prepare(x)
        tilted = self._is_curious()
        curiosity = self._curiosity(x)[0] if tilted else np.zeros(len(x), dtype=np.float32)
        return self._mix(x, self._gates(x, curiosity))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Names of the likeliest classes, [n] strings; among equals the first class."""
        return np.array(self.class_names)[self.predict_proba(x).argmax(axis=1)]

    def examine(self, x: np.ndarray) -> Prediction:
        """Probabilities, routes and curiosity of raw embeddings [n, d]."""
        x = self._prepare(x)
        information, variance = self._curiosity(x)
        gates = self._gates(x, information)
        return Prediction(self._mix(x, gates), gates, information, variance)

    def expert_probabilities(self, x: np.ndarray) -> np.ndarray:
        """What each expert would say of raw embeddings [n, d] if all went to it: [e, n, c]."""
        x = self._prepare(x)
        return np.stack([_softmax(_forward(x, layers)) for layers in self._experts])

    def _prepare(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # what overflows float32 is refused below
            x = np.asarray(x, dtype=np.float32)
        width = self.packed.header.in_features
        if x.ndim != 2 or x.shape[1] != width:
            raise QwaveError(f"x must have shape [clips, {width}], but has shape {x.shape}")
        if not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0]
            raise QwaveError(f"x must be finite, but x[{row}, {column}] is {x[row, column]}")
        return self._normalizer(x)

    def _is_curious(self) -> bool:
        return bool(self._router) and self.packed.header.model.curiosity.alpha > 0

    def _gates(self, x: np.ndarray, information: np.ndarray) -> np.ndarray:
        model = self.packed.header.model
        if not self._router:
            return np.ones((len(x), 1), dtype=np.float32)
        probabilities = _softmax(_forward(x, self._router))
        if self._is_curious():
            assert self.packed.curiosity_range is not None, "a mixture carries its range"
            share = normalized_curiosity(information, self.packed.curiosity_range)
            tilt = model.curiosity.alpha * share[:, None] * expert_cost(model.schemes)
            with np.errstate(divide="ignore"):
                logits = np.log(probabilities) + tilt
            probabilities = _softmax(logits).astype(np.float32)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : model.top_k]
        gates = np.zeros_like(probabilities)
        kept = np.take_along_axis(probabilities, order, axis=1)
        np.put_along_axis(gates, order, kept / kept.sum(axis=1, keepdims=True), axis=1)
        return gates

    def _mix(self, x: np.ndarray, gates: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(x), len(self.class_names)), dtype=np.float32)
        for expert, layers in enumerate(self._experts):
            rows = np.flatnonzero(gates[:, expert])
            if len(rows):
                logits[rows] += gates[rows, expert, None] * _forward(x[rows], layers)
        return _softmax(logits)

    def _curiosity(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        layers = self._router or self._experts[0]
        if all((mask == 1).all() for mask in self._masks):
            # Nothing is dropped: the passes agree, and what they would leave is rounding.
            return np.zeros(len(x), dtype=np.float32), np.zeros(len(x), dtype=np.float32)
        parts = [
            _mc_dropout(x[start : start + _CURIOSITY_ROWS], layers, self._masks)
            for start in range(0, max(len(x), 1), _CURIOSITY_ROWS)
        ]
        information, variance = zip(*parts, strict=True)
        return np.concatenate(information), np.concatenate(variance)


def save_packed(model: PackedClassifier | PackedModel, path: str | os.PathLike[str]) -> int:
    """Write a model as a packed file; returns its length in bytes."""
    packed = model.packed if isinstance(model, PackedClassifier) else model
    return Path(path).write_bytes(to_bytes(packed))


def load_packed(path: str | os.PathLike[str]) -> PackedClassifier:
    """Read a packed file.

    Raises:
        PackedFileError: The file is missing, damaged, or of another version.
    """
    file = Path(path)
    if not file.is_file():
        raise PackedFileError(f"no such file: {file}")
    return PackedClassifier(from_bytes(file.read_bytes(), str(file)))


def expert_cost(schemes: tuple[str, ...]) -> np.ndarray:
    """Place of each expert between the fewest bits (0) and the most (1), on a log scale."""
    bits = np.log2([float(SCHEMES[scheme].bits) for scheme in schemes])
    span = bits.max() - bits.min()
    cost: np.ndarray = (bits - bits.min()) / span if span > 0 else np.zeros_like(bits)
    return cost


def normalized_curiosity(
    information: np.ndarray, curiosity_range: tuple[float, float]
) -> np.ndarray:
    """Mutual information [n] as a share of its range on training rows, clipped to 0..1.

    A range without width (a router that is never unsure) gives 0.
    """
    low, high = curiosity_range
    if high <= low:
        return np.zeros_like(information)
    return np.clip((information - low) / (high - low), 0.0, 1.0)


def _mc_dropout(
    x: np.ndarray, layers: list[PackedLayer], masks: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information [n] and mean variance [n] of the softmax under each mask."""
    samples = np.stack(
        [
            _softmax(_forward(x, layers, [mask[sample] for mask in masks]))
            for sample in range(len(masks[0]))
        ]
    )
    mean = samples.mean(axis=0)
    # The sum over classes comes last: a mean over samples of one number a clip would be added in
    # another order for one clip than for many.
    logs = np.log(np.where(samples > 0, samples, 1))
    information = _entropy(mean) + (samples * logs).mean(axis=0).sum(axis=1)
    return np.maximum(information, 0), samples.var(axis=0).mean(axis=1)


def _forward(
    x: np.ndarray, layers: list[PackedLayer], masks: list[np.ndarray] | None = None
) -> np.ndarray:
    hidden = x
    for index, layer in enumerate(layers):
        if index > 0:
            hidden = np.maximum(_standardize(hidden), 0)
        if masks is not None:
            hidden = hidden * masks[index]
        hidden = _linear(hidden, layer)
    return hidden


def _linear(x: np.ndarray, layer: PackedLayer) -> np.ndarray:
    scheme = SCHEMES[layer.scheme]
    factor: np.ndarray | None = None
    if scheme.weights is not None and layer.scale is not None:
        factor = layer.scale.astype(np.float32) / np.float32(scheme.weights.denominator)
    sample_factor: np.ndarray | None = None
    if scheme.activations is not None:
        x, sample_factor = _quantize_samples(x, scheme.activations)
    y = x @ layer.codes.T
    for part in (factor, sample_factor):
        y = y if part is None else y * part
    return y + layer.bias.astype(np.float32)


def _quantize_samples(x: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    if grid.scale == "absmax":
        # Half the time of a maximum of absolutes, which need an array of their own.
        measured = np.maximum(x.max(axis=1, keepdims=True), -x.min(axis=1, keepdims=True))
    else:
        measured = np.abs(x).mean(axis=1, keepdims=True)
    scale = np.maximum(measured * np.float32(grid.scale_factor), _SMALLEST_SAMPLE_SCALE)
    denominator = np.float32(grid.denominator)
    codes = x * (denominator / scale)
    np.rint(codes, out=codes)
    np.clip(codes, -grid.highest, grid.highest, out=codes)
    return codes, scale / denominator


def _standardize(x: np.ndarray) -> np.ndarray:
    mean = x.mean(axis=1, keepdims=True)
    variance = x.var(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(variance + _NORM_EPSILON)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    entropy: np.ndarray = -(probabilities * logs).sum(axis=-1)
    return entropy
