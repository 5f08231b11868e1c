"""Equal numbers give equal sets, in whatever form they come."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import qwave
from qwave.config import ConfigError, DataError, TrialConfig
from qwave.data import (
    EmbeddingSet,
    embeddings_from_arrays,
    embeddings_from_frame,
    load_embeddings,
    require_embeddings,
    take_rows,
)
from qwave.engine.refit import fit_model
from qwave.packing import packed_size_parts
from qwave.sweep.pool import SharedData

N, D = 24, 6
# Eighths are the same number in float16, float32, float64 and in decimals.
X = np.random.default_rng(0).integers(-40, 41, size=(N, D)).astype(np.float32) / 8
X[:, 0] += np.arange(N) % 2 * 8
WHOLE = np.round(X) + 0.0  # whole numbers have no -0
Y = np.arange(N) % 2
FOLD = np.arange(N) // 2 % 3
NAMES = [f"f{column}" for column in range(D)]


def memory_map(folder: Path, x: np.ndarray) -> np.ndarray:
    np.save(folder / "x.npy", x)
    mapped: np.ndarray = np.load(folder / "x.npy", mmap_mode="r")
    return mapped


def strided(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((2 * len(x), 3 * x.shape[1]), x.dtype)
    wide[::2, ::3] = x
    return wide[::2, ::3]


ARRAYS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "C order": lambda x, _: x,
    "Fortran order": lambda x, _: np.asfortranarray(x),
    "strided": lambda x, _: strided(x),
    "float16": lambda x, _: x.astype(np.float16),
    "long double": lambda x, _: x.astype(np.longdouble),
    "big-endian": lambda x, _: x.astype(">f4"),
    "memory map in Fortran order": lambda x, folder: memory_map(folder, np.asfortranarray(x)),
    "read-only": lambda x, _: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "nothing masked": lambda x, _: np.ma.MaskedArray(x),
    "objects": lambda x, _: x.astype(object),
    "fractions": lambda x, _: [[Fraction(float(value)) for value in row] for row in x],
    "lists": lambda x, _: x.tolist(),
    "torch": lambda x, _: torch.from_numpy(x.copy()).T.contiguous().T,
    "frame": lambda x, _: pd.DataFrame(x),
}


@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_of_equal_numbers_give_equal_sets(tmp_path: Path, form: str) -> None:
    data = embeddings_from_arrays(ARRAYS[form](X, tmp_path), Y, fold=FOLD)
    assert data.digest == embeddings_from_arrays(X, Y, fold=FOLD).digest
    _is_of_the_one_form(data)
    np.testing.assert_array_equal(data.x, X)


@pytest.mark.parametrize("dtype", ["i1", ">i4", "f2", ">f8", "u1", "?", "O"])
def test_whole_numbers_of_any_type_give_equal_sets(tmp_path: Path, dtype: str) -> None:
    x = (X > 0) if dtype in ("?", "u1") else WHOLE
    expected = embeddings_from_arrays(x.astype(np.float32), Y)
    assert embeddings_from_arrays(x.astype(dtype), Y.astype(dtype)).digest == expected.digest
    if dtype != "O":
        np.savez(tmp_path / "some.npz", x=x.astype(dtype), y=Y.astype(dtype))
        assert load_embeddings(tmp_path / "some.npz").digest == expected.digest
    frame = pd.DataFrame(x.astype(dtype).astype(np.dtype(dtype).newbyteorder("=")), columns=NAMES)
    frame["class_id"] = Y
    assert embeddings_from_frame(frame).digest == expected.digest


def _frame(x: Any) -> pd.DataFrame:
    return pd.DataFrame(x, columns=NAMES).assign(class_id=Y, fold=FOLD)


def _npz(x: np.ndarray, folder: Path) -> EmbeddingSet:
    np.savez_compressed(folder / "some.npz", x=np.asfortranarray(x), y=Y, fold=FOLD)
    return load_embeddings(folder / "some.npz")


def _csv(x: np.ndarray, folder: Path, **how: Any) -> EmbeddingSet:
    _frame(x).to_csv(folder / "some.csv", index=False, **how)
    return load_embeddings(folder / "some.csv")


def _parquet(x: np.ndarray, folder: Path) -> EmbeddingSet:
    # A folder whose name looks like a partition of a data set.
    place = folder / "lr=0.1"
    place.mkdir()
    _frame(x).to_parquet(place / "some.parquet")
    return load_embeddings(place / "some.parquet")


def _lists(x: np.ndarray, folder: Path) -> EmbeddingSet:
    frame = pd.DataFrame({"embedding": list(x), "class_id": Y, "fold": FOLD})
    frame.to_parquet(folder / "lists.parquet")
    return load_embeddings(folder / "lists.parquet")


def _shared(x: np.ndarray, folder: Path) -> EmbeddingSet:
    return SharedData.write(embeddings_from_arrays(x, Y, fold=FOLD), folder).open()


READ: dict[str, Callable[[np.ndarray, Path], EmbeddingSet]] = {
    "npz": _npz,
    "CSV": _csv,
    "CSV of Europe": lambda x, folder: _csv(x, folder, sep=";", decimal=",", encoding="utf-16"),
    "Parquet": _parquet,
    "Parquet of lists": _lists,
    "frame": lambda x, _: embeddings_from_frame(_frame(x)),
    "nullable frame": lambda x, _: embeddings_from_frame(_frame(x).convert_dtypes()),
    "shared by processes": _shared,
}


@pytest.mark.parametrize("form", READ)
def test_every_form_of_file_and_frame_gives_an_equal_set(tmp_path: Path, form: str) -> None:
    data = READ[form](X, tmp_path)
    _is_of_the_one_form(data)
    assert data.digest == embeddings_from_arrays(X, Y, fold=FOLD).digest


def _is_of_the_one_form(data: EmbeddingSet) -> None:
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous
    assert data.y.dtype == np.int64
    assert data.y.flags.c_contiguous


# --- the seam ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x": np.asfortranarray(X)},
            "x must be float32 [clips, features] in C order, but is <f4",
        ),
        ({"x": X.astype(">f4")}, f"but is >f4 of shape ({N}, {D})"),
        ({"x": X[0]}, f"but is <f4 of shape ({D},)"),
        ({"x": X.tolist()}, "x must be float32 [clips, features] in C order, but is of type list"),
        ({"x": np.ma.MaskedArray(X)}, "x must be float32 [clips, features] in C order, but is"),
        ({"x": X[1:]}, f"x has {N - 1} rows, but y has {N} labels"),
        ({"y": np.repeat(Y, 2)[::2]}, "y must be int64 [clips] in C order, but is <i8 of shape"),
    ],
)
def test_a_set_of_another_form_cannot_be_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^EmbeddingSet: .*{re.escape(message)}"):
        dataclasses.replace(embeddings_from_arrays(X, Y), **changes)


@pytest.mark.parametrize("rows", [np.arange(5), slice(0, 20, 4), slice(None, None, -1), Y == Y])
def test_parts_of_a_set_are_of_the_one_form(rows: Any) -> None:
    data = embeddings_from_arrays(X, np.arange(N) % 3, fold=FOLD)
    part = take_rows(data, np.arange(N)[rows])
    _is_of_the_one_form(part)
    np.testing.assert_array_equal(part.x, X[rows])


# --- what is refused ---


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.ma.masked_greater(X, 3)}, "arrays: 'x' is masked at ["),
        (
            {"y": np.ma.masked_equal(Y, 1)},
            "arrays: 'y' is masked at [1]; leave such rows out, or ",
        ),
        (
            {"x": X.astype("m8[s]")},
            "arrays: x must be numbers of shape [clips, features], but is ",
        ),
        ({"x": X.astype(str).astype(object)}, "arrays, row 0, column 0: '"),
        ({"x": [[10**400] * D] * N}, "arrays: a value of x is too large for float32"),
        ({"x": {"a": 1}}, "arrays: x must be numbers of shape [clips, features], but is object"),
        ({"y": Y.astype("M8[s]")}, "arrays: class labels must be whole numbers from 0 or strings"),
        ({"y": Y * 1e300}, "arrays: class labels must be whole numbers from 0, but found 1e+300"),
        ({"y": np.where(Y, np.nan, 0.0)}, "but found nan; the first in row 1; write a whole num"),
        ({"y": ["dog", None] * 12}, "arrays, row 1: the label is empty; write the clip's class, "),
        ({"fold": ["1_0"] * N}, "arrays: 'fold' must hold whole numbers, but it is 1_0 in row 0"),
        ({"class_names": ["dog", " dog"]}, "two classes have one name: 0 and 1 are both 'dog'; g"),
        ({"y": [b"K\xfcche", b"dog"] * 12}, "'y', row 0: the bytes b'K\\xfcche' are no text in U"),
    ],
)
def test_values_that_are_no_data_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        embeddings_from_arrays(**{"x": X, "y": Y, **values})


def test_bytes_are_text_and_spaces_around_names_are_none() -> None:
    expected = embeddings_from_arrays(X, ["dog", "Küche"] * 12, group=["a", "b"] * 12)
    data = embeddings_from_arrays(
        X, [b"dog ", "Küche".encode()] * 12, group=np.array([b"a", b"b"] * 12)
    )
    assert data.digest == expected.digest
    named = embeddings_from_arrays(X, Y, class_names=["dog ", "cat"])
    assert named.class_names == ("dog", "cat")


# --- what is no set ---


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (pd.DataFrame({"f0": [1.0]}), "a DataFrame; qwave.embeddings_from_frame(frame) makes"),
        ({"x": X, "y": Y}, "dict; qwave.embeddings_from_arrays(**arrays) makes one of arrays by"),
        (Path("my.csv"), "qwave.load_embeddings(path) reads one from a file"),
        (X, "ndarray; qwave.embeddings_from_arrays(x, y), embeddings_from_frame(frame) and load"),
    ],
)
def test_what_is_no_set_is_refused_with_what_makes_one(given: Any, remedy: str) -> None:
    config = TrialConfig()
    remedy = remedy.removeprefix("a ")
    calls: dict[str, Callable[[], object]] = {
        "cross_validate": lambda: qwave.cross_validate(config, given),
        "packed_size_bytes": lambda: qwave.packed_size_bytes(config, given),
        "make_header": lambda: packed_size_parts(config, given),
        "fit_model": lambda: fit_model(config, given),
        "take_rows": lambda: take_rows(given, np.arange(1)),
        "anything": lambda: require_embeddings(given, "anything"),
    }
    for caller, call in calls.items():
        message = f"{caller}: data must be an EmbeddingSet, but is of type "
        with pytest.raises(DataError, match=f"^{message}.*{re.escape(remedy)}"):
            call()


@pytest.mark.parametrize("given", [{"model": {}}, None, "sweep.yaml"])
def test_what_is_no_configuration_is_refused_with_what_makes_one(given: Any) -> None:
    data = embeddings_from_arrays(X, Y, fold=FOLD)
    for call in (qwave.cross_validate, qwave.packed_size_bytes, fit_model, packed_size_parts):
        with pytest.raises(ConfigError, match=r"config must be a TrialConfig, .*qwave.parse_conf"):
            call(given, data)


@pytest.mark.parametrize("given", [pd.DataFrame(), None])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(DataError, match=r"^load_embeddings takes a path, but got a .*from_frame"):
        load_embeddings(given)
