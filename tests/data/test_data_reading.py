"""Reading embeddings: what is taken from a file, and one message for each way to be wrong."""

from __future__ import annotations

import re
import warnings
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


def test_an_npz_file_needs_x_and_y_only(npz: Callable[..., Path]) -> None:
    data = load_embeddings(str(npz()))
    assert data.fold is None
    assert data.group is None
    assert data.class_names == ("0", "1", "2")
    assert data.names == tuple("012345")


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


def test_an_upper_case_suffix_is_read_too(table: Callable[[str], Path]) -> None:
    path = table(CSV)
    renamed = path.rename(path.with_name("SOME.CSV"))
    assert load_embeddings(renamed).digest == load_embeddings(table(CSV)).digest


def test_esc_names_give_folds_and_recordings(npz: Callable[..., Path]) -> None:
    names = [f"{1 + i % 5}-{900 + i // 2}-{'AB'[i % 2]}-0.wav" for i in range(6)]
    data = load_embeddings(npz(names=names))
    assert data.fold is not None
    assert data.fold.tolist() == [1, 2, 3, 4, 5, 1]
    assert data.group is not None
    assert data.group.tolist() == ["900", "900", "901", "901", "902", "902"]


def test_one_name_in_no_published_form_leaves_folds_and_recordings_unknown(
    npz: Callable[..., Path],
) -> None:
    names = ["1-9-A-0.wav"] * 5 + ["dog.wav"]
    data = load_embeddings(npz(names=names))
    assert (data.fold, data.group) == (None, None)


# --- labels ---


def test_string_labels_become_classes_in_alphabetical_order(npz: Callable[..., Path]) -> None:
    data = load_embeddings(npz(y=np.array(["rain", "dog", "sea", "dog", "dog", "rain"])))
    assert data.class_names == ("dog", "rain", "sea")
    assert data.y.tolist() == [1, 0, 2, 0, 0, 1]


def test_string_labels_in_a_csv_file_become_classes_too(table: Callable[[str], Path]) -> None:
    data = load_embeddings(table("class_id,f0\nrain,1\ndog,2\nrain,3\n"))
    assert data.class_names == ("dog", "rain")
    assert data.y.tolist() == [1, 0, 1]


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


def test_whole_labels_written_as_floats_are_taken(npz: Callable[..., Path]) -> None:
    assert load_embeddings(npz(y=Y.astype(np.float32))).y.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 1, -1, 0, 1, -2], "-1, -2"),
        ([0, 1, 0.5, 0, 1, 1.5], "0.5, 1.5"),
        ([0, 1, np.nan, 0, 1, 1], "nan"),
        ([0, 1, np.inf, 0, 1, 1], "inf"),
    ],
)
def test_labels_that_are_no_whole_numbers_from_0_are_refused(
    npz: Callable[..., Path], labels: list[float], found: str
) -> None:
    _refused(npz(y=labels), f"class labels must be whole numbers from 0, but found {found}")


def test_one_class_only_is_refused(npz: Callable[..., Path]) -> None:
    _refused(npz(y=np.ones(6, int)), "has one class only (1); need at least 2")


def test_one_class_only_is_refused_where_it_has_a_name_too(npz: Callable[..., Path]) -> None:
    _refused(npz(y=np.array(["dog"] * 6)), "has one class only (dog)")


@pytest.mark.parametrize("n_names", [2, 4])
def test_class_names_of_another_number_than_the_classes_are_refused(
    npz: Callable[..., Path], n_names: int
) -> None:
    _refused(npz(class_names=list("abcd")[:n_names]), f"{n_names} class names for 3 classes")


def test_a_class_id_with_two_labels_is_refused(table: Callable[[str], Path]) -> None:
    text = CSV.replace("fold2,100648-1-0-0.wav,dog", "fold2,100648-1-0-0.wav,cat")
    _refused(table(text), "class_id 0 has several labels: cat, dog")


def test_a_missing_label_is_no_crash(table: Callable[[str], Path]) -> None:
    text = CSV.replace("fold2,100648-1-0-0.wav,dog", "fold2,100648-1-0-0.wav,")
    try:
        data = load_embeddings(table(text))
    except DataError:
        return
    assert data.class_names == ("dog", "rain")


# --- bad files ---


def test_a_missing_file_is_refused_and_the_allowed_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "none.npz"
    _refused(path, f"data.path: no such file: {path} (allowed: esc10, FILE.npz, FILE.csv, ")


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.feather"
    path.write_bytes(b"PAR1")
    _refused(path, f"data.path: {path} is neither a .npz nor a .csv file")


@pytest.mark.parametrize("name", ["folder", "folder.npz", "folder.csv"])
def test_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    _refused(path, f"data.path: {path} is neither a .npz nor a .csv file")


