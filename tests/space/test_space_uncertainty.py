"""Files of configurations whose uncertainty is studied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qwave.config import ConfigError, UncertaintyConfig
from qwave.data import load_embeddings
from qwave.space import load_comparison, load_uncertainty

PUBLISHED = Path(__file__).resolve().parents[2] / "sweeps" / "curiosity.yaml"
TEXT = """
name: sure
seeds: [11, 12, 13]
variants:
  one: {model.schemes: [int1]}
  two: {model.schemes: [int1, int8]}
held_out:
  rain: [Rain]
  pets: [Dog bark, Rooster]
"""

Load = Callable[..., UncertaintyConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str, is_smoke: bool = False) -> UncertaintyConfig:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return load_uncertainty(path, overrides, is_smoke=is_smoke)

    return load


def test_it_is_a_comparison_and_classes(load: Load, tmp_path: Path) -> None:
    found = load(TEXT, "train.epochs=7")
    plain = tmp_path / "plain.yaml"
    plain.write_text(TEXT.split("held_out")[0], encoding="utf-8")
    assert found.comparison == load_comparison(plain, ["train.epochs=7"])
    assert found.held_out == {"rain": ("Rain",), "pets": ("Dog bark", "Rooster")}
    assert load_uncertainty(plain).held_out == {}


def test_an_override_replaces_the_classes(load: Load) -> None:
    found = load(TEXT, "held_out={bells: [Clock tick]}", "seeds=[5]")
    assert found.held_out == {"bells": ("Clock tick",)}
    assert found.comparison.seeds == (5,)
    assert load(TEXT, "held_out={}").held_out == {}


def test_a_smoke_run_has_two_seeds_few_epochs_and_the_first_split(load: Load) -> None:
    found = load(TEXT, is_smoke=True)
    assert found.comparison.name == "sure_smoke"
    assert found.comparison.seeds == (11, 12)
    assert {variant.train.epochs for variant in found.comparison.variants.values()} == {3}
    assert found.held_out == {"rain": ("Rain",)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("held_out={rain: []}", r"held_out.rain` must name at least one class, each once, but"),
        ("held_out={rain: [Rain, Rain]}", r"each once, but got \['Rain', 'Rain'\]"),
        ("held_out={'no name': [Rain]}", r"`name` must be 1 to 100 letters"),
        ("held_out={rain: Rain}", r"held_out.rain = 'Rain': input should be a valid array"),
        ("held_out=[Rain]", r"held_out = \['Rain'\]: input should be"),
        ("held_up={rain: [Rain]}", r"unknown key 'held_up'"),
    ],
)
def test_what_is_no_split_is_refused(load: Load, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(TEXT, override)


def test_a_mistake_is_named_with_its_file(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"study\.yaml: .*held_out.rain"):
        load(TEXT.replace("[Rain]", "[]"))
    with pytest.raises(ConfigError, match=r"study\.yaml: unknown key 'speed'"):
        load(f"{TEXT}speed: 3\n")


@pytest.mark.parametrize("is_smoke", [False, True])
def test_the_published_study_loads_and_its_classes_exist(is_smoke: bool) -> None:
    found = load_uncertainty(PUBLISHED, is_smoke=is_smoke)
    names = load_embeddings("esc10").class_names
    held_out = [name for split in found.held_out.values() for name in split]
    assert held_out
    assert set(held_out) <= set(names)
    assert len(found.comparison.seeds) == (2 if is_smoke else 5)
    has_router = {v.model.num_experts > 1 for v in found.comparison.variants.values()}
    assert has_router == {False, True}
    assert PUBLISHED.read_text(encoding="utf-8").startswith("# ")
