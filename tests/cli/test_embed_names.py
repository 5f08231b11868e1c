"""``qwave embed`` and ``qwave predict`` on a stranger's clips, whatever these are called."""

from __future__ import annotations

import json
import os
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qwave import QuantizedMoEClassifier
from qwave.cli import main
from qwave.data import load_embeddings
from qwave.runtime import save_packed
from tests.inference.examples import with_header

CLASSES = ("Hund bellt", "Vögel & Frösche", "<b>glass | break", "a\nb\x1b[2J")


def _says(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as outside of these tests
        code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def _is_shown(text: str) -> bool:
    """Whether a terminal shows all of it and obeys nothing."""
    return all(
        unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        for letter in text.replace("\n", "")
    )


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 clips in four classes, in folders of folders, of several rates, channels and lengths."""
    root = tmp_path_factory.mktemp("a stranger's") / "my clips #1"
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        for place in range(8):
            file = root / name / ("deep er" if place % 2 else ".") / f"ton {place}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            rate, channels = (8000, 22_050, 44_100)[place % 3], 1 + place % 2
            time = np.arange(int(rate * (0.2 + 0.1 * place)))[:, None] / rate
            tone = 0.3 * np.sin(2 * np.pi * 200 * 2**label * time)
            hiss = rng.normal(scale=0.02, size=(len(time), channels))
            soundfile.write(file, tone + hiss, rate)
    return root


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_from_a_folder_of_clips_to_a_prediction(
    stranger: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    os.mkfifo(stranger / CLASSES[3] / "pipe\n.wav")
    out = "made here/my set\x07 #2.npz"
    code, said, errors = _says(capsys, "embed", stranger, "--out", out, "--encoder", "logmel")
    assert code == 0, errors
    assert "32 clips x 384 features, 4 classes" in said
    assert "1 left out" in said
    notes = errors[errors.index("note: 1 of 33 clips") :]
    assert notes.endswith("a\\nb\\x1b[2J/pipe\\n.wav is a pipe or a device, not a file\n")
    assert _is_shown(said)
    assert _is_shown(notes)
    # The command can be pasted, in any folder.
    command = said.splitlines()[2].split("search on them:  ")[1]
    assert command.startswith("qwave search name=my_set_2 $'data.path=/")
    assert "my set\\x07 #2.npz'" in command
    data = load_embeddings(tmp_path / out)
    assert sorted(data.class_names) == sorted(CLASSES)

    model = QuantizedMoEClassifier(epochs=30, random_state=0).fit(data.x, data.y)
    packed = with_header(model.model_.packed, class_names=data.class_names, encoder=data.encoder)
    save_packed(packed, "m.qwave")
    code, said, errors = _says(capsys, "predict", "m.qwave", stranger)
    assert code == 1  # one could not be decoded, and is named
    assert "pipe\\n.wav is a pipe or a device, not a file\n" in errors
    assert _is_shown(said)
    assert _is_shown(errors)
    assert len(said.splitlines()) == 33
    answers = json.loads(_says(capsys, "predict", "m.qwave", stranger, "--json")[1])
    right = [
        clip["label"] == Path(clip["path"]).relative_to(stranger).parts[0]
        for clip in answers["clips"]
    ]
    assert len(right) == 32
    assert sum(right) > 24
    (stranger / CLASSES[3] / "pipe\n.wav").unlink()


def test_an_output_that_cannot_be_is_refused_before_any_clip_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    for name, message in (
        ("pipe.npz", "--out must be a file that ends in .npz, but got "),
        ("folder.npz", "--out must be a file that ends in .npz, but got "),
        ("x" * 300 + ".npz", "cannot be written: File name too long"),
        ("x" * 300 + "/a.npz", "its folder cannot be made: File name too long"),
    ):
        code, _, errors = _says(capsys, "embed", tmp_path / "none", "--out", tmp_path / name)
        assert code == 2
        assert errors.startswith("error: ")
        assert message in errors
    longest = tmp_path / ("x" * 251 + ".npz")
    assert "none does not exist" in _says(capsys, "embed", tmp_path / "none", "--out", longest)[2]


def test_models_that_are_no_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.qwave")
    (tmp_path / "zero.qwave").symlink_to("/dev/zero")
    (tmp_path / "loop.qwave").symlink_to("loop.qwave")
    kind = " (it is a folder, a pipe or a device)"
    for name, suffix in (
        *(("pipe.qwave", kind), ("zero.qwave", kind), (".", kind)),
        *(("loop.qwave", ""), ("x" * 300, ""), ("a\x1b\n", "")),
    ):
        code, _, errors = _says(capsys, "predict", tmp_path / name, "a.wav")
        assert code == 2
        assert errors.startswith("error: no such file: ")
        assert errors.endswith(f"{suffix}\n")
        assert _is_shown(errors)


def test_clips_that_are_not_there_are_refused_whatever_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
) -> None:
    for name in ("x" * 5000, "a\x1b[2J", "\udcff", "no\u202e"):
        code, _, errors = _says(capsys, "predict", trained, tmp_path / name)
        assert code == 2
        assert errors.endswith(": there is no such file or folder\n")
        assert _is_shown(errors)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x = np.random.default_rng(0).normal(size=(20, 384)).astype(np.float32)
    model = QuantizedMoEClassifier(epochs=1, random_state=0).fit(x, np.arange(20) % 2)
    file = tmp_path_factory.mktemp("model") / "m.qwave"
    save_packed(model.model_, file)
    return file
