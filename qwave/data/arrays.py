"""Arrays become an `EmbeddingSet`, or an error that names the row and column.

Shapes: n clips, d features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qwave.config import DataError
from qwave.data.embeddings import EmbeddingSet, content_digest, is_encoder_identity
from qwave.data.labels import as_text, class_codes, is_empty, is_missing, is_number, is_whole
from qwave.data.names import parse_clip_name

# Errors of numpy, and of the __array__ of other libraries' types, for values that are no arrays.
_NO_ARRAY = (ValueError, TypeError, RuntimeError, AttributeError, OverflowError, MemoryError)


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
    """A checked set of embeddings that are in memory.

    Arguments may be anything that `numpy.asarray` takes; equal numbers give equal sets, whatever
    their type and order in memory. Labels that are not 0 to k-1 are mapped in ascending order,
    with a warning. All arguments are copied.

    Args:
        x: Features, numbers [n, d], finite as float32; booleans count as 0 and 1.
        y: Labels [n]: whole numbers from 0, or strings, which become classes in alphabetical
            order.
        fold: Official fold of each clip [n], whole numbers.
        group: Recording of each clip [n], numbers or strings.
        names: Name of each clip [n]; by default the number of its row. Folds and recordings that
            are not given are read from names in a published form (`parse_clip_name`).
        class_names: One name a class, where labels are numbers.
        encoder: Encoder that made x from audio, ``name@digest``; empty if that is not known.

    Raises:
        DataError: A value cannot be used; the message names it.
    """
    given = {"x": x, "y": y, "fold": fold, "group": group, "names": names}
    arrays: dict[str, Any] = {}
    for key, value in {**given, "class_names": class_names}.items():
        if value is None and key not in ("x", "y"):
            continue
        try:
            if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
                masked = np.argwhere(np.ma.getmaskarray(value))[0].tolist()
                raise DataError(
                    f"arrays: {key!r} is masked at {masked}; leave such rows out, or fill them "
                    "in: array.filled(VALUE)"
                )
            is_names = key == "class_names" and not isinstance(value, str)
            arrays[key] = np.asarray(list(value) if is_names else value)
        except DataError:
            raise
        except _NO_ARRAY as error:
            raise DataError(f"arrays: {key!r} cannot be made an array: {error}") from error
    return checked_embeddings({**arrays, "encoder": encoder}, "arrays")


def checked_embeddings(arrays: Mapping[str, Any], source: str) -> EmbeddingSet:
    """Check the arrays of a file, a frame or a caller, and make an `EmbeddingSet` of them.

    Args:
        arrays: ``x``, ``y`` and optionally ``fold``, ``group``, ``names``, ``class_names``,
            ``encoder``; for a table also ``folder`` [n], ``columns`` [d] (names of the features),
            ``lines`` [n] (numbers of rows in messages) and ``label_of`` (labels by class id).
        source: Name of the data; every message begins with it.

    Raises:
        DataError: A value cannot be used.
    """
    x = _checked_features(arrays, source)
    n = len(x)
    for key in ("y", "fold", "group", "names"):
        if key in arrays and np.shape(arrays[key]) != (n,):
            raise DataError(
                f"{source}: {key!r} must have one value for each of the {n} rows of x, "
                f"but has shape {np.shape(arrays[key])}; {_flat_remedy(key, arrays, x)}"
            )
    text = {
        key: as_text(np.asarray(arrays[key]), f"{source}: {key!r}")
        for key in ("y", "fold", "group", "names", "class_names")
        if key in arrays
    }
    lines = arrays.get("lines", range(n))
    y, class_names = class_codes(
        text["y"],
        source,
        class_names=[str(value) for value in np.atleast_1d(text.get("class_names", []))],
        label_of=arrays.get("label_of"),
        lines=lines,
    )
    names = tuple(map(str, range(n)))
    if "names" in text:
        names = tuple("" if is_missing(value) else str(value) for value in text["names"])
    folders = [str(v) for v in arrays["folder"]] if "folder" in arrays else [""] * n
    parsed = [parse_clip_name(name, folder) for name, folder in zip(names, folders, strict=True)]
    fold, group = text.get("fold"), text.get("group")
    if fold is None and all(clip.fold is not None for clip in parsed):
        fold = np.array([clip.fold for clip in parsed])
    if group is None and all(clip.recording is not None for clip in parsed):
        group = np.array([clip.recording for clip in parsed])
    if fold is not None:
        fold = _checked_fold(fold, source, lines)
    if group is not None:
        group = _checked_group(group, source, lines)
    encoder = _checked_encoder(arrays, source)
    digest = content_digest(x, y, fold, group, class_names, names)
    columns = tuple(arrays.get("columns", ()))
    return EmbeddingSet(x, y, fold, group, class_names, names, digest, encoder, columns)


def _flat_remedy(key: str, arrays: Mapping[str, Any], x: np.ndarray) -> str:
    """What to write so that an array has one value for each row of x."""
    shape = np.shape(arrays[key])
    if len(shape) == 2 and shape[0] == len(x) and shape[1] == 1:
        return f"write {key}={key}.ravel()"
    if len(shape) == 2 and shape[0] == len(x) and key == "y":
        return "write y=y.argmax(axis=1) if it has a column for each class"
    if shape == x.shape[1:]:
        return "x has a column for each clip: write x=x.T"
    return "write one value for each clip"


def _matrix_remedy(x: np.ndarray) -> str:
    """What to write so that x is a matrix of numbers."""
    if hasattr(x.item() if x.size == 1 else None, "toarray"):
        return "write x=x.toarray()"
    if x.dtype.names:
        return "write x=numpy.lib.recfunctions.structured_to_unstructured(x)"
    if x.dtype.kind not in "fiub":
        return "write x=x.astype(float), or one row of real numbers for each clip"
    if x.ndim == 1:
        return "write x=x.reshape(-1, 1) if there is one feature"
    if x.ndim == 3:
        return "write x=x.mean(axis=1) if the second axis is time"
    return "write one row of numbers for each clip"


def _checked_features(arrays: Mapping[str, Any], source: str) -> np.ndarray:
    """A copy of x as float32 [n, d], in C order."""
    raw = np.asarray(arrays["x"])
    if raw.ndim == 2 and raw.dtype == object:
        raw = _numbers(raw, arrays, source)
    if raw.ndim != 2 or raw.dtype.kind not in "fiub":
        raise DataError(
            f"{source}: x must be numbers of shape [clips, features], "
            f"but is {raw.dtype} of shape {raw.shape}; {_matrix_remedy(raw)}"
        )
    if 0 in raw.shape:
        raise DataError(f"{source} is empty: x has shape {raw.shape}")
    with np.errstate(over="ignore"):
        x = raw.astype(np.float32, order="C")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        remedy = "write a number there, or leave the row out"
        if not np.isfinite(x[:, column]).any():
            remedy = "no row has a number there: leave the column out"
        raise DataError(
            f"{_cell(arrays, source, row, column)}: "
            f"{raw[row, column]} is not a finite float32; "
            f"{int((~np.isfinite(x)).sum())} such values in all; {remedy}"
        )
    return x


def _numbers(raw: np.ndarray, arrays: Mapping[str, Any], source: str) -> np.ndarray:
    """An array of Python numbers as float64; refuses other objects."""
    for (row, column), value in np.ndenumerate(raw):
        if not is_number(value):
            raise DataError(
                f"{_cell(arrays, source, row, column)}: {value!r} is not a number; x must be "
                "numbers of shape [clips, features], which x.astype(float) makes of text"
            )
    try:
        return raw.astype(np.float64)
    except OverflowError as error:
        raise DataError(f"{source}: a value of x is too large for float32: {error}") from error


def _cell(arrays: Mapping[str, Any], source: str, row: int, column: int) -> str:
    line = arrays["lines"][row] if "lines" in arrays else int(row)
    name = arrays["columns"][column] if "columns" in arrays else int(column)
    return f"{source}, row {line}, column {name!r}"


def _checked_fold(fold: np.ndarray, source: str, lines: Sequence[int]) -> np.ndarray:
    for line, value in zip(lines, fold, strict=True):
        if not is_whole(value):
            found = "it is empty" if is_empty(value) else f"it is {value}"
            raise DataError(
                f"{source}: 'fold' must hold whole numbers, but {found} in row {line}; number "
                "every clip's fold, or leave the folds out"
            )
    return np.array([int(value) for value in fold], np.int64)


def _checked_group(group: np.ndarray, source: str, lines: Sequence[int]) -> np.ndarray:
    for line, value in zip(lines, group, strict=True):
        if is_empty(value):
            raise DataError(
                f"{source}: 'group' has empty cells; name every clip's recording, or leave the "
                f"column out; the first is in row {line}"
            )
    is_text = any(isinstance(value, str) for value in group)
    if group.dtype.kind in "fO" and not is_text and all(map(is_whole, group)):
        # 3.0 is 3: pandas writes a column of whole numbers so if one was missing.
        return np.array([int(value) for value in group], np.int64)
    if group.dtype.kind in "iu":
        return np.array(group, group.dtype.newbyteorder("="))
    return np.array([str(value) for value in group])


def _checked_encoder(arrays: Mapping[str, Any], source: str) -> str:
    value = np.asarray(arrays.get("encoder", ""))
    encoder = value.item() if value.shape == () else value
    text = encoder.decode("ascii", "replace") if isinstance(encoder, bytes) else str(encoder)
    if value.shape != () or (text and not is_encoder_identity(text)):
        raise DataError(
            f"{source}: 'encoder' must be a name and eight hexadecimal digits such as "
            f"efficientnet-lite0@1a2b3c4d, as `qwave embed` writes it, but is {text!r}; leave it "
            "out where something else made the embeddings"
        )
    return text
