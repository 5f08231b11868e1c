"""YAML files of studies of known configurations: what they say, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from qwave.config import ConfigError, ConfirmationConfig, DataConfig, TrialConfig
from qwave.space import load_comparison, load_confirmation, parse_config
from qwave.space.parse import TRIAL_KEYS

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
  taught: {model.schemes: [8], train: {distillation: 0.5, epochs: 9}}
  raw: {model.schemes: [8], data.normalization: raw}
"""
CONFIRMATION = "study: moe\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_comparison_is_fixed_keys_data_and_what_each_variant_says(write: Write) -> None:
    study = load_comparison(write(COMPARISON))
    assert (study.name, study.seeds, study.workers) == ("some", (4, 5, 6), 2)
    shared = {"data.path": "other.npz", "data.n_folds": 3, "data.normalization": "l2"}
    shared |= {"train.epochs": 7, "train.batch_size": 16, "model.hidden": [8]}
    assert list(study.variants) == ["small", "taught", "raw"]
    assert study.variants == {
        "small": parse_config({**shared, "model.schemes": ["int1"]}),
        "taught": parse_config(
            {**shared, "model.schemes": ["int8"], "train.distillation": 0.5, "train.epochs": 9}
        ),
        "raw": parse_config(
            {**shared, "model.schemes": ["int8"], "data.normalization": "raw"},
        ),
    }


def test_what_a_comparison_leaves_out_holds_its_default(write: Write) -> None:
    study = load_comparison(write("name: a\nseeds: [0]\nvariants: {a: {}}"))
    assert study.variants == {"a": TrialConfig()}
    assert study.workers is None


def test_an_override_of_a_trials_key_holds_in_every_variant(write: Write) -> None:
    path = write(COMPARISON)
    before = load_comparison(path)
    overrides = ["train.epochs=2", "data.n_folds=4", "model.router.dropout=0.25", "seeds=[9]"]
    after = load_comparison(path, [*overrides, "name=other", "workers=1"])
    assert (after.name, after.seeds, after.workers) == ("other", (9,), 1)
    assert list(after.variants) == list(before.variants)
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
    study = load_comparison(path, [f"{key}={text}"])
    assert study.variants["a"].flat()[key] == value


def test_a_smoke_run_of_a_comparison_is_short_and_has_a_name_of_its_own(write: Write) -> None:
    study = load_comparison(write(COMPARISON), is_smoke=True)
    assert (study.name, study.seeds) == ("some_smoke", (4, 5))
    assert {config.train.epochs for config in study.variants.values()} == {3}
    longer = load_comparison(write(COMPARISON), ["train.epochs=5"], is_smoke=True)
    assert {config.train.epochs for config in longer.variants.values()} == {5}


def test_a_confirmation_holds_what_the_file_says_and_defaults(write: Write) -> None:
    assert load_confirmation(write(CONFIRMATION)) == ConfirmationConfig("moe")
    text = "study: moe\nname: c\nseeds: [7]\nnear_standard_errors: 1\nmax_points: 3\nworkers: 2"
    expected = ConfirmationConfig("moe", "c", (7,), 1.0, 3, 2)
    assert load_confirmation(write(text)) == expected
    overrides = ["name=c", "seeds=[7]", "near_standard_errors=1", "max_points=3", "workers=2"]
    assert load_confirmation(write(CONFIRMATION), overrides) == expected
    assert load_confirmation(write(text), ["study=other"]).study == "other"


@pytest.mark.parametrize(
    ("text", "seeds"),
    [(CONFIRMATION, (101, 102)), ("study: moe\nseeds: [5, 6, 7]", (5, 6))],
)
def test_a_smoke_run_confirms_the_smoke_run_of_the_study_with_two_seeds(
    write: Write, text: str, seeds: tuple[int, ...]
) -> None:
    study = load_confirmation(write(text), is_smoke=True)
    assert (study.study, study.name) == ("moe_smoke", "confirm_smoke")
    assert study.seeds == seeds


