"""studies/README.md names commands that exist; sweeps/README.md names every key."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from qwave.config import SCORE_DIRECTIONS, Budget, DataConfig, Objective, SamplerConfig
from qwave.config.trial import Folds, Mode, Normalization
from qwave.space.domains import parse_domain
from qwave.space.parse import TRIAL_KEYS
from qwave.space.sweep_file import BUNDLED, study_file
from studies.comparison import ComparisonConfig
from studies.confirm.study import ConfirmationConfig
from studies.mixtures.study import MixturesConfig

ROOT = Path(__file__).resolve().parents[2]
STUDIES = (ROOT / "studies" / "README.md").read_text(encoding="utf-8")
SWEEPS = (ROOT / "sweeps" / "README.md").read_text(encoding="utf-8")
SECTIONS = ("name", "data", "objectives", "budget", "sampler", "fixed", "search")


def names(kind: type, prefix: str = "") -> list[str]:
    return [f"{prefix}{field.name}" for field in dataclasses.fields(kind)]


def first_cells(text: str) -> set[str]:
    """Keys in the first column of all tables."""
    rows = re.findall(r"^\| (.*?) \|", text, flags=re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row)}


def test_every_key_has_a_row_in_the_readme_of_sweeps() -> None:
    expected = {*SECTIONS, *TRIAL_KEYS, *names(DataConfig, "data."), *names(Objective)}
    expected |= {*names(Budget, "budget."), *names(SamplerConfig, "sampler.")}
    expected |= {*names(ComparisonConfig), *names(ConfirmationConfig)}
    found = first_cells(SWEEPS)
    assert not expected - found
    assert not {key for key in found if "{" not in key} - expected, "keys that do not exist"
    assert "seeds" in names(MixturesConfig)


@pytest.mark.parametrize("kind", [DataConfig, Budget, SamplerConfig])
def test_defaults_in_the_readme_of_sweeps_are_those_of_the_code(kind: type) -> None:
    section = {DataConfig: "data", Budget: "budget", SamplerConfig: "sampler"}[kind]
    for field in dataclasses.fields(kind):
        if field.default is None or field.name == "normalization":
            continue
        (row,) = [line for line in SWEEPS.splitlines() if f"| `{section}.{field.name}` |" in line]
        assert f"`{str(field.default).replace('True', 'true').replace('False', 'false')}`" in row


def test_allowed_words_and_domains_are_those_of_the_code() -> None:
    words = {*SCORE_DIRECTIONS, *Normalization.__args__, *Mode.__args__, *Folds.__args__}  # type: ignore[attr-defined]
    assert not {word for word in words if f"`{word}`" not in SWEEPS}
    domains = [key for key in first_cells(SWEEPS) if key.startswith("{")]
    assert len(domains) == 5
    for text in domains:
        parse_domain(yaml.safe_load(text), "README")


@pytest.mark.parametrize("text", [STUDIES, SWEEPS], ids=["studies", "sweeps"])
def test_every_command_names_a_module_and_files_that_exist(text: str) -> None:
    commands = set(re.findall(r"studies\.([a-z]\w+)((?: sweeps/\w+\.yaml)?)", text))
    assert commands
    for name, file in commands:
        assert importlib.util.find_spec(f"studies.{name}") is not None, name
        assert not file or study_file(file.strip()).is_file()
    for name in re.findall(r"`(?:sweeps/)?([a-z]\w+\.yaml)`", text):
        assert (BUNDLED / name).is_file(), name


def test_every_study_has_a_row() -> None:
    studies = {path.parent.name for path in (ROOT / "studies").glob("*/__main__.py")}
    assert studies <= {re.sub(r"^studies\.(\w+).*", r"\1", key) for key in first_cells(STUDIES)}
