"""``.npz`` files that other people, bad connections and enemies write."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwave.config import DataError
from qwave.data import kinds, load_embeddings

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.arange(6) % 2
WORDS = np.array(["dog", "cat"])[Y]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.npz"


@pytest.fixture
def refused(path: Path) -> Callable[[str], None]:
    def check(message: str) -> None:
        with pytest.raises(DataError, match=f"^data.path: {re.escape(str(path) + message)}"):
            load_embeddings(path)

    return check


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def header(descr: Any, shape: Any) -> bytes:
    """The beginning of a .npy file, which may say anything."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            opened.writestr(f"{name}.npy", content)


# --- labels and names as text ---


@pytest.mark.parametrize("labels", [WORDS.astype(bytes), np.char.add(WORDS, " ")])
def test_labels_are_strings_or_bytes(path: Path, labels: np.ndarray) -> None:
    np.savez(path, x=X, y=labels)
    data = load_embeddings(path)
    assert data.class_names == ("cat", "dog")
    assert data.y.tolist() == (1 - Y).tolist()


def test_names_are_strings_or_bytes(path: Path) -> None:
    text = {"names": [f"1-{i}-A-0.wav" for i in range(6)], "class_names": ["Küche", "Tür"]}
    np.savez(path, x=X, y=Y, **text)  # type: ignore[arg-type]  # numpy's own keyword is bool
    expected = load_embeddings(path)
    assert expected.class_names == ("Küche", "Tür")
    coded = {key: np.array([value.encode() for value in values]) for key, values in text.items()}
    made_by = np.bytes_(b"logmel@1a2b3c4d")
    np.savez(path, x=X, y=Y, encoder=made_by, **coded)  # type: ignore[arg-type]  # likewise
    assert load_embeddings(path).digest == expected.digest
    assert load_embeddings(path).encoder == "logmel@1a2b3c4d"


# --- arrays of Python objects ---


def test_a_pickled_array_is_refused_with_its_name_and_what_to_write(
    path: Path, refused: Callable[[str], None]
) -> None:
    np.savez(path, x=X, y=WORDS.astype(object))
    refused(
        ": array 'y' holds pickled values (arrays of Python objects are refused); write "
        "y=y.astype(str)"
    )
    np.savez(path, features=X.astype(object), y=Y)
    refused(
        ": array 'features' holds pickled values (arrays of Python objects are refused); write "
        "features=features.astype(float)"
    )


def test_arrays_that_nobody_needs_are_not_read(path: Path) -> None:
    np.savez(path, x=X, y=Y)
    expected = load_embeddings(path)
    archive(
        path,
        x=npy(X),
        y=npy(Y),
        notes=npy(np.array([{"a": 1}], object)),
        huge=header("<f8", (10**9, 10**9)),
        damaged=b"no array",
    )
    assert load_embeddings(path).digest == expected.digest


# --- two arrays of one meaning ---


def test_two_arrays_of_one_meaning_must_agree(path: Path, refused: Callable[[str], None]) -> None:
    np.savez(path, x=X, X=X, y=Y, labels=5 - 2 * Y, fold=Y, folds=Y)
    assert load_embeddings(path).y.tolist() == Y.tolist()
    np.savez(path, x=X, X=X + 1, y=Y)
    refused(": arrays 'x' and 'X' mean the same, but differ; keep the one that is right")
    np.savez(path, x=X, y=Y, labels=np.arange(6) % 3)
    refused(
        ": y 0 has several values of 'labels': 0, 1, 2 (row 2); write one labels for each y; i"
    )
    np.savez(path, x=X, y=Y, labels=["a", "b"])
    refused(
        ": arrays 'y' and 'labels' could both be the labels, but 'labels' has shape (2,) for 6"
    )


def test_a_second_array_of_labels_names_the_classes(path: Path) -> None:
    np.savez(path, x=X, y=Y, labels=WORDS)
    data = load_embeddings(path)
    assert data.y.tolist() == Y.tolist()
    assert data.class_names == ("dog", "cat")


def test_two_classes_of_one_name_are_refused(path: Path, refused: Callable[[str], None]) -> None:
    np.savez(path, x=X, y=np.arange(6) % 3, class_names=["dog", "cat", "dog "])
    refused(
        ": two classes have one name: 0 and 2 are both 'dog'; give each its own name, or both one "
    )


# --- files of other kinds ---

KINDS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "it is a Git LFS pointer",
    b"\xef\xbb\xbf<!DOCTYPE html><html>": "it is a web page (HTML or XML), not the data",
    b'{"message": "Not found"}': "it is JSON",
    b"PK\x05\x06" + bytes(18): "it is an empty zip archive: it holds nothing",
    b"PAR1....PAR1": "it is a Parquet file; give it the suffix .parquet",
    b"\x1f\x8b\x08": "it is compressed by gzip; unpack it first (gunzip)",
    npy(X): "it is a .npy file, which holds one array and no labels; write both into a .npz",
    b"class_id,f0\n0,1\n1,2\n": "File is not a zip file; write it again with numpy.savez",
}


