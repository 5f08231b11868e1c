"""What lies about among clips: pipes, devices, loops, twins, names of all kinds."""

from __future__ import annotations

import os
import re
import shutil
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qwave.audio import is_source, list_clips, read_clip, read_source
from qwave.audio.embed import Embedded, embed_source
from qwave.audio.files import open_file
from qwave.audio.workers import _embed_clip
from qwave.config import AudioError, DataError

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")

WriteClips = Callable[..., Path]
Noise = Callable[..., np.ndarray]

# Names that are files of sound, each on one line of a message.
NAMES = (
    *("-rf.wav", "a b.wav", "q'uo\"te #1.wav", "new\nline.wav", "\x1b[31mred.wav", "=1+1.wav"),
    *("\u202ewav.wav", "e\u0301.wav", "\u00e9.wav", "UPPER.WAV", "x" * 251 + ".wav", "<b>&|`.wav"),
)
FAULTS = {
    "device.wav": "is a pipe or a device, not a file",
    "empty.wav": "is empty: it has 0 bytes",
    "folder.wav": "is a folder, not a file",
    "loop.wav": "cannot be read: Too many levels of symbolic links",
    "nowhere.wav": "cannot be read: No such file or directory",
    "pipe.wav": "is a pipe or a device, not a file",
    "socket.wav": "is a pipe or a device, not a file",
}


def _make_odd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each kind of `FAULTS`."""
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "empty.wav").touch()
    (folder / "folder.wav").mkdir()
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "nowhere.wav").symlink_to("is not there")
    os.mkfifo(folder / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as made, monkeypatch.context() as patch:
        patch.chdir(folder)  # an address has 107 bytes at most
        made.bind("socket.wav")


@pytest.fixture
def odd(tmp_path: Path, noise: Noise, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes, whose folders' names have spaces and letters of several kinds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "clips"
    for place, name in enumerate(NAMES):
        file = root / ("Hund <b>bellt", "Vögel & 鳥")[place % 2] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, noise(400, seed=place), 8000, format="WAV")
    _make_odd(root / "Vögel & 鳥", monkeypatch)
    for hidden in ("._a.wav", ".DS_Store"):
        (root / "Vögel & 鳥" / hidden).write_bytes(b"\0")
    return root


def _embedded(source: Path) -> Embedded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return embed_source(source, encoder="logmel", workers=1)


@pytest.mark.slow
def test_clips_of_all_names_are_embedded_and_what_is_no_file_is_named(odd: Path) -> None:
    with pytest.warns(UserWarning, match="7 of 19 clips cannot be used and are left out:") as w:
        embedded = embed_source(odd, encoder="logmel", workers=2)
    (message,) = [str(one.message) for one in w]
    folder = odd / "Vögel & 鳥"
    expected = [f"{folder / name} {fault}" for name, fault in FAULTS.items()]
    assert list(embedded.skipped) == expected
    assert message.splitlines()[1:] == [f"  {line}" for line in expected]
    assert embedded.data.class_names == ("Hund <b>bellt", "Vögel & 鳥")
    found = [name.split("/")[1] for name in embedded.data.names]
    assert found == [*sorted(NAMES[::2]), *sorted(NAMES[1::2])]
    again = _embedded(odd)
    assert (again.clips_digest, again.n_made) == (embedded.clips_digest, 0)


@pytest.mark.slow
def test_what_decoding_notes_comes_out_of_the_processes(
    write_clips: WriteClips, noise: Noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clips = write_clips(["a/1.wav", "b/1.wav"])
    x = noise(9_000)
    soundfile.write(clips / "b" / "opposite.wav", np.hstack([x, -x]), 16_000)
    soundfile.write(clips / "b" / "same.wav", np.hstack([x, x]), 16_000)
    with pytest.warns(UserWarning, match="^1 notes on clips that were decoded:\n") as w:
        embedded = embed_source(clips, encoder="logmel", workers=2)
    assert len(w) == 1
    (note,) = embedded.noted
    assert note.startswith(f"{clips / 'b' / 'opposite.wav'}: its 2 channels cancel each other out")
    rows = dict(zip(embedded.data.names, embedded.data.x, strict=True))
    assert embedded.silent == ()
    # To the rounding of 16 bits, half a step of which -x is away from x.
    np.testing.assert_allclose(rows["b/opposite.wav"], rows["b/same.wav"], atol=0.5)


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_file_is_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _make_odd(tmp_path, monkeypatch)
    reason = re.escape(FAULTS[name].split(": ")[-1])
    with pytest.raises(AudioError, match=reason):
        read_clip(tmp_path / name, 16_000)
    with pytest.raises((AudioError, OSError)):
        _embed_clip("logmel", tmp_path / name, "")


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a file and its opening it may be replaced."""
    (tmp_path / "a.wav").touch()
    os.mkfifo(tmp_path / "pipe")
    seen = os.stat(tmp_path / "a.wav")
    monkeypatch.setattr(os, "stat", lambda *_, **__: seen)
    with pytest.raises(AudioError, match=r"pipe is a pipe or a device, not a file$"):
        open_file(tmp_path / "pipe")