def test_the_committed_confirmation_is_that_of_the_main_job() -> None:
    for is_smoke in (False, True):
        study = load_confirmation(SWEEPS / "confirm.yaml", is_smoke=is_smoke)
        main_job = yaml.safe_load((SWEEPS / "moe_pareto.yaml").read_text())["name"]
        assert study.study == main_job + "_smoke" * is_smoke
        assert len(study.seeds) == (2 if is_smoke else 5)


class Mistake(NamedTuple):
    """What stands in the file or behind it, and the message after the file's name."""

    text: str
    message: str
    overrides: tuple[str, ...] = ()


START = "name: a\nseeds: [0]\n"
VARIANT = f"{START}variants: {{a: {{}}}}\n"
SECTIONS = "name, seeds, variants, data, fixed, workers"
COMPARISONS = {
    "unknown section": Mistake(
        f"{VARIANT}varients: {{}}",
        f"unknown key 'varients' (did you mean 'variants'?); allowed: {SECTIONS}",
    ),
    "our own word": Mistake(
        f"{VARIANT}forced: {{train.epochs: 3}}",
        f"unknown key 'forced' (did you mean 'fixed'?); allowed: {SECTIONS}",
    ),
    "no name": Mistake("seeds: [0]\nvariants: {a: {}}", "name is missing"),
    "no seeds": Mistake("name: a\nvariants: {a: {}}", "seeds is missing"),
    "no variants": Mistake(START, "variants is missing"),
    "variants of nothing": Mistake(
        f"{START}variants: {{}}", "`variants` must name at least one configuration"
    ),
    "a list": Mistake("- name: a", "a study is a mapping of keys, but found [{'name': 'a'}]"),
    "nothing": Mistake("", "a study is a mapping of keys, but found None"),
    "a word": Mistake("name", "a study is a mapping of keys, but found 'name'"),
    "list of variants": Mistake(
        f"{START}variants: [a, b]", "variants = ['a', 'b']: input should be an object"
    ),
    "nothing in variants": Mistake(
        f"{START}variants:", "variants = None: input should be an object"
    ),
    "number for variants": Mistake(
        f"{START}variants: 3", "variants = 3: input should be an object"
    ),
    "nothing in a variant": Mistake(
        f"{START}variants:\n  a:", "variants.a = None: input should be an object"
    ),
    "number for a variant": Mistake(
        f"{START}variants: {{a: 3}}", "variants.a = 3: input should be an object"
    ),
    "list for a variant": Mistake(
        f"{START}variants: {{a: [1]}}", "variants.a = [1]: input should be an object"
    ),
    "number for a section of a variant": Mistake(
        f"{START}variants: {{a: {{model: 3}}}}",
        "variants.a: model = 3: input should be an object",
    ),
    "unknown key of a variant": Mistake(
        f"{START}variants: {{b: {{train: {{epochz: 3}}}}}}",
        "variants.b: unknown key 'train.epochz' (did you mean 'epochs'?); allowed: mode, ",
    ),
    "impossible variant": Mistake(
        f"{START}variants: {{b: {{model.top_k: 2}}}}",
        "variants.b: `model.top_k <= num_experts` must hold, but got top_k=2, num_experts=1",
    ),
    "unknown scheme": Mistake(
        f"{START}variants: {{b: {{model.schemes: [int9]}}}}",
        "variants.b: unknown scheme 'int9' (did you mean 'int8'?)",
    ),
    "key twice in a variant": Mistake(
        f"{START}variants: {{b: {{train: {{epochs: 3}}, train.epochs: 4}}}}",
        "variants.b: train.epochs is given twice",
    ),
    "variant twice": Mistake(
        f"{START}variants:\n  a: {{}}\n  a: {{}}", "line 5: the key 'a' stands twice"
    ),
    "equal variants": Mistake(
        f"{START}variants: {{a: {{}}, b: {{}}}}",
        "`variants` 'a' and 'b' are the same configuration; keep one",
    ),
    "data of one variant": Mistake(
        f"{START}variants: {{a: {{}}, b: {{data: {{n_folds: 4}}}}}}",
        "`variants` must agree on the data and its folds",
    ),
    "number for fixed": Mistake(f"{VARIANT}fixed: 3", "fixed = 3: input should be an object"),
    "nothing in fixed": Mistake(f"{VARIANT}fixed:", "fixed = None: input should be an object"),
    "number for a section of fixed": Mistake(
        f"{VARIANT}fixed: {{model: 3}}", "variants.a: model = 3: input should be an object"
    ),
    "key twice in fixed": Mistake(
        f"{VARIANT}fixed: {{train: {{epochs: 3}}, train.epochs: 4}}",
        "fixed: train.epochs is given twice",
    ),
    "unknown key of fixed": Mistake(
        f"{VARIANT}fixed: {{trian.epochs: 3}}",
        "variants.a: unknown key 'trian' (did you mean 'train'?); allowed: ",
    ),
    "data in fixed": Mistake(
        f"{VARIANT}fixed: {{data: {{n_folds: 3}}}}",
        "fixed.data.n_folds: data has a section of its own, `data:`",
    ),
    "number for data": Mistake(f"{VARIANT}data: 3", "data = 3: input should be an object"),
    "unknown key of data": Mistake(
        f"{VARIANT}data: {{normalisation: raw}}",
        "unknown key 'data.normalisation' (did you mean 'normalization'?); allowed: path, ",
    ),
    "impossible data": Mistake(
        f"{VARIANT}data: {{n_folds: 1}}", "`data.n_folds >= 2` must hold, but got n_folds=1"
    ),
    "held-out word": Mistake(
        f"{VARIANT}data: {{holdout_fold: last}}",
        "data.holdout_fold = 'last': input should be a valid integer",
    ),
    "word for seeds": Mistake(
        "name: a\nseeds: 3\nvariants: {a: {}}", "seeds = 3: input should be a valid array"
    ),
    "word for a seed": Mistake(
        "name: a\nseeds: [one]\nvariants: {a: {}}",
        "seeds.0 = 'one': input should be a valid integer",
    ),
    "seed twice": Mistake(
        "name: a\nseeds: [1, 1]\nvariants: {a: {}}",
        "`seeds` must be distinct whole numbers from 0, at least one, but got [1, 1]",
    ),
    "name with a slash": Mistake(
        "name: a/b\nseeds: [0]\nvariants: {a: {}}", "`name` must be 1 to 100 letters"
    ),
    "no workers": Mistake(f"{VARIANT}workers: 0", "`workers >= 1` must hold, but got workers=0"),
    "a date": Mistake(
        f"{VARIANT}fixed: {{train.batch_size: 2026-01-01}}",
        "variants.a: train.batch_size = '2026-01-01': input should be a valid integer",
    ),
    "a key that is a date": Mistake(
        f"{VARIANT}fixed: {{2026-01-01: 1}}", "variants.a: unknown key '2026-01-01'"
    ),
    "forced word": Mistake(
        VARIANT, "variants.a: train.epochs = 'many': input should be", ("train.epochs=many",)
    ),
    "forced nothing": Mistake(
        VARIANT, "variants.a: train.epochs = None: input should be", ("train.epochs=",)
    ),
}
CONFIRMATIONS = {
    "no study": Mistake("name: a", "study is missing"),
    "nothing": Mistake("", "a study is a mapping of keys, but found None"),
    "a list": Mistake("[study, moe]", "a study is a mapping of keys, but found ['study', 'moe']"),
    "unknown key": Mistake(
        "study: moe\nmax_point: 3",
        "unknown key 'max_point' (did you mean 'max_points'?); allowed: study, name, seeds, "
        "near_standard_errors, max_points, workers",
    ),
    "trial's key": Mistake("study: moe\ntrain.epochs: 3", "unknown key 'train.epochs'; allowed"),
    "list for a study": Mistake("study: [3]", "study = ['3']: input should be a valid string"),
    "word for points": Mistake(
        "study: moe\nmax_points: many", "max_points = 'many': input should be a valid integer"
    ),
    "word for near": Mistake(
        "study: moe\nnear_standard_errors: near", "near_standard_errors = 'near': input should"
    ),
    "near that is no number": Mistake(
        "study: moe\nnear_standard_errors: .nan",
        "`near_standard_errors >= 0` and `max_points >= 1` must hold, but got near_standard_err",
    ),
    "no seeds": Mistake("study: moe\nseeds: []", "`seeds` must be distinct whole numbers from 0"),
    "overridden": Mistake(CONFIRMATION, "`workers >= 1` must hold, but got", ("workers=0",)),
}
CASES = [
    *((load_comparison, name, mistake) for name, mistake in COMPARISONS.items()),
    *((load_confirmation, name, mistake) for name, mistake in CONFIRMATIONS.items()),
]
IDS = [f"{load.__name__}: {name}" for load, name, _ in CASES]


