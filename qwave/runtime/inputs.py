"""Embeddings of a caller as float32: equal numbers in any form become equal arrays."""

from __future__ import annotations

import decimal
import numbers

import numpy as np

from qwave.config import QwaveError

_NUMBERS = (numbers.Real, decimal.Decimal, np.bool_)
_KINDS = "biuf"  # of dtypes: bool, whole numbers with and without sign, floats
_SHOWN = 60  # characters of a value that is no number


def as_float32(x: object) -> np.ndarray:
    """Numbers of any shape as float32, in this machine's order of bytes.

    Arrays of any numeric dtype, frames, lists, and all that `numpy.asarray` takes; bool counts as
    0 and 1. An array that is float32 already is returned as it is. Numbers that float32 cannot
    hold become infinite; whether values are finite is not checked.

    Raises:
        QwaveError: x is no array of numbers: text, dates, complex numbers, rows of unequal
            lengths, cells that are empty or masked.
    """
    if type(x) is np.ndarray and x.dtype == np.float32:
        return x
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise QwaveError("x has masked values: fill them in, or leave their rows out")
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise QwaveError(f"x must be rows of numbers, but is no array: {error}") from error
    if array.dtype.kind == "O":
        array = _from_objects(array)
    if array.dtype.kind not in _KINDS:
        what = "text" if array.dtype.kind in "UST" else str(array.dtype)
        raise QwaveError(f"x must be numbers, but holds {what}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _from_objects(array: np.ndarray) -> np.ndarray:
    """Cells of any type as float64, each one a number."""
    for index, value in np.ndenumerate(array):
        if not isinstance(value, _NUMBERS):
            shown = repr(value)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            where = f"x[{', '.join(map(str, index))}]" if index else "it"
            raise QwaveError(f"x must be numbers, but {where} is {shown}")
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise QwaveError(f"x must be numbers that a float holds: {error}") from error
