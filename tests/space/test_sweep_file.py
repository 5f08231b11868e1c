"""The sweep that a command line names, bundled sweeps, and the exit codes of commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from qwave.cli.running import run_command
from qwave.config import (
    ConfigError,
    DataError,
    StudyStoppedError,
    TrialFailedError,
    WorkerLostError,
)
from qwave.space.sweep_file import BUNDLED, split_positionals, study_file
from studies.command_line import study_parser

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_positional_that_exists_is_a_file_and_the_rest_are_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1.yaml").touch()
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x=1.yml").touch()
    found = split_positionals(["train.epochs=3", "lr=0.1.yaml", "name=a=b"], "moe_pareto")
    assert found == ("lr=0.1.yaml", ["train.epochs=3", "name=a=b"])
    assert split_positionals(["a b/x=1.yml"], "moe_pareto") == ("a b/x=1.yml", [])
    assert split_positionals(["lr=0.2.yaml"], "moe_pareto")[1] == ["lr=0.2.yaml"]
    assert split_positionals([], "sweeps/confirm.yaml") == (str(BUNDLED / "confirm.yaml"), [])
    with pytest.raises(ConfigError, match=r"^one YAML file at a time, but got lr=0\.1\.yaml, b$"):
        split_positionals(["lr=0.1.yaml", "b"], "moe_pareto")
    with pytest.raises(ConfigError, match=r"^no such sweep file: a b/lr=1\.yaml.*; .* holds x=1"):
        split_positionals(["a b/lr=1.yaml"], "moe_pareto")


@pytest.mark.parametrize("name", sorted(path.stem for path in BUNDLED.glob("*.yaml")))
def test_a_bundled_study_is_found_from_anywhere_unless_there_is_a_file_of_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = BUNDLED / f"{name}.yaml"
    for typed in (name, f"{name}.yaml", f"sweeps/{name}.yaml", f"./{name}.yaml"):
        assert study_file(typed) == bundled
    for typed in (f"other/{name}.yaml", f"{name}.yml", f"{name}s", str(tmp_path / name)):
        with pytest.raises(ConfigError, match="^no such sweep file: "):
            study_file(typed)
    (tmp_path / f"{name}.yaml").touch()
    assert study_file(f"{name}.yaml") == Path(f"{name}.yaml")
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=r"\(it is not a regular file\)"):
        study_file(name)


def test_a_file_that_is_not_there_is_answered_with_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = "qwave comes with benchmark, confirm, curiosity, mixtures, moe_pareto, recipe"
    message = f"no such sweep file: other; {tmp_path.resolve()} holds no YAML file; {bundled}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        study_file("other")
    for number in range(12):
        (tmp_path / f"birds_{number:02}.yaml").touch()
    with pytest.raises(ConfigError, match=r"\(did you mean 'birds_03\.yaml'\?\); .*, \.\.\.; q"):
        study_file("bird_03.yaml")
    with pytest.raises(ConfigError, match=r"no such sweep file: mo_pareto \(did you mean 'moe_pa"):
        study_file("mo_pareto")
    with pytest.raises(ConfigError, match="no such sweep file: x"):
        study_file("x" * 5000)


def test_the_sweeps_are_installed_with_the_package_and_the_studies_are_not() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)["tool"]["setuptools"]
    assert settings["packages"]["find"]["include"] == ["qwave", "qwave.*"]
    assert {"sweeps/*.yaml", "py.typed"} <= set(settings["package-data"]["qwave"])
    assert BUNDLED.resolve() == REPOSITORY / "sweeps"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (TrialFailedError("2 of 2 trials failed"), 1),
        (WorkerLostError("a worker"), 1),
        (ConfigError("a key"), 2),
        (DataError("a row"), 2),
        (StudyStoppedError("stopped"), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_exit_codes(
    error: BaseException | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = study_parser("x", "Some study.", "moe_pareto")

    def run(_: object) -> int:
        if error is not None:
            raise error
        return 0

    assert run_command(run, parser.parse_args([])) == code
    said = capsys.readouterr().err
    assert (str(error) in said) if error and str(error) else said in ("", "stopped\n")
    assert "Traceback" not in said
    words = " ".join(parser.format_help().split())
    assert f"{code} " in words[words.index("Exit codes:") :]


def test_a_tilde_in_store_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/of somebody")
    parser = study_parser("x", "Some study.", "moe_pareto")
    assert parser.parse_args(["--store=~/a b"]).store == Path("/users/of somebody/a b")


@pytest.mark.slow
def test_the_main_job_starts_in_any_directory(tmp_path: Path) -> None:
    odd = ["name=2024-05-01", "--device", "tpu"]
    done = subprocess.run(
        [sys.executable, "-m", "studies.moe_pareto", *odd],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"{BUNDLED / 'moe_pareto.yaml'}: checking the sweep and its data\n"
        "error: device must be cpu, cuda or mps, but got 'tpu'\n"
    ), shlex.join(odd)
    assert not list(tmp_path.iterdir())


def test_a_folder_or_no_name_is_no_sweep_and_only_files_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").mkdir()
    with pytest.raises(
        ConfigError, match=r"^no such sweep file: my\.yaml \(it is .*\); "
    ) as found:
        study_file("my.yaml")
    assert "did you mean 'my.yaml'" not in str(found.value)
    assert "holds no YAML file" in str(found.value)
    with pytest.raises(ConfigError, match="^no such sweep file: '' "):
        study_file("")


def test_an_empty_store_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study_parser("benchmark", "", "").parse_args(["--store", ""])
    assert "argument --store: a path is wanted, but got ''" in capsys.readouterr().err
