"""Layouts of labelled recordings: what is read, and one message for each way to be wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qwave.audio import Clip, read_clip, read_source
from qwave.config import DataError

WriteClips = Callable[..., Path]

ESC50 = """filename,fold,target,category,esc10,src_file,take
2-100032-B-0.wav,2,0,dog,True,100032,B
1-100038-A-14.wav,1,14,chirping_birds,False,100038,A
1-100032-A-0.wav,1,0,dog,True,100032,A
2-137-A-1.wav,2,1,rooster,True,137,A
"""
URBAN = """slice_file_name,fsID,start,end,salience,fold,classID,class
100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark
100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing
100648-1-0-0.wav,100648,4.823402,5.471927,2,10,1,car_horn
100648-1-1-0.wav,100648,8.998279,10.052132,2,10,1,car_horn
"""


@pytest.fixture
def esc50(write_clips: WriteClips) -> Callable[..., Path]:
    """A small folder in the published layout of ESC-50."""

    def write(metadata: str = ESC50) -> Path:
        source = write_clips(
            [f"audio/{row.split(',')[0]}" for row in ESC50.splitlines()[1:]], "ESC-50-master"
        )
        (source / "meta").mkdir()
        (source / "meta" / "esc50.csv").write_text(metadata)
        return source

    return write


@pytest.fixture
def urban(tmp_path: Path) -> Callable[..., Path]:
    """A small folder in the published layout of UrbanSound8K: stereo, 24 bits, other rates."""

    def write(metadata: str = URBAN) -> Path:
        source = tmp_path / "UrbanSound8K"
        for seed, row in enumerate(URBAN.splitlines()[1:]):
            cells = row.split(",")
            file = source / "audio" / f"fold{cells[5]}" / cells[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            stereo = np.random.default_rng(seed).normal(scale=0.1, size=(500, 2))
            rate = (44_100, 48_000, 96_000, 22_050)[seed]
            soundfile.write(file, stereo, rate, subtype="PCM_24")
        (source / "metadata").mkdir()
        (source / "metadata" / "UrbanSound8K.csv").write_text(metadata)
        return source

    return write


def _refused(source: Path, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_source(source)
    assert str(source) in str(caught.value)


def _said(clips: tuple[Clip, ...]) -> list[tuple[str, str, int | None, str | None]]:
    return [(clip.name, clip.label, clip.fold, clip.group) for clip in clips]


# --- published data sets ---


def test_esc50_has_its_folds_recordings_and_order_of_classes(esc50: Callable[..., Path]) -> None:
    source = esc50()
    table = read_source(source)
    assert table.layout == "esc50"
    assert table.class_names == ("dog", "rooster", "chirping_birds")
    assert _said(table.clips) == [
        ("audio/1-100032-A-0.wav", "dog", 1, "100032"),
        ("audio/2-100032-B-0.wav", "dog", 2, "100032"),
        ("audio/2-137-A-1.wav", "rooster", 2, "137"),
        ("audio/1-100038-A-14.wav", "chirping_birds", 1, "100038"),
    ]
    assert all(clip.path == source / clip.name for clip in table.clips)
    assert all(len(read_clip(clip.path, 8_000)) == 400 for clip in table.clips)


def test_urbansound8k_has_its_folds_recordings_and_order_of_classes(
    urban: Callable[..., Path],
) -> None:
    table = read_source(urban())
    assert table.layout == "urbansound8k"
    assert table.class_names == ("car_horn", "children_playing", "dog_bark")
    assert _said(table.clips) == [
        ("audio/fold10/100648-1-0-0.wav", "car_horn", 10, "100648"),
        ("audio/fold10/100648-1-1-0.wav", "car_horn", 10, "100648"),
        ("audio/fold5/100263-2-0-117.wav", "children_playing", 5, "100263"),
        ("audio/fold5/100032-3-0-0.wav", "dog_bark", 5, "100032"),
    ]
    assert all(read_clip(clip.path, 16_000).ndim == 1 for clip in table.clips)


def test_esc10_is_known_by_its_numbered_folders(write_clips: WriteClips) -> None:
    names = ["002 - Rain/1-17367-A.ogg", "001 - Dog bark/5-9032-B.ogg", "002 - Rain/2-73027-A.ogg"]
    table = read_source(write_clips(names))
    assert table.layout == "esc10"
    assert table.class_names == ("Dog bark", "Rain")
    assert _said(table.clips) == [
        ("001 - Dog bark/5-9032-B.ogg", "Dog bark", 5, "9032"),
        ("002 - Rain/1-17367-A.ogg", "Rain", 1, "17367"),
        ("002 - Rain/2-73027-A.ogg", "Rain", 2, "73027"),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["001 - Dog bark/dog.wav", "002 - Rain/1-17367-A.ogg"],  # one name says nothing
        ["Dog bark/1-30226-A.ogg", "002 - Rain/1-17367-A.ogg"],  # one folder has no number
        ["001 - Rain/1-30226-A.ogg", "002 - Rain/1-17367-A.ogg"],  # one class twice
    ],
)
def test_what_is_nearly_esc10_is_a_folder_of_classes(
    write_clips: WriteClips, names: list[str]
) -> None:
    table = read_source(write_clips(names))
    assert table.layout == "folders"
    assert set(table.class_names) == {name.split("/")[0] for name in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("target,category", "label,category"), "has no column 'target'"),
        (
            (",fold,", ",flod,"),
            "has no column 'fold' (did you mean 'flod'?); its columns are file",
        ),
        (("A-0.wav,1,0", "A-0.wav,one,0"), "row 4: 'fold' must be a whole number, but is 'one'"),
        (("A-0.wav,1,0", "A-0.wav,,0"), "row 4: 'fold' is empty"),
        (("2,0,dog", "2,7,dog"), "row 4: category 'dog' has target 0, but 7 above"),
        (("2,1,rooster", "2,0,rooster"), "several classes have the same target"),
        (("2-137-A-1.wav", "2-137-A-2.wav"), "1 of 4 clips are not there: 'audio/2-137-A-2.wav'"),
        (("2-137-A-1.wav", "1-100032-A-0.wav"), "row 5: 'audio/1-100032-A-0.wav' stands in row 4"),
        ((",137,A", ",137"), "row 5 has 6 cells, but the header has 7"),
        ((ESC50[ESC50.index("\n") :], ""), "has a header but no rows"),
        ((ESC50, ""), "cannot be read as a CSV table: it has no header"),
        (("2-137-A-1.wav", '"2-137'), "cannot be read as a CSV table: row 5: unexp"),
    ],
)
def test_metadata_that_cannot_be_used(
    esc50: Callable[..., Path], change: tuple[str, str], message: str
) -> None:
    assert change[0] in ESC50
    _refused(esc50(ESC50.replace(*change)), message)


def test_missing_clips_are_counted_and_the_first_are_named(esc50: Callable[..., Path]) -> None:
    source = esc50()
    shutil.rmtree(source / "audio")
    missing = "'audio/2-100032-B-0.wav', 'audio/1-100038-A-14.wav', 'audio/1-100032-A-0.wav', ..."
    _refused(source, f"4 of 4 clips are not there: {missing}")


def test_a_folder_one_level_off_is_told_where_to_go(
    esc50: Callable[..., Path], urban: Callable[..., Path]
) -> None:
    for source, metadata in ((esc50(), "meta/esc50.csv"), (urban(), "metadata/UrbanSound8K.csv")):
        _refused(source / "audio", f"{source} holds {metadata}: give that folder")
    _refused(source.parent, "holds meta/esc50.csv: give that folder")


def test_folders_of_folds_are_not_classes(write_clips: WriteClips) -> None:
    source = write_clips(["fold1/a.wav", "fold2/b.wav"])
    _refused(source, "holds folders of folds ('fold1', 'fold2'), not of classes")


@pytest.mark.parametrize("parts", [("Training", "dev", "eval"), ("val", "TEST")])
def test_parts_of_a_split_are_not_classes(write_clips: WriteClips, parts: tuple[str, ...]) -> None:
    source = write_clips([f"{part}/{label}/1.wav" for part in parts for label in ("dog", "rain")])
    _refused(source, f"holds the parts of a split ('{min(parts)}', ")
    shutil.copytree(source / parts[0], source / "boat")
    assert "boat" in read_source(source).class_names, "a class may be called train"


# --- a folder for each class ---


def test_folders_are_classes_and_clips_may_lie_deeper(write_clips: WriteClips) -> None:
    names = ["rain/b.wav", "rain/a.FLAC", "rain/2024/05/c.ogg", "dog/x.mp3", "dog/y.aiff"]
    source = write_clips(names)
    table = read_source(source)
    assert table.layout == "folders"
    assert table.class_names == ("dog", "rain")
    assert [clip.name for clip in table.clips] == sorted(names)
    assert {clip.label for clip in table.clips[:2]} == {"dog"}
    assert all(clip.fold is None and clip.group is None for clip in table.clips)
    assert all(clip.path == source / clip.name for clip in table.clips)


def test_folds_and_recordings_come_from_names_only_if_all_say_them(
    write_clips: WriteClips,
) -> None:
    names = ["dog/1-100032-A-0.wav", "dog/3-137-A-0.wav", "rain/2-73027-A-10.wav"]
    table = read_source(write_clips(names))
    assert [(clip.fold, clip.group) for clip in table.clips] == [
        (1, "100032"),
        (3, "137"),
        (2, "73027"),
    ]
    table = read_source(write_clips([*names, "rain/mine.wav"]))
    assert {(clip.fold, clip.group) for clip in table.clips} == {(None, None)}


def test_other_files_and_hidden_ones_are_left_out(write_clips: WriteClips) -> None:
    source = write_clips(
        ["dog/a.wav", "rain/b.wav", "dog/._a.wav", "rain/.x/c.wav", "__MACOSX/d.wav", ".git/e.wav"]
    )
    (source / "dog" / "notes.txt").write_text("woof")
    (source / "README.md").write_text("dogs and rain")
    assert [clip.name for clip in read_source(source).clips] == ["dog/a.wav", "rain/b.wav"]


def test_sound_that_cannot_be_decoded_is_left_out_with_a_warning(write_clips: WriteClips) -> None:
    source = write_clips(["dog/a.wav", "rain/b.wav"])
    for name in ("c.m4a", "d.M4A", "e.wma"):
        (source / "rain" / name).touch()
    with pytest.warns(UserWarning, match=r"rain: 2 \.m4a, 1 \.wma left out, .*allowed: \.wav"):
        assert len(read_source(source).clips) == 2


def test_clips_in_no_class_folder_are_left_out_with_a_warning(write_clips: WriteClips) -> None:
    source = write_clips(["dog/a.wav", "rain/b.wav", "c.wav"])
    with pytest.warns(UserWarning, match="1 clips lie in no class folder and are left out: 'c"):
        assert len(read_source(source).clips) == 2


def test_links_may_lead_to_classes_but_not_in_circles(
    write_clips: WriteClips, tmp_path: Path
) -> None:
    source = write_clips(["dog/a.wav", "dog/deep/b.wav"])
    (source / "rain").symlink_to(write_clips(["c.wav"], "elsewhere"), target_is_directory=True)
    (source / "dog" / "deep" / "up").symlink_to(source / "dog", target_is_directory=True)
    (source / "self").symlink_to(source, target_is_directory=True)
    (source / "parent").symlink_to(tmp_path, target_is_directory=True)
    (source / "dog" / "lost").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    names = [clip.name for clip in read_source(source).clips]
    assert names == ["dog/a.wav", "dog/deep/b.wav", "rain/c.wav"]


def test_the_order_is_not_that_of_the_file_system(
    write_clips: WriteClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clips([f"{label}/{name}.wav" for label in "cab" for name in ("b 2", "B", "a")])
    forward = Path.iterdir
    first = read_source(source)
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([*forward(folder)][::-1]))
    assert read_source(source) == first
    expected = [f"{label}/{name}.wav" for label in "abc" for name in ("B", "a", "b 2")]
    assert [clip.name for clip in first.clips] == expected


@pytest.mark.parametrize(
    ("names", "empty", "message"),
    [
        ([], [], "holds no clips: it must have a folder of clips for each class"),
        ([], ["dog", "rain"], "holds no clips in 2 folders (allowed: .wav .flac"),
        (["dog/a.wav"], [], "has one class only ('dog', 1 clips); at least 2 are needed"),
        (["a.wav", "b.wav"], [], "holds 2 clips but no class folders; put the clips of each"),
        (["dog/a.wav", "rain/b.wav"], ["snow"], "1 of 3 class folders hold no clips: 'snow'"),
    ],
)
def test_folders_that_are_no_classes(
    write_clips: WriteClips, tmp_path: Path, names: list[str], empty: list[str], message: str
) -> None:
    for folder in empty or ["."]:
        (tmp_path / "clips" / folder).mkdir(parents=True)
    _refused(write_clips(names), message)


def test_a_name_that_is_not_utf8_is_refused(write_clips: WriteClips) -> None:
    source = write_clips(["dog/a.wav", "rain/b.wav"])
    (source / "rain").rename(source / "r\udce4in")
    _refused(source, r"'r\udce4in/b.wav' is not a name in UTF-8; rename it")


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "nowhere", "does not exist (allowed: a folder of clips, or a .csv table")
    (tmp_path / "x.wav").touch()
    _refused(tmp_path / "x.wav", "is not a folder or a .csv file")


@pytest.mark.parametrize(
    "names", [("part.0.parquet",), ("label=dog/0.parquet", "label=rain/0.parquet")]
)
def test_a_table_in_parts_is_recognised(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=r"holds no clips.*; if it is a table in parts, make one f"
    ):
        read_source(tmp_path)
