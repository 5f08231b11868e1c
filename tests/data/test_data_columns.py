"""What a column is: used for what it is where that is certain, else refused, never a feature."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qwave.audio import open_data
from qwave.config import ConfigError, DataError
from qwave.data import EmbeddingSet, embeddings_from_frame, load_embeddings
from qwave.data.columns import sort_columns
from qwave.exporting.record import Search
from qwave.space import load_sweep, parse_config
from qwave.sweep import plan_sweep
from qwave.sweep.searched import load_searched

N = 24
SWEEP = Path(__file__).resolve().parents[2] / "sweeps" / "moe_pareto.yaml"


def frame(**columns: Any) -> pd.DataFrame:
    """Two classes, three folds, two features, and other columns in front."""
    rng = np.random.default_rng(0)
    own = {
        "class_id": np.arange(N) % 2,
        "fold": np.arange(N) // 2 % 3,
        "f0": rng.normal(size=N),
        "f1": rng.normal(size=N),
    }
    return pd.DataFrame({**columns, **own})


@pytest.fixture(params=["frame", "csv", "parquet"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., EmbeddingSet]:
    """Reads a frame in each of the forms that a table has."""

    def of(table: pd.DataFrame, **how: Any) -> EmbeddingSet:
        if request.param == "frame":
            return embeddings_from_frame(table, **how)
        path = tmp_path / f"some.{request.param}"
        if request.param == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path)
        return load_embeddings(path, **how)

    return of


# --- features by whatever name ---

SCHEMES: dict[str, Callable[[int], str]] = {
    "f0": lambda i: f"f{i}",
    "0": str,
    "feature.3": lambda i: f"feature.{i}",
    "emb[3]": lambda i: f"emb[{i}]",
    "Feature 3": lambda i: f"Feature {i}",
    "mfcc_3_mean": lambda i: f"mfcc_{i}_mean",
    "class_3": lambda i: f"class_{i}",
    "y3": lambda i: f"y{i}",
    "letters": lambda i: "abcdefghijkl"[i],
    "hand-made": lambda i: ("rms", "zcr", "centroid", "rolloff", "flux", "energy", "f", "g")[i],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_columns_of_a_naming_scheme_are_features(scheme: str) -> None:
    x = np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32)
    names = [SCHEMES[scheme](column) for column in range(8)]
    table = pd.DataFrame(x, columns=names).assign(class_id=np.arange(N) % 2)
    np.testing.assert_array_equal(embeddings_from_frame(table).x, x)


def test_whole_numbers_and_row_numbers_in_a_scheme_are_features() -> None:
    table = frame().assign(f2=np.arange(N), f3=np.arange(N) % 2)
    assert embeddings_from_frame(table).x.shape == (N, 4)


# --- used for what it is ---


@pytest.mark.parametrize(
    ("role", "name", "note"),
    [
        ("label", "classID", None),
        ("label", "category", "the label is column 'category'"),
        ("fold", "FOLDS", None),
        ("fold", "cv-fold", "the fold is column 'cv-fold'"),
        ("group", "Group", None),
        ("group", "Speaker ID", "the group is column 'Speaker ID'"),
        ("name", "slice_file_name", None),
    ],
)
def test_a_role_by_another_name_is_used_for_what_it_is(
    role: str, name: str, note: str | None
) -> None:
    cells: Any = {
        "label": np.array(["cat", "dog"])[np.arange(N) % 2],
        "fold": np.arange(N) // 4 % 2 + 1,
        "group": np.arange(N) // 3 + 5,
        "name": [f"clip{i}.wav" for i in range(N)],
    }[role]
    table = frame().drop(columns={"label": "class_id", "fold": "fold"}.get(role, []))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = embeddings_from_frame(
            pd.concat([pd.DataFrame({name: cells}), table], axis="columns")
        )
    assert [str(warning.message).split(": ")[-1] for warning in caught] == ([note] if note else [])
    assert data.x.shape == (N, 2)
    used: Any = {"label": data.y, "fold": data.fold, "group": data.group, "name": data.names}[role]
    assert used is not None
    expected = np.arange(N) % 2 if role == "label" else cells
    assert list(used) == list(expected)


def test_the_columns_of_published_data_sets_are_used(read: Callable[..., EmbeddingSet]) -> None:
    words = np.array(["dog", "cat"])[np.arange(N) % 2]
    esc = frame(filename="a.wav", target=np.arange(N) % 2, category=words, src_file=np.arange(N))
    with pytest.warns(
        UserWarning, match="the label is column 'target'; the group is column 'src_"
    ):
        data = read(esc.drop(columns="class_id"))
    assert data.class_names == ("dog", "cat")
    urban = frame(slice_file_name="a", fsID=np.arange(N), classID=np.arange(N) % 2)
    urban = urban.drop(columns="class_id").assign(**{"class": words})
    with pytest.warns(UserWarning, match="the group is column 'fsID'$"):
        data = read(urban)
    assert data.class_names == ("dog", "cat")
    assert data.x.shape == (N, 2)


# --- refused ---


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"class_id.1": np.arange(N) % 2},
            "column 'class_id.1' is a second 'class_id', renamed; dr",
        ),
        ({"target": np.arange(N) % 3}, "class_id 0 has several values of 'target': 0, 1, 2 (row "),
        ({"Fold": np.arange(N)}, "columns 'Fold' and 'fold' could each be the fold; keep the one"),
        ({"Subset": 0}, "column 'Subset' says which clips train and which test, which qwave does"),
        ({"esc10": True, "take": "A"}, "column 'esc10', 'take' looks like an index or a note abo"),
        (
            {"Unnamed: 0": range(N)},
            "column 1 has no name; if it is an index that was written alon",
        ),
        ({"fileIndex": range(N)}, "column 'fileIndex' may be no feature; name it 'name' if that"),
        ({"gruop": range(N)}, "column 'gruop' may be no feature; name it 'group' if that is what"),
        (
            {"clipno": np.arange(N) + 7},
            "column 'clipno' numbers the rows, which may give the labels",
        ),
        ({"kind": 7 - np.arange(N) % 2}, "column 'kind' is the label once more, in other numbers"),
        ({"device": "phone"}, "column 'device': 'phone' is not a number; write "),
        ({"lasts": pd.Timedelta("1s")}, "column 'lasts': "),
    ],
)
def test_what_is_not_certain_is_refused_unless_the_features_are_listed(
    columns: dict[str, Any], message: str
) -> None:
    table = frame(**columns)
    with pytest.raises(DataError, match=re.escape(message)):
        embeddings_from_frame(table)
    if any(word in message for word in ("could each", "several")):
        return
    with pytest.warns(UserWarning, match="not used: .*" + re.escape(next(iter(columns)))):
        data = embeddings_from_frame(table, feature_columns=["f0", "f1"])
    np.testing.assert_array_equal(data.x, frame()[["f0", "f1"]].to_numpy(np.float32))
    assert data.fold is not None


def test_the_label_in_other_numbers_is_refused_in_a_scheme_too() -> None:
    classes = np.arange(N) % 4
    table = frame().assign(class_id=classes, f2=10 - classes)
    with pytest.raises(
        DataError, match="^frame: column 'f2' is the label once more, in other num"
    ):
        embeddings_from_frame(table)
    # Chance makes a column of zeros and ones the label of two classes.
    assert embeddings_from_frame(frame().assign(f2=np.arange(N) % 2)).x.shape == (N, 3)


@pytest.mark.parametrize("seed", range(5))
def test_columns_of_noise_are_never_taken_for_something_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(4, 40)), int(rng.integers(1, 30))
    x = rng.integers(0, int(rng.integers(2, 9)), size=(n, d))
    classes = np.arange(n) % int(rng.integers(2, 4))
    data = embeddings_from_frame(
        pd.DataFrame(x, columns=[f"f{i}" for i in range(d)]).assign(label=classes.astype(str))
    )
    np.testing.assert_array_equal(data.x, x, err_msg=f"{seed=}")


# --- told ---


@pytest.mark.parametrize(
    ("names", "chosen", "features", "left_out"),
    [
        (["label", "f0", "f1", "g"], "f", [1, 2], [3]),
        (["label", "fold", "folder", "filename", "f0"], "f", [4], []),
        (["label", "e0", "e1", "end", "esc10"], "e", [1, 2], [3, 4]),
        (["label", "pred"], "pred", [1], []),
        (["label", "index", "f0"], ["index"], [1], [2]),
        (["label", "x", "y"], ["x", "y"], [1, 2], []),
        (["label", "a", "a", "f0"], ["f0"], [3], [1, 2]),
        (["label", " f0".strip(), "f1"], [" f1 "], [2], [1]),
    ],
)
def test_features_that_are_told_are_the_features(
    names: list[str], chosen: Sequence[str] | str, features: list[int], left_out: list[int]
) -> None:
    columns = sort_columns(names, "frame", chosen)
    assert list(columns.features) == features
    assert list(columns.left_out) == left_out
    assert columns.labels == (0,)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            ["f0", "f9"],
            "lists 'f9', but there is no such column (did you mean 'f1'?); the first co",
        ),
        ("emb", "='emb', but no feature's name begins so; the first columns are label, fold, f0"),
        (
            "fol",
            "='fol', but no feature's name begins so (did you mean 'fold'?); the first column",
        ),
        (3, "must be a list of columns' names, or one text that they begin with, but is 3"),
        ([], "must list at least one column, but lists none"),
        (["label"], " has no column 'class_id'"),
    ],
)
def test_columns_that_are_not_there_cannot_be_features(chosen: Any, message: str) -> None:
    names = ["label", "fold", "f0", "f1"]
    with pytest.raises(DataError, match=re.escape(message)):
        sort_columns(names, "frame", chosen)


def test_a_column_of_lists_is_told_among_others(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    table = pd.DataFrame({"embedding": list(x), "loud": 1.5, "label": ["a", "b"] * (N // 2)})
    table.to_parquet(tmp_path / "some.parquet")
    with pytest.warns(UserWarning, match="not used: 'loud'"):
        data = load_embeddings(tmp_path / "some.parquet", feature_columns="embedding")
    np.testing.assert_array_equal(data.x, x)


# --- told by a configuration ---


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.feature_columns=f", "f"),
        ("data.feature_columns=[f0, f1]", ("f0", "f1")),
        ("data.feature_columns=[0, 1]", ("0", "1")),
        ("data.feature_columns=null", None),
    ],
)
def test_a_sweep_tells_the_features_and_keeps_its_digest(override: str, expected: Any) -> None:
    sweep = load_sweep(SWEEP, [override])
    assert sweep.data.feature_columns == expected
    assert sweep.digest == load_sweep(SWEEP).digest


def test_features_of_another_kind_are_refused() -> None:
    message = "data.feature_columns = {'a': 1}: must be a list of columns' names, or "
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_sweep(SWEEP, ["data.feature_columns={a: 1}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["''", "[]"])
def test_no_features_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"`len\(data.feature_columns\) >= 1` must hold"):
        load_sweep(SWEEP, [f"data.feature_columns={value}"])


@pytest.mark.slow
def test_a_sweep_and_an_export_read_the_features_that_are_told(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    frame(index=range(N)).to_csv(path, index=False)
    keys = {"data.path": str(path), "data.feature_columns": ["f1"], "data.n_folds": 3}
    overrides = [f"data.path={path}", "data.feature_columns=[f1]", "data.n_folds=3"]
    with pytest.warns(UserWarning, match="not used: 'index', 'f0'$"):
        data = plan_sweep(load_sweep(SWEEP, overrides)).data
    assert data.x.shape == (N, 1)
    search = Search("some", "0" * 16, data.digest, 1)
    with pytest.warns(UserWarning, match="not used: 'index', 'f0'$"):
        assert (
            load_searched(parse_config(keys), search.name, search.data_digest).searched.digest
            == data.digest
        )


def test_features_cannot_be_told_where_there_are_no_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x=np.eye(4), y=[0, 1, 0, 1])
    for path in ("esc10", str(tmp_path / "some.npz")):
        with pytest.raises(
            DataError, match=r"^data.feature_columns names columns of a table, but "
        ):
            load_embeddings(path, feature_columns="f")
    with pytest.raises(
        DataError, match="holds clips, whose features an encoder makes; leave data"
    ):
        open_data(str(tmp_path), None, "f")