def test_tables_are_files_and_name_files(write_clips: WriteClips, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zero.csv"):
        assert not is_source(tmp_path / name)
        with pytest.raises(DataError, match=f"{name} is not a folder or a .csv file"):
            read_source(tmp_path / name)
    assert not is_source(tmp_path / ("x" * 300 + ".csv"))
    with pytest.raises(DataError, match="x does not exist"):
        read_source(tmp_path / ("x" * 300))
    clips = write_clips(["a.wav", "b.wav"])
    os.mkfifo(clips / "pipe.wav")
    table = clips / "table.csv"
    table.write_text("path,label\na.wav,x\npipe.wav,x\n/dev/zero,y\nno.wav,y\n", encoding="utf-8")
    message = (
        "3 of 4 clips are not there: 'pipe.wav', '/dev/zero', 'no.wav'; no files, but folders, "
        f"pipes or devices: 'pipe.wav', '/dev/zero' (paths are relative to {clips})"
    )
    with pytest.raises(DataError, match=f"{re.escape(message)}$"):
        read_source(table)


def test_a_folder_named_like_a_clip_is_a_folder(write_clips: WriteClips) -> None:
    clips = write_clips(["x.wav/1.wav", "x.wav/2.wav", "3.wav"])
    (clips / "empty.wav").mkdir()
    (clips / "text.wav").mkdir()
    (clips / "text.wav" / "notes.txt").touch()
    names = [path.relative_to(clips).as_posix() for path in list_clips(clips)]
    assert names == ["3.wav", "empty.wav", "x.wav/1.wav", "x.wav/2.wav"]


@pytest.mark.slow
def test_the_same_file_under_two_names_is_named(
    write_clips: WriteClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clips = write_clips(["a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav"])
    os.link(clips / "a" / "1.wav", clips / "a" / "hard.wav")
    (clips / "b" / "soft.wav").symlink_to(clips / "a" / "2.wav")
    with pytest.warns(UserWarning, match="^2 recordings stand under several names") as w:
        embed_source(clips, encoder="logmel", workers=1)
    assert str(w[0].message).splitlines()[1:] == [
        "  a/1.wav (a) = a/hard.wav (a)",
        "  a/2.wav (a) = b/soft.wav (b)",
    ]


@pytest.mark.parametrize(("one", "other"), [("\u00e9", "e\u0301"), ("x", "\u3000x")])
def test_classes_that_look_the_same_are_refused(
    write_clips: WriteClips, one: str, other: str
) -> None:
    clips = write_clips([f"{one}/1.wav", f"{other}/2.wav", "c/3.wav"])
    first, second = sorted([one, other])
    message = f"the classes {ascii(first)} and {ascii(second)} look the same; give both one name"
    with pytest.raises(DataError, match=re.escape(message)):
        read_source(clips)
    shutil.rmtree(clips / other)
    assert len(read_source(clips).class_names) == 2
