"""Arrays become an `EmbeddingSet`, or an error that says which row and column.

Shapes: n clips, d features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qwave.config import DataError
from qwave.data.embeddings import EmbeddingSet, content_digest, is_encoder_identity
from qwave.data.names import parse_clip_name


def embeddings_from_arrays(
    x: Any,
    y: Any,
    *,
    fold: Any = None,
    group: Any = None,
    names: Any = None,
    class_names: Sequence[str] | None = None,
    encoder: str = "",
) -> EmbeddingSet:
    """Embeddings that are in memory, checked; all that `numpy.asarray` takes is an array.

    Args:
        x: Numbers [n, d], finite as float32.
        y: Labels [n]: whole numbers from 0, or strings, which become classes in alphabetical
            order.
        fold: Official fold of each clip [n], whole numbers.
        group: Recording of each clip [n], numbers or strings.
        names: One name a clip [n]; by default its row. Folds and recordings that are not given
            are read from names in a published form (`parse_clip_name`).
        class_names: One name a class, where labels are numbers.
        encoder: What made x from audio, ``name@digest``; empty if that is not known.

    Labels that are not 0 to k-1 are mapped in ascending order, with a warning. Nothing that is
    given is kept: later changes to it do not show.

    Raises:
        DataError: A value cannot be used; the message says which.
    """
    given = {"x": x, "y": y, "fold": fold, "group": group, "names": names}
    arrays: dict[str, Any] = {}
    for key, value in given.items():
        if value is None and key not in ("x", "y"):
            continue
        try:
            arrays[key] = np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:
            raise DataError(f"arrays: {key!r} cannot be made an array: {error}") from error
    if class_names is not None:
        arrays["class_names"] = list(class_names)
    return checked_embeddings({**arrays, "encoder": encoder}, "arrays")


def checked_embeddings(arrays: Mapping[str, Any], source: str) -> EmbeddingSet:
    """Check what a file, a frame or a caller holds.

    Args:
        arrays: ``x``, ``y`` and optionally ``fold``, ``group``, ``names``, ``class_names``,
            ``encoder``; of a table also ``folder`` [n], ``columns`` [d] and ``lines`` [n], the
            features' names and the places of rows for messages, and ``label_of``, class ids to
            their labels.
        source: Where they are from: the beginning of every message.

    Raises:
        DataError: A value cannot be used.
    """
    x = _checked_features(arrays, source)
    n = len(x)
    for key in ("y", "fold", "group", "names"):
        if key in arrays and np.shape(arrays[key]) != (n,):
            raise DataError(
                f"{source}: {key!r} must have one value for each of the {n} rows of x, "
                f"but has shape {np.shape(arrays[key])}"
            )
    y, class_names = _checked_labels(arrays, source)
    has_names = "names" in arrays
    names = tuple(str(v) for v in arrays["names"]) if has_names else tuple(map(str, range(n)))
    folders = [str(v) for v in arrays["folder"]] if "folder" in arrays else [""] * n
    said = [parse_clip_name(name, folder) for name, folder in zip(names, folders, strict=True)]
    fold, group = arrays.get("fold"), arrays.get("group")
    if fold is None and all(clip.fold is not None for clip in said):
        fold = np.array([clip.fold for clip in said])
    if group is None and all(clip.recording is not None for clip in said):
        group = np.array([clip.recording for clip in said])
    if fold is not None:
        fold = np.asarray(fold)
        if not all(is_whole(value) for value in fold):
            raise DataError(f"{source}: 'fold' must hold whole numbers")
        fold = fold.astype(np.int64)
    if group is not None:
        group = np.array(group)
        if any(value is None or value != value for value in group):
            raise DataError(
                f"{source}: 'group' has empty cells; name every clip's recording, or "
                "leave the column out"
            )
        if group.dtype.kind not in "iuU":
            group = np.array([str(value) for value in group])
    encoder = _checked_encoder(arrays, source)
    digest = content_digest(x, y, fold, group, class_names, names)
    return EmbeddingSet(x, y, fold, group, class_names, names, digest, encoder)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, in whatever type."""
    try:
        return float(value) == int(value)  # type: ignore[call-overload, arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _checked_features(arrays: Mapping[str, Any], source: str) -> np.ndarray:
    raw = np.asarray(arrays["x"])
    if raw.ndim != 2 or raw.dtype.kind not in "fiu":
        raise DataError(
            f"{source}: x must be numbers of shape [clips, features], "
            f"but is {raw.dtype} of shape {raw.shape}"
        )
    if 0 in raw.shape:
        raise DataError(f"{source} is empty: x has shape {raw.shape}")
    with np.errstate(over="ignore"):
        x = raw.astype(np.float32)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        line = arrays["lines"][row] if "lines" in arrays else int(row)
        name = arrays["columns"][column] if "columns" in arrays else int(column)
        raise DataError(
            f"{source}, row {line}, column {name!r}: "
            f"{raw[row, column]} is not a finite float32; "
            f"{int((~np.isfinite(x)).sum())} such values in all"
        )
    return x


def _checked_labels(arrays: Mapping[str, Any], source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as 0 to n-1, and the classes' names."""
    raw = np.asarray(arrays["y"])
    if raw.dtype.kind in "UOT" and all(isinstance(value, str) for value in raw):
        values, y = np.unique(raw.astype(str), return_inverse=True)
        names = [str(value) for value in values]
    else:
        labels = _whole_labels(raw, source)
        values, y = np.unique(labels, return_inverse=True)
        names = _class_names(arrays, values, source) if len(values) > 1 else []
    if len(values) < 2:
        raise DataError(f"{source} has one class only ({values[0]}); need at least 2")
    return y.astype(np.int64), tuple(names)


def _whole_labels(raw: np.ndarray, source: str) -> np.ndarray:
    bad = sorted({str(value) for value in raw if not is_whole(value) or int(value) < 0})
    if bad:
        raise DataError(
            f"{source}: class labels must be whole numbers from 0, but found {', '.join(bad[:10])}"
        )
    return raw.astype(np.int64)


def _class_names(arrays: Mapping[str, Any], values: np.ndarray, source: str) -> list[str]:
    """Names of the classes that occur; labels other than 0 to n-1 are mapped, with a warning."""
    given = [str(v) for v in np.atleast_1d(arrays.get("class_names", []))]
    label_of: Mapping[int, str] = arrays.get("label_of", {})
    is_plain = np.array_equal(values, np.arange(len(values)))
    if not is_plain:
        warnings.warn(
            f"{source}: class labels {', '.join(map(str, values))} were mapped to "
            f"0..{len(values) - 1} in this order",
            UserWarning,
            stacklevel=5,
        )
    if len(given) == len(values):
        return given
    if given and is_plain:
        raise DataError(
            f"{source}: {len(given)} class names for {len(values)} classes; "
            "a class without clips cannot be learnt"
        )
    if len(given) > values.max():
        return [given[value] for value in values]
    return [label_of.get(int(value), str(value)) for value in values]


def _checked_encoder(arrays: Mapping[str, Any], source: str) -> str:
    encoder = arrays.get("encoder", "")
    text = str(encoder)
    if np.shape(encoder) != () or (text and not is_encoder_identity(text)):
        raise DataError(
            f"{source}: 'encoder' must be a name and eight hexadecimal digits such as "
            f"efficientnet-lite0@1a2b3c4d, as `qwave embed` writes it, but is {text!r}; leave it "
            "out where something else made the embeddings"
        )
    return text
