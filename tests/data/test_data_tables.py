"""Frames and Parquet files: the same rules as for CSV files, and lists of features."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import qwave
from qwave.config import DataError
from qwave.data import embeddings_from_frame, load_embeddings

# The reference system's layout.
CSV = """folder,name,label,category,class_id,f0,f1
fold1,100032-3-0-0.wav,dog,animals,0,0.5,-1
fold1,100263-2-0-117.wav,rain,nature,1,1.5,2
fold2,100648-1-0-0.wav,dog,animals,0,0.25,3e-2
fold2,100648-1-1-0.wav,rain,nature,1,-0.5,4
"""


def frame_of(text: str = CSV) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def parquet(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "some.parquet"
    frame.to_parquet(path)
    return path


@pytest.fixture(params=["frame", "parquet"])
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Check that a table is refused, with this message after the name of its source."""

    def check(frame: pd.DataFrame, message: str) -> None:
        source, read = "frame", (lambda: embeddings_from_frame(frame))
        if request.param == "parquet":
            path = parquet(frame, tmp_path)
            source, read = f"data.path: {path}", (lambda: load_embeddings(path))
        with pytest.raises(DataError, match=f"^{re.escape(source + message)}"):
            read()

    return check


# --- what is read ---


def test_a_table_is_the_same_as_a_csv_file_a_frame_and_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(CSV)
    expected = load_embeddings(path)
    assert expected.fold is not None
    assert expected.fold.tolist() == [1, 1, 2, 2]
    assert load_embeddings(parquet(frame_of(), tmp_path)).digest == expected.digest
    assert embeddings_from_frame(frame_of()).digest == expected.digest
    assert qwave.embeddings_from_frame is embeddings_from_frame


def test_the_index_of_a_frame_is_not_read(tmp_path: Path) -> None:
    expected = embeddings_from_frame(frame_of())
    for index in ([7, 7, 0, -1], list("dcba")):
        frame = frame_of().set_axis(index)
        assert embeddings_from_frame(frame).digest == expected.digest
        assert load_embeddings(parquet(frame, tmp_path)).digest == expected.digest


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_pandas_own_types_are_read(backend: Any, tmp_path: Path) -> None:
    frame = frame_of().convert_dtypes(dtype_backend=backend)
    expected = embeddings_from_frame(frame_of())
    assert embeddings_from_frame(frame).digest == expected.digest
    assert load_embeddings(parquet(frame, tmp_path)).digest == expected.digest


def test_labels_in_categories_are_read() -> None:
    frame = frame_of().astype({"label": "category", "folder": "category"})
    assert embeddings_from_frame(frame).digest == embeddings_from_frame(frame_of()).digest


@pytest.mark.parametrize("as_cell", [list, tuple, np.array])
def test_a_column_of_lists_is_all_features(as_cell: Callable[[Any], Any], tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    frame = pd.DataFrame({"class_id": [0, 1] * 3, "embedding": [as_cell(row) for row in x]})
    wide = pd.DataFrame(x).assign(class_id=[0, 1] * 3)
    expected = embeddings_from_frame(wide)
    np.testing.assert_array_equal(expected.x, x)
    assert embeddings_from_frame(frame).digest == expected.digest
    assert load_embeddings(parquet(frame, tmp_path)).digest == expected.digest


def test_lists_of_fixed_size_as_hugging_face_writes_them_are_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet_files = pytest.importorskip("pyarrow.parquet")
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(x.ravel()), 3)
    labels = arrow.array([1, 0, 1, 0])
    table = arrow.table({"embedding": lists, "class_id": labels})
    parquet_files.write_table(table, tmp_path / "hub.PARQUET")
    data = load_embeddings(tmp_path / "hub.PARQUET")
    np.testing.assert_array_equal(data.x, x)
    assert data.y.tolist() == [1, 0, 1, 0]


# --- what is refused ---


def test_an_index_that_was_written_along_is_refused(refused: Callable[..., None]) -> None:
    frame = frame_of().assign(__index_level_0__=range(4))
    refused(frame, ": column 8 has no name; if it is an index that was written along, drop it")


def test_missing_recordings_in_pandas_own_type_are_refused(refused: Callable[..., None]) -> None:
    group = pd.array([1, None, 2, 2], dtype="Int64")
    refused(frame_of().assign(group=group), ": 'group' has empty cells; name every clip's rec")
    refused(frame_of().assign(fold=group), ": 'fold' must hold whole numbers")


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(DataError, match="^frame: must be a pandas DataFrame, but is a list; q"):
        embeddings_from_frame([])


# --- damaged files ---


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" * 9, b"<html>Sign in</html>"])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.parquet"
    path.write_bytes(content)
    message = f"data.path: {path} cannot be read as a Parquet file: "
    with pytest.raises(DataError, match=re.escape(message)):
        load_embeddings(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_parquet_file_is_no_crash(tmp_path: Path, seed: int) -> None:
    path = parquet(frame_of(), tmp_path)
    content = path.read_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(60):
        damaged = bytearray(content[: int(rng.integers(1, len(content) + 1))])
        damaged[int(rng.integers(len(damaged)))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_embeddings(path)
            except DataError:
                continue
            except Exception as error:
                pytest.fail(f"{seed=}: {error!r} of {bytes(damaged)!r}")
