"""A network in C: one call from raw clips to probabilities (`native/forward.c`).

At batch 1 nearly all of numpy's time is the overhead of its calls, some forty for a network of
640-320 units.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qwave.compiler import compiled, require_sizes
from qwave.config import SCHEMES, unknown_rule
from qwave.data.normalization import EPSILON, Normalizer, clip_steps
from qwave.packing import PackedLayer
from qwave.runtime.arithmetic import (
    HIDDEN_EPSILON,
    SMALLEST_SAMPLE_SCALE,
    is_ternary,
    multiplies_bytes,
    refuse_not_finite,
    row_factor,
)

_SOURCE = Path(__file__).with_name("native") / "forward.c"
_FLAGS = ("-ffp-contract=off",)  # numpy rounds after every operation
_FLOATS, _BYTES, _TRITS = range(3)
_LINE = 64
# An array as an argument in a quarter of the time that `array.ctypes.data` takes.
_from_buffer = (ctypes.c_char * 0).from_buffer
_OFFSET = 128
_BACKEND = "the compiled runtime"
_CLIP_STEPS = {"roots": 0, "standardise": 1, "unit": 2}  # as forward.c numbers them
_SCALES = {"absmax": False, "absmean": True}  # whether a sample's scale is its mean
# Sums of products of bytes stay within 32 bits: 2^16 * 255 * 127 < 2^31.
_MOST_INPUTS = 2**16


class _Layer(ctypes.Structure):
    _fields_ = [
        ("n_in", ctypes.c_int64),
        ("n_out", ctypes.c_int64),
        ("kind", ctypes.c_int64),
        ("weights", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("is_mean", ctypes.c_int64),
        ("scale_factor", ctypes.c_float),
        ("smallest_scale", ctypes.c_float),
        ("highest", ctypes.c_float),
        ("denominator", ctypes.c_float),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        ("n_features", ctypes.c_int64),
        ("n_steps", ctypes.c_int64),
        ("steps", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
        ("hidden_epsilon", ctypes.c_float),
        ("offset", ctypes.c_void_p),
        ("factor", ctypes.c_void_p),
        ("n_layers", ctypes.c_int64),
        ("widest", ctypes.c_int64),
        ("layers", ctypes.POINTER(_Layer)),
    ]


def forward_library() -> ctypes.CDLL | None:
    """The compiled part of the runtime; None without a C compiler that works.

    Raises:
        RuntimeError: A C structure and its mirror in Python have different sizes.
    """
    library = compiled(_SOURCE, _FLAGS)
    if library is not None:
        require_sizes(library, {"layer": _Layer, "network": _Network}, _SOURCE)
        array, whole = ctypes.c_void_p, ctypes.c_int64
        network = ctypes.POINTER(_Network)
        library.qwave_forward.argtypes = (network, array, whole, array, whole, whole, array)
        library.qwave_forward.restype = whole
    return library


class CompiledNetwork:
    """A network computed in C; a `qwave.runtime.kernels.Network`."""

    def __init__(
        self, library: ctypes.CDLL, normalizer: Normalizer, layers: Sequence[PackedLayer]
    ) -> None:
        self._forward = library.qwave_forward
        self._kept: list[Any] = []  # what C points to
        self.n_features = layers[0].codes.shape[1]
        self.n_classes = len(layers[-1].bias)
        made = (_Layer * len(layers))(*map(self._layer, layers))
        self._kept.append(made)
        steps = _numbers_of_steps(normalizer.normalization)
        widths = [self.n_features, *(len(layer.bias) for layer in layers)]
        self._network = _Network(
            n_features=self.n_features,
            n_steps=len(steps),
            steps=self._keep(np.array(steps, dtype=np.int64)),
            epsilon=EPSILON,
            hidden_epsilon=HIDDEN_EPSILON,
            offset=self._floats(normalizer.offset),
            factor=self._floats(normalizer.factor),
            n_layers=len(layers),
            widest=max(widths),
            layers=made,
        )

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits of clips [n, d], float32 [n, c]."""
        return self._call(x, False)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of clips [n, d], float32 [n, c]."""
        return self._call(x, True)

    def sample(self, x: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities of clips [n, d] under masks [s, i] of each layer, float32 [s, n, c]."""
        held = [np.ascontiguousarray(mask, dtype=np.float32) for mask in masks]
        addresses = (ctypes.c_void_p * len(held))(*(mask.ctypes.data for mask in held))
        out = np.empty((len(held[0]), len(x), self.n_classes), dtype=np.float32)
        return self._run(x, addresses, True, out)

    def _call(self, x: np.ndarray, is_softmax: bool) -> np.ndarray:
        out = np.empty((1, len(x), self.n_classes), dtype=np.float32)
        return self._run(x, None, is_softmax, out)[0]

    def _run(
        self, x: np.ndarray, masks: ctypes.Array[Any] | None, is_softmax: bool, out: np.ndarray
    ) -> np.ndarray:
        """Fill `out` [s, n, c], and return it."""
        assert x.dtype == np.float32, x.dtype
        assert x.flags.c_contiguous, "C reads rows one after another"
        assert x.shape[1] == self.n_features, x.shape
        if not x.flags.writeable:
            x = x.copy()  # `from_buffer` takes nothing else
        n_samples, n, _ = out.shape
        given, made = _from_buffer(x), _from_buffer(out)  # type: ignore[arg-type]  # PEP 688
        failed = self._forward(self._network, given, n, masks, n_samples, is_softmax, made)
        if failed > 0:
            refuse_not_finite(x)
        if failed:
            raise MemoryError(f"no memory to predict {n} clips")
        return out

    def _layer(self, layer: PackedLayer) -> _Layer:
        n_out, n_in = layer.codes.shape
        made = _Layer(
            n_in=n_in,
            n_out=n_out,
            kind=_FLOATS,
            scale=self._floats(row_factor(layer)),
            bias=self._floats(layer.bias),
        )
        grid = SCHEMES[layer.scheme].activations
        if grid is None:
            made.weights = self._floats(layer.codes)
            return made
        if grid.spacing != 1:
            raise unknown_rule(_BACKEND, "Grid.spacing of activations", grid.spacing)
        if grid.scale not in _SCALES:
            raise unknown_rule(_BACKEND, "Grid.scale of activations", grid.scale)
        made.is_mean = _SCALES[grid.scale]
        made.scale_factor, made.smallest_scale = grid.scale_factor, SMALLEST_SAMPLE_SCALE
        made.highest, made.denominator = grid.highest, grid.denominator
        if is_ternary(layer):
            made.kind, made.weights = _TRITS, self._keep(_bit_rows(layer.codes))
        else:
            made.kind, made.weights = _BYTES, self._keep(_byte_rows(layer.codes))
        return made

    def _floats(self, values: np.ndarray | None) -> int | None:
        return None if values is None else self._keep(values.astype(np.float32))

    def _keep(self, values: np.ndarray) -> int:
        """The address of an array that lives as long as the network."""
        held = np.ascontiguousarray(values)
        self._kept.append(held)
        return held.ctypes.data


