"""Tables of embeddings: a clip a row, in a CSV file, a Parquet file or a pandas frame.

Shapes: n clips, d features.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qwave.config import DataError
from qwave.data.arrays import checked_embeddings
from qwave.data.columns import (
    Columns,
    could_be_labels,
    plain_name,
    refuse_transposed,
    role_of,
    sort_columns,
)
from qwave.data.delimited import open_table, read_cells, read_rows
from qwave.data.disguised import note_whole_numbers, refuse_disguised, refuse_summaries
from qwave.data.embeddings import EmbeddingSet
from qwave.data.kinds import refuse_other_kinds, require_memory
from qwave.data.labels import (
    LabelColumn,
    Labels,
    as_text,
    choose_labels,
    feature_key,
    is_missing,
    is_number,
)
from qwave.data.numerals import typed

# pandas is imported where it is used: the engine has to import this package on machines that hold
# nothing but torch, numpy and scikit-learn.
if TYPE_CHECKING:
    import pandas as pd

_PLAIN_LABELS = ("classid", "label")  # the documented names, which need no note


class _Table(NamedTuple):
    """A table whose columns have been sorted by their role.

    Attributes:
        names: Names of all columns.
        columns: Roles of all columns.
        x: Features [n, d].
        feature_names: Names of the features in messages, [d].
        values: Cells [n] of the other columns that are needed, by number of the column.
        lines: Number of each row in messages, [n].
    """

    names: Sequence[str]
    columns: Columns
    x: np.ndarray
    feature_names: Sequence[str]
    values: dict[int, np.ndarray]
    lines: np.ndarray


def embeddings_from_frame(
    frame: pd.DataFrame, *, feature_columns: Sequence[str] | str | None = None
) -> EmbeddingSet:
    """Embeddings in a pandas frame, one clip a row.

    Labels, folds and recordings are read as by `qwave.load_embeddings`; rows in messages count
    from 0.

    Args:
        frame: Columns ``class_id`` (whole numbers) or ``label`` (names) or both, optionally
            ``folder``, ``name``, ``fold``, ``group``; every other column is a feature, or one
            column holds all features of a clip as a list, as in Hugging Face data sets. A level
            of the index is read only if its name is one of these and no column has that role.
        feature_columns: Names of the features, or one string that the names of all features begin
            with; None: every column whose name means nothing else (see `load_embeddings`).

    Raises:
        DataError: A column is missing, is not certainly a feature, or holds values that cannot be
            used.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"frame: must be a pandas DataFrame, but is a {type(frame).__name__}; "
            "qwave.embeddings_from_arrays takes arrays, load_embeddings a file"
        )
    table = _frame_table(frame, "frame", feature_columns)
    return _embeddings(table, "frame", is_told=feature_columns is not None)


def embeddings_from_csv(
    file: Path, source: str, feature_columns: Sequence[str] | str | None = None
) -> EmbeddingSet:
    """Embeddings in a text file (`qwave.data.delimited`); row numbers in messages are its lines.

    Raises:
        DataError: The file is no table, or a reason of `embeddings_from_frame`.
    """
    text = open_table(file, source)
    names = text.names
    if not could_be_labels(names):
        rows_below = (list(map(str.strip, cells)) for _, cells in read_cells(text, source))
        refuse_transposed(names, rows_below, source)
    columns = sort_columns(names, source, feature_columns)
    rows = read_rows(text, columns.features, _needed(columns), source)
    if not len(rows.lines):
        raise DataError(f"{source} has a header but no rows; write a row for each clip below it")
    values = {
        column: np.array(cells, object)
        if column in (columns.name, columns.folder)
        else typed(cells, is_code=column in columns.labels)
        for column, cells in rows.texts.items()
    }
    feature_names = [names[column] for column in columns.features]
    table = _Table(names, columns, rows.x, feature_names, values, rows.lines)
    return _embeddings(table, source, is_told=feature_columns is not None)


