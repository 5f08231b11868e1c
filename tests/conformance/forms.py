"""The same numbers in every form that a person may bring them in.

A form is a function of `Numbers` and a folder. It returns a file, for forms that are files, or
what a program holds in memory: an array, or a pandas frame with labels, folds and names beside it.

Shapes: n clips, d features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from qwave.data import (
    EmbeddingSet,
    embeddings_from_arrays,
    embeddings_from_frame,
    load_embeddings,
)


class Numbers(NamedTuple):
    """One set of embeddings, in plain C-ordered float32.

    Attributes:
        x: float32 [n, d]; multiples of an eighth up to 8, so that float16 and text hold them.
        y: Labels, int64 [n].
        fold: Official folds, int64 [n].
        names: One name a clip, [n].
    """

    x: np.ndarray
    y: np.ndarray
    fold: np.ndarray
    names: np.ndarray


def numbers(kind: str, seed: int = 0) -> Numbers:
    """Three classes of 18 clips with 20 features, in three folds.

    Args:
        kind: ``fractions`` (multiples of an eighth, of both signs), ``integers`` (0 to 15) or
            ``booleans`` (0 and 1).
        seed: Another seed, other numbers.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(54) % 3
    values = 0.8 * rng.normal(size=(3, 20))[y] + rng.normal(size=(54, 20))
    if kind == "fractions":
        x = np.clip(np.round(values * 8) / 8, -8, 8)
    elif kind == "integers":
        x = np.clip(np.round(2 * values) + 7, 0, 15)
    else:
        x = (values > 0).astype(np.float64)
    names = np.array([f"clip {row}" for row in range(len(y))])
    # Not the order of the rows, nor that of the labels: neither may look like an index.
    fold = rng.permutation(np.arange(54) // 3 % 3)
    for label in range(3):
        fold[y == label] = rng.permutation(np.arange(18) % 3)
    return Numbers(x.astype(np.float32), y, fold + 1, names)


Held: TypeAlias = np.ndarray | pd.DataFrame
FileForm = Callable[[Numbers, Path], Path]
ArrayForm = Callable[[np.ndarray, Path], Held]


def _npz(convert: Callable[[np.ndarray], np.ndarray]) -> FileForm:
    def write(given: Numbers, folder: Path) -> Path:
        file = folder / "set.npz"
        np.savez(file, x=convert(given.x), y=given.y, fold=given.fold, names=given.names)
        return file

    return write


def _table(given: Numbers) -> pd.DataFrame:
    frame = pd.DataFrame(given.x, columns=[f"f{i}" for i in range(given.x.shape[1])])
    frame.insert(0, "name", given.names)
    frame.insert(1, "class_id", given.y)
    frame.insert(2, "fold", given.fold)
    return frame


def _csv(given: Numbers, folder: Path) -> Path:
    file = folder / "set.csv"
    _table(given).to_csv(file, index=False)
    return file


def _csv_of_excel_in_europe(given: Numbers, folder: Path) -> Path:
    file = folder / "set.csv"
    text = _table(given).to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return file


def _parquet_of_columns(given: Numbers, folder: Path) -> Path:
    file = folder / "set.parquet"
    _table(given).to_parquet(file)
    return file


def _parquet_of_lists(given: Numbers, folder: Path) -> Path:
    file = folder / "set.parquet"
    frame = _table(given)[["name", "class_id", "fold"]]
    frame.assign(embedding=given.x.tolist()).to_parquet(file)
    return file


def _of_booleans(write: FileForm) -> FileForm:
    return lambda given, folder: write(given._replace(x=given.x.astype(bool)), folder)


def _of_whole_numbers(write: FileForm) -> FileForm:
    return lambda given, folder: write(given._replace(x=given.x.astype(np.int64)), folder)


def _memory_map(x: np.ndarray, folder: Path) -> np.ndarray:
    file = folder / "x.npy"
    np.save(file, x)
    mapped = np.load(file, mmap_mode="r")
    assert not mapped.flags.writeable
    return mapped


def _strided(x: np.ndarray, folder: Path) -> np.ndarray:
    wide = np.full((2 * len(x), 3 * x.shape[1]), np.nan, dtype=np.float32)
    wide[::2, 1::3] = x
    return wide[::2, 1::3]


FILES: dict[str, tuple[str, FileForm]] = {
    "npz": ("fractions", _npz(np.ascontiguousarray)),
    "npz, Fortran order": ("fractions", _npz(np.asfortranarray)),
    "npz, float16": ("fractions", _npz(lambda x: x.astype(np.float16))),
    "npz, float64": ("fractions", _npz(lambda x: x.astype(np.float64))),
    "npz, big-endian": ("fractions", _npz(lambda x: x.astype(">f8"))),
    "npz, integers": ("integers", _npz(lambda x: x.astype(np.uint8))),
    "npz, bool": ("booleans", _npz(lambda x: x.astype(bool))),
    "CSV": ("fractions", _csv),
    "CSV of a European Excel": ("fractions", _csv_of_excel_in_europe),
    "CSV of whole numbers": ("integers", _of_whole_numbers(_csv)),
    "Parquet of columns": ("fractions", _parquet_of_columns),
    "Parquet of columns, bool": ("booleans", _of_booleans(_parquet_of_columns)),
    "Parquet of lists": ("fractions", _parquet_of_lists),
}
"""Name of a form that is a file, to the kind of its numbers and the function that writes it."""

HELD: dict[str, tuple[str, ArrayForm]] = {
    "C order": ("fractions", lambda x, _: x.copy()),
    "Fortran order": ("fractions", lambda x, _: np.asfortranarray(x)),
    "strided view": ("fractions", _strided),
    "rows backwards, twice": ("fractions", lambda x, _: x[::-1].copy()[::-1]),
    "float16": ("fractions", lambda x, _: x.astype(np.float16)),
    "float64": ("fractions", lambda x, _: x.astype(np.float64)),
    "big-endian": ("fractions", lambda x, _: x.astype(">f4")),
    "read-only memory map": ("fractions", _memory_map),
    "int64": ("integers", lambda x, _: x.astype(np.int64)),
    "int8, Fortran order": ("integers", lambda x, _: np.asfortranarray(x.astype(np.int8))),
    "bool": ("booleans", lambda x, _: x.astype(bool)),
    "pandas frame": ("fractions", lambda x, _: pd.DataFrame(x)),
    "pandas frame of float64": ("fractions", lambda x, _: pd.DataFrame(x.astype(np.float64))),
    "pandas frame of integers": ("integers", lambda x, _: pd.DataFrame(x.astype(np.int32))),
    "pandas frame of bool": ("booleans", lambda x, _: pd.DataFrame(x.astype(bool))),
}
"""Name of a form that is in memory, to the kind of its numbers and the function that makes x."""

FORMS = [*FILES, *HELD]


def kind_of(form: str) -> str:
    """The kind of a form's numbers."""
    return (FILES | HELD)[form][0]


def load(form: str, folder: Path) -> EmbeddingSet:
    """The set, as a person would load it from this form."""
    given = numbers(kind_of(form))
    if form in FILES:
        return load_embeddings(FILES[form][1](given, folder))
    held = HELD[form][1](given.x, folder)
    if isinstance(held, pd.DataFrame):
        frame = held.set_axis([f"f{i}" for i in held.columns], axis="columns")
        return embeddings_from_frame(
            frame.assign(name=given.names, class_id=given.y, fold=given.fold)
        )
    return embeddings_from_arrays(held, given.y, fold=given.fold, names=given.names)


def features(form: str, folder: Path) -> Held:
    """x alone in this form, for what takes features only; a file's as its set holds it."""
    if form in FILES:
        return load(form, folder).x
    return HELD[form][1](numbers(kind_of(form)).x, folder)
