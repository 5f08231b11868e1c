"""A person's own table of clips: what is read, and one message for each way to be wrong."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from qwave.audio import Clip, is_source, read_source
from qwave.config import DataError


def _said(clips: tuple[Clip, ...]) -> list[tuple[str, str, int | None, str | None]]:
    return [(clip.name, clip.label, clip.fold, clip.group) for clip in clips]


@pytest.fixture
def table(write_clips: Callable[..., Path]) -> Callable[..., Path]:
    """A CSV file beside the clips a.wav, b.wav and sub/c.wav."""

    def write(text: str | bytes) -> Path:
        file = write_clips(["a.wav", "b.wav", "sub/c.wav"]) / "clips.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


def test_a_csv_file_says_paths_labels_folds_and_recordings(table: Callable[..., Path]) -> None:
    header = "\ufefflabel,path, fold ,group,seconds\r\n"
    rows = "dog,b.wav,2,r1,5\r\n\r\nrain,./sub/c.wav,1,r 2,5\r\n"
    file = table(header + rows + '"dog, big",a.wav,2,r1,\r\n')
    read = read_source(file)
    assert read.layout == "csv"
    assert read.class_names == ("dog", "dog, big", "rain")
    assert _said(read.clips) == [
        ("b.wav", "dog", 2, "r1"),
        ("a.wav", "dog, big", 2, "r1"),
        ("sub/c.wav", "rain", 1, "r 2"),
    ]
    assert all(clip.path.is_file() for clip in read.clips)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_csv_file_may_be_written_by_excel_in_europe(
    table: Callable[..., Path], encoding: str
) -> None:
    text = "path;label;fold;\r\na.wav;Tür;1;\r\nb.wav; Küche;2;\r\n;;;\r\n"
    file = table(text.encode(encoding))
    assert is_source(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = read_source(file)
    assert read.class_names == ("Küche", "Tür")
    assert _said(read.clips) == [("b.wav", "Küche", 2, None), ("a.wav", "Tür", 1, None)]


def test_paths_in_a_csv_file_may_be_absolute(table: Callable[..., Path], tmp_path: Path) -> None:
    file = table("")
    file.write_text(f"path,label\n{file.parent / 'a.wav'},dog\n../clips/b.wav,rain\n")
    assert [clip.path.name for clip in read_source(file).clips] == ["a.wav", "b.wav"]


def test_names_of_columns_are_known_in_any_case(table: Callable[..., Path]) -> None:
    file = table("Path,LABEL, Fold ,GROUP\na.wav,x,1,r1\nb.wav,y,2,r2\n")
    assert is_source(file)
    assert _said(read_source(file).clips) == [("a.wav", "x", 1, "r1"), ("b.wav", "y", 2, "r2")]
    table("Path,Class ID,mean\na.wav,0,1.5\n")
    assert not is_source(file), "a table of embeddings"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lable\na.wav,x\n", "has no column 'label' (did you mean 'lable'?)"),
        (
            "file,label\na.wav,x\n",
            "has no column 'path'; its columns are file, label (needed: path, label)",
        ),
        ("path,label,flod\na.wav,x,1\n", "column 'flod' is not known; name it 'fold', with whole"),
        ("path,label,src_file\na.wav,x,1\n", "column 'src_file' is not known; name it 'group'"),
        ("path,label,split\na.wav,x,train\n", "name it 'fold', with whole numbers, or drop it"),
        ("path,label,Label\na.wav,x,y\n", "has several columns 'label'; drop all but one"),
        (
            "path,label\nhttps://there.org/a.wav,x\n",
            "row 2: 'https://there.org/a.wav' is an address; nothing is downloaded: save the clip",
        ),
        (
            "path,label\na.wav,x\nsub\\c.wav,y\n",
            "1 of 2 clips are not there: 'sub\\\\c.wav'; write / instead of \\ between folders",
        ),
        ("path,label\na.wav,x\nb.wav,\n", "row 3: 'label' is empty"),
        ("path,label,group\na.wav,x,\nb.wav,y,1\n", "row 2: 'group' is empty; fill it in"),
        ("path,label,fold\na.wav,x,1.0\n", "row 2: 'fold' must be a whole number, but is '1.0'"),
        ("path,label\na.wav,x\n../clips/a.wav,y\n", "row 3: '../clips/a.wav' stands in row 2"),
        ("path,label\na.wav,x\nd.wav,y\nsub,y\n", "2 of 3 clips are not there: 'd.wav', 'sub'"),
        ("path,label\na.wav,x\nb.wav,x\n", "has one class only ('x', 2 clips)"),
        ("path,label\na.wav\n", "row 2 has 1 cells, but the header has 2"),
        ("path,label\n", "has a header but no rows"),
    ],
)
def test_a_csv_file_that_cannot_be_used(
    table: Callable[..., Path], text: str | bytes, message: str
) -> None:
    file = table(text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_source(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\n", True),
        ("\ufeffpath, label ,other,fold\nrest is not looked at\n", True),
        ("path,lable\n", True),  # so that what is said about it is about clips
        ("# of a field trip\r\npath\tlabel\r\n", True),
        ("path,label\n".encode("utf-16"), True),
        ("path,label,class_id,f0\n", False),
        ("path,label,f0,f1\n", False),
        ("", False),
    ],
)
def test_a_table_of_clips_is_told_from_one_of_embeddings(
    table: Callable[..., Path], text: str | bytes, expected: bool
) -> None:
    file = table(text)
    assert is_source(file) is expected
    assert not is_source(file.rename(file.with_suffix(".txt")))
