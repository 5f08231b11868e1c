"""Whole numbers in every form that numpy, pandas and Python have for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd


def _read_only(x: np.ndarray) -> np.ndarray:
    held = x.copy()
    held.flags.writeable = False
    return held


# From whole numbers, float32 [n, d], that fit int8.
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float16": lambda x: x.astype(np.float16),
    "float64": lambda x: x.astype(np.float64),
    "long double": lambda x: x.astype(np.longdouble),
    "int8": lambda x: x.astype(np.int8),
    "int64": lambda x: x.astype(np.int64),
    "big-endian float32": lambda x: x.astype(">f4"),
    "big-endian int16": lambda x: x.astype(">i2"),
    "Fortran order": np.asfortranarray,
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "rows from the last": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "read-only": _read_only,
    "objects": lambda x: x.astype(object),
    "list": lambda x: x.tolist(),
    "list of int": lambda x: x.astype(int).tolist(),
    "list of arrays": list,
    "tuple": lambda x: tuple(map(tuple, x.tolist())),
    "frame": pd.DataFrame,
    "frame of float64": lambda x: pd.DataFrame(x.astype(np.float64)),
    "named frame": lambda x: pd.DataFrame(
        x, columns=[f"f{-i}" for i in range(x.shape[1])], index=range(5, 5 + len(x))
    ),
    "frame of several dtypes": lambda x: pd.DataFrame(x).astype({0: "int8", 2: "float64"}),
    "nullable frame": lambda x: pd.DataFrame(x.astype(np.float64)).convert_dtypes(),
}
