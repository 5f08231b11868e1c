"""YAML files of comparisons and confirmations: what they mean, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from qwave.config import ConfigError, DataConfig, ModelConfig, TrialConfig
from qwave.space import parse_config
from qwave.space.parse import TRIAL_KEYS
from studies.comparison import ComparisonConfig, load_comparison
from studies.confirm.study import ConfirmationConfig, load_confirmation

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"
COMPARISON = """
name: some
seeds: [4, 5, 6]
workers: 2
data: {path: other.npz, n_folds: 3, normalization: l2}
fixed:
  train: {epochs: 7, batch_size: 16}
  model.hidden: [8]
variants:
  small: {model: {schemes: [1]}}
  distilled: {model.schemes: [8], train: {distillation: 0.5, epochs: 9}}
  raw: {model.schemes: [8], data.normalization: raw}
"""
CONFIRMATION = "study: moe\n"
ONE = TrialConfig(model=ModelConfig(("int1", "int4"), (8,)))
TWO = TrialConfig(model=ModelConfig(("int8",), (8,)))
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_comparison_is_fixed_keys_data_and_the_keys_of_each_variant(write: Write) -> None:
    study = load_comparison(write(COMPARISON))
    assert (study.name, study.seeds, study.workers) == ("some", (4, 5, 6), 2)
    shared = {"data.path": "other.npz", "data.n_folds": 3, "data.normalization": "l2"}
    shared |= {"train.epochs": 7, "train.batch_size": 16, "model.hidden": [8]}
    distilled = {"model.schemes": ["int8"], "train.distillation": 0.5, "train.epochs": 9}
    assert study.variants == {
        "small": parse_config({**shared, "model.schemes": ["int1"]}),
        "distilled": parse_config({**shared, **distilled}),
        "raw": parse_config({**shared, "model.schemes": ["int8"], "data.normalization": "raw"}),
    }
    assert list(study.variants) == ["small", "distilled", "raw"]
    assert study.data == study.variants["small"].data


def test_what_a_comparison_leaves_out_holds_its_default(write: Write) -> None:
    study = load_comparison(write("name: 3\nseeds: [0]\nvariants: {a: {}}"))
    assert (study.name, study.variants, study.workers) == ("3", {"a": TrialConfig()}, None)
    data = "data: {holdout_fold: 2, n_folds: 4, drop_overlap: true}"
    assert load_comparison(write(f"{VARIANT}{data}")).data == DataConfig(
        n_folds=4, holdout_fold=2, drop_overlap=True
    )


def test_an_override_of_a_trials_key_holds_in_every_variant(write: Write) -> None:
    path = write(COMPARISON)
    before = load_comparison(path)
    overrides = ["train.epochs=2", "data.n_folds=4", "model.router.dropout=0.25", "seeds=[9]"]
    after = load_comparison(path, [*overrides, "name=other", "workers=1"])
    assert (after.name, after.seeds, after.workers) == ("other", (9,), 1)
    for name, config in after.variants.items():
        flat = before.variants[name].flat()
        forced = {"train.epochs": 2, "data.n_folds": 4, "model.router.dropout": 0.25}
        assert config.flat() == {**flat, **forced}, name


@pytest.mark.parametrize("key", TRIAL_KEYS)
def test_every_key_of_a_trial_can_be_overridden(write: Write, key: str) -> None:
    path = write("name: a\nseeds: [0]\nvariants: {a: {model.schemes: [8]}}")
    value = load_comparison(path).variants["a"].flat()[key]
    text = "null" if value is None else yaml.safe_dump(value, default_flow_style=True)
    text = text.removesuffix("\n").removesuffix("\n...")
    assert load_comparison(path, [f"{key}={text}"]).variants["a"].flat()[key] == value


def test_smoke_runs_are_short_and_have_names_of_their_own(write: Write) -> None:
    study = load_comparison(write(COMPARISON), is_smoke=True)
    assert (study.name, study.seeds) == ("some_smoke", (4, 5))
    assert {config.train.epochs for config in study.variants.values()} == {3}
    longer = load_comparison(write(COMPARISON), ["train.epochs=5"], is_smoke=True)
    assert {config.train.epochs for config in longer.variants.values()} == {5}
    for text, seeds in ((CONFIRMATION, (101, 102)), ("study: moe\nseeds: [5, 6, 7]", (5, 6))):
        found = load_confirmation(write(text), is_smoke=True)
        assert (found.study, found.name, found.seeds) == ("moe_smoke", "confirm_smoke", seeds)


def test_a_confirmation_holds_what_the_file_says_and_defaults(write: Write) -> None:
    assert load_confirmation(write(CONFIRMATION)) == ConfirmationConfig("moe")
    text = "study: moe\nname: c\nseeds: [7]\nnear_standard_errors: 1\nmax_points: 3\nworkers: 2"
    expected = ConfirmationConfig("moe", "c", (7,), 1.0, 3, 2)
    assert load_confirmation(write(text)) == expected
    overrides = ["name=c", "seeds=[7]", "near_standard_errors=1", "max_points=3", "workers=2"]
    assert load_confirmation(write(CONFIRMATION), overrides) == expected
    odd = load_confirmation(write("study: 2024-05-01\nname: 010"))
    assert (odd.study, odd.name) == ("2024-05-01", "010")
    for text in ("2024-05-01", "my set #2", "[a]", "null"):
        assert load_confirmation(write(CONFIRMATION), [f"study={text}"]).study == text


def test_the_published_studies_load_and_the_confirmation_is_that_of_the_main_job() -> None:
    main_job = yaml.safe_load((SWEEPS / "moe_pareto.yaml").read_text())["name"]
    for is_smoke in (False, True):
        confirmation = load_confirmation(SWEEPS / "confirm.yaml", is_smoke=is_smoke)
        assert confirmation.study == main_job + "_smoke" * is_smoke
        n_seeds = [len(confirmation.seeds)]
        for name in ("benchmark", "recipe", "curiosity"):
            study = load_comparison(SWEEPS / f"{name}.yaml", is_smoke=is_smoke)
            n_seeds.append(len(study.seeds))
        assert n_seeds == [2 if is_smoke else 5] * 4
    kinds = {v.model.num_experts > 1 for v in study.variants.values()}
    assert kinds == {False, True}, "curiosity is asked of networks and of mixtures"


# --- values that are refused ---


def comparison(**changes: Any) -> ComparisonConfig:
    values: dict[str, Any] = {"name": "some", "seeds": (0, 1), "variants": {"a": ONE, "b": TWO}}
    return ComparisonConfig(**{**values, **changes})


def with_data(**changes: Any) -> TrialConfig:
    return dataclasses.replace(TWO, data=DataConfig(**changes))


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (ONE, ONE),
        (ONE, dataclasses.replace(ONE, seed=5)),
        (ONE, TrialConfig(model=ModelConfig(("int4", "int1"), (8,)))),
        (TWO, TrialConfig(model=ModelConfig(("int8",), (8,), load_balance_weight=0.5))),
    ],
    ids=["the same", "but for the seed", "in canonical form", "but for a key without effect"],
)
def test_one_configuration_under_two_names_is_refused(
    first: TrialConfig, other: TrialConfig
) -> None:
    message = "`variants` 'a' and 'c' are the same configuration; keep one"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        comparison(variants={"a": first, "b": with_data(normalization="raw"), "c": other})


@pytest.mark.parametrize(
    "change",
    [{"path": "other.npz"}, {"n_folds": 4}, {"drop_overlap": True}, {"holdout_fold": 1}],
    ids=str,
)
def test_variants_may_differ_in_normalisation_and_in_nothing_else_of_the_data(
    change: dict[str, Any],
) -> None:
    variants = {n: with_data(normalization=n) for n in ("raw", "l2")}
    assert comparison(variants=variants).variants == variants
    with pytest.raises(ConfigError, match="must agree on the data and its folds"):
        comparison(variants={"raw": variants["raw"], "other": with_data(**change)})


class Mistake(NamedTuple):
    """What stands in the file or in overrides, and the message after the file's name."""

    text: str
    message: str
    overrides: tuple[str, ...] = ()


