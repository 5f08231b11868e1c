"""Paths as typed, and commands that a shell reads as they are meant."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from qwave.store import Store
from qwave.text import expanded, for_shell, typed_encoder, typed_path

ODD = ("it's", 'a "b"', "$HOME", "a&b;c", "ünï 日本", "-x", "~", "#1", "a\nb", "*", "!")


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_shell_reads_back_the_words_of_a_command(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    line = for_shell("printf", "%s\\0", folder, f"name={name}")
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, cwd="/")
    words = done.stdout.decode().split("\0")[:-1]
    assert words == [str(folder), f"name={name}"]


def test_paths_are_absolute_and_words_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert for_shell("qwave", Path("mlruns"), "mlruns") == f"qwave {tmp_path / 'mlruns'} mlruns"
    program, ui, option, uri = shlex.split(Store(Path("it's a store")).ui_command)
    assert (program, ui, option) == ("mlflow", "ui", "--backend-store-uri")
    assert uri == f"sqlite:///{tmp_path.resolve()}/it's a store/mlflow.db"


def test_a_tilde_is_the_home_folder_where_it_begins_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert typed_path("~/x y") == tmp_path / "home" / "x y"
    assert typed_path("a/~/x") == Path("a/~/x")
    assert expanded("~nobody_of_that_name/x") == "~nobody_of_that_name/x"
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "here").touch()
    assert expanded("~/here") == "~/here"
    assert expanded("~/there") == str(tmp_path / "home" / "there")
    assert typed_encoder("clip-vit-b32:~/w") == f"clip-vit-b32:{tmp_path / 'home' / 'w'}"
    assert typed_encoder("logmel") == "logmel"
