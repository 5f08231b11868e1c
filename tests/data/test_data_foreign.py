"""Tables and arrays as other programs write them: used for what they are, or refused rightly."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import scipy.sparse
import torch
from pyarrow import parquet

from qwave.config import DataError
from qwave.data import (
    EmbeddingSet,
    embeddings_from_arrays,
    embeddings_from_frame,
    load_embeddings,
)

N = 40
Y = np.arange(N) % 4
WORDS = np.array(["dog", "rain", "siren", "wind"])[Y]
X = (np.random.default_rng(0).normal(size=(N, 6)) + Y[:, None]).astype(np.float32)
NAMES = [f"f{i}" for i in range(6)]


def frame(**columns: Any) -> pd.DataFrame:
    """Four classes in turn, six features, and other columns behind."""
    return pd.DataFrame(X, columns=NAMES).assign(label=WORDS, **columns)


def lines(row: Callable[[int], str] = lambda i: WORDS[i]) -> list[str]:
    """The lines of a CSV file; `row` writes the label of a row."""
    head = ",".join(["label", *NAMES])
    return [head, *(",".join([row(i), *map(repr, X[i].tolist())]) for i in range(N))]


def written(folder: Path, rows: list[str], suffix: str = "csv") -> Path:
    path = folder / f"some.{suffix}"
    path.write_text("\n".join(rows))
    return path


def notes(read: Callable[[], EmbeddingSet]) -> tuple[EmbeddingSet, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = read()
    return data, [str(warning.message) for warning in caught]


# --- columns ---


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        *((name, "class_id") for name in ("étiquette", "y_true", "labels_int")),
        *(("client_id", "group"), ("Dateiname", "name")),
    ],
)
def test_numbers_that_are_likely_something_else_are_refused(name: str, likely: str) -> None:
    table = frame(**{name: np.random.default_rng(0).integers(0, 900, N)})
    message = f"frame: column {name!r} may be no feature; name it {likely!r} if that is what it is"
    with pytest.raises(DataError, match=f"^{re.escape(message)}.*list the features with feature_"):
        embeddings_from_frame(table)
    data, said = notes(lambda: embeddings_from_frame(table, feature_columns="f"))
    np.testing.assert_array_equal(data.x, X)
    assert said == [f"frame: not used: {name!r}"]


@pytest.mark.parametrize("name", ["End Time", "is_val"])
def test_where_and_when_a_clip_was_made_is_no_feature(name: str) -> None:
    with pytest.raises(DataError, match=f"column {name!r} (looks like|says which).*list the feat"):
        embeddings_from_frame(frame(**{name: np.random.default_rng(0).random(N)}))


def test_the_likely_label_is_named_where_there_is_none() -> None:
    wide = pd.DataFrame(np.ones((N, 40))).assign(emotion=WORDS)
    message = (
        "^frame has no column 'class_id'; its first columns are 0, 1, 2, 3, 4, 5, 6, 7 and its "
        "last 39, emotion; if 'emotion' is the label, name it label$"
    )
    with pytest.raises(DataError, match=message):
        embeddings_from_frame(wide)
    assert embeddings_from_frame(wide.rename(columns={"emotion": "label"})).x.shape == (N, 40)


def test_a_coarser_label_is_refused() -> None:
    with pytest.raises(DataError, match="column 'kind' has one number for all clips of a class, "):
        embeddings_from_frame(frame(kind=Y // 2))
    # Among columns of a scheme it may be chance, and a constant says nothing.
    assert embeddings_from_frame(frame(f6=Y // 2)).x.shape == (N, 7)
    assert notes(lambda: embeddings_from_frame(frame(kind=1)))[0].x.shape == (N, 7)


def test_whole_numbers_beside_numbered_features_are_noted() -> None:
    rng = np.random.default_rng(0)
    table = frame(year=rng.integers(1990, 2020, N), snr=rng.random(N), age=rng.integers(1, 9, N))
    with pytest.warns(
        UserWarning, match="^frame: 'year', 'age' are features of whole numbers; if"
    ):
        assert embeddings_from_frame(table).x.shape == (N, 9)
    # Told, or all of them whole, or of no scheme, they are as good as the others.
    embeddings_from_frame(table, feature_columns=[*NAMES, "year", "snr", "age"])
    whole = pd.DataFrame(rng.integers(0, 99, (N, 4)), columns=["f0", "f1", "f2", "year"])
    embeddings_from_frame(whole.assign(label=WORDS))
    own = table.rename(columns=dict(zip(NAMES, "abcdef", strict=True)))
    embeddings_from_frame(own)


# --- indexes ---


@pytest.mark.parametrize("form", ["frame", "parquet"])
def test_levels_of_an_index_that_have_a_role_are_used(form: str, tmp_path: Path) -> None:
    table = frame(fold=np.arange(N) // 4 % 2, clip=[f"c{i}" for i in range(N)], when=np.arange(N))
    table = table.set_index(["label", "fold", "clip", "when"])
    table.to_parquet(tmp_path / "some.parquet")
    data = (
        embeddings_from_frame(table)
        if form == "frame"
        else load_embeddings(tmp_path / "some.parquet")
    )
    np.testing.assert_array_equal(data.x, X)
    assert data.class_names == ("dog", "rain", "siren", "wind")
    assert data.fold is not None
    assert data.fold.tolist() == (np.arange(N) // 4 % 2).tolist()
    assert data.names[:2] == ("c0", "c1")


def test_columns_of_several_levels_are_refused_and_the_advice_works() -> None:
    table = frame()
    table.columns = pd.MultiIndex.from_tuples([*(("f", i) for i in range(6)), ("label", "")])
    with pytest.raises(DataError, match="^frame: the columns have 2 levels of names; write one "):
        embeddings_from_frame(table)
    flat = ["_".join(map(str, name)).strip("_") for name in table.columns]
    np.testing.assert_array_equal(embeddings_from_frame(table.set_axis(flat, axis=1)).x, X)


# --- text ---

REFUSED: dict[str, tuple[Callable[[], list[str]], str]] = {
    "no header": (
        lambda: lines()[1:],
        "; if these are numbers of the first clip, write a header above it, label,f0,f1,...",
    ),
    "transposed": (
        lambda: [
            ",".join(row) for row in zip(*(line.split(",") for line in lines()), strict=True)
        ],
        " has several columns named 'dog', and most others share their names too; if each column ",
    ),
    "transposed below names": (
        lambda: [
            ",".join(["feature", *(f"s{i}" for i in range(N))]),
            *(",".join(row) for row in zip(*(line.split(",") for line in lines()), strict=True)),
        ],
        " has a row 'label', but no such column: each column seems to be a clip; transpose the ",
    ),
    "a title of all cells": (
        lambda: ["Table 1,,,,,,", *lines()],
        " has no column 'class_id', but row 1 below its first names one (label, f0, f1, f2, ...)",
    ),
    "a header of groups": (
        lambda: ["meta,features,,,,,", ",db,,,,,", *lines()],
        " has no column 'class_id', but row 2 below its first names one (label, f0, f1, f2, ...)",
    ),
    "units": (
        lambda: [lines()[0], "-,dB,dB,Hz,Hz,s,s", *lines()[1:]],
        ", row 2: 'dB' is not a number, nor is any other cell of a feature; leave the row out if ",
    ),
    "the header again": (
        lambda: [*lines()[:9], lines()[0], *lines()[9:]],
        ", row 10: 'f0' is not a number, nor is any other cell of a feature; leave the row out if",
    ),
    "a total": (
        lambda: [*lines(), "Total,1,1,1,1,1,1"],
        ", row 42: 'Total' seems to be a summary of the rows above it, and no clip; leave such ",
    ),
    "spaces between quoted cells": (
        lambda: ['"' + line.replace(",", '" "') + '"' for line in lines()],
        "the header must name the columns, with a comma, a semicolon, a tab or | between them",
    ),
    "an empty column": (
        lambda: [f"{line},{'' if i else 'rms'}" for i, line in enumerate(lines())],
        ", row 2, column 'rms': nan is not a finite float32; 40 such values in all; no row has a "
        "number there: leave the column out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_table_is_refused_with_what_helps(tmp_path: Path, name: str) -> None:
    rows, message = REFUSED[name]
    path = written(tmp_path, rows())
    with pytest.raises(DataError, match=f"^data.path: {re.escape(str(path))}") as caught:
        load_embeddings(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_of_one_clip_may_be_named_as_a_sum_where_it_is_not_last(tmp_path: Path) -> None:
    rows = lines(lambda i: "total" if i == 3 else WORDS[i])
    assert "total" in load_embeddings(written(tmp_path, rows)).class_names
    rows = lines(lambda i: "total" if i > N - 3 else WORDS[i])
    assert "total" in load_embeddings(written(tmp_path, rows)).class_names


def test_labels_with_leading_zeros_are_called_as_they_are_written(tmp_path: Path) -> None:
    path = written(tmp_path, lines(lambda i: f"{Y[i] + 1:02}"))
    data = load_embeddings(path)
    assert data.class_names == ("01", "02", "03", "04")
    assert (
        data.digest
        == embeddings_from_frame(
            frame()
            .assign(label=data.y)
            .astype({"label": str})
            .replace({"label": dict(zip("0123", data.class_names, strict=True))})
        ).digest
    )
    # Named by another column they are numbers.
    rows = [
        f"{line},{'category' if i == 0 else WORDS[i - 1]}"
        for i, line in enumerate(lines(lambda i: f"{Y[i]:02}"))
    ]
    assert load_embeddings(written(tmp_path, rows)).class_names == ("dog", "rain", "siren", "wind")


@pytest.mark.parametrize("dtype", [np.float64, object, "Int64"])
def test_recordings_are_the_same_in_every_type_of_number(dtype: Any) -> None:
    groups = np.arange(N) // 2 * 7
    expected = embeddings_from_arrays(X, WORDS, group=groups)
    given = pd.Series(groups).astype(dtype)
    assert embeddings_from_arrays(X, WORDS, group=given).digest == expected.digest
    assert embeddings_from_frame(frame(group=given)).digest == expected.digest


# --- lists ---


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [None, *X[1:].tolist()],
            ", row 0, column 'e': every row must be a list of 6 numbers like",
        ),
        ([[row, row] for row in X.tolist()], ", row 0, column 'e' holds lists within the list; "),
    ],
)
def test_lists_that_are_no_rows_of_numbers_are_refused(
    tmp_path: Path, cells: list[Any], message: str
) -> None:
    path = tmp_path / "some.parquet"
    parquet.write_table(pa.table({"label": WORDS, "e": pa.array(cells)}), path)
    with pytest.raises(DataError, match=re.escape(f"{path}{message}")):
        load_embeddings(path)
    with pytest.raises(DataError, match=re.escape(f"frame{message}")):
        embeddings_from_frame(pd.DataFrame({"label": WORDS, "e": cells}))


def test_lists_beside_others_name_the_way_out() -> None:
    table = pd.DataFrame({"label": WORDS, "e": X.tolist(), "audio": "a"})
    with pytest.raises(DataError, match="audio; drop these, or give feature_columns=e$"):
        embeddings_from_frame(table)
    with pytest.warns(UserWarning, match="not used: 'audio'"):
        np.testing.assert_array_equal(embeddings_from_frame(table, feature_columns="e").x, X)


# --- arrays ---


@pytest.mark.parametrize(
    ("arrays", "ours", "expected"),
    [
        ({"Fold": Y}, "fold", Y.tolist()),
        ({"speakers": WORDS}, "group", WORDS.tolist()),
        ({"src_file": Y, "group": Y // 2}, "group", (Y // 2).tolist()),
        ({"filepath": WORDS}, "names", WORDS.tolist()),
        ({"target_names": ["a", "b", "c", "d"]}, "class_names", ["a", "b", "c", "d"]),
    ],
)
def test_arrays_by_another_name_are_used_for_what_they_are(
    tmp_path: Path, arrays: dict[str, Any], ours: str, expected: list[Any] | None
) -> None:
    np.savez(tmp_path / "some.npz", x=X, y=Y, **arrays)
    data, said = notes(lambda: load_embeddings(tmp_path / "some.npz"))
    other = next(iter(arrays))
    is_noted = ours in ("fold", "group") and ours not in arrays
    assert [note.split(": ")[-1] for note in said] == [f"the {ours} is array {other!r}"] * is_noted
    found = getattr(data, ours)
    assert list(found) == (expected or [str(i) for i in range(N)])


@pytest.mark.parametrize("name", ["split", "user_id"])
def test_an_array_that_may_keep_clips_apart_is_not_left_unsaid(tmp_path: Path, name: str) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, allow_pickle=False, x=X, y=Y, **{name: WORDS})
    with pytest.warns(UserWarning, match=f": not used: {name!r}; name an array of official folds"):
        load_embeddings(path)
    ours = "fold" if "fold" in name or name == "split" else "group"
    np.savez(path, allow_pickle=False, x=X, y=Y, **{name: WORDS, ours: Y})
    load_embeddings(path)


@pytest.mark.parametrize(
    ("x", "y", "remedy"),
    [
        (X.T, Y, "x has a column for each clip: write x=x.T"),
        (X, np.eye(4)[Y], "write y=y.argmax(axis=1) if it has a column for each class"),
        (X, Y[:, None], "write y=y.ravel()"),
        (X, np.array(3), "write one value for each clip"),
        (X.reshape(N, 2, 3), Y, "write x=x.mean(axis=1) if the second axis is time"),
        (X[:, 0], Y, "write x=x.reshape(-1, 1) if there is one feature"),
        (X.astype(str), Y, "write x=x.astype(float), or one row of real numbers for each clip"),
        (
            np.array([tuple(row) for row in X], [(name, "f4") for name in NAMES]),
            Y,
            "write x=numpy.lib.recfunctions.structured_to_unstructured(x)",
        ),
        (scipy.sparse.csr_matrix(X), Y, "write x=x.toarray()"),
    ],
)
def test_arrays_of_another_shape_are_refused_with_what_to_write(
    x: Any, y: np.ndarray, remedy: str
) -> None:
    with pytest.raises(DataError, match=f"^arrays: .*; {re.escape(remedy)}$"):
        embeddings_from_arrays(x, y)


def test_archives_of_other_libraries_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(X))
    with pytest.raises(DataError, match="it is a sparse matrix of scipy, without labels; write "):
        load_embeddings(path)
    x = scipy.sparse.load_npz(path).toarray()
    np.savez(path, x=x, y=Y)
    np.testing.assert_array_equal(load_embeddings(path).x, X)
    torch.save({"x": torch.tensor(X)}, path)
    with pytest.raises(DataError, match="it is a file of torch.save; load it with torch, and wri"):
        load_embeddings(path)
