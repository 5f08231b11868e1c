"""Codes to bytes and back.

Codes of less than 8 bits become digits 0 to base - 1. As many of them share a byte as 8 holds
their bits, the first one the least significant. The base is the largest that fits:

| scheme | codes | base | digits a byte |
|---|---|---|---|
| int1 | -1, 1 | 2 | 8 |
| ternary, popcount | -1, 0, 1 | 3 | 5 (3^5 = 243) |
| int2 | -3, -1, 1, 3 | 4 | 4 |
| int4 | -7 to 7 | 16 | 2 |

Wider codes are little-endian two's complement, floats little-endian float32.

Worked example, ternary: codes [-1, 0, 1, 1, 0, -1] are the digits [0, 1, 2, 2, 1 | 0]; the first
byte is 0 + 1*3 + 2*9 + 2*27 + 1*81 = 156, the second holds the digit 0 and four zeros of padding.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from qwave.config import SCHEMES, PackedFileError

# Training that grows a parameter beyond float16's range has diverged and is not packed. With it,
# hostile weights cannot make predictions of ordinary clips overflow.
_LARGEST_FLOAT = 65504.0


def packed_length(count: int, scheme: str) -> int:
    """Bytes that `count` codes of a scheme take."""
    wide = _wide(scheme)
    return -(-count // _digits(scheme)[1]) if wide is None else count * wide.itemsize


def pack(codes: np.ndarray, scheme: str) -> np.ndarray:
    """Codes of any shape to uint8 [packed_length], row by row.

    Codes must lie on the scheme's grid, and floats within float16's range; this is asserted, not
    repaired.
    """
    flat = np.ascontiguousarray(codes).reshape(-1)
    assert (np.abs(flat) <= _highest(scheme)).all(), f"codes beyond {scheme}"
    dtype = _wide(scheme)
    if dtype is not None:
        wide = flat.astype(dtype)
        assert np.array_equal(wide, flat), f"codes do not fit {scheme}"
        return wide.view(np.uint8)
    grid = SCHEMES[scheme].weights
    assert grid is not None, f"{scheme} has no grid"
    digits = (flat.astype(np.int64) + grid.highest) // grid.spacing
    assert np.array_equal(digits * grid.spacing - grid.highest, flat), f"codes not on {scheme}"
    base, per_byte = _digits(scheme)
    padded = np.zeros(packed_length(len(flat), scheme) * per_byte, dtype=np.int64)
    padded[: len(digits)] = digits
    powers = base ** np.arange(per_byte)
    return (padded.reshape(-1, per_byte) @ powers).astype(np.uint8)


def unpack(packed: np.ndarray, scheme: str, shape: tuple[int, ...]) -> np.ndarray:
    """The codes that `pack` packed, of the given shape: int8, of `int16` int16, of `fp32` float32.

    Nothing is allocated before the length is right: then the result, and as much again meanwhile.

    Raises:
        PackedFileError: The length is wrong, a byte holds no codes of the scheme, padding is not
            zero, or a float is not finite or beyond float16's range.
    """
    count = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (packed_length(count, scheme),):
        raise PackedFileError(
            f"{count} codes of {scheme} take {packed_length(count, scheme)} bytes, "
            f"but got {packed.dtype} of shape {packed.shape}"
        )
    highest = _highest(scheme)
    wide = _wide(scheme)
    if wide is not None:
        values = packed.view(wide).astype(wide.newbyteorder("="))
        # NaN is neither above nor below, and its minimum and maximum are NaN.
        if not (values.min(initial=0) >= -highest and values.max(initial=0) <= highest):
            raise PackedFileError(
                f"a weight is not a code of {scheme}, or not finite or beyond {highest:g}"
            )
        return values.reshape(shape)
    codes_of_byte, is_code = _bytes_to_codes(scheme)
    codes = codes_of_byte[packed].reshape(-1)
    if not is_code[packed].all() or (codes[count:] != -highest).any():
        raise PackedFileError(f"a byte does not hold codes of {scheme}")
    return codes[:count].reshape(shape)


@functools.cache
def _wide(scheme: str) -> np.dtype[Any] | None:
    """The type of codes that fill whole bytes, or of floats; None where codes share a byte."""
    bits = SCHEMES[scheme].bits
    if bits < 8:
        return None
    kind = "f" if SCHEMES[scheme].weights is None else "i"
    return np.dtype(f"<{kind}{bits / 8}")


@functools.cache
def _digits(scheme: str) -> tuple[int, int]:
    """Base of the digits of a scheme of less than 8 bits, and how many of them share a byte."""
    per_byte = int(8 / SCHEMES[scheme].bits)
    base = max(base for base in range(2, 257) if base**per_byte <= 256)
    grid = SCHEMES[scheme].weights
    assert grid is not None, f"{scheme} has no grid"
    assert grid.n_levels <= base, f"{scheme}: {grid.n_levels} levels do not fit {per_byte} a byte"
    return base, per_byte


def _highest(scheme: str) -> float:
    """Largest absolute value that `pack` takes."""
    grid = SCHEMES[scheme].weights
    return _LARGEST_FLOAT if grid is None else grid.highest


def _bytes_to_codes(scheme: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes of every byte, int8 [256, digits a byte], and which bytes `pack` writes, [256]."""
    grid = SCHEMES[scheme].weights
    assert grid is not None, f"{scheme} has no grid"
    base, per_byte = _digits(scheme)
    byte = np.arange(256)
    digits = byte[:, None] // base ** np.arange(per_byte) % base
    is_code = (byte < base**per_byte) & (digits < grid.n_levels).all(axis=1)
    return (digits * grid.spacing - grid.highest).astype(np.int8), is_code