@pytest.mark.parametrize(("load", "_", "mistake"), CASES, ids=IDS)
@pytest.mark.parametrize("is_smoke", [False, True])
def test_a_mistake_is_named_with_its_file(
    write: Write, load: Callable[..., Any], _: str, mistake: Mistake, is_smoke: bool
) -> None:
    path = write(mistake.text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}: {mistake.message}')}"):
        load(path, mistake.overrides, is_smoke=is_smoke)


def test_a_name_that_looks_like_a_number_is_the_text_as_written(write: Write) -> None:
    assert load_comparison(write("name: 3\nseeds: [0]\nvariants: {a: {}}")).name == "3"
    study = load_confirmation(write("study: 2024-05-01\nname: 010"))
    assert (study.study, study.name) == ("2024-05-01", "010")


OVERRIDES = [
    ("train.epochs", "override 'train.epochs' must have the form dotted.key=value"),
    (
        "train.epoch=3",
        "override 'train.epoch=3': unknown key 'train.epoch' (did you mean 'train.epochs'?); "
        "allowed: name, seeds, workers, data.path, ",
    ),
    ("variants={}", "override 'variants={}': unknown key 'variants'"),
    ("seeds=[1", "override 'seeds=[1' is not YAML: "),
    ("workers={a: 1, a: 2}", "override 'workers={a: 1, a: 2}': line 1: the key 'a' stands twice"),
]


