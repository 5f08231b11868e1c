"""An embeddings file becomes an `EmbeddingSet`, or an error that says which row and column.

Shapes: n clips, d features.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qwave.config import DataError, nearest
from qwave.data.names import parse_clip_name

# First name: ours. The others: the same thing in other people's files.
_NPZ_KEYS = {
    "x": ("x", "X", "embeddings", "features"),
    "y": ("y", "labels", "label", "target", "class_id"),
    "fold": ("fold", "folds"),
    "group": ("group", "groups"),
    "names": ("names", "name", "filename", "filenames"),
    "class_names": ("class_names", "classes"),
}
# Columns of the reference system's CSV layout that are not features, and ours on top.
_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError),
    *(RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error),
)
_CSV_COLUMNS = ("folder", "name", "label", "category", "class_id", "fold", "group")


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


def load_embeddings(path: str | os.PathLike[str] = "esc10") -> EmbeddingSet:
    """Read a file of embeddings.

    Args:
        path: ``esc10`` for the bundled set; else a ``.npz`` file (arrays ``x``, ``y`` and
            optionally ``fold``, ``group``, ``names``, ``class_names``) or a ``.csv`` file
            (``class_id``, optionally ``folder``, ``name``, ``label``, ``category``, ``fold``,
            ``group``; every other column is a feature).

    Folds and recordings that the file does not hold are read from the clips' names where these
    are in a published form (`parse_clip_name`). Labels that are not 0 to n-1 are mapped in
    ascending order, with a warning.

    Raises:
        DataError: The file is missing, empty, corrupt, or holds values that cannot be used.
    """
    if str(path) == "esc10":
        resource = importlib.resources.files("qwave.data") / "esc10" / "embeddings.npz"
        with importlib.resources.as_file(resource) as bundled:
            return _from_arrays(_read_npz(bundled), "esc10")
    file = Path(path)
    if not file.exists():
        raise DataError(f"data.path: no such file: {file} (allowed: esc10, FILE.npz, FILE.csv)")
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if file.suffix.lower() not in readers or file.is_dir():
        raise DataError(f"data.path: {file} is neither a .npz nor a .csv file")
    if file.stat().st_size == 0:
        raise DataError(f"data.path: {file} is empty")
    return _from_arrays(readers[file.suffix.lower()](file), str(file))


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
    digest = _digest(x, y, fold, group, data.class_names, names)
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


def _read_npz(file: Path) -> dict[str, Any]:
    try:
        # Opened here: numpy leaves a file open that turns out not to be a zip archive.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        raise DataError(
            f"data.path: {file} cannot be read as a .npz file: {error} "
            "(arrays of Python objects are refused)"
        ) from error
    found: dict[str, Any] = {}
    for ours, accepted in _NPZ_KEYS.items():
        present = [name for name in accepted if name in arrays]
        if present:
            found[ours] = arrays[present[0]]
        elif ours in ("x", "y"):
            hints = [hint for name in arrays if (hint := nearest(name, accepted))]
            raise DataError(
                f"data.path: {file} has no array {ours!r} (also accepted: "
                f"{', '.join(accepted[1:])}); it holds {', '.join(arrays) or 'nothing'}"
                f"{''.join(hints[:1])}"
            )
    return found


def _read_csv(file: Path) -> dict[str, Any]:
    # Imported here: only this function needs it, and the engine has to import this package on
    # machines that hold nothing but torch, numpy and scikit-learn.
    import pandas as pd

    try:
        frame = pd.read_csv(file, skip_blank_lines=False).dropna(how="all")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"data.path: {file} cannot be read as a CSV table: {error}") from error
    columns = [str(column) for column in frame.columns]
    if "class_id" not in columns:
        raise DataError(
            f"data.path: {file} has no column 'class_id'{nearest('class_id', columns)}; "
            f"its first columns are {', '.join(columns[:8])}"
        )
    features = [c for c in frame.columns if str(c) not in _CSV_COLUMNS]
    if not features:
        raise DataError(
            f"data.path: {file} has no features: all of its columns "
            f"({', '.join(columns)}) are names or labels"
        )
    if len(frame) == 0:
        raise DataError(f"data.path: {file} has a header but no rows")
    lines = frame.index.to_numpy() + 2  # the header is line 1
    for column in features:
        if str(column).startswith("Unnamed: "):
            raise DataError(
                f"data.path: {file}: column {list(frame.columns).index(column) + 1} has no name; "
                "if it is an index that was written along, drop it: it may give the labels away"
            )
        if frame[column].dtype.kind not in "fiu":
            numbers = pd.to_numeric(frame[column], errors="coerce")
            row = int(np.flatnonzero(numbers.isna().to_numpy())[:1].sum())
            raise DataError(
                f"data.path: {file}, row {lines[row]}, column {column!r}: "
                f"{frame[column].iloc[row]!r} is not a number"
            )
    found: dict[str, Any] = {
        "x": frame[features].to_numpy(),
        "y": frame["class_id"].to_numpy(),
        "columns": [str(column) for column in features],
        "lines": lines,
    }
    for ours, column in (
        ("names", "name"),
        ("folder", "folder"),
        ("fold", "fold"),
        ("group", "group"),
    ):
        if column in columns:
            found[ours] = frame[column].to_numpy()
    if "label" in columns:
        text = frame["label"].astype(object).where(frame["label"].notna(), "(empty)").astype(str)
        labels = text.groupby(frame["class_id"]).agg(lambda values: sorted(set(values)))
        for class_id, names in labels.items():
            if len(names) > 1:
                raise DataError(
                    f"data.path: {file}: class_id {class_id} has several labels: "
                    f"{', '.join(map(str, names))}"
                )
        found["label_of"] = {int(k): str(v[0]) for k, v in labels.items() if _is_whole(k)}
    return found


def _from_arrays(arrays: Mapping[str, Any], source: str) -> EmbeddingSet:
    x = _checked_features(arrays, source)
    n = len(x)
    for key in ("y", "fold", "group", "names"):
        if key in arrays and np.shape(arrays[key]) != (n,):
            raise DataError(
                f"data.path: {source}: {key!r} must have one value for each of the {n} rows of x, "
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
        if not all(_is_whole(value) for value in fold):
            raise DataError(f"data.path: {source}: 'fold' must hold whole numbers")
        fold = fold.astype(np.int64)
    if group is not None:
        group = np.asarray(group)
        if any(value is None or value != value for value in group):
            raise DataError(
                f"data.path: {source}: 'group' has empty cells; name every clip's recording, or "
                "leave the column out"
            )
        if group.dtype.kind not in "iuU":
            group = np.array([str(value) for value in group])
    digest = _digest(x, y, fold, group, class_names, names)
    return EmbeddingSet(x, y, fold, group, class_names, names, digest)


def _checked_features(arrays: Mapping[str, Any], source: str) -> np.ndarray:
    raw = np.asarray(arrays["x"])
    if raw.ndim != 2 or raw.dtype.kind not in "fiu":
        raise DataError(
            f"data.path: {source}: x must be numbers of shape [clips, features], "
            f"but is {raw.dtype} of shape {raw.shape}"
        )
    if 0 in raw.shape:
        raise DataError(f"data.path: {source} is empty: x has shape {raw.shape}")
    with np.errstate(over="ignore"):
        x = raw.astype(np.float32)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        line = arrays["lines"][row] if "lines" in arrays else int(row)
        name = arrays["columns"][column] if "columns" in arrays else int(column)
        raise DataError(
            f"data.path: {source}, row {line}, column {name!r}: "
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
        raise DataError(f"data.path: {source} has one class only ({values[0]}); need at least 2")
    return y.astype(np.int64), tuple(names)


def _whole_labels(raw: np.ndarray, source: str) -> np.ndarray:
    bad = sorted({str(value) for value in raw if not _is_whole(value) or int(value) < 0})
    if bad:
        raise DataError(
            f"data.path: {source}: class labels must be whole numbers from 0, but found "
            f"{', '.join(bad[:10])}"
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
            f"data.path: {source}: {len(given)} class names for {len(values)} classes; "
            "a class without clips cannot be learnt"
        )
    if len(given) > values.max():
        return [given[value] for value in values]
    return [label_of.get(int(value), str(value)) for value in values]


def _is_whole(value: object) -> bool:
    try:
        return float(value) == int(value)  # type: ignore[call-overload, arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _digest(
    x: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray | None,
    group: np.ndarray | None,
    class_names: Sequence[str],
    names: Sequence[str],
) -> str:
    sha = hashlib.sha256()
    sha.update(np.ascontiguousarray(x, dtype="<f4").tobytes())
    sha.update(np.ascontiguousarray(y, dtype="<i8").tobytes())
    for column in (fold, group):
        sha.update(repr(None if column is None else column.tolist()).encode())
    sha.update(repr((x.shape, list(class_names), list(names))).encode())
    return sha.hexdigest()[:16]
