"""Tables of embeddings: a clip a row, in a CSV file, a Parquet file or a pandas frame.

Shapes: n clips, d features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qwave.config import DataError, nearest
from qwave.data.arrays import checked_embeddings, is_whole
from qwave.data.embeddings import EmbeddingSet

# pandas is imported where it is used: the engine has to import this package on machines that hold
# nothing but torch, numpy and scikit-learn.
if TYPE_CHECKING:
    import pandas as pd

# Columns of the reference system's CSV layout that are not features, and ours on top.
_KNOWN_COLUMNS = ("folder", "name", "label", "category", "class_id", "fold", "group")
# What pyarrow raises at damaged files: its own errors are these.
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError)


def embeddings_from_frame(frame: pd.DataFrame) -> EmbeddingSet:
    """Embeddings in a pandas frame, a clip a row.

    Args:
        frame: ``class_id``, optionally ``folder``, ``name``, ``label``, ``category``, ``fold``,
            ``group``; every other column is a feature, or one column holds all features of a
            clip as a list, as Hugging Face data sets do. The index is not read.

    Labels, folds and recordings are as in `qwave.load_embeddings`; rows in messages count from 0.

    Raises:
        DataError: A column is missing, or holds values that cannot be used.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"frame: must be a pandas DataFrame, but is a {type(frame).__name__}")
    return checked_embeddings(_table_arrays(frame, "frame", np.arange(len(frame))), "frame")


def read_csv(file: Path, source: str) -> dict[str, Any]:
    """The arrays of a CSV file, for `checked_embeddings`; rows are lines, the header is line 1.

    Raises:
        DataError: It is no table, or lacks a column.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(file, skip_blank_lines=False).dropna(how="all")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as a CSV table: {error}") from error
    return _table_arrays(frame, source, frame.index.to_numpy() + 2)


def read_parquet(file: Path, source: str) -> dict[str, Any]:
    """The arrays of a Parquet file, for `checked_embeddings`; rows count from 0.

    Raises:
        DataError: It cannot be read, or lacks a column.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(file, engine="pyarrow")  # which comes with MLflow
    except _UNREADABLE as error:
        raise DataError(f"{source} cannot be read as a Parquet file: {error}") from error
    return _table_arrays(frame, source, np.arange(len(frame)))


def _table_arrays(frame: pd.DataFrame, source: str, lines: np.ndarray) -> dict[str, Any]:
    """The columns of a table, sorted into what they are; `lines` [n] says where each row is."""
    frame = frame.set_axis([str(column) for column in frame.columns], axis="columns")
    columns = list(frame.columns)
    if "class_id" not in columns:
        raise DataError(
            f"{source} has no column 'class_id'{nearest('class_id', columns)}; "
            f"its first columns are {', '.join(columns[:8])}"
        )
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise DataError(f"{source} has several columns named {twice[0]!r}")
    features = [column for column in columns if column not in _KNOWN_COLUMNS]
    if not features:
        raise DataError(
            f"{source} has no features: all of its columns "
            f"({', '.join(columns)}) are names or labels"
        )
    if len(frame) == 0:
        raise DataError(f"{source} has a header but no rows")
    x, names = _table_features(frame, features, source, lines)
    found: dict[str, Any] = {
        "x": x,
        "y": _values(frame["class_id"]),
        "columns": names,
        "lines": lines,
    }
    for ours, column in (
        ("names", "name"),
        ("folder", "folder"),
        ("fold", "fold"),
        ("group", "group"),
    ):
        if column in columns:
            found[ours] = _values(frame[column])
    if "label" in columns:
        found["label_of"] = _labels_by_id(frame, source)
    return found


def _table_features(
    frame: pd.DataFrame, features: Sequence[str], source: str, lines: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """x [n, d], and what its columns are called in messages."""
    lists = [column for column in features if _is_list(frame[column].iloc[0])]
    if lists and len(features) > 1:
        others = ", ".join(column for column in features if column != lists[0])
        raise DataError(
            f"{source}: column {lists[0]!r} holds lists, which must then be all features of a "
            f"clip, but there are other columns: {others}; drop these"
        )
    if lists:
        x = _stacked_lists(frame[lists[0]], source, lines)
        return x, [f"{lists[0]}[{place}]" for place in range(x.shape[1])]
    for column in features:
        if column.startswith("Unnamed: ") or column == "__index_level_0__":
            place = list(frame.columns).index(column) + 1
            raise DataError(
                f"{source}: column {place} has no name; "
                "if it is an index that was written along, drop it: it may give the labels away"
            )
        if frame[column].dtype.kind not in "fiu":
            row = _first_that_is_no_number(frame[column])
            raise DataError(
                f"{source}, row {lines[row]}, column {column!r}: "
                f"{frame[column].iloc[row]!r} is not a number"
            )
    x = frame[features].to_numpy()
    if x.dtype == object:  # pandas' own number types, where a value is missing
        x = frame[features].to_numpy(np.float64, na_value=np.nan)
    return x, list(features)


def _values(column: pd.Series) -> np.ndarray:
    """A column [n]; what is missing is NaN, in pandas' own types too."""
    values = column.to_numpy()
    return column.to_numpy(object, na_value=np.nan) if values.dtype == object else values


def _first_that_is_no_number(column: pd.Series) -> int:
    import pandas as pd

    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except TypeError:  # of things such as dictionaries
        return 0
    return int(np.flatnonzero(numbers.isna().to_numpy())[:1].sum())


def _is_list(cell: object) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def _stacked_lists(column: pd.Series, source: str, lines: np.ndarray) -> np.ndarray:
    """A column of lists of one length as a matrix [n, d]."""
    width = len(column.iloc[0])
    for line, cell in zip(lines, column, strict=True):
        if not _is_list(cell) or np.shape(cell) != (width,):
            found = f"has {len(cell)}" if _is_list(cell) else f"is {cell!r}"
            raise DataError(
                f"{source}, row {line}, column {column.name!r}: every row must be a list of "
                f"{width} numbers like the first, but this {found}"
            )
    return np.stack([np.asarray(cell) for cell in column])


def _labels_by_id(frame: pd.DataFrame, source: str) -> dict[int, str]:
    text = frame["label"].astype(object).where(frame["label"].notna(), "(empty)").astype(str)
    labels = text.groupby(frame["class_id"]).agg(lambda values: sorted(set(values)))
    for class_id, names in labels.items():
        if len(names) > 1:
            raise DataError(
                f"{source}: class_id {class_id} has several labels: {', '.join(map(str, names))}"
            )
    return {
        int(class_id): str(names[0]) for class_id, names in labels.items() if is_whole(class_id)
    }
