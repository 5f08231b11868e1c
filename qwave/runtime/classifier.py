"""Predictions of a packed model: routing, mixing and curiosity around its networks.

Shapes: n clips, d features, e experts, s MC-dropout samples, c classes.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from qwave.config import SCHEMES, QwaveError
from qwave.data.normalization import Normalizer
from qwave.packing import PackedModel, from_file, mc_masks, to_bytes
from qwave.runtime.arithmetic import softmax
from qwave.runtime.inputs import as_float32
from qwave.runtime.kernels import Kernel, Network, kernel_of, network_maker

# Under MC-dropout, at a time: clips, and their probabilities under all masks. Bounds the memory.
_MOST_ROWS, _MOST_PROBABILITIES = 512, 2**22


class Prediction(NamedTuple):
    """Predictions of a model for clips.

    Attributes:
        probabilities: Class probabilities, float32 [n, c]; rows sum to 1.
        gates: Weight of each expert, float32 [n, e], rows sum to 1 (all ones for one expert).
        mutual_information: Curiosity, float32 [n], in nats: the mutual information of the router
            of a mixture, or of the class probabilities of a plain network, under MC-dropout.
        variance: Variance over MC-dropout samples of the same probabilities, averaged over experts
            or classes, float32 [n].
    """

    probabilities: np.ndarray
    gates: np.ndarray
    mutual_information: np.ndarray
    variance: np.ndarray


class PackedClassifier:
    """A packed model, ready to predict; it never changes, and threads may share it.

    Args:
        packed: The model.
        kernel: The kernel that computes the networks (`qwave.runtime.kernels`). Predictions of
            the kernels are the same to rounding.
    """

    def __init__(self, packed: PackedModel, kernel: Kernel = "auto") -> None:
        self.packed, self.kernel = packed, kernel
        header = packed.header
        self.class_names = header.class_names
        normalizer = Normalizer(
            header.normalization,  # type: ignore[arg-type]  # checked where the file is read
            packed.offset,
            packed.factor,
        )
        make = network_maker(kernel)
        num_layers = len(header.model.hidden) + 1
        self._experts = [
            make(normalizer, [packed.layers[f"e{expert}.{layer}"] for layer in range(num_layers)])
            for expert in range(header.model.num_experts)
        ]
        router = [layer for name, layer in packed.layers.items() if name[0] == "r"]
        self._router: Network | None = make(normalizer, router) if router else None

    def __reduce__(self) -> tuple[type[PackedClassifier], tuple[PackedModel, Kernel]]:
        """Copies and pickles hold the model; what computes it is made anew where they are read."""
        return PackedClassifier, (self.packed, self.kernel)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernels that compute its networks: ``compiled``, ``numpy`` or both."""
        routers = [self._router] if self._router else []
        return tuple(sorted({kernel_of(network) for network in [*self._experts, *routers]}))

    def predict_proba(self, x: ArrayLike) -> np.ndarray:
        """Class probabilities of raw embeddings: [n, d] to float32 [n, c].

        Args:
            x: Numbers of any type, in any form that numpy takes: an array however it lies in
                memory, rows of a list, a frame. Equal numbers give equal answers, bit for bit.

        Raises:
            QwaveError: x is not numbers, has the wrong width, or is not finite.
        """
        x = self._checked(x)
        if self._router is None:
            return self._experts[0].probabilities(x)
        curiosity = self._curiosity(x)[0] if self._is_curious() else None
        return self._mix(x, self._gates(x, curiosity))

    def predict(self, x: ArrayLike) -> np.ndarray:
        """Names of the likeliest classes, [n] strings; among equals the first class."""
        return np.array(self.class_names)[self.predict_proba(x).argmax(axis=1)]

    def examine(self, x: ArrayLike) -> Prediction:
        """Probabilities, routes and curiosity of raw embeddings [n, d]."""
        x = self._checked(x)
        information, variance = self._curiosity(x)
        gates = self._gates(x, information)
        return Prediction(self._mix(x, gates), gates, information, variance)

    def expert_probabilities(self, x: ArrayLike) -> np.ndarray:
        """Probabilities of each expert alone for raw embeddings [n, d], float32 [e, n, c]."""
        x = self._checked(x)
        return np.stack([expert.probabilities(x) for expert in self._experts])

    def _checked(self, x: ArrayLike) -> np.ndarray:
        """Contiguous float32 [n, d]; whether it is finite is the networks' to check."""
        x = as_float32(x)
        width = self.packed.header.in_features
        if x.ndim != 2 or x.shape[1] != width:
            raise QwaveError(f"x must have shape [clips, {width}], but has shape {x.shape}")
        return np.ascontiguousarray(x)

    def _is_curious(self) -> bool:
        return self._router is not None and self.packed.header.model.curiosity.alpha > 0

    def _gates(self, x: np.ndarray, information: np.ndarray | None) -> np.ndarray:
        """Gates of clips [n, d]; their mutual information [n] may be None where alpha is 0."""
        model = self.packed.header.model
        if self._router is None:
            return np.ones((len(x), 1), dtype=np.float32)
        probabilities = self._router.probabilities(x)
        if self._is_curious():
            assert information is not None, "alpha tilts by curiosity"
            assert self.packed.curiosity_range is not None, "a mixture carries its range"
            share = normalized_curiosity(information, self.packed.curiosity_range)
            tilt = model.curiosity.alpha * share[:, None] * expert_cost(model.schemes)
            with np.errstate(divide="ignore"):
                logits = np.log(probabilities) + tilt
            probabilities = softmax(logits).astype(np.float32)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : model.top_k]
        gates = np.zeros_like(probabilities)
        kept = np.take_along_axis(probabilities, order, axis=1)
        np.put_along_axis(gates, order, kept / kept.sum(axis=1, keepdims=True), axis=1)
        return gates

    def _mix(self, x: np.ndarray, gates: np.ndarray) -> np.ndarray:
        if self._router is None:
            return self._experts[0].probabilities(x)
        logits = np.zeros((len(x), len(self.class_names)), dtype=np.float32)
        for expert, network in enumerate(self._experts):
            rows = np.flatnonzero(gates[:, expert])
            if len(rows):
                logits[rows] += gates[rows, expert, None] * network.logits(x[rows])
        return softmax(logits)

    @functools.cached_property
    def _masks(self) -> list[np.ndarray]:
        return mc_masks(self.packed.header)

    def _curiosity(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mutual information [n] and mean variance [n] under MC-dropout."""
        network = self._router or self._experts[0]
        if all((mask == 1).all() for mask in self._masks):
            # Nothing is dropped: the passes agree, and what they would leave is rounding.
            return np.zeros(len(x), dtype=np.float32), np.zeros(len(x), dtype=np.float32)
        n_outputs = self.packed.header.model.num_experts if self._router else len(self.class_names)
        step = _MOST_PROBABILITIES // (len(self._masks[0]) * n_outputs)
        step = max(1, min(_MOST_ROWS, step))
        parts = [
            _spread(network.sample(x[start : start + step], self._masks))
            for start in range(0, max(len(x), 1), step)
        ]
        information, variance = zip(*parts, strict=True)
        return np.concatenate(information), np.concatenate(variance)


def save_packed(model: PackedClassifier | PackedModel, path: str | os.PathLike[str]) -> int:
    """Write a model as a packed file; returns its length in bytes."""
    packed = model.packed if isinstance(model, PackedClassifier) else model
    return Path(path).write_bytes(to_bytes(packed))


def load_packed(path: str | os.PathLike[str], kernel: Kernel = "auto") -> PackedClassifier:
    """Read a packed file.

    Args:
        path: The file.
        kernel: The kernel that computes the networks (`qwave.runtime.kernels`).

    Raises:
        ConfigError: The kernel is unknown, or what it needs is not there.
        PackedFileError: The file is missing, damaged, or of another version.
    """
    return PackedClassifier(from_file(path), kernel)


def expert_cost(schemes: tuple[str, ...]) -> np.ndarray:
    """Cost of each expert, [e]: 0 for the fewest bits, 1 for the most, on a logarithmic scale."""
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


def _spread(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information [n] and mean variance [n] of probabilities [s, n, c]."""
    mean = samples.mean(axis=0)
    # The sum over classes comes last: a mean over samples of one number a clip would be added in
    # another order for one clip than for many.
    logs = np.log(np.where(samples > 0, samples, 1))
    information = _entropy(mean) + (samples * logs).mean(axis=0).sum(axis=1)
    return np.maximum(information, 0), samples.var(axis=0).mean(axis=1)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    entropy: np.ndarray = -(probabilities * logs).sum(axis=-1)
    return entropy
