"""Sweep files that load: domains, overrides, smoke runs, names of schemes, round trips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwave.config import (
    SCHEMES,
    ChoiceDomain,
    ConfigError,
    CuriosityConfig,
    DataConfig,
    FloatDomain,
    IntDomain,
    MixDomain,
    ModelConfig,
    Objective,
    RouterConfig,
    SweepConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.space import load_sweep, parse_config

ROOT = Path(__file__).resolve().parents[2]
# Studies of known configurations have seeds of their own, and loaders of their own.
SWEEPS = [
    path
    for path in sorted((ROOT / "sweeps").rglob("*.y*ml"))
    if "\nseeds:" not in path.read_text(encoding="utf-8")
]
MAIN = ROOT / "sweeps" / "moe_pareto.yaml"
NORMALIZATIONS = ChoiceDomain(("sqrt_layer", "standard"), ("sqrt_layer", "standard"))
ALIASES: dict[Any, str] = {
    1: "int1",
    "1": "int1",
    "binary": "int1",
    "bitnet": "ternary",
    "qesc": "popcount",
    2: "int2",
    4: "int4",
    8: "int8",
    16: "int16",
    32: "fp32",
    "esc": "fp32",
    "INT8": "int8",
    **{name: name for name in SCHEMES},
}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., SweepConfig]:
    def load(text: str, *overrides: str, is_smoke: bool = False) -> SweepConfig:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep(path, overrides, is_smoke=is_smoke)

    return load


Load = Callable[..., SweepConfig]


def test_there_is_at_least_one_sweep_to_load() -> None:
    assert MAIN in SWEEPS


@pytest.mark.parametrize("is_smoke", [False, True])
@pytest.mark.parametrize("path", SWEEPS, ids=[str(p.relative_to(ROOT)) for p in SWEEPS])
def test_every_published_sweep_loads_and_its_base_round_trips(path: Path, is_smoke: bool) -> None:
    sweep = load_sweep(path, is_smoke=is_smoke)
    assert parse_config(dataclasses.asdict(sweep.base)) == sweep.base
    assert sweep.name == path.stem + "_smoke" * is_smoke
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_default_sweep_gives_exactly_these_values() -> None:
    sweep = load_sweep(MAIN)
    assert sweep.name == "moe_pareto"
    assert sweep.data == DataConfig("esc10", "sqrt_layer", None, fold_seed=0)
    assert sweep.objectives == (
        Objective("accuracy", "maximize"),
        Objective("size_bytes", "minimize"),
    )
    assert (sweep.budget.n_trials, sweep.budget.max_size_bytes) == (60, 4_000_000)
    assert (sweep.sampler.name, sweep.sampler.seed) == ("tpe", 7)
    assert sweep.base.train == TrainConfig(
        mode="qat",
        epochs=120,
        batch_size=64,
        weight_decay=0.3,
        label_smoothing=0.1,
        distillation=0.8,
        class_weights=True,
    )
    eight = ("int1", "ternary", "popcount", "int2", "int4", "int8", "int16", "fp32")
    assert sweep.search == {
        "model.num_experts": IntDomain(1, 6),
        "model.schemes": MixDomain(eight),
        "model.top_k": IntDomain(1, 3),
        "model.hidden": ChoiceDomain(
            ("linear", "tiny", "small", "medium", "large"),
            ((), (8,), (64,), (256,), (640, 320)),
        ),
        "model.dropout": FloatDomain(0.0, 0.4),
        "model.input_dropout": FloatDomain(0.0, 0.3),
        "model.load_balance_weight": FloatDomain(0.01, 1.0, log=True),
        "model.router.hidden": ChoiceDomain(("linear", "small"), (0, 32)),
        "model.router.scheme": ChoiceDomain(("int4", "int8"), ("int4", "int8")),
        "model.curiosity.alpha": ChoiceDomain((0.0, 0.5, 1.0), (0.0, 0.5, 1.0)),
        "train.learning_rate": FloatDomain(1e-3, 1e-2, log=True),
        "data.normalization": NORMALIZATIONS,
    }


def test_a_file_with_a_name_alone_holds_every_default(load: Load) -> None:
    sweep = load("name: a")
    assert sweep.base == TrialConfig()
    assert sweep.search == {"data.normalization": NORMALIZATIONS}


@pytest.mark.parametrize("text", ["name: a\ndata: {path: esc10}", "name: a\nsearch: {}"])
def test_the_normalization_is_searched_where_a_file_settles_none(load: Load, text: str) -> None:
    assert load(text).search["data.normalization"] == NORMALIZATIONS


def test_a_normalization_that_is_given_is_not_searched(load: Load) -> None:
    in_file = load("name: a\ndata: {normalization: layer}")
    overridden = load("name: a", "data.normalization=standard")
    assert (in_file.data.normalization, in_file.search) == ("layer", {})
    assert (overridden.data.normalization, overridden.search) == ("standard", {})


def test_a_domain_of_the_normalization_is_kept_and_an_override_replaces_it(load: Load) -> None:
    text = "name: a\nsearch: {data.normalization: {choice: [l2, raw]}}"
    assert load(text).search == {"data.normalization": ChoiceDomain(("l2", "raw"), ("l2", "raw"))}
    overridden = load(text, "data.normalization=standard")
    assert (overridden.data.normalization, overridden.search) == ("standard", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("1e0", 1.0),
        ("5.e-4", 0.0005),
        (".5e-2", 0.005),
        ("+2e-3", 0.002),
        ("1.5e-3", 0.0015),
        ("0.25", 0.25),
        ("1", 1.0),
    ],
)
def test_numbers_are_read_as_a_person_means_them(load: Load, text: str, value: float) -> None:
    for sweep in (
        load(f"name: a\nfixed: {{train: {{learning_rate: {text}}}}}"),
        load("name: a", f"train.learning_rate={text}"),
    ):
        assert sweep.base.train.learning_rate == value
        assert type(sweep.base.train.learning_rate) is float
    low = load(f"name: a\nsearch: {{train.learning_rate: {{float: [{text}, 2]}}}}")
    assert low.search["train.learning_rate"] == FloatDomain(value, 2.0)


def test_what_only_looks_like_a_number_stays_a_word(load: Load) -> None:
    assert load("name: e3").name == "e3"
    assert load("name: 1e-3a").name == "1e-3a"


def test_dotted_and_nested_keys_say_the_same(load: Load) -> None:
    nested = load("name: a\nfixed: {model: {router: {hidden: 9}, dropout: 0.25}}")
    dotted = load("name: a\nfixed: {model.router.hidden: 9, model.dropout: 0.25}")
    mixed = load("name: a\nfixed: {model: {dropout: 0.25}, model.router: {hidden: 9}}")
    assert nested.base == dotted.base == mixed.base
    assert nested.base.model.router.hidden == 9


@pytest.mark.parametrize("alias", ALIASES, ids=repr)
def test_schemes_go_by_any_of_their_names_everywhere(load: Load, alias: object) -> None:
    name = ALIASES[alias]
    word = f'"{alias}"' if isinstance(alias, str) else str(alias)
    config = parse_config(
        {"model": {"schemes": [alias], "head_scheme": alias, "router": {"scheme": alias}}}
    )
    assert config.model.schemes == (name,)
    assert config.model.head_scheme == name
    assert config.model.router.scheme == name
    base = load(
        f"name: a\nfixed: {{model: {{schemes: [{word}], head_scheme: {word}}},"
        f" model.router.scheme: {word}}}"
    ).base
    assert base == config
    sweep = load(
        "name: a",
        f"model.schemes=[{word}, {word}]",
        f"model.head_scheme={word}",
        f"model.router.scheme={word}",
    )
    assert sweep.base.model.schemes == (name, name)
    assert (sweep.base.model.head_scheme, sweep.base.model.router.scheme) == (name, name)
    searched = load(f"name: a\nsearch: {{model.schemes: {{mix: [{word}]}}}}")
    assert searched.search["model.schemes"] == MixDomain((name,))


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.epochs=20", lambda s: s.base.train.epochs, 20),
        ("train.learning_rate=1e-2", lambda s: s.base.train.learning_rate, 0.01),
        ("model.hidden=[16, 8]", lambda s: s.base.model.hidden, (16, 8)),
        ("model.hidden=[]", lambda s: s.base.model.hidden, ()),
        ("model.router.hidden=3", lambda s: s.base.model.router.hidden, 3),
        ("model.head_scheme=null", lambda s: s.base.model.head_scheme, None),
        ("seed=5", lambda s: s.base.seed, 5),
        ("train.batch_size=4", lambda s: s.base.train.batch_size, 4),
        ("data.normalization=layer", lambda s: s.data.normalization, "layer"),
        ("data.path=some/file=1.npz", lambda s: s.data.path, "some/file=1.npz"),
        ("budget.n_trials=7", lambda s: s.budget.n_trials, 7),
        ("budget={n_trials: 8}", lambda s: s.budget.n_trials, 8),
        ("sampler.name=random", lambda s: s.sampler.name, "random"),
        ("name=other", lambda s: s.name, "other"),
        ("fixed.train.batch_size=9", lambda s: s.base.train.batch_size, 9),
        (
            "search.model.hidden={choice: {one: [1]}}",
            lambda s: s.search["model.hidden"],
            ChoiceDomain(("one",), ((1,),)),
        ),
        ("search.train.epochs={int: [3, 4]}", lambda s: s.search["train.epochs"], IntDomain(3, 4)),
        ("search={}", lambda s: s.search, {"data.normalization": NORMALIZATIONS}),
    ],
)
def test_an_override_changes_its_key(
    load: Load, override: str, read: Callable[[SweepConfig], object], value: object
) -> None:
    text = (
        "name: a\nfixed: {train: {batch_size: 7}, model: {head_scheme: 8}}\n"
        "search: {model.hidden: {choice: {two: [2]}}, train.epochs: {int: [5, 6]}}"
    )
    assert read(load(text)) != value
    assert read(load(text, override)) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.hidden", "[16]"),
        ("model.dropout", "0.125"),
        ("model.input_dropout", "0.125"),
        ("model.router.hidden", "5"),
        ("model.router.scheme", "4"),
        ("model.curiosity.alpha", "2.5"),
        ("train.learning_rate", "0.5"),
    ],
)
def test_an_overridden_key_of_the_trial_leaves_the_search(key: str, value: str) -> None:
    before, after = load_sweep(MAIN), load_sweep(MAIN, [f"{key}={value}"])
    assert key in before.search
    assert set(before.search) - set(after.search) == {key}
    assert after.base.flat()[key] != before.base.flat()[key]


def test_the_number_of_experts_can_be_fixed_while_their_mix_is_searched() -> None:
    sweep = load_sweep(MAIN, ["model.num_experts=4"])
    assert "model.num_experts" not in sweep.search
    assert "model.schemes" in sweep.search
    assert sweep.base.model.num_experts == 4


@pytest.mark.parametrize("num_experts", [1, 2])
def test_the_published_sweep_can_be_run_with_few_experts(num_experts: int) -> None:
    sweep = load_sweep(MAIN, [f"model.num_experts={num_experts}"])
    assert sweep.base.model.num_experts == num_experts


def test_later_overrides_win() -> None:
    sweep = load_sweep(MAIN, ["train.epochs=20", "train.epochs=30"])
    assert sweep.base.train.epochs == 30


@pytest.mark.parametrize(
    "fixed",
    [
        "{train: {epochs: 9}}",
        "{train.epochs: 9}",
        "{train.epochs: 9, train: {batch_size: 8}}",
        "{train: {batch_size: 8}, train.epochs: 9}",
    ],
)
@pytest.mark.parametrize("is_smoke", [False, True])
def test_an_override_wins_however_the_file_spells_the_key(
    load: Load, fixed: str, is_smoke: bool
) -> None:
    sweep = load(f"name: a\nfixed: {fixed}", "train.epochs=4", is_smoke=is_smoke)
    assert sweep.base.train.epochs == 4


def test_overrides_do_not_touch_the_file(load: Load, tmp_path: Path) -> None:
    text = "name: a\nfixed: {train: {epochs: 9}}\nsearch: {model.dropout: {float: [0, 0.5]}}\n"
    load(text, "train.epochs=4", "model.dropout=0.1", is_smoke=True)
    assert (tmp_path / "sweep.yaml").read_text() == text
    assert load(text).base.train.epochs == 9


def test_smoke_is_the_same_sweep_smaller_and_under_another_name() -> None:
    whole, smoke = load_sweep(MAIN), load_sweep(MAIN, is_smoke=True)
    assert smoke.name == "moe_pareto_smoke"
    assert smoke.search == whole.search
    assert smoke.base.train.epochs < 10
    assert smoke.budget.n_trials < whole.budget.n_trials
    assert dataclasses.replace(smoke.base, train=whole.base.train) == whole.base
    assert smoke.digest != whole.digest


def test_overrides_win_over_smoke() -> None:
    smoke = load_sweep(MAIN, ["train.epochs=2", "budget.n_trials=3", "name=x"], is_smoke=True)
    assert (smoke.base.train.epochs, smoke.budget.n_trials, smoke.name) == (2, 3, "x")


def test_smoke_also_shortens_a_sweep_that_searches_its_epochs(load: Load) -> None:
    sweep = load("name: a\nsearch: {train.epochs: {int: [50, 90]}}", is_smoke=True)
    assert sweep.base.train.epochs < 10
    assert "train.epochs" not in sweep.search


def test_smoke_does_not_invent_a_name(load: Load) -> None:
    with pytest.raises(ConfigError, match="name is missing"):
        load("fixed: {}", is_smoke=True)


def _random_config(rng: np.random.Generator) -> TrialConfig:
    def pick(values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    names = list(SCHEMES)
    schemes = tuple(pick(names) for _ in range(rng.integers(1, 7)))
    return TrialConfig(
        data=DataConfig(
            pick(["esc10", "a b.npz", "ünïcode.csv"]),
            pick(["standard", "l2", "min_max", "raw", "layer", "sqrt_layer"]),
            int(rng.integers(2, 11)),
            bool(rng.integers(2)),
            int(rng.integers(1000)),
        ),
        model=ModelConfig(
            schemes=schemes,
            hidden=tuple(int(w) for w in rng.integers(1, 999, size=rng.integers(4))),
            head_scheme=pick([None, *names]),
            top_k=int(rng.integers(1, len(schemes) + 1)),
            dropout=float(rng.random() * 0.99),
            input_dropout=float(rng.random() * 0.99),
            load_balance_weight=float(rng.random()),
            router=RouterConfig(int(rng.integers(99)), pick(names), float(rng.random() * 0.99)),
            curiosity=CuriosityConfig(float(rng.random()), int(rng.integers(2, 99))),
        ),
        train=TrainConfig(
            mode=pick(["qat", "ptq"]),
            epochs=int(rng.integers(1, 99)),
            batch_size=int(rng.integers(1, 99)),
            learning_rate=float(10 ** -rng.uniform(0, 12)),
            weight_decay=float(rng.random()),
            label_smoothing=float(rng.random() * 0.99),
            distillation=float(rng.choice([0, rng.random(), 1])),
            class_weights=bool(rng.integers(2)),
        ),
        seed=int(rng.integers(2**31)),
    )


def test_a_configuration_written_out_and_parsed_is_the_same() -> None:
    for seed in range(100):
        config = _random_config(np.random.default_rng(seed))
        tree = dataclasses.asdict(config)
        parsed = parse_config(tree)
        assert parsed == config, f"seed {seed}"
        assert parsed.digest == config.digest, f"seed {seed}"
        assert tree == dataclasses.asdict(config), f"seed {seed}: the argument was changed"
        assert parse_config(config.flat()) == config, f"seed {seed}: dotted keys"


def test_parsing_leaves_its_argument_alone() -> None:
    tree: dict[str, Any] = {"model": {"num_experts": 2, "schemes": [1, "bitnet"]}}
    assert parse_config(tree).model.schemes == ("int1", "ternary")
    assert tree == {"model": {"num_experts": 2, "schemes": [1, "bitnet"]}}


def test_an_empty_configuration_is_the_default() -> None:
    assert parse_config({}) == TrialConfig()


def test_a_stored_configuration_may_hold_early_stopping_switched_off() -> None:
    stored = dataclasses.asdict(TrialConfig())
    stored["train"] |= {"patience": None, "validation_share": 0.15}
    assert parse_config(stored) == TrialConfig()
    for key, value in (("patience", 3), ("validation_share", 0.3)):
        with pytest.raises(ConfigError, match=f"^file: train.{key}={value}: early stopping is go"):
            parse_config({"train": {key: value}}, "file")
