"""Codes to bytes and back.

Codes of up to 4 bits become digits 0 to base - 1, and as many digits share a byte as fit, the
first one in the lowest place:

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

from typing import Any

import numpy as np

from qwave.config import SCHEMES, PackedFileError

_DIGITS_PER_BYTE = {2: 8, 3: 5, 4: 4, 16: 2}
_BASES = {"int1": 2, "ternary": 3, "popcount": 3, "int2": 4, "int4": 16}
_WIDE: dict[str, np.dtype[Any]] = {
    "int8": np.dtype("<i1"),
    "int16": np.dtype("<i2"),
    "fp32": np.dtype("<f4"),
}


def packed_length(count: int, scheme: str) -> int:
    """Bytes that `count` codes of a scheme take."""
    if scheme in _WIDE:
        return count * _WIDE[scheme].itemsize
    return -(-count // _DIGITS_PER_BYTE[_BASES[scheme]])


def pack(codes: np.ndarray, scheme: str) -> np.ndarray:
    """Codes of any shape to uint8 [packed_length], row by row.

    Codes must lie on the scheme's grid; this is asserted, not repaired.
    """
    flat = np.ascontiguousarray(codes).reshape(-1)
    grid = SCHEMES[scheme].weights
    assert grid is None or (np.abs(flat) <= grid.highest).all(), f"codes beyond {scheme}"
    if scheme in _WIDE:
        wide = flat.astype(_WIDE[scheme])
        assert np.array_equal(wide, flat), f"codes do not fit {scheme}"
        return wide.view(np.uint8)
    assert grid is not None, f"{scheme} has no grid"
    digits = (flat.astype(np.int64) + grid.highest) // grid.spacing
    assert np.array_equal(digits * grid.spacing - grid.highest, flat), f"codes not on {scheme}"
    base = _BASES[scheme]
    per_byte = _DIGITS_PER_BYTE[base]
    padded = np.zeros(packed_length(len(flat), scheme) * per_byte, dtype=np.int64)
    padded[: len(digits)] = digits
    places = base ** np.arange(per_byte)
    return (padded.reshape(-1, per_byte) @ places).astype(np.uint8)


def unpack(packed: np.ndarray, scheme: str, shape: tuple[int, ...]) -> np.ndarray:
    """The codes that `pack` packed, as float32 of the given shape.

    Raises:
        PackedFileError: The length is wrong, a byte holds no codes of the scheme, padding is not
            zero, or a float is not finite.
    """
    count = int(np.prod(shape))
    if packed.dtype != np.uint8 or packed.shape != (packed_length(count, scheme),):
        raise PackedFileError(
            f"{count} codes of {scheme} take {packed_length(count, scheme)} bytes, "
            f"but got {packed.dtype} of shape {packed.shape}"
        )
    if scheme in _WIDE:
        values = packed.view(_WIDE[scheme]).astype(np.float32)
        grid = SCHEMES[scheme].weights
        limit = np.finfo(np.float32).max if grid is None else grid.highest
        if not (np.abs(values) <= limit).all():
            raise PackedFileError(f"a weight is not a code of {scheme}, or not finite")
        return values.reshape(shape)
    grid = SCHEMES[scheme].weights
    assert grid is not None, f"{scheme} has no grid"
    base = _BASES[scheme]
    per_byte = _DIGITS_PER_BYTE[base]
    rest = packed.astype(np.int64)
    digits = np.empty((len(packed), per_byte), dtype=np.int64)
    for place in range(per_byte):
        rest, digits[:, place] = np.divmod(rest, base)
    flat = digits.reshape(-1)
    if rest.any() or flat[count:].any() or (flat[:count] >= grid.n_levels).any():
        raise PackedFileError(f"a byte does not hold codes of {scheme}")
    return (flat[:count] * grid.spacing - grid.highest).astype(np.float32).reshape(shape)