def embeddings_from_parquet(
    file: Path, source: str, feature_columns: Sequence[str] | str | None = None
) -> EmbeddingSet:
    """Embeddings in a Parquet file; rows in messages count from 0.

    Raises:
        DataError: The file cannot be read, or a reason of `embeddings_from_frame`.
    """
    refuse_other_kinds(file, source, "parquet")
    try:
        from pyarrow import parquet  # type: ignore[import-untyped]  # comes with MLflow

        # ParquetFile reads the one file: pandas and read_table take a folder such as "fold=1"
        # above it for a column.
        with parquet.ParquetFile(file) as opened:
            metadata = opened.metadata
            n_cells = metadata.num_rows * metadata.num_columns
            unpacked = sum(
                metadata.row_group(group).total_byte_size
                for group in range(metadata.num_row_groups)
            )
            require_memory(
                max(8 * n_cells, unpacked),
                source,
                f"a table of {metadata.num_rows} rows and {metadata.num_columns} columns",
            )
            frame = opened.read().to_pandas()
    except DataError:
        raise
    except Exception as error:  # pyarrow and pandas raise errors of every kind at damaged files
        raise DataError(
            f"{source} cannot be read as a Parquet file: {str(error)[:300]}; write it again with "
            "frame.to_parquet(FILE), or download it again"
        ) from error
    table = _frame_table(frame, source, feature_columns)
    return _embeddings(table, source, is_told=feature_columns is not None)


def _needed(columns: Columns) -> list[int]:
    """Numbers of the columns besides features whose values are needed."""
    single = (columns.fold, columns.group, columns.name, columns.folder)
    return [*columns.labels, *(column for column in single if column is not None)]


def _embeddings(table: _Table, source: str, *, is_told: bool) -> EmbeddingSet:
    """The set of a table; a warning names columns that were left out or taken for a role."""
    names, columns, lines = table.names, table.columns, table.lines.tolist()
    labels = [
        LabelColumn(names[column], as_text(table.values[column], f"{source}: {names[column]!r}"))
        for column in columns.labels
    ]
    chosen = _labels(labels, source, lines)
    arrays: dict[str, Any] = {
        "x": table.x,
        "y": chosen.values,
        "columns": table.feature_names,
        "lines": lines,
        "label_of": chosen.label_of,
    }
    notes = []
    if plain_name(labels[0].name) not in _PLAIN_LABELS:
        notes.append(f"the label is column {labels[0].name!r}")
    roles = {"names": columns.name, "folder": columns.folder}
    for role, column in {**roles, "fold": columns.fold, "group": columns.group}.items():
        if column is not None:
            arrays[role] = table.values[column]
            if role not in roles and plain_name(names[column]) not in (role, f"{role}s"):
                notes.append(f"the {role} is column {names[column]!r}")
    left_out = [*chosen.left_out, *(names[column] for column in columns.left_out)]
    if left_out:
        shown = ", ".join(map(repr, left_out[:12]))
        more = f" and {len(left_out) - 12} more" if len(left_out) > 12 else ""
        notes.append(f"not used: {shown}{more}")
    data = checked_embeddings(arrays, source)
    refuse_summaries(data.y, data.class_names, lines, source)
    if not is_told:
        refuse_disguised(data.x, data.y, table.feature_names, source)
        if whole := note_whole_numbers(data.x, table.feature_names, source):
            notes.append(whole)
    if notes:
        warnings.warn(f"{source}: {'; '.join(notes)}", UserWarning, stacklevel=4)
    return data


def _labels(columns: list[LabelColumn], source: str, lines: list[int]) -> Labels:
    """The label of each row; a column category besides class_id or label may be coarser."""
    remedy = f"drop it, or name it as a feature with {feature_key(source)}"
    kinds = [plain_name(column.name) for column in columns]
    if kinds[-1] != "category" or kinds[0] not in _PLAIN_LABELS:
        return choose_labels(columns, source, lines, remedy)
    if set(_PLAIN_LABELS) <= set(kinds):
        return choose_labels(columns[:-1], source, lines, remedy)
    try:
        return choose_labels(columns, source, lines, remedy)
    except DataError:
        chosen = choose_labels(columns[:-1], source, lines, remedy)
        return chosen._replace(left_out=(*chosen.left_out, columns[-1].name))


def _frame_table(
    frame: pd.DataFrame, source: str, feature_columns: Sequence[str] | str | None
) -> _Table:
    frame = _with_levels(frame, source)
    names = ["" if is_missing(column) else str(column).strip() for column in frame.columns]
    if not could_be_labels(names) and frame.shape[1]:
        rows = ([str(cell)] for cell in (*frame.index, *frame.iloc[:, 0]))
        refuse_transposed(names, rows, source)
    columns = sort_columns(names, source, feature_columns)
    if len(frame) == 0:
        raise DataError(f"{source} has a header but no rows; write a row for each clip below it")
    lines = np.arange(len(frame))
    x, feature_names = _frame_features(frame, names, columns.features, source)
    values = {column: _values(frame.iloc[:, column]) for column in _needed(columns)}
    return _Table(names, columns, x, feature_names, values, lines)


