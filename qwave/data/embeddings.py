"""Sets of labelled embeddings, and subsets of their rows.

Shapes: n clips, d features.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwave.config import DataError


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingSet:
    """Checked embeddings with labels.

    All sets have one form, whatever they were read from: other code relies on rows of x that
    follow each other in memory, so that other arrays are refused when a set is made.

    Attributes:
        x: Features, float32 [n, d], finite, in C order.
        y: Classes, int64 [n], 0 to ``len(class_names) - 1``, each present.
        fold: Official fold of each clip [n] (whole numbers), or None.
        group: Recording of each clip [n] (numbers or strings), or None.
        class_names: Name of each class.
        names: Name of each clip.
        digest: 16 hexadecimal digits over features, labels, folds, recordings and names.
        encoder: Encoder that made x from audio, ``name@digest`` (`qwave.audio.encoder_identity`);
            empty where that is not known.
        feature_names: Names of the features in a table, d texts; empty where they have no names.

    Raises:
        DataError: x or y has another type, shape or order in memory; `embeddings_from_arrays`
            makes a set of such arrays.
    """

    x: np.ndarray
    y: np.ndarray
    fold: np.ndarray | None
    group: np.ndarray | None
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    digest: str
    encoder: str = ""
    feature_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_form("x", self.x, np.float32, "[clips, features]", 2)
        _require_form("y", self.y, np.int64, "[clips]", 1)
        if len(self.x) != len(self.y):
            raise DataError(
                f"EmbeddingSet: x has {len(self.x)} rows, but y has {len(self.y)} labels"
            )

    def __repr__(self) -> str:
        n, d = self.x.shape
        return (
            f"EmbeddingSet({n} clips, {d} features, {self.num_classes} classes, "
            f"digest={self.digest!r}, encoder={self.encoder!r})"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def require_embeddings(data: object, caller: str) -> None:
    """Refuse a value that is no `EmbeddingSet`, and name the function that makes one of it.

    Args:
        data: Value that was given as embeddings.
        caller: Name of the function that was called, for the message.

    Raises:
        DataError: The value is no `EmbeddingSet`.
    """
    if isinstance(data, EmbeddingSet):
        return
    kind = type(data).__name__
    if kind == "DataFrame":
        remedy = "qwave.embeddings_from_frame(frame) makes one of a frame"
    elif isinstance(data, Mapping):
        remedy = "qwave.embeddings_from_arrays(**arrays) makes one of arrays by name (x, y, ...)"
    elif isinstance(data, str | os.PathLike):
        remedy = "qwave.load_embeddings(path) reads one from a file"
    else:
        remedy = (
            "qwave.embeddings_from_arrays(x, y), embeddings_from_frame(frame) and "
            "load_embeddings(path) make one"
        )
    raise DataError(f"{caller}: data must be an EmbeddingSet, but is of type {kind}; {remedy}")


def is_encoder_identity(text: str) -> bool:
    """Whether a text is ``name@digest``: a name of a-z, 0-9, '.', '_', '-', and 8 hex digits."""
    return re.fullmatch(r"[a-z0-9._-]{1,64}@[0-9a-f]{8}", text) is not None


def take_rows(data: EmbeddingSet, rows: np.ndarray) -> EmbeddingSet:
    """A set of the given rows [m], with a digest of its own.

    Raises:
        DataError: A class is left without clips.
    """
    require_embeddings(data, "take_rows")
    # A slice with a step is a view, whose rows do not follow each other in memory.
    x, y = np.ascontiguousarray(data.x[rows]), np.ascontiguousarray(data.y[rows])
    missing = set(range(data.num_classes)) - set(y.tolist())
    if missing:
        name = data.class_names[min(missing)]
        raise DataError(f"no clip of class {name!r} is among the {len(rows)} rows that are left")
    fold = None if data.fold is None else data.fold[rows]
    group = None if data.group is None else data.group[rows]
    names = tuple(data.names[row] for row in rows)
    digest = content_digest(x, y, fold, group, data.class_names, names)
    return dataclasses.replace(data, x=x, y=y, fold=fold, group=group, names=names, digest=digest)


def content_digest(
    x: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray | None,
    group: np.ndarray | None,
    class_names: Sequence[str],
    names: Sequence[str],
) -> str:
    """16 hexadecimal digits over rows, labels, folds, recordings and names."""
    sha = hashlib.sha256()
    sha.update(np.ascontiguousarray(x, dtype="<f4").tobytes())
    sha.update(np.ascontiguousarray(y, dtype="<i8").tobytes())
    for column in (fold, group):
        sha.update(repr(None if column is None else column.tolist()).encode())
    sha.update(repr((x.shape, list(class_names), list(names))).encode())
    return sha.hexdigest()[:16]


def _require_form(key: str, array: object, dtype: Any, shape: str, n_axes: int) -> None:
    if isinstance(array, np.ndarray):
        is_right = array.dtype == dtype and array.ndim == n_axes and array.flags.c_contiguous
        order = "" if array.flags.c_contiguous else ", not in C order"
        found = f"{array.dtype.str} of shape {array.shape}{order}"
        if is_right and not isinstance(array, np.ma.MaskedArray):
            return
    else:
        found = f"of type {type(array).__name__}"
    raise DataError(
        f"EmbeddingSet: {key} must be {np.dtype(dtype).name} {shape} in C order, but is {found}; "
        "qwave.embeddings_from_arrays makes a set of any arrays"
    )


def arrays_of(data: EmbeddingSet) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file that `load_embeddings` reads as this set."""
    arrays = {
        "x": data.x,
        "y": data.y,
        "names": np.array(data.names),
        "class_names": np.array(data.class_names),
        "encoder": np.array(data.encoder),
    }
    optional = {"fold": data.fold, "group": data.group}
    return arrays | {name: array for name, array in optional.items() if array is not None}
