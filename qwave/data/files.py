"""A file of embeddings becomes an `EmbeddingSet`, or an error that names the row and column."""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Sequence
from pathlib import Path

from qwave.config import DataError
from qwave.data.arrays import checked_embeddings
from qwave.data.embeddings import EmbeddingSet
from qwave.data.npz import read_npz
from qwave.data.tables import embeddings_from_csv, embeddings_from_parquet

_TEXT_SUFFIXES = (".csv", ".tsv", ".txt")


def load_embeddings(
    path: str | os.PathLike[str] = "esc10", *, feature_columns: Sequence[str] | str | None = None
) -> EmbeddingSet:
    """Read a file of embeddings.

    Args:
        path: ``esc10`` for the bundled set; else a ``.npz`` file (arrays ``x``, ``y`` and
            optionally ``fold``, ``group``, ``names``, ``class_names``, ``encoder``), or a table:
            a text file (``.csv``, ``.tsv``, ``.txt``) or a ``.parquet`` file with ``class_id``
            (whole numbers) or ``label`` (names) or both, optionally ``folder``, ``name``,
            ``category``, ``fold``, ``group``, and one column a feature, or one column of a
            ``.parquet`` file that holds all of them as a list.
        feature_columns: Names of a table's features, or one string that the names of all features
            begin with; None: every column whose name means nothing else.

    Columns with other common names (``target``, ``Fold``, ``speaker``, ``filename``) are used for
    their role if it is certain, with a warning if it is not obvious. A column that is neither
    certainly a feature nor certainly something else, such as an index or a second label, is
    refused unless `feature_columns` lists the features. A warning names the columns that are not
    used.

    Folds and recordings that the file does not hold are read from the clips' names if these are
    in a published form (`parse_clip_name`). Labels that are not 0 to k-1 are mapped in ascending
    order, with a warning.

    Raises:
        DataError: The file is missing, empty, corrupt, or holds values that cannot be used.
    """
    if not isinstance(path, str | os.PathLike):
        raise DataError(
            f"load_embeddings takes a path, but got a {type(path).__name__}; "
            "qwave.embeddings_from_frame takes a pandas frame, embeddings_from_arrays arrays"
        )
    if str(path) == "esc10":
        _refuse_columns(feature_columns, "esc10")
        resource = importlib.resources.files("qwave.data") / "esc10" / "embeddings.npz"
        with importlib.resources.as_file(resource) as bundled:
            return checked_embeddings(read_npz(bundled, "data.path: esc10"), "data.path: esc10")
    file = Path(path)
    source = f"data.path: {file}"
    suffix = file.suffix.lower()
    _require_file(file, source, suffix)
    if suffix == ".npz":
        _refuse_columns(feature_columns, str(file))
        return checked_embeddings(read_npz(file, source), source)
    read = embeddings_from_csv if suffix in _TEXT_SUFFIXES else embeddings_from_parquet
    return read(file, source, feature_columns)


def _require_file(file: Path, source: str, suffix: str) -> None:
    """Refuse all but regular files of a known suffix: a pipe could block the reader for ever."""
    try:
        exists, is_file = file.exists(), file.is_file()
        size = file.stat().st_size if is_file else 0
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be opened: {error}") from error
    if not exists:
        if re.match("[a-z][a-z0-9+.-]+:/", str(file), re.IGNORECASE):
            raise DataError(
                f"data.path: {file} is an address; download the file, and write its path alone"
            )
        raise DataError(
            f"data.path: no such file: {file} (allowed: esc10, FILE.npz, FILE.csv, FILE.parquet, "
            "or clips: a folder, or a CSV table with columns path and label)"
        )
    if suffix == ".npy" and is_file:
        raise DataError(
            f"{source} holds one array and no labels; write both into a .npz file: "
            f"numpy.savez({file.stem!r}, x=numpy.load({file.name!r}), y=LABELS)"
        )
    if suffix not in (".npz", ".parquet", *_TEXT_SUFFIXES) or file.is_dir():
        raise DataError(
            f"{source} is neither a .npz nor a .csv file, nor a .parquet file "
            "(.tsv and .txt are read as .csv)"
        )
    if not is_file:
        raise DataError(f"{source} is no regular file; copy what it gives into one")
    if size == 0:
        raise DataError(f"{source} is empty")


def _refuse_columns(feature_columns: Sequence[str] | str | None, path: str) -> None:
    if feature_columns is not None:
        raise DataError(
            f"data.feature_columns names columns of a table, but {path} has none: its array x "
            "holds the features; leave data.feature_columns out"
        )