def _with_levels(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The frame with index levels that have a role as columns, unless a column has that role."""
    if frame.columns.nlevels > 1:
        raise DataError(
            f"{source}: the columns have {frame.columns.nlevels} levels of names; write one name "
            "for each: frame.columns = ['_'.join(map(str, name)).strip('_') for name in "
            "frame.columns]"
        )
    present = {role_of(str(name).strip()) for name in frame.columns}
    levels = [
        level
        for level, name in enumerate(frame.index.names)
        if name is not None and role_of(str(name).strip()) not in {None, *present}
    ]
    return frame.reset_index(level=levels) if levels else frame


def _frame_features(
    frame: pd.DataFrame, names: Sequence[str], features: Sequence[int], source: str
) -> tuple[np.ndarray, list[str]]:
    """Features [n, d], and the names of their columns in messages."""
    kinds = [dtype.kind for dtype in frame.dtypes]
    others = [column for column in features if kinds[column] not in "fiub"]
    lists = [column for column in others if any(map(_is_list, frame.iloc[:, column]))]
    if lists and len(features) > 1:
        rest = ", ".join(names[column] for column in features if column != lists[0])
        raise DataError(
            f"{source}: column {names[lists[0]]!r} holds lists, which must then be all features "
            f"of a clip, but there are other columns: {rest}; drop these, "
            f"or give {feature_key(source)}={names[lists[0]]}"
        )
    if lists:
        x = _stacked_lists(frame.iloc[:, lists[0]], names[lists[0]], source)
        return x, [f"{names[lists[0]]}[{number}]" for number in range(x.shape[1])]
    for column in others:
        _require_numbers(frame.iloc[:, column], names[column], source)
    part = frame.iloc[:, list(features)]
    x = part.to_numpy()
    if x.dtype.kind not in "fiu":  # pandas' own number types, or numbers and booleans
        x = part.to_numpy(np.float64, na_value=np.nan)
    return x, [names[column] for column in features]


def _require_numbers(column: pd.Series, name: str, source: str) -> None:
    """Refuse a column that does not hold numbers only."""
    bad = [
        (row, value)
        for row, value in enumerate(_values(column))
        if column.dtype.kind in "mMc" or not is_number(value)
    ]
    if bad:
        # Numbers written as text matter less to a person than other text.
        row, value = next((each for each in bad if not _is_numeral(each[1])), bad[0])
        text = repr(value)
        found = text if len(text) <= 60 else f"{text[:60]}..."
        raise DataError(
            f"{source}, row {row}, column {name!r}: {found} is not a number; write "
            "numbers (frame.astype makes them of text), or, if the column is no feature, drop it "
            f"or list the features with {feature_key(source)}"
        )


def _is_numeral(value: object) -> bool:
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _values(column: pd.Series) -> np.ndarray:
    """The cells of a column [n]; missing ones are NaN, also in pandas' own types."""
    values = column.to_numpy()
    return column.to_numpy(object, na_value=np.nan) if values.dtype == object else values


def _is_list(cell: object) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def _stacked_lists(column: pd.Series, name: str, source: str) -> np.ndarray:
    """A column of lists of one length as a matrix [n, d]."""
    width = len(next(cell for cell in column if _is_list(cell)))
    for row, cell in enumerate(column):
        if _is_list(cell) and any(map(_is_list, cell)):
            raise DataError(
                f"{source}, row {row}, column {name!r} holds lists within the list; write one "
                "list of numbers for each clip, such as the mean of the inner ones"
            )
        if not _is_list(cell) or np.shape(cell) != (width,):
            found = f"has {len(cell)}" if _is_list(cell) else f"is {cell!r}"
            raise DataError(
                f"{source}, row {row}, column {name!r}: every row must be a list of "
                f"{width} numbers like the first, but this {found}; write one there, or leave "
                "the row out"
            )
    return np.stack([np.asarray(cell) for cell in column])
