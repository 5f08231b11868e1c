"""The file of `studies.mixtures`: a sweep with mixtures, and the one without made out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from qwave.config import ConfigError, IntDomain
from qwave.space import load_sweep, suggest
from studies.mixtures.study import MixturesConfig, load_mixtures

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "sweeps" / "mixtures.yaml"
TEXT = """
name: pays
seeds: [11, 12, 13]
budget: {n_trials: 9}
fixed: {model.top_k: 2, train.epochs: 7}
search:
  model.num_experts: {int: [2, 3]}
  model.schemes: {mix: [int1, int4]}
"""
Load = Callable[..., MixturesConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str, is_smoke: bool = False) -> MixturesConfig:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return load_mixtures(path, overrides, is_smoke=is_smoke)

    return load


def drawn(config: MixturesConfig, n_draws: int = 40) -> tuple[set[int], set[int]]:
    """Numbers of experts that both searches draw."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = []
    for sweep in (config.one, config.mixed):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        found.append({suggest(sweep, study.ask()).model.num_experts for _ in range(n_draws)})
    return found[0], found[1]


def test_the_published_file_is_the_main_job_with_one_normalization() -> None:
    config = load_mixtures(PUBLISHED)
    main = load_sweep(ROOT / "sweeps" / "moe_pareto.yaml", ["data.normalization=sqrt_layer"])
    assert (config.name, config.mixed.name, config.one.name) == (
        *("mixtures", "mixtures_mix", "mixtures_one"),
    )
    for name in ("objectives", "budget", "sampler", "base", "search"):
        assert getattr(config.mixed, name) == getattr(main, name), name
    assert len(config.seeds) == 5
    assert "#   python -m studies.mixtures\n" in PUBLISHED.read_text(encoding="utf-8")


def test_one_search_draws_single_experts_and_is_otherwise_the_same(load: Load) -> None:
    config = load(TEXT)
    assert config.seeds == (11, 12, 13)
    assert config.one.base.model.schemes == ("int8",)
    assert config.one.base.model.top_k == 1
    assert config.mixed.base.model.top_k == 2
    assert config.one.base.train == config.mixed.base.train
    assert config.one.budget == config.mixed.budget
    assert config.mixed.search["model.num_experts"] == IntDomain(2, 3)
    assert drawn(config) == ({1}, {2, 3})


def test_overrides_reach_both_searches_and_the_seeds(load: Load) -> None:
    config = load(TEXT, "seeds=[4]", "train.epochs=3", "model.num_experts=3", "model.top_k=1")
    assert config.seeds == (4,)
    assert config.one.base.train.epochs == config.mixed.base.train.epochs == 3
    assert drawn(config) == ({1}, {3})


def test_smoke_runs_are_short_and_have_a_name_of_their_own(load: Load) -> None:
    config = load(TEXT, is_smoke=True)
    assert (config.name, config.one.name, config.mixed.name) == (
        *("pays_smoke", "pays_smoke_one", "pays_smoke_mix"),
    )
    assert config.seeds == (11, 12)
    assert config.one.base.train.epochs == config.mixed.base.train.epochs < 7


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (TEXT.replace("seeds: [11, 12, 13]", ""), [], r"study.yaml: seeds is missing"),
        (TEXT, ["seeds=3"], "seeds = 3: input should be a valid"),
        (TEXT, ["seeds=[a]"], "seeds.0 = 'a': input should be a valid integer"),
        (TEXT, ["seeds=[0, 1]"], "study.yaml: `seeds` must be fresh, but the searches themselves"),
        (TEXT, ["seeds=[1, 1]"], "`seeds` must be distinct"),
        (TEXT, ["name=a/b"], "`name` must be 1 to 100 letters"),
        (TEXT, ["model.num_experts=1", "model.top_k=1"], "study.yaml: one search must have 1 exp"),
        (TEXT, ["model.schemes=[1, 4]"], "search.model.num_experts needs search.model.schemes"),
        (
            "name: a\nseeds: [1]\nfixed: {model.schemes: [int1, int4]}",
            [],
            "study.yaml: search.model.schemes must be a {mix: .*}: networks of one expert",
        ),
        (TEXT, ["train.epoch=3"], r"unknown key 'train.epoch' \(did you mean 'train.epochs'\?\)"),
        (TEXT + "sede: 3\n", [], "unknown key 'sede'"),
        ("just words", [], "a study is a mapping of keys, but found 'just words'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    load: Load, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(text, *overrides)