def fits_compiled(layers: Sequence[PackedLayer]) -> bool:
    """Whether the codes of every layer fit bytes, and their sums 32 bits."""
    return all(
        layer.codes.shape[1] <= _MOST_INPUTS
        and (SCHEMES[layer.scheme].activations is None or multiplies_bytes(layer))
        for layer in layers
    )


def _numbers_of_steps(normalization: str) -> list[int]:
    """The steps of a normalisation per clip, as C numbers them."""
    steps = clip_steps(normalization)
    for step in steps:
        if step not in _CLIP_STEPS:
            raise unknown_rule(_BACKEND, "normalisation step", step)
    return [_CLIP_STEPS[step] for step in steps]


def _byte_rows(codes: np.ndarray) -> np.ndarray:
    """Codes [o, i] as unsigned bytes, rows padded to whole vectors."""
    rows = np.zeros((len(codes), -(-codes.shape[1] // _LINE) * _LINE), dtype=np.uint8)
    rows[:, : codes.shape[1]] = codes.astype(np.int16) + _OFFSET
    return rows


def _bit_rows(codes: np.ndarray) -> np.ndarray:
    """Codes -1, 0, 1 [o, i] as bits: which are not zero, and which are negative, [o, 2, bytes]."""
    used = np.packbits(np.stack([codes != 0, codes < 0], axis=1), axis=2, bitorder="little")
    rows = np.zeros((len(codes), 2, -(-used.shape[2] // _LINE) * _LINE), dtype=np.uint8)
    rows[:, :, : used.shape[2]] = used
    return rows
