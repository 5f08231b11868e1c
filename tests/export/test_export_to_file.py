"""``qwave export --out FILE.qwave``: the one model, under the name that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwave.cli import main
from qwave.runtime import load_packed

from .examples import Swept

pytestmark = pytest.mark.slow


def test_a_model_is_copied_to_the_file_that_was_asked_for(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = swept.front[0]
    file = tmp_path / "new folder" / "my.qwave"
    places = ["--store", str(swept.store), "--sweep", "small", "--no-register"]
    arguments = ["export", str(point.number), "--out", str(file), *places]
    assert main(arguments) == 0
    folder = swept.store / "models" / "small" / f"trial_{point.number:04d}"
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == (folder / "model.qwave").read_bytes()
    assert file.stat().st_size == point.size_bytes
    _, row, card, command = capsys.readouterr().out.splitlines()
    assert row.startswith(f"{file}  {point.size_bytes} B")
    assert card == f"read its card:      {folder / 'model_card.md'}"
    assert command == f"predict clips:      qwave predict '{file}' --encoder NAME CLIP..."
    file.write_text("what it replaces")
    assert main([*arguments, "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["file"], model["folder"]) == (str(file), str(folder))
    assert file.stat().st_size == point.size_bytes


def test_a_file_takes_one_model_which_is_said_before_any_is_trained(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "front.qwave"
    places = ["--store", str(swept.store), "--sweep", "small"]
    assert main(["export", "-q", "--front", "--out", str(file), *places]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        f"error: --out {file} is the file of one model, but the front has {len(swept.front)}: "
        "name a folder, or choose one by --budget or a trial's number\n"
    )
    assert (captured.out, list(tmp_path.iterdir())) == ("", [])


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_trained(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, below = tmp_path / "folder.qwave", tmp_path / "file" / "my.qwave"
    folder.mkdir()
    below.parent.write_text("")
    places = ["--store", str(swept.store), "--sweep", "small"]
    for out, message in (
        (folder, f"error: --out {folder} is a folder: name a file that can be written\n"),
        (below, f"error: --out {below} cannot be written: "),
    ):
        assert main(["export", "-q", str(swept.front[0].number), "--out", str(out), *places]) == 2
        assert capsys.readouterr().err.startswith(message)


def test_a_copy_that_fails_leaves_the_model_and_says_where(
    swept: Swept,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qwave.exporting.models.shutil.copyfile", full)
    number, file = swept.front[0].number, tmp_path / "my.qwave"
    places = ["--store", str(swept.store), "--sweep", "small", "--no-register"]
    assert main(["export", "-q", str(number), "--out", str(file), *places]) == 2
    model = swept.store / "models" / "small" / f"trial_{number:04d}" / "model.qwave"
    assert load_packed(model).class_names
    assert capsys.readouterr().err.endswith(
        f"error: --out {file} cannot be written: [Errno 28] No space left on device; the model is "
        f"{model}\n"
    )
