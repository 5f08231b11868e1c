"""Labelled embeddings, and parts of them.

Shapes: n clips, d features.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwave.config import DataError, nearest


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Labelled embeddings, checked.

    Attributes:
        x: float32 [n, d], finite.
        y: int64 [n], classes 0 to ``len(class_names) - 1``, each present.
        fold: Official fold of each clip [n] (whole numbers), or None.
        group: Recording of each clip [n] (numbers or strings), or None.
        class_names: One name a class.
        names: One name a clip.
        digest: 16 hexadecimal digits over all of the above.
        encoder: What made x from audio, ``name@digest`` (`qwave.audio.encoder_identity`); empty
            where the file does not say.
    """

    x: np.ndarray
    y: np.ndarray
    fold: np.ndarray | None
    group: np.ndarray | None
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    digest: str
    encoder: str = ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def is_encoder_identity(text: str) -> bool:
    """Whether a text is ``name@digest``: a name of a-z, 0-9, '.', '_', '-', and 8 hex digits."""
    return re.fullmatch(r"[a-z0-9._-]{1,64}@[0-9a-f]{8}", text) is not None


def take_rows(data: EmbeddingSet, rows: np.ndarray) -> EmbeddingSet:
    """These rows [m] as a set of their own, with a digest of its own.

    Raises:
        DataError: A class is left without clips.
    """
    x, y = data.x[rows], data.y[rows]
    missing = set(range(data.num_classes)) - set(y.tolist())
    if missing:
        name = data.class_names[min(missing)]
        raise DataError(f"no clip of class {name!r} is among the {len(rows)} rows that are left")
    fold = None if data.fold is None else data.fold[rows]
    group = None if data.group is None else data.group[rows]
    names = tuple(data.names[row] for row in rows)
    digest = content_digest(x, y, fold, group, data.class_names, names)
    return EmbeddingSet(x, y, fold, group, data.class_names, names, digest, data.encoder)


def take_classes(data: EmbeddingSet, class_names: Sequence[str]) -> EmbeddingSet:
    """The clips of these classes, relabelled 0 to k - 1 in the order that `data` has them in.

    Raises:
        DataError: A class is unknown, or named twice, or fewer than two are left.
    """
    for name in class_names:
        if name not in data.class_names:
            hint = nearest(name, data.class_names)
            raise DataError(
                f"no class {name!r}{hint}; the classes are {', '.join(data.class_names)}"
            )
    kept = [label for label, name in enumerate(data.class_names) if name in class_names]
    if len(class_names) != len(kept):
        raise DataError(f"each class must be named once, but got {', '.join(class_names)}")
    if len(kept) < 2:
        raise DataError(f"at least 2 classes must be left, but got {len(kept)}")
    rows = np.flatnonzero(np.isin(data.y, kept))
    names = tuple(data.class_names[label] for label in kept)
    # Labels of the others mean nothing; their clips are not taken.
    y = np.searchsorted(kept, data.y)
    return take_rows(dataclasses.replace(data, y=y, class_names=names), rows)


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
