"""Embeddings in memory, and what they say about the encoder that made them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qwave
from qwave.config import DataError
from qwave.data import embeddings_from_arrays, load_embeddings, take_rows

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])
MADE_BY = "efficientnet-lite0@1a2b3c4d"


def everything() -> dict[str, Any]:
    return {
        "fold": [3, 3, 3, 7, 7, 7],
        "group": list("abcabd"),
        "names": [f"{i}.wav" for i in range(6)],
        "class_names": ["p", "q", "r"],
        "encoder": MADE_BY,
    }


def test_arrays_give_what_a_file_of_them_gives(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x=X, y=Y, **everything())
    expected = load_embeddings(tmp_path / "some.npz")
    data = qwave.embeddings_from_arrays(X, Y, **everything())
    assert data.digest == expected.digest
    assert data.encoder == expected.encoder == MADE_BY
    assert data.class_names == ("p", "q", "r")
    assert data.fold is not None
    assert data.fold.tolist() == [3, 3, 3, 7, 7, 7]


def test_strings_are_labels_too() -> None:
    data = embeddings_from_arrays(X, ["sea", "dog", "sea", "dog", "dog", "rain"])
    assert data.class_names == ("dog", "rain", "sea")
    assert data.y.tolist() == [2, 0, 2, 0, 0, 1]
    assert data.names == tuple("012345")
    assert (data.fold, data.group, data.encoder) == (None, None, "")


def test_published_names_give_folds_and_recordings() -> None:
    names = [f"{1 + i % 5}-{900 + i // 2}-A-0.wav" for i in range(6)]
    data = embeddings_from_arrays(X, Y, names=names)
    assert data.fold is not None
    assert data.fold.tolist() == [1, 2, 3, 4, 5, 1]
    assert data.group is not None
    assert data.group.tolist() == ["900", "900", "901", "901", "902", "902"]


def test_later_changes_to_what_was_given_do_not_show() -> None:
    given: dict[str, Any] = {
        "x": X.copy(),
        "y": Y.copy(),
        "fold": np.array([3, 3, 3, 7, 7, 7]),
        "group": np.array([1, 2, 3, 4, 5, 6]),
    }
    data = embeddings_from_arrays(**given)
    kept = [data.x.copy(), data.y.copy(), data.fold, data.group]
    for array in given.values():
        array[:] = 0
    again = embeddings_from_arrays(kept[0], kept[1], fold=data.fold, group=data.group)
    assert again.digest == data.digest
    assert data.group is not None
    assert data.group.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": [[1.0], [2.0, 3.0]]}, "arrays: 'x' cannot be made an array: "),
        ({"x": torch.ones(6, 3, requires_grad=True)}, "arrays: 'x' cannot be made an array: "),
        ({"x": X[0]}, "arrays: x must be numbers of shape [clips, features], but is float32 of"),
        ({"x": X * np.nan}, "arrays, row 0, column 0: nan is not a finite float32; 18 such"),
        ({"y": Y[:5]}, "arrays: 'y' must have one value for each of the 6 rows of x, but has sh"),
        ({"y": Y - 1}, "arrays: class labels must be whole numbers from 0, but found -1"),
        ({"y": Y * 0}, "arrays has one class only (0); need at least 2"),
        ({"fold": [0.5] * 6}, "arrays: 'fold' must hold whole numbers"),
        ({"group": ["a", "b", None, "c", "d", "e"]}, "arrays: 'group' has empty cells"),
        ({"names": ["a"]}, "arrays: 'names' must have one value for each of the 6 rows of x"),
        ({"class_names": ["a"]}, "arrays: 1 class names for 3 classes"),
    ],
)
def test_what_cannot_be_used_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        embeddings_from_arrays(**{"x": X, "y": Y, **values})


# --- the encoder ---


@pytest.mark.parametrize("name", [MADE_BY, "a@00000000", f"{'x.y_z-9' * 9}@ffffffff"])
def test_the_encoder_of_a_file_is_read_and_stays_with_parts(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "some.npz", x=X, y=Y, encoder=name)
    data = load_embeddings(tmp_path / "some.npz")
    assert data.encoder == name
    assert take_rows(data, np.arange(3)).encoder == name


@pytest.mark.parametrize(
    "encoder",
    ["logmel", "logmel@1a2b3c4", "logmel@1a2b3c4d5", "logmel@1A2B3C4D", "Logmel@1a2b3c4d"]
    + ["@1a2b3c4d", "x" * 65 + "@1a2b3c4d", "a b@1a2b3c4d", "a@b@1a2b3c4d", "logmel@1a2b3c4d\n"]
    + [[MADE_BY], 5],
)
def test_an_encoder_in_another_form_is_refused(tmp_path: Path, encoder: Any) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, x=X, y=Y, encoder=encoder)
    message = "'encoder' must be a name and eight hexadecimal digits such as "
    with pytest.raises(DataError, match=re.escape(f"data.path: {path}: {message}")):
        load_embeddings(path)
    with pytest.raises(DataError, match=f"^arrays: {message}"):
        embeddings_from_arrays(X, Y, encoder=encoder)


# --- one array alone ---


def test_a_npy_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "some.npy"
    np.save(path, X)
    message = (
        f"data.path: {path} holds one array and no labels; write both into a .npz file: "
        "numpy.savez('some', x=numpy.load('some.npy'), y=LABELS)"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_embeddings(path)
