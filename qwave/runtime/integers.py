"""Exact products of integer codes by NumKong's kernels, where there is no C compiler.

One layer of 1280 x 640 codes, one thread, batch 1 / 64, microseconds: NumKong's int8 8.4 / 252,
its Hamming distances 2.6 / 77 (two of them are a ternary product), onnxruntime's MatMulInteger
12 / 123. Its MatMulNBits was tried as well: it quantizes inputs by blocks instead of samples, and
moves probabilities by up to 0.006 on ESC-10 (int4), where these are exact.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from qwave.packing import PackedLayer
from qwave.runtime.arithmetic import Product, float_product, is_ternary, multiplies_bytes


def has_numkong() -> bool:
    """Whether the extra ``qwave[runtime]`` is installed."""
    return importlib.util.find_spec("numkong") is not None


def integer_product(layer: PackedLayer) -> Product:
    """The product of codes [n, i] with a layer's, [n, o]; of floats where they are no bytes."""
    if not multiplies_bytes(layer):
        return float_product(layer)
    if is_ternary(layer):
        return _ternary_product(layer.codes)
    return _byte_product(layer.codes)


def _byte_product(codes: np.ndarray) -> Product:
    import numkong

    packed = numkong.dots_pack(codes.astype(np.int8), "int8")

    def product(x: np.ndarray) -> np.ndarray:
        sums = np.asarray(numkong.dots_packed(x.astype(np.int8), packed))
        return sums.astype(np.float32)

    return product


def _ternary_product(codes: np.ndarray) -> Product:
    """Codes -1, 0, 1 as bits [positive | negative]: x.w = (H(x, [neg | pos]) - H(x, w)) / 2.

    H counts bits that differ; what is swapped differs where a product is 1, what is not swapped
    where it is -1, and all else cancels out.
    """
    import numkong

    n_out = len(codes)
    straight, swapped = _bits(codes), _bits(-codes)
    packed = numkong.hammings_pack(np.concatenate([swapped, straight]), "uint1")

    def product(x: np.ndarray) -> np.ndarray:
        distances = np.asarray(numkong.hammings_packed(_bits(x), packed)).astype(np.float32)
        return (distances[:, :n_out] - distances[:, n_out:]) * np.float32(0.5)

    return product


def _bits(codes: np.ndarray) -> np.ndarray:
    return np.packbits(np.concatenate([codes > 0, codes < 0], axis=1), axis=1)
