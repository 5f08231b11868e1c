"""What the tests of ``qwave predict`` share: a model, clips, and the command itself."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from qwave.cli import main
from qwave.packing import PackedModel
from qwave.runtime import save_packed
from tests.inference.examples import with_header
from tests.inference.sounds import train, write_clip


@pytest.fixture(scope="session")
def packed() -> PackedModel:
    return with_header(train(("int1", "int4")), sure_probability=0.5)


@pytest.fixture(scope="session")
def model(packed: PackedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.qwave"
    save_packed(packed, path)
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of three clips, one a level deeper, and things that are no clips."""
    folder = tmp_path / "clips"
    (folder / "b").mkdir(parents=True)
    write_clip(folder / "c.wav", 0)
    write_clip(folder / "b" / "2.flac", 1)
    write_clip(folder / "b" / "1.wav", 2)
    (folder / "notes.txt").write_text("no sound")
    (folder / ".hidden.wav").write_text("no sound")
    return folder


@pytest.fixture
def predict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of ``qwave predict``, with bytes on stdin."""

    def run(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # as outside of these tests
            code = main(["predict", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