START = "name: a\nseeds: [0]\n"
VARIANT = f"{START}variants: {{a: {{}}}}\n"
SEED_RULE = "`seeds` must be distinct whole numbers from 0, at least one, but got "
COMPARISONS = (
    Mistake(
        f"{VARIANT}varients: {{}}",
        "unknown key 'varients' (did you mean 'variants'?); allowed: name, seeds, variants, data, "
        "fixed, workers",
    ),
    Mistake("seeds: [0]\nvariants: {a: {}}", "name is missing"),
    Mistake("name: a\nvariants: {a: {}}", "seeds is missing"),
    Mistake(START, "variants is missing"),
    Mistake(f"{START}variants: {{}}", "`variants` must name at least one configuration"),
    Mistake("- name: a", "a study is a mapping of keys, but found [{'name': 'a'}]"),
    Mistake("", "a study is a mapping of keys, but found None"),
    Mistake(f"{START}variants: [a, b]", "variants = ['a', 'b']: input should be an object"),
    Mistake(f"{START}variants:\n  a:", "variants.a = None: input should be an object"),
    Mistake(
        f"{START}variants: {{a: {{model: 3}}}}", "variants.a: model = 3: input should be an object"
    ),
    Mistake(
        f"{START}variants: {{b: {{train: {{epochz: 3}}}}}}",
        "variants.b: unknown key 'train.epochz' (did you mean 'epochs'?); allowed: mode, ",
    ),
    Mistake(
        f"{START}variants: {{b: {{model.top_k: 2}}}}",
        "variants.b: `model.top_k <= num_experts` must hold, but got top_k=2, num_experts=1",
    ),
    Mistake(
        f"{START}variants: {{b: {{model.schemes: [int9]}}}}",
        "variants.b: unknown scheme 'int9' (did you mean 'int8'?)",
    ),
    Mistake(
        f"{START}variants: {{b: {{train: {{epochs: 3}}, train.epochs: 4}}}}",
        "variants.b: train.epochs is given twice",
    ),
    Mistake(f"{START}variants:\n  a: {{}}\n  a: {{}}", "line 5: the key 'a' stands twice"),
    Mistake(f"{VARIANT}fixed: 3", "fixed = 3: input should be an object"),
    Mistake(f"{VARIANT}fixed: {{data.n_folds: 3}}", "fixed.data.n_folds: data has a section of"),
    Mistake("name: a\nseeds: 3\nvariants: {a: {}}", "seeds = 3: input should be a valid array"),
    Mistake("name: a\nseeds: [one]\nvariants: {a: {}}", "seeds.0 = 'one': input should be a"),
    Mistake("name: a\nseeds: [1, 1]\nvariants: {a: {}}", f"{SEED_RULE}[1, 1]"),
    Mistake("name: a\nseeds: [-1]\nvariants: {a: {}}", f"{SEED_RULE}[-1]"),
    Mistake("name: a/b\nseeds: [0]\nvariants: {a: {}}", "`name` must be 1 to 100 letters"),
    Mistake(f"{VARIANT}workers: 0", "`workers >= 1` must hold, but got workers=0"),
    Mistake(VARIANT, "variants.a: train.epochs = 'many': input should be", ("train.epochs=many",)),
)
CONFIRMATIONS = (
    Mistake("name: a", "study is missing"),
    Mistake("", "a study is a mapping of keys, but found None"),
    Mistake(
        "study: moe\nmax_point: 3",
        "unknown key 'max_point' (did you mean 'max_points'?); allowed: study, name, seeds, "
        "near_standard_errors, max_points, workers",
    ),
    Mistake("study: [3]", "study = ['3']: input should be a valid string"),
    Mistake("study: moe\nmax_points: many", "max_points = 'many': input should be a valid int"),
    Mistake(
        "study: moe\nnear_standard_errors: .nan",
        "`near_standard_errors >= 0` and `max_points >= 1` must hold, but got near_standard_err",
    ),
    Mistake("study: moe\nmax_points: 0", "`near_standard_errors >= 0` and `max_points >= 1` must"),
    Mistake("study: moe\nseeds: []", f"{SEED_RULE}[]"),
    Mistake("study: moe\nname: a/b", "`name` must be 1 to 100 letters"),
    Mistake(CONFIRMATION, "`workers >= 1` must hold, but got", ("workers=0",)),
)
CASES = [
    *((load_comparison, mistake) for mistake in COMPARISONS),
    *((load_confirmation, mistake) for mistake in CONFIRMATIONS),
]


@pytest.mark.parametrize(
    ("load", "mistake"), CASES, ids=lambda case: getattr(case, "message", "")[:40] or None
)
def test_a_mistake_is_named_with_its_file(
    write: Write, load: Callable[..., Any], mistake: Mistake
) -> None:
    path = write(mistake.text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}: {mistake.message}')}"):
        load(path, mistake.overrides)


@pytest.mark.parametrize(
    ("load", "override", "message"),
    [
        (load_comparison, "train.epochs", " must have the form dotted.key=value"),
        (
            load_comparison,
            "train.epoch=3",
            ": unknown key 'train.epoch' (did you mean 'train.epochs'?); allowed: name, seeds, "
            "workers, data.path, ",
        ),
        (load_comparison, "variants={}", ": unknown key 'variants'"),
        (load_comparison, "seeds=[1", " is not YAML: "),
        (load_confirmation, "train.epochs=3", ": unknown key 'train.epochs'; allowed: study, na"),
    ],
)
def test_an_override_that_means_nothing_is_refused(
    write: Write, load: Callable[..., Any], override: str, message: str
) -> None:
    path = write(COMPARISON if load is load_comparison else CONFIRMATION)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'override {override!r}{message}')}"):
        load(path, [override])
