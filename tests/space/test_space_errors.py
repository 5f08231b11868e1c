"""One mistake, one message: the file, the key, the value, what is allowed, the nearest key."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwave.config import ConfigError, SweepConfig
from qwave.space import load_sweep, parse_config

SCHEME_NAMES = "int1, ternary, popcount, int2, int4, int8, int16, fp32"
SECTIONS = "name, data, objectives, budget, sampler, fixed, search"
SIZE = "{score: size_bytes, direction: minimize}"
ACCURACY = "{score: accuracy, direction: maximize}"
Load = Callable[..., SweepConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str) -> SweepConfig:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep(path, overrides)

    return load


# What stands in the file below its name, and the message after the file's.
MISTAKES = (
    # Unknown keys, at every level.
    ("serch: {}", f"unknown key 'serch' (did you mean 'search'?); allowed: {SECTIONS}"),
    ("zzzz: 1", f"unknown key 'zzzz'; allowed: {SECTIONS}"),
    (
        "data: {normalisation: raw}",
        "unknown key 'data.normalisation' (did you mean 'normalization'?); allowed: path, ",
    ),
    (
        "budget: {n_trails: 3}",
        "unknown key 'budget.n_trails' (did you mean 'n_trials'?); allowed: n_trials, "
        "max_size_bytes, workers",
    ),
    (
        f"objectives: [{ACCURACY}, {{score: size_bytes, direction: minimize, wieght: 1}}]",
        "unknown key 'objectives.1.wieght'; allowed: score, direction",
    ),
    (
        f"objectives: [{ACCURACY}, {{scor: size_bytes, direction: minimize}}]",
        "objectives.1.score is missing",
    ),
    (
        "fixed: {trian: {epochs: 3}}",
        "fixed: unknown key 'trian' (did you mean 'train'?); allowed: ",
    ),
    (
        "fixed: {train: {epochz: 3}}",
        "fixed: unknown key 'train.epochz' (did you mean 'epochs'?); allowed: mode, epochs, ",
    ),
    (
        "fixed: {model: {router: {hiden: 3}}}",
        "fixed: unknown key 'model.router.hiden' (did you mean 'hidden'?); allowed: hidden, "
        "scheme, dropout",
    ),
    (
        "search: {train.epoch: {int: [1, 4]}}",
        "search: unknown key 'train.epoch' (did you mean 'train.epochs'?); allowed: data.path, ",
    ),
    ("search: {model: {dropout: {float: [0, 1]}}}", "search: unknown key 'model'"),
    # Wrong types.
    (
        "fixed: {train: {epochs: '3'}}",
        "fixed: train.epochs = '3': input should be a valid integer",
    ),
    (
        "fixed: {train: {epochs: 3.5}}",
        "fixed: train.epochs = 3.5: input should be a valid integer",
    ),
    ("fixed: {model: {hidden: 64}}", "fixed: model.hidden = 64: input should be a valid array"),
    (
        "fixed: {model: {schemes: int8}}",
        "fixed: model.schemes = 'int8': input should be a valid array",
    ),
    (
        "fixed: {train: {class_weights: 1}}",
        "fixed: train.class_weights = 1: input should be a valid boolean",
    ),
    ("name: [3]", "name = ['3']: input should be a valid string"),
    ("name:", "name = None: input should be a valid string"),
    ("budget: 3", "budget = 3: input should be an object"),
    ("fixed: 3", "fixed: expected keys, but found 3"),
    ("search:", "search = None: input should be an object"),
    ("objectives: accuracy", "objectives = 'accuracy': input should be a valid array"),
    ("objectives: [accuracy, size_bytes]", "objectives.0 = 'accuracy': input should be an object"),
    # Values that rules forbid.
    (
        "fixed: {model: {schemes: [int9]}}",
        f"fixed: unknown scheme 'int9' (did you mean 'int8'?); allowed: {SCHEME_NAMES}",
    ),
    (
        "fixed: {model: {router: {scheme: 3}}}",
        f"fixed: unknown scheme '3' (did you mean '32'?); allowed: {SCHEME_NAMES}",
    ),
    (
        "fixed: {model: {schemes: [true]}}",
        f"fixed: unknown scheme 'true'; allowed: {SCHEME_NAMES}",
    ),
    (
        "fixed: {model: {num_experts: 3, schemes: [1, 2]}}",
        "fixed: `model.num_experts == len(model.schemes)` must hold, but got num_experts=3, "
        "schemes=['int1', 'int2']",
    ),
    ("fixed: {train: {mode: qta}}", "fixed: train.mode = 'qta': input should be 'qat' or 'ptq'"),
    (
        "data: {normalization: layr}",
        "data.normalization = 'layr': input should be 'standard', 'l2', ",
    ),
    (
        "sampler: {name: tpee}",
        "sampler.name = 'tpee': input should be 'tpe', 'nsga2', 'random' or 'gp'",
    ),
    # Objectives.
    (
        f"objectives: [{{score: accuracy, direction: up}}, {SIZE}]",
        "objectives.0.direction = 'up': input should be 'maximize' or 'minimize'",
    ),
    (
        f"objectives: [{ACCURACY}]",
        "`objectives` must name accuracy and size_bytes once each (further scores may follow): "
        "the front is drawn over these two, but got ['accuracy']",
    ),
    ("name: 'a b'", "`name` must be 1 to 100 letters, digits, '_', '-' or '.', but got 'a b'"),
    # Domains.
    (
        "search: {train.epochs: {int: [5, 2]}}",
        "search.train.epochs: `low <= high` (and low >= 1 with log) must hold, but got int: "
        "[5, 2], log: False",
    ),
    (
        "search: {train.weight_decay: {float: [0, .nan]}}",
        "search.train.weight_decay: `low <= high` (and low > 0 with log) must hold, but got "
        "float: [0.0, nan]",
    ),
    ("search: {train.weight_decay: {float: [0, .inf]}}", "search.train.weight_decay"),
    (
        "search: {train.epochs: {int: [5]}}",
        "search.train.epochs = [5]: expected two whole numbers, [low, high]",
    ),
    (
        "search: {model.dropout: {float: [0, 0.1, 0.2]}}",
        "search.model.dropout = [0, 0.1, 0.2]: expected two numbers, [low, high]",
    ),
    (
        "search: {model.dropout: {float: [none, 0.5]}}",
        "search.model.dropout = ['none', 0.5]: expected two numbers, [low, high]",
    ),
    (
        "search: {train.epochs: {int: [true, 5]}}",
        "search.train.epochs = [True, 5]: expected two whole numbers, [low, high]",
    ),
    (
        "search: {train.learning_rate: {float: [0, 1], log: true}}",
        "search.train.learning_rate: `low <= high` (and low > 0 with log) must hold, but got "
        "float: [0.0, 1.0], log: True",
    ),
    (
        "search: {train.learning_rate: {float: [0.1, 1], log: maybe}}",
        "search.train.learning_rate: log = 'maybe': true or false",
    ),
    (
        "search: {train.learning_rate: {float: [0.1, 1], lg: true}}",
        "search.train.learning_rate: unknown option 'lg' (did you mean 'log'?); allowed beside "
        "float: log",
    ),
    (
        "search: {train.epochs: {choice: [1, 2], log: true}}",
        "search.train.epochs: unknown option 'log'; allowed beside choice: nothing",
    ),
    (
        "search: {train.learning_rate: [0.1, 1]}",
        "search.train.learning_rate = [0.1, 1]: expected one of {int: [low, high]}, {float: ",
    ),
    (
        "search: {train.epochs: {int: [1, 2], choice: [1]}}",
        "search.train.epochs = {'int': [1, 2], 'choice': [1]}: expected one of {int: ",
    ),
    (
        "search: {model.hidden: {choice: [[64], [8]]}}",
        "search.model.hidden: choice [64] is not a plain value: give it a name, as in "
        "{choice: {small: [64]}}",
    ),
    (
        "search: {train.epochs: {choice: []}}",
        "search.train.epochs: `choice` needs distinct choices, but got []",
    ),
    (
        "search: {train.epochs: {choice: [3, 4, 3]}}",
        "search.train.epochs: `choice` needs distinct choices, but got [3, 4, 3]",
    ),
    (
        "search: {train.epochs: {choice: 3}}",
        "search.train.epochs: choice = 3: a list, or names with their values",
    ),
    (
        "search: {train.mode: {choice: [qat, pqt]}}",
        "search.train.mode = 'pqt': input should be 'qat' or 'ptq'",
    ),
    ("search: {train.epochs: {choice: ['3', '4']}}", "search.train.epochs = '3': "),
    (
        "search: {model.hidden: {choice: {small: 64}}}",
        "search.model.hidden = 64: input should be a valid array",
    ),
    (
        "search: {model.router.scheme: {choice: [8, int9]}}",
        "search.model.router.scheme = 'int9': unknown scheme 'int9' (did you mean 'int8'?)",
    ),
    (
        "search: {model.dropout: {float: [0, 1]}}",
        "search.model.dropout = 1.0: `0 <= model.dropout < 1` must hold, but got dropout=1.0",
    ),
    (
        "search: {train.epochs: {int: [0, 2]}}",
        "search.train.epochs = 0: `train.epochs >= 1` must hold, but got epochs=0",
    ),
    ("search: {train.epochs: {float: [1, 9]}}", "search.train.epochs"),
    (
        "search: {model.router.scheme: {mix: [int8]}}",
        "search.model.router.scheme: mix is for model.schemes only",
    ),
    (
        "search: {model.schemes: {choice: {a: [int8]}}}",
        "search.model.schemes must be a {mix: [scheme, ...]}",
    ),
    (
        "search: {model.schemes: {mix: [int9]}}",
        "search.model.schemes: unknown scheme 'int9' (did you mean 'int8'?)",
    ),
    (
        "search: {model.schemes: {mix: [8, int8]}}",
        "search.model.schemes: `mix` needs distinct schemes, but got ['int8', 'int8']",
    ),
    ("search: {model.schemes: {mix: 8}}", "search.model.schemes: mix = 8: a list of schemes"),
    (
        "search: {model.num_experts: {int: [1, 2]}}",
        "search.model.num_experts needs search.model.schemes: {mix: [...]}",
    ),
    (
        "search: {model.num_experts: {choice: [1, 2]}, model.schemes: {mix: [8]}}",
        "search.model.num_experts must be {int: [low, high]} from 1 up",
    ),
    ("search: {model.top_k: {choice: [1]}}", "search.model.top_k must be {int: [low, high]}"),
    (
        "search: {model.num_experts: {int: [2, 4]}, model.schemes: {mix: [8]}, "
        "model.top_k: {int: [3, 4]}}",
        "model.top_k: `top_k <= num_experts` must hold, but got top_k=3 with num_experts=2",
    ),
    (
        "search: {model.num_experts: {int: [1, 4]}, model.schemes: {mix: [8]}, "
        "model.top_k: {int: [0, 2]}}",
        "search.model.top_k = 0: `model.top_k >= 1` must hold, but got top_k=0",
    ),
    (
        "fixed: {model: {num_experts: two}}\nsearch: {model.schemes: {mix: [8]}}",
        "model.num_experts must be a whole number from 1, but got 'two'",
    ),
    # Sections that contradict each other.
    (
        "fixed: {train: {epochs: 3}}\nsearch: {train.epochs: {int: [1, 4]}}",
        "train.epochs stands in `fixed` and in `search`; keep one",
    ),
    ("fixed: {data: {n_folds: 3}}", "fixed.data.n_folds: data has a section of its own, `data:`"),
    ("search: {data.path: {choice: [a, b]}}", "search.data.path cannot be searched; set it once"),
    ("search: {seed: {int: [0, 1]}}", "search.seed cannot be searched; set it once"),
)


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_file(
    load: Load, tmp_path: Path, text: str, message: str
) -> None:
    start = f"{tmp_path / 'sweep.yaml'}: {message}"
    with pytest.raises(ConfigError, match=f"^{re.escape(start)}"):
        load(text if text.startswith("name:") else f"name: a\n{text}")


def test_every_mistake_is_told_at_once(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'budget.x'") as caught:
        load("name: a\nbudget: {x: 1}\nsampler: {y: 2}")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{tmp_path / 'sweep.yaml'}: unknown key") for line in lines)


@pytest.mark.parametrize("key", ["train.epochs", "model.num_experts", "data.normalization"])
def test_an_unknown_search_key_is_answered_with_all_that_can_be_searched(
    load: Load, key: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        load("name: a\nsearch: {nonsense: {int: [1, 2]}}")


def test_a_file_without_a_name_says_so(load: Load, tmp_path: Path) -> None:
    match = "^" + re.escape(f"{tmp_path / 'sweep.yaml'}: name is missing")
    with pytest.raises(ConfigError, match=match):
        load("budget: {n_trials: 3}")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("name: a\nname: b", 2, "name"),
        ("name: a\nfixed:\n  train: {epochs: 3}\n  train: {epochs: 4}", 4, "train"),
        ("name: a\nfixed: {train: {epochs: 3, epochs: 4}}", 2, "epochs"),
        ("name: a\nsearch:\n  seed: 1\n\n  seed: 1", 5, "seed"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_line(
    load: Load, tmp_path: Path, text: str, line: int, key: str
) -> None:
    message = f"{tmp_path / 'sweep.yaml'}: line {line}: the key '{key}' stands twice"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load(text)


@pytest.mark.parametrize(
    "fixed",
    [
        "{train: {epochs: 3}, train.epochs: 4}",
        "{train.epochs: 4, train: {epochs: 3}}",
        "{model: {router: {hidden: 3}}, model.router: {hidden: 4}}",
    ],
)
def test_a_key_spelt_in_two_ways_may_not_stand_twice_either(load: Load, fixed: str) -> None:
    with pytest.raises(ConfigError, match="twice"):
        load(f"name: a\nfixed: {fixed}")


@pytest.mark.parametrize("text", ["name: [a", "name: a: b", "\tname: a", "name: 'a", "{name: a"])
def test_what_is_not_yaml_is_named_with_its_file(load: Load, tmp_path: Path, text: str) -> None:
    match = "^" + re.escape(f"{tmp_path / 'sweep.yaml'} is not YAML: ")
    with pytest.raises(ConfigError, match=match) as caught:
        load(text)
    assert "line 1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"), [("- a", "['a']"), ("", "None"), ("a", "'a'"), ("# nothing", "None")]
)
def test_a_sweep_is_a_mapping(load: Load, tmp_path: Path, text: str, found: str) -> None:
    message = f"{tmp_path / 'sweep.yaml'}: a sweep is a mapping of keys, but found {found}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigError, match=f"^{re.escape(f'no such sweep file: {path}')}$"):
        load_sweep(path)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: ä".encode("latin-1"))
    with pytest.raises(ConfigError, match=re.escape(f"{path} is not UTF-8 text")):
        load_sweep(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "override 'train.epochs' must have the form dotted.key=value"),
        ("", "override '' must have the form dotted.key=value"),
        ("=3", "override '=3': unknown key ''; allowed: data.path, "),
        ("train.epochs=[", "override 'train.epochs=[' is not YAML: "),
        (
            "train.epoch=3",
            "override 'train.epoch=3': unknown key 'train.epoch' (did you mean 'train.epochs'?); "
            "allowed: data.path, ",
        ),
        (
            "bugdet.n_trials=3",
            "override 'bugdet.n_trials=3': unknown key 'bugdet.n_trials'",
        ),
        ("budget.=3", "override 'budget.=3': unknown key 'budget.'"),
        ("search.x={a: 1, a: 2}", "override 'search.x={a: 1, a: 2}': line 1: the key 'a' stands"),
        (
            "budget.n_trials.x=3",
            "{file}: unknown key 'budget.n_trials.x' (did you mean 'n_trials'?)",
        ),
        ("budget.n_trials=ten", "{file}: budget.n_trials = 'ten': input should be a valid int"),
        ("train.epochs=ten", "{file}: fixed: train.epochs = 'ten': input should be a valid int"),
        ("train.epochs=", "{file}: fixed: train.epochs = None: input should be a valid integer"),
        ("train.epochs=0", "{file}: fixed: `train.epochs >= 1` must hold, but got epochs=0"),
        ("search.model.top_kk={int: [1, 2]}", "{file}: search: unknown key 'model.top_kk' (did"),
        ("search=x", "{file}: search = 'x': input should be an object"),
        ("name=a b", "{file}: `name` must be 1 to 100 letters, digits"),
    ],
)
def test_an_override_that_makes_no_sense_is_named(
    load: Load, tmp_path: Path, override: str, message: str
) -> None:
    if message.startswith("{file}"):
        message = message.format(file=tmp_path / "sweep.yaml")
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        load("name: a\nfixed: {train: {batch_size: 8}}", override)


def test_an_override_below_a_value_names_the_value(load: Load) -> None:
    message = "override 'budget.n_trials=3': 'budget' holds 3, not keys"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load("name: a\nbudget: 3", "budget.n_trials=3")


def test_a_fixed_top_k_is_checked_against_the_experts_that_are_searched(load: Load) -> None:
    sweep = load(
        "name: a\nfixed: {model: {top_k: 2}}\n"
        "search: {model.num_experts: {int: [2, 4]}, model.schemes: {mix: [1, 8]}}"
    )
    assert sweep.base.model.top_k == 2


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": 3}, "here: model = 3: input should be an object"),
        ({"train": {"epochs": object()}}, "here: Object of type object is not JSON serializable"),
        ({"modle": {}}, "here: unknown key 'modle' (did you mean 'model'?); allowed: data, model"),
        ({"model": {"schemes": [7]}}, "here: unknown scheme 7"),
        ({"train": {"learning_rate": "1e-3"}}, "here: train.learning_rate = '1e-3': input should"),
        ({"seed": -1}, "here: `seed >= 0` must hold, but got seed=-1"),
        (
            {"model": {"num_experts": 2}},
            "here: `model.num_experts == len(model.schemes)` must hold, but got num_experts=2, "
            "schemes=['int8']",
        ),
        ({"model": {"router": {"dropout": 1}}}, "here: `0 <= model.router.dropout < 1` must hold"),
        ([1], "here: expected keys, but found [1]"),
        ({"model": 5, "model.router": 3}, "here: "),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_configuration_that_makes_no_sense_names_its_source(tree: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        parse_config(tree, "here")