@pytest.mark.parametrize("suffix", ["npz", "csv"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"some.{suffix}"
    path.touch()
    _refused(path, f"data.path: {path} is empty")


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_no_npz_file(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "some.npz"
    path.write_bytes(np.random.default_rng(seed).bytes(500))
    _refused(path, f"data.path: {path} cannot be read as a .npz file")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_npz_file_is_refused(npz: Callable[..., Path], share: float) -> None:
    path = npz()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(path, f"data.path: {path} cannot be read as a .npz file")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_anywhere_in_an_npz_file_is_no_crash(
    tmp_path: Path, save: Callable[..., None]
) -> None:
    path = tmp_path / "some.npz"
    save(path, x=X, y=Y)
    content = path.read_bytes()
    seed = 0
    rng = np.random.default_rng(seed)
    crashes = set()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_embeddings(path)
            except DataError:
                continue
            except Exception as error:
                crashes.add(f"byte {place}: {error!r}")
    assert not crashes, f"{seed=}"


def test_a_npy_file_that_is_named_npz_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", X)
    path = (tmp_path / "some.npy").rename(tmp_path / "some.npz")
    _refused(path, f"data.path: {path} cannot be read as a .npz file")


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
        ({}, "it holds nothing"),
        ({"embedings": X, "y": Y}, "it holds embedings, y (did you mean 'embeddings'?)"),
        ({"x": X, "lables": Y}, "it holds x, lables (did you mean 'labels'?)"),
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
        (X[0], "x must be numbers of shape [clips, features], but is float32 of shape (3,)"),
        (X[None], "but is float32 of shape (1, 6, 3)"),
        (X.astype(str), "x must be numbers of shape [clips, features], but is <U"),
        (X.astype(complex), "but is complex128 of shape (6, 3)"),
        (X.astype("M8[s]"), "but is datetime64[s] of shape (6, 3)"),
        (X[:, :0], "is empty: x has shape (6, 0)"),
        (X[:0], "is empty: x has shape (0, 3)"),
    ],
)
def test_features_that_are_no_matrix_of_numbers_are_refused(
    npz: Callable[..., Path], x: np.ndarray, message: str
) -> None:
    _refused(npz(x=x), message)


@pytest.mark.parametrize(
    ("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e39, "1e+39")]
)
def test_a_feature_that_is_not_finite_is_refused_with_its_place(
    npz: Callable[..., Path], value: float, shown: str
) -> None:
    x = X.astype(np.float64)
    x[4, 1] = x[5, 0] = value
    _refused(npz(x=x), f"row 4, column 1: {shown} is not a finite float32; 2 such values in all")


@pytest.mark.parametrize("key", ["y", "fold", "group", "names"])
@pytest.mark.parametrize("n", [5, 7])
def test_an_array_of_another_length_is_refused(npz: Callable[..., Path], key: str, n: int) -> None:
    _refused(
        npz(**{key: np.arange(n)}),
        f"{key!r} must have one value for each of the 6 rows of x, but has shape ({n},)",
    )


@pytest.mark.parametrize("fold", [[0.5] * 6, ["fold1"] * 6, [np.nan] * 6])
def test_folds_that_are_no_whole_numbers_are_refused(
    npz: Callable[..., Path], fold: list[object]
) -> None:
    _refused(npz(fold=fold), "'fold' must hold whole numbers")


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


def test_a_csv_file_without_features_is_refused(table: Callable[[str], Path]) -> None:
    _refused(
        table("name,class_id\na,0\nb,1\n"),
        "has no features: all of its columns (name, class_id) are names or labels",
    )


def test_a_csv_file_without_rows_is_refused(table: Callable[[str], Path]) -> None:
    _refused(table(CSV.splitlines()[0]), "has a header but no rows")


def test_a_file_of_blank_lines_is_no_csv_table(table: Callable[[str], Path]) -> None:
    _refused(table("\n\n"), "cannot be read as a CSV table")


def test_binary_rubbish_is_no_csv_table(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(b"class_id,f0\n\xff\xfe\x80,1\n")
    _refused(path, f"data.path: {path} cannot be read as a CSV table")


def test_a_row_with_too_many_cells_is_refused(table: Callable[[str], Path]) -> None:
    _refused(table(CSV + "fold2,x.wav,dog,animals,0,1,2,3\n"), "cannot be read as a CSV table")


def test_a_feature_that_is_no_number_is_refused_with_line_and_column(
    table: Callable[[str], Path],
) -> None:
    _refused(table(CSV.replace("0.25", "loud")), "row 4, column 'f0': 'loud' is not a number")


@pytest.mark.parametrize(("cell", "shown"), [("", "nan"), ("nan", "nan"), ("inf", "inf")])
def test_a_feature_that_is_missing_or_infinite_is_refused_with_line_and_column(
    table: Callable[[str], Path], cell: str, shown: str
) -> None:
    _refused(
        table(CSV.replace("3e-2", cell)),
        f"row 4, column 'f1': {shown} is not a finite float32; 1 such values in all",
    )


def test_a_blank_line_does_not_shift_the_line_that_an_error_names(
    table: Callable[[str], Path],
) -> None:
    lines = CSV.replace("0.25", "loud").splitlines()
    _refused(table("\n".join([*lines[:2], "", *lines[2:]])), "row 5, column 'f0': 'loud'")


def test_a_missing_class_id_is_refused(table: Callable[[str], Path]) -> None:
    _refused(
        table("class_id,f0\n0,1\n,2\n1,3\n"),
        "class labels must be whole numbers from 0, but found nan",
    )


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


def test_the_digest_changes_with_the_order_of_rows_and_with_the_shape(
    npz: Callable[..., Path],
) -> None:
    digests = {load_embeddings(npz()).digest}
    order = np.array([1, 0, 2, 3, 4, 5])
    digests.add(load_embeddings(npz(x=X[order], y=Y[order])).digest)
    digests.add(load_embeddings(npz(x=X.reshape(6, 3)[:, :2])).digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    "address", ["file:///tmp/x.npz", "https://a.org/x.csv", "s3://b/x.parquet"]
)
def test_an_address_is_no_path(address: str) -> None:
    with pytest.raises(DataError, match=r"^data\.path: .* is an address; download the file"):
        load_embeddings(address)