@pytest.mark.parametrize("content", KINDS)
def test_a_file_of_another_kind_is_recognised(
    path: Path, refused: Callable[[str], None], content: bytes
) -> None:
    path.write_bytes(content)
    refused(f" cannot be read as a .npz file: {KINDS[content]}")


@pytest.mark.parametrize("share", [0.1, 0.999])
def test_a_download_that_was_cut_off_is_recognised(
    path: Path, refused: Callable[[str], None], share: float
) -> None:
    np.savez(path, x=X, y=Y)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(" cannot be read as a .npz file: it begins as one, but its end is missing; write it a")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os = pytest.importorskip("os")
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    with pytest.raises(DataError, match="pipe.npz is no regular file; copy what it gives into on"):
        load_embeddings(path)


@pytest.mark.parametrize("name", ["a" * 300 + ".npz", "a\0b.npz"])
def test_impossible_names_of_files_are_no_crash(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="^data.path: "):
        load_embeddings(tmp_path / name)


# --- files that mean harm ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("<f4", (10**6, 10**6)), "says that it is float32 of shape (1000000, 1000000), 40"),
        (header("<f4", (6, 3)) + bytes(71), "says that it is float32 of shape (6, 3), 72 bytes, "),
        (header("<U0", (10**15,)), "says that it is <U0 of shape (1000000000000000,), 0 bytes, b"),
        (header("|O", (10**12, 3)), "holds pickled values"),
        (header("nonsense", (6, 3)), "is no array as numpy writes it ("),
        (header("<f4", "x" * 60_000), "is no array as numpy writes it ("),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "is no array as numpy writes it (EOF"),
        (b"\x93NUMPY\x09\x00", "is no array as numpy writes it ("),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "is no array as numpy writes it ("),
    ],
    ids=range(9),
)
def test_headers_that_lie_are_refused_before_anything_is_unpacked(
    path: Path, refused: Callable[[str], None], content: bytes, message: str
) -> None:
    archive(path, x=content, y=npy(Y))
    refused(f": array 'x' {message}")
    archive(path, x=npy(X), y=content)
    refused(f": array 'y' {message}")


def test_arrays_without_values_are_empty(path: Path, refused: Callable[[str], None]) -> None:
    archive(path, x=header("<f4", (10**15, 0)), y=npy(Y))
    refused(" is empty: x has shape (1000000000000000, 0)")


@pytest.mark.slow
def test_what_unpacks_to_hundreds_of_times_its_length_is_refused(
    path: Path, refused: Callable[[str], None]
) -> None:
    block = bytes(2**22)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        with opened.open("x.npy", "w") as stream:
            stream.write(header("<f4", (2**20, 80)))
            for _ in range(80):
                stream.write(block)
        opened.writestr("y.npy", npy(np.arange(2**20, dtype=np.int8) % 2))
    assert path.stat().st_size < 2**20
    with pytest.raises(DataError, match=r"array 'x' would unpack from \d+ bytes to 335544\d+ "):
        load_embeddings(path)


def test_what_takes_more_than_the_memory_is_refused(
    path: Path, refused: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(path, x=np.tile(X, (100, 1)), y=np.tile(Y, 100))
    load_embeddings(path)
    monkeypatch.setattr(kinds, "memory_bytes", lambda: 2**14)
    refused(": reading x, y would take 0.0 GiB, and this machine has 0.0 GiB; is the file damaged")


def test_a_parquet_file_that_takes_more_than_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "some.parquet"
    frame = pandas.DataFrame({"class_id": np.arange(2**15) % 2, "f0": np.zeros(2**15)})
    frame.to_parquet(path)
    load_embeddings(path)
    monkeypatch.setattr(kinds, "memory_bytes", lambda: 2**19)
    with pytest.raises(DataError, match="a table of 32768 rows and 2 columns would take 0.0 GiB"):
        load_embeddings(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_whatever_bytes_an_archive_has_nothing_but_a_data_error_leaves(
    path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    save = np.savez_compressed if seed % 2 else np.savez
    save(path, x=X, y=WORDS, names=WORDS, fold=Y)
    content = path.read_bytes()
    for turn in range(80):
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 5))):
            place = int(rng.integers(len(damaged)))
            damaged[place : place + int(rng.integers(0, 5))] = rng.bytes(int(rng.integers(0, 5)))
        path.write_bytes(bytes(damaged) or b"x")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_embeddings(path)
            except DataError:
                continue
            except Exception as error:
                pytest.fail(f"{seed=} {turn=}: {error!r}")