@pytest.mark.parametrize(("override", "message"), OVERRIDES)
def test_an_override_that_says_nothing_is_refused(
    write: Write, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        load_comparison(write(COMPARISON), [override])


def test_a_confirmation_has_no_keys_of_trials(write: Write) -> None:
    message = (
        "override 'train.epochs=3': unknown key 'train.epochs'; allowed: study, name, seeds, "
        "near_standard_errors, max_points, workers"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_confirmation(write(CONFIRMATION), ["train.epochs=3"])


@pytest.mark.parametrize("load", [load_comparison, load_confirmation])
def test_a_file_that_cannot_be_read_is_named(load: Callable[..., Any], tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(ConfigError, match=re.escape(f"no such sweep file: {missing}")):
        load(missing)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(ConfigError, match=r"latin\.yaml is not UTF-8 text"):
        load(tmp_path / "latin.yaml")
    (tmp_path / "torn.yaml").write_text("name: [")
    with pytest.raises(ConfigError, match=r"torn\.yaml is not YAML"):
        load(tmp_path / "torn.yaml")


def test_the_data_section_reaches_every_variant(write: Write) -> None:
    study = load_comparison(
        write(f"{VARIANT}data: {{holdout_fold: 2, n_folds: 4, drop_overlap: true}}")
    )
    assert study.variants["a"].data == DataConfig(n_folds=4, holdout_fold=2, drop_overlap=True)
