"""Reading embeddings: what is taken from a file, and one message for each way to be wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwave.config import DataError
from qwave.data import load_embeddings

X = np.arange(18, dtype=np.float32).reshape(6, 3) / 4
Y = np.array([0, 1, 2, 0, 1, 2])

CSV = """folder,name,label,category,class_id,f0,f1
fold1,100032-3-0-0.wav,dog,animals,0,0.5,-1
fold1,100263-2-0-117.wav,rain,nature,1,1.5,2
fold2,100648-1-0-0.wav,dog,animals,0,0.25,3e-2
fold2,100648-1-1-0.wav,rain,nature,1,-0.5,4
"""


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    def write(**arrays: Any) -> Path:
        path = tmp_path / "some.npz"
        np.savez(path, **{"x": X, "y": Y, **arrays})
        return path

    return write


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "some.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _refused(path: Path | str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        load_embeddings(path)


# --- what is read ---


def test_an_npz_file_gives_its_arrays_back(npz: Callable[..., Path]) -> None:
    data = load_embeddings(
        npz(
            fold=[3, 3, 3, 7, 7, 7],
            group=np.array(list("abcabd")),
            names=[f"{i}.wav" for i in range(6)],
            class_names=["p", "q", "r"],
        )
    )
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    assert data.x.dtype == np.float32
    assert data.y.dtype == np.int64
    assert data.fold is not None
    assert data.fold.tolist() == [3, 3, 3, 7, 7, 7]
    assert data.group is not None
    assert data.group.tolist() == list("abcabd")
    assert data.class_names == ("p", "q", "r")
    assert data.names == tuple(f"{i}.wav" for i in range(6))
    assert data.num_classes == 3


@pytest.mark.parametrize(
    ("features", "labels"),
    [("X", "labels"), ("embeddings", "label"), ("features", "target"), ("x", "class_id")],
)
def test_other_peoples_array_names_are_accepted(
    tmp_path: Path, features: str, labels: str
) -> None:
    path = tmp_path / "theirs.npz"
    arrays: dict[str, Any] = {features: X.astype(np.float64), labels: Y.astype(np.int8)}
    np.savez_compressed(path, **arrays)
    data = load_embeddings(path)
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)


def test_a_csv_file_in_the_reference_layout_is_read(table: Callable[[str], Path]) -> None:
    data = load_embeddings(table(CSV))
    np.testing.assert_array_equal(
        data.x, np.array([[0.5, -1], [1.5, 2], [0.25, 0.03], [-0.5, 4]], np.float32)
    )
    assert data.y.tolist() == [0, 1, 0, 1]
    assert data.class_names == ("dog", "rain")
    assert data.names[2] == "100648-1-0-0.wav"
    # Folds from the folders, recordings from UrbanSound8K's names.
    assert data.fold is not None
    assert data.fold.tolist() == [1, 1, 2, 2]
    assert data.group is not None
    assert data.group.tolist() == ["100032", "100263", "100648", "100648"]


def test_columns_fold_and_group_win_over_what_names_say(table: Callable[[str], Path]) -> None:
    lines = CSV.splitlines()
    added = [f"{lines[0]},fold,group"]
    added += [f"{line},{8 + i % 2},{i}" for i, line in enumerate(lines[1:])]
    data = load_embeddings(table("\n".join(added)))
    assert data.x.shape == (4, 2)
    assert data.fold is not None
    assert data.fold.tolist() == [8, 9, 8, 9]
    assert data.group is not None
    assert data.group.tolist() == [0, 1, 2, 3]


def test_a_csv_file_needs_class_id_and_features_only(table: Callable[[str], Path]) -> None:
    data = load_embeddings(table("class_id,a\n1,2\n0,3\n"))
    assert data.x.tolist() == [[2.0], [3.0]]
    assert data.class_names == ("0", "1")
    assert (data.fold, data.group) == (None, None)


def test_one_name_in_no_published_form_leaves_folds_and_recordings_unknown(
    npz: Callable[..., Path],
) -> None:
    names = ["1-9-A-0.wav"] * 5 + ["dog.wav"]
    data = load_embeddings(npz(names=names))
    assert (data.fold, data.group) == (None, None)


# --- labels ---


def test_gaps_in_the_labels_are_closed_with_a_warning(npz: Callable[..., Path]) -> None:
    path = npz(y=[5, 2, 9, 5, 2, 9])
    with pytest.warns(UserWarning, match=r"class labels 2, 5, 9 were mapped to 0\.\.2 in this"):
        data = load_embeddings(path)
    assert data.y.tolist() == [1, 0, 2, 1, 0, 2]
    assert data.class_names == ("2", "5", "9")


def test_class_names_follow_labels_that_have_gaps(npz: Callable[..., Path]) -> None:
    path = npz(y=[0, 2, 3, 0, 2, 3], class_names=["a", "unused", "c", "d"])
    with pytest.warns(UserWarning, match="class labels 0, 2, 3 were mapped"):
        data = load_embeddings(path)
    assert data.class_names == ("a", "c", "d")


def test_labels_of_a_csv_file_follow_class_ids_that_have_gaps(
    table: Callable[[str], Path],
) -> None:
    path = table("label,class_id,f0\nsea,7,1\ndog,3,2\nsea,7,3\n")
    with pytest.warns(UserWarning, match="class labels 3, 7 were mapped"):
        data = load_embeddings(path)
    assert data.class_names == ("dog", "sea")
    assert data.y.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 1, -1, 0, 1, -2], "-1, -2"),
        ([0, 1, 0.5, 0, 1, np.inf], "0.5, inf"),
    ],
)
def test_labels_that_are_no_whole_numbers_from_0_are_refused(
    npz: Callable[..., Path], labels: list[float], found: str
) -> None:
    _refused(npz(y=labels), f"class labels must be whole numbers from 0, but found {found}")


def test_one_class_only_is_refused(npz: Callable[..., Path]) -> None:
    _refused(npz(y=np.array(["dog"] * 6)), "has one class only (dog); need at least 2")


# --- bad files ---


def test_a_missing_file_is_refused_and_the_allowed_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "none.npz"
    _refused(path, f"data.path: no such file: {path} (allowed: esc10, FILE.npz, FILE.csv, ")


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.feather"
    path.write_bytes(b"PAR1")
    _refused(path, f"data.path: {path} is neither a .npz nor a .csv file")


def test_a_directory_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "folder.npz"
    path.mkdir()
    _refused(path, f"data.path: {path} is neither a .npz nor a .csv file")
    path = tmp_path / "some.csv"
    path.touch()
    _refused(path, f"data.path: {path} is empty")


def test_an_npz_file_of_python_objects_is_refused_and_never_unpickled(
    npz: Callable[..., Path], tmp_path: Path
) -> None:
    marker = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    _refused(npz(names=np.array([Trap()] * 6)), "(arrays of Python objects are refused)")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": Y}, "has no array 'x' (also accepted: X, embeddings, features); it holds y"),
        ({"x": X}, "has no array 'y' (also accepted: labels, label, target, class_id); it h"),
        ({"embedings": X, "y": Y}, "it holds embedings, y (did you mean 'embeddings'?)"),
    ],
)
def test_a_missing_array_is_named_with_what_there_is(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's own keyword is typed bool
    _refused(path, message)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[None], "x must be numbers of shape [clips, features], but is float32 of shape (1, 6,"),
        (X[:, :0], "is empty: x has shape (6, 0)"),
        (X[:0], "is empty: x has shape (0, 3)"),
    ],
)
def test_features_that_are_no_matrix_of_numbers_are_refused(
    npz: Callable[..., Path], x: np.ndarray, message: str
) -> None:
    _refused(npz(x=x), message)


@pytest.mark.parametrize(("value", "shown"), [(-np.inf, "-inf"), (1e39, "1e+39")])
def test_a_feature_that_is_not_finite_is_refused_with_its_place(
    npz: Callable[..., Path], value: float, shown: str
) -> None:
    x = X.astype(np.float64)
    x[4, 1] = x[5, 0] = value
    _refused(npz(x=x), f"row 4, column 1: {shown} is not a finite float32; 2 such values in all")


@pytest.mark.parametrize("key", ["y", "fold", "group", "names"])
def test_an_array_of_another_length_is_refused(npz: Callable[..., Path], key: str) -> None:
    _refused(
        npz(**{key: np.arange(7)}),
        f"{key!r} must have one value for each of the 6 rows of x, but has shape (7,)",
    )


# --- bad tables ---


def test_a_csv_file_without_class_id_is_refused_with_the_nearest_column(
    table: Callable[[str], Path],
) -> None:
    _refused(
        table("clas_id,f0\n0,1\n1,2\n"),
        "has no column 'class_id' (did you mean 'clas_id'?); its first columns are clas_id, f0; "
        "name the column of the labels class_id (whole numbers) or label (names)",
    )
    _refused(table("a,b\n1,2\n"), "has no column 'class_id'; its first columns are a, b")


# --- the digest ---


def _all_content() -> dict[str, Any]:
    return {
        "x": X.copy(),
        "y": Y.copy(),
        "fold": np.array([1, 1, 1, 2, 2, 2]),
        "group": np.array(list("abcabd")),
        "names": np.array([f"{i}.wav" for i in range(6)]),
        "class_names": np.array(["p", "q", "r"]),
    }


def test_the_digest_is_that_of_the_content_not_of_the_file(tmp_path: Path) -> None:
    content = _all_content()
    np.savez(tmp_path / "one.npz", **content)
    np.savez_compressed(tmp_path / "two.npz", **dict(reversed(content.items())))
    one, two = load_embeddings(tmp_path / "one.npz"), load_embeddings(tmp_path / "two.npz")
    assert re.fullmatch(r"[0-9a-f]{16}", one.digest)
    assert one.digest == two.digest


@pytest.mark.parametrize(
    ("key", "place", "value"),
    [
        ("x", (0, 0), np.float32(1e-30)),
        ("x", (5, 2), np.nextafter(X[5, 2], np.float32(9), dtype=np.float32)),
        ("y", 0, 1),
        ("fold", 0, 2),
        ("group", 5, "c"),
        ("names", 0, "9.wav"),
        ("class_names", 0, "o"),
    ],
)
def test_the_digest_changes_with_any_value(
    npz: Callable[..., Path], key: str, place: Any, value: object
) -> None:
    before = load_embeddings(npz(**_all_content())).digest
    changed = _all_content()
    changed[key][place] = value
    assert load_embeddings(npz(**changed)).digest != before


@pytest.mark.parametrize("key", ["fold", "group", "names", "class_names"])
def test_the_digest_changes_where_something_is_left_out(
    npz: Callable[..., Path], key: str
) -> None:
    before = load_embeddings(npz(**_all_content())).digest
    changed = _all_content()
    del changed[key]
    assert load_embeddings(npz(**changed)).digest != before


def test_an_address_is_no_path() -> None:
    with pytest.raises(DataError, match=r"^data\.path: .* is an address; download the file"):
        load_embeddings("s3://b/x.parquet")
