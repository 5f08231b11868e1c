"""A file of embeddings becomes an `EmbeddingSet`, or an error that says which row and column."""

from __future__ import annotations

import importlib.resources
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from qwave.config import DataError, nearest
from qwave.data.arrays import checked_embeddings
from qwave.data.embeddings import EmbeddingSet
from qwave.data.tables import read_csv, read_parquet

# First name: ours. The others: the same thing in other people's files.
_NPZ_KEYS = {
    "x": ("x", "X", "embeddings", "features"),
    "y": ("y", "labels", "label", "target", "class_id"),
    "fold": ("fold", "folds"),
    "group": ("group", "groups"),
    "names": ("names", "name", "filename", "filenames"),
    "class_names": ("class_names", "classes"),
    "encoder": ("encoder",),
}
_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError),
    *(RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error),
)


def load_embeddings(path: str | os.PathLike[str] = "esc10") -> EmbeddingSet:
    """Read a file of embeddings.

    Args:
        path: ``esc10`` for the bundled set; else a ``.npz`` file (arrays ``x``, ``y`` and
            optionally ``fold``, ``group``, ``names``, ``class_names``, ``encoder``), or a
            ``.csv`` or ``.parquet`` file (``class_id``, optionally ``folder``, ``name``,
            ``label``, ``category``, ``fold``, ``group``; every other column is a feature, or one
            column of a ``.parquet`` file holds all of them as a list).

    Folds and recordings that the file does not hold are read from the clips' names where these
    are in a published form (`parse_clip_name`). Labels that are not 0 to n-1 are mapped in
    ascending order, with a warning.

    Raises:
        DataError: The file is missing, empty, corrupt, or holds values that cannot be used.
    """
    if str(path) == "esc10":
        resource = importlib.resources.files("qwave.data") / "esc10" / "embeddings.npz"
        with importlib.resources.as_file(resource) as bundled:
            return checked_embeddings(_read_npz(bundled, "data.path: esc10"), "data.path: esc10")
    file = Path(path)
    source = f"data.path: {file}"
    if not file.exists():
        raise DataError(
            f"data.path: no such file: {file} (allowed: esc10, FILE.npz, FILE.csv, FILE.parquet, "
            "or clips: a folder, or a CSV table with columns path and label)"
        )
    readers = {".npz": _read_npz, ".csv": read_csv, ".parquet": read_parquet}
    suffix = file.suffix.lower()
    if suffix == ".npy" and file.is_file():
        raise DataError(
            f"{source} holds one array and no labels; write both into a .npz file: "
            f"numpy.savez({file.stem!r}, x=numpy.load({file.name!r}), y=LABELS)"
        )
    if suffix not in readers or file.is_dir():
        raise DataError(f"{source} is neither a .npz nor a .csv file, nor a .parquet file")
    if file.stat().st_size == 0:
        raise DataError(f"{source} is empty")
    return checked_embeddings(readers[suffix](file, source), source)


def _read_npz(file: Path, source: str) -> dict[str, Any]:
    try:
        # Opened here: numpy leaves a file open that turns out not to be a zip archive.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        raise DataError(
            f"{source} cannot be read as a .npz file: {error} "
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
                f"{source} has no array {ours!r} (also accepted: "
                f"{', '.join(accepted[1:])}); it holds {', '.join(arrays) or 'nothing'}"
                f"{''.join(hints[:1])}"
            )
    return found
