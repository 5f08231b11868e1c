"""A trial's configuration: what it refuses, its canonical form, its digest."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qwave.config import (
    SCHEMES,
    ConfigError,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
    digest_of,
    inert_keys,
)

NAN, INF = float("nan"), float("inf")
REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (DataConfig, {"n_folds": 1}, "`data.n_folds >= 2` must hold, but got n_folds=1"),
    (
        DataConfig,
        {"folds": "grouping"},
        "`data.folds` must be one of auto, official, grouped, stratified, but got 'grouping' (did "
        "you mean 'grouped'?)",
    ),
    (
        DataConfig,
        {"folds": "grouped", "holdout_fold": 5},
        "data.holdout_fold=5 leaves out an official fold, but data.folds=grouped does without "
        "official folds; set data.folds=auto, or leave data.holdout_fold out",
    ),
    (DataConfig, {"fold_seed": -1}, "`data.fold_seed >= 0` must hold, but got fold_seed=-1"),
    (RouterConfig, {"hidden": -1}, "`model.router.hidden >= 0` must hold, but got hidden=-1"),
    (
        RouterConfig,
        {"scheme": "int3"},
        "`model.router.scheme` must be one of int1, ternary, popcount, int2, int4, int8, int16, "
        "fp32, but got 'int3' (did you mean 'int",
    ),
    (RouterConfig, {"dropout": 1.0}, "`0 <= model.router.dropout < 1` must hold"),
    (RouterConfig, {"dropout": -0.1}, "`0 <= model.router.dropout < 1` must hold"),
    (RouterConfig, {"dropout": NAN}, "but got dropout=nan"),
    (CuriosityConfig, {"alpha": -0.5}, "`0 <= model.curiosity.alpha` must hold, but got alpha=-0"),
    (CuriosityConfig, {"alpha": NAN}, "but got alpha=nan"),
    (CuriosityConfig, {"mc_samples": 1}, "`model.curiosity.mc_samples >= 2` must hold, but got"),
    (ModelConfig, {"schemes": ()}, "`len(model.schemes) >= 1` must hold, but got schemes=()"),
    (
        ModelConfig,
        {"schemes": ("int8", "tenary")},
        "fp32, but got 'tenary' (did you mean 'ternary'?)",
    ),
    (ModelConfig, {"head_scheme": "fp64"}, "`model.head_scheme` must be one of int1"),
    (ModelConfig, {"hidden": (8, 0)}, "`model.hidden >= 1` must hold, but got hidden=(8, 0)"),
    (ModelConfig, {"top_k": 0}, "`model.top_k >= 1` must hold, but got top_k=0"),
    (
        ModelConfig,
        {"schemes": ("int8",) * 3, "top_k": 4},
        "`model.top_k <= num_experts` must hold, but got top_k=4, num_experts=3",
    ),
    (ModelConfig, {"dropout": 1}, "`0 <= model.dropout < 1` must hold, but got dropout=1"),
    (ModelConfig, {"dropout": NAN}, "but got dropout=nan"),
    (ModelConfig, {"input_dropout": -1e-9}, "`0 <= model.input_dropout < 1` must hold"),
    (ModelConfig, {"load_balance_weight": -1}, "`0 <= model.load_balance_weight` must hold"),
    (TrainConfig, {"epochs": 0}, "`train.epochs >= 1` must hold, but got epochs=0"),
    (TrainConfig, {"batch_size": 0}, "`train.batch_size >= 1` must hold, but got batch_size=0"),
    (TrainConfig, {"learning_rate": 0}, "`0 < train.learning_rate` must hold"),
    (TrainConfig, {"learning_rate": NAN}, "but got learning_rate=nan"),
    (TrainConfig, {"weight_decay": -0.1}, "`0 <= train.weight_decay` must hold"),
    (TrainConfig, {"label_smoothing": 1.0}, "`0 <= train.label_smoothing < 1` must hold"),
    (TrainConfig, {"label_smoothing": -0.1}, "`0 <= train.label_smoothing < 1` must hold"),
    (TrainConfig, {"distillation": 1.1}, "`0 <= train.distillation <= 1` must hold"),
    (TrainConfig, {"distillation": -0.1}, "`0 <= train.distillation <= 1` must hold"),
    (TrainConfig, {"distillation": NAN}, "but got distillation=nan"),
    (TrainConfig, {"mode": "QAT"}, "`train.mode` must be one of qat, ptq, but got 'QAT'"),
    (DataConfig, {"normalization": "minmax"}, "`data.normalization` must be one of standard"),
    (TrainConfig, {"learning_rate": INF}, "`0 < train.learning_rate` must hold"),
    (TrainConfig, {"weight_decay": INF}, "`0 <= train.weight_decay` must hold"),
    (ModelConfig, {"load_balance_weight": INF}, "`0 <= model.load_balance_weight` must hold"),
    (CuriosityConfig, {"alpha": INF}, "`0 <= model.curiosity.alpha` must hold"),
    (DataConfig, {"feature_columns": ()}, "`len(data.feature_columns) >= 1` must hold"),
    (DataConfig, {"encoder": ""}, "`len(data.encoder) >= 1` must hold, but got encoder=''"),
    (TrialConfig, {"seed": -1}, "`seed >= 0` must hold, but got seed=-1"),
]


@pytest.mark.parametrize(("kind", "values", "message"), REFUSED)
def test_a_bad_value_is_refused_with_rule_and_value(
    kind: type, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        kind(**values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DataConfig, {"n_folds": 2, "fold_seed": 0}),
        (RouterConfig, {"hidden": 0, "dropout": 0.0}),
        (CuriosityConfig, {"alpha": 0.0, "mc_samples": 2}),
        (ModelConfig, {"hidden": (), "dropout": 0.0, "load_balance_weight": 0.0}),
        (ModelConfig, {"schemes": ("int1",) * 3, "top_k": 3, "hidden": (1,)}),
        (TrainConfig, {"epochs": 1, "batch_size": 1, "weight_decay": 0.0}),
        (TrainConfig, {"label_smoothing": 0.0, "distillation": 0.0}),
        (TrainConfig, {"distillation": 1.0}),
    ],
)
def test_values_on_the_edge_of_a_rule_are_taken(kind: type, values: dict[str, Any]) -> None:
    made = kind(**values)
    assert {key: getattr(made, key) for key in values} == values


def test_a_configuration_is_frozen() -> None:
    config = TrialConfig()
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'seed'"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'epochs'"):
        config.train.epochs = 1  # type: ignore[misc]


def test_the_head_has_its_own_scheme_only_above_hidden_layers() -> None:
    deep = ModelConfig(schemes=("int1",), hidden=(8, 4), head_scheme="int8")
    assert [deep.layer_scheme("int1", layer) for layer in range(3)] == ["int1", "int1", "int8"]
    linear = dataclasses.replace(deep, hidden=())
    assert linear.layer_scheme("int1", 0) == "int1"
    plain = dataclasses.replace(deep, head_scheme=None)
    assert plain.layer_scheme("int1", 2) == "int1"


def _mixture() -> TrialConfig:
    """A configuration in which every key but the data's path matters."""
    return TrialConfig(
        model=ModelConfig(schemes=("int1", "int8", "int8"), hidden=(16,), top_k=1),
    )


# Every key, and another value for it. The test below proves that none is missing.
OTHER: dict[str, Any] = {
    "data.path": "elsewhere.npz",
    "data.encoder": "logmel",
    "data.feature_columns": "f",
    "data.normalization": "layer",
    "data.folds": "stratified",
    "data.n_folds": 4,
    "data.drop_overlap": True,
    "data.holdout_fold": 1,
    "data.fold_seed": 1,
    "model.schemes": ("int1", "int4", "int8"),
    "model.hidden": (17,),
    "model.head_scheme": "int8",
    "model.top_k": 2,
    "model.dropout": 0.3,
    "model.input_dropout": 0.2,
    "model.load_balance_weight": 0.02,
    "model.router.hidden": 8,
    "model.router.scheme": "int4",
    "model.router.dropout": 0.2,
    "model.curiosity.alpha": 0.5,
    "model.curiosity.mc_samples": 21,
    "train.mode": "ptq",
    "train.epochs": 61,
    "train.batch_size": 63,
    "train.learning_rate": 0.0030000000000000005,
    "train.weight_decay": 0.02,
    "train.label_smoothing": 0.0,
    "train.distillation": 0.5,
    "train.class_weights": False,
    "seed": 1,
}


def _replaced(value: Any, key: str, new: object) -> Any:
    first, _, rest = key.partition(".")
    inner = _replaced(getattr(value, first), rest, new) if rest else new
    return dataclasses.replace(value, **{first: inner})


def test_the_table_of_other_values_has_every_key() -> None:
    assert set(OTHER) | {"model.num_experts"} == set(TrialConfig().flat())


# Where the rows come from, not what they are: rows have a digest of their own.
SOURCE = ("data.path", "data.encoder", "data.feature_columns")


@pytest.mark.parametrize("key", [key for key in OTHER if key not in SOURCE])
def test_every_key_that_matters_changes_the_digest(key: str) -> None:
    mixture = _mixture()
    changed = _replaced(mixture, key, OTHER[key])
    assert changed != mixture
    assert changed.digest != mixture.digest


@pytest.mark.parametrize("key", SOURCE)
def test_where_the_rows_come_from_does_not_change_the_digest(key: str) -> None:
    changed = _replaced(_mixture(), key, OTHER[key])
    assert changed.digest == _mixture().digest
    assert changed.canonical().flat()[key] == OTHER[key]


def test_digests_are_those_of_studies_that_are_stored() -> None:
    assert TrialConfig().digest == "4825e11471b851d7"
    assert TrialConfig(data=DataConfig(n_folds=5, folds="auto")).digest == "4825e11471b851d7"
    linear = ModelConfig(schemes=("int1", "int8"), hidden=())
    assert TrialConfig(model=linear).digest == "ff25ffe540426887"


@pytest.mark.parametrize("seed", range(8))
def test_permuted_experts_are_one_configuration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schemes = rng.choice(list(SCHEMES), size=rng.integers(1, 7)).tolist()
    config = TrialConfig(model=ModelConfig(schemes=tuple(schemes)))
    order = rng.permutation(len(schemes))
    permuted = TrialConfig(model=ModelConfig(schemes=tuple(schemes[i] for i in order)))
    assert permuted.canonical() == config.canonical(), f"{seed=} {schemes=}"
    assert permuted.digest == config.digest, f"{seed=} {schemes=}"
    bits = [SCHEMES[scheme].bits for scheme in config.canonical().model.schemes]
    assert bits == sorted(bits), f"{seed=} {schemes=}"
    assert sorted(config.canonical().model.schemes) == sorted(schemes), f"{seed=} {schemes=}"


SINGLE_ROUTER_KEYS = {
    "model.top_k",
    "model.load_balance_weight",
    "model.router.hidden",
    "model.router.scheme",
    "model.router.dropout",
}


@pytest.mark.parametrize(
    ("schemes", "hidden", "expected"),
    [
        (("int1", "int8"), (4,), set()),
        (("int8", "int8"), (4,), {"model.curiosity.alpha"}),
        (("ternary", "popcount"), (4,), {"model.curiosity.alpha"}),
        (("int1", "int8"), (), {"model.dropout", "model.head_scheme"}),
        (("int1",), (4,), SINGLE_ROUTER_KEYS | {"model.curiosity.alpha"}),
        (
            ("int1",),
            (),
            SINGLE_ROUTER_KEYS | {"model.curiosity.alpha", "model.dropout", "model.head_scheme"},
        ),
    ],
)
def test_inert_keys_follow_from_the_experts(
    schemes: tuple[str, ...], hidden: tuple[int, ...], expected: set[str]
) -> None:
    assert inert_keys(schemes, hidden) == expected
    base = TrialConfig(model=ModelConfig(schemes=schemes, hidden=hidden))
    for key, value in OTHER.items():
        if key in {"model.schemes", "model.hidden", *SOURCE}:
            continue
        if key == "model.top_k" and len(schemes) == 1:
            continue  # refused: more experts than there are
        if key == "model.head_scheme" and set(schemes) == {value}:
            continue  # what the head has anyway
        changed = _replaced(base, key, value)
        assert (changed.digest == base.digest) == (key in expected), key
        assert (changed.canonical() == base.canonical()) == (key in expected), key


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (
            "label smoothing where the teacher gives the whole target",
            TrialConfig(train=TrainConfig(distillation=1.0)),
            TrialConfig(train=TrainConfig(distillation=1.0, label_smoothing=0.3)),
        ),
        (
            "head scheme that every expert has anyway",
            TrialConfig(model=ModelConfig(schemes=("int8", "int8"))),
            TrialConfig(model=ModelConfig(schemes=("int8", "int8"), head_scheme="int8")),
        ),
        (
            "load balance where all experts are always used: the loss is the constant 1",
            TrialConfig(model=ModelConfig(schemes=("int1", "int8"), top_k=2)),
            TrialConfig(
                model=ModelConfig(schemes=("int1", "int8"), top_k=2, load_balance_weight=0.5)
            ),
        ),
        (
            "quantization of floats during or after training",
            TrialConfig(model=ModelConfig(schemes=("fp32",))),
            TrialConfig(model=ModelConfig(schemes=("fp32",)), train=TrainConfig(mode="ptq")),
        ),
    ],
)
def test_configurations_that_train_the_same_thing_have_one_digest(
    name: str, one: TrialConfig, other: TrialConfig
) -> None:
    assert one.digest == other.digest, name


def test_equal_configurations_have_equal_digests_whether_written_as_0_or_as_0_point_0() -> None:
    whole = TrialConfig(model=ModelConfig(dropout=0), train=TrainConfig(weight_decay=1))
    real = TrialConfig(model=ModelConfig(dropout=0.0), train=TrainConfig(weight_decay=1.0))
    assert whole == real
    assert whole.digest == real.digest


@pytest.mark.parametrize("seed", range(8))
def test_the_canonical_form_is_its_own_canonical_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = TrialConfig(
        model=ModelConfig(
            schemes=tuple(rng.choice(list(SCHEMES), size=rng.integers(1, 5)).tolist()),
            hidden=tuple(rng.integers(1, 99, size=rng.integers(0, 3)).tolist()),
            dropout=float(rng.random()),
            router=RouterConfig(hidden=int(rng.integers(0, 9))),
            curiosity=CuriosityConfig(alpha=float(rng.random())),
        ),
    )
    canonical = config.canonical()
    assert canonical.canonical() == canonical, f"{seed=} {config}"
    assert canonical.digest == config.digest, f"{seed=} {config}"


def test_a_digest_is_the_same_in_every_process(fresh_python: Callable[..., str]) -> None:
    code = (
        "from qwave.config import ModelConfig, TrialConfig\n"
        "print(TrialConfig(model=ModelConfig(schemes=('int8', 'int1'), hidden=(16,))).digest)"
    )
    here = TrialConfig(model=ModelConfig(schemes=("int8", "int1"), hidden=(16,))).digest
    assert re.fullmatch(r"[0-9a-f]{16}", here)
    assert [fresh_python(code, PYTHONHASHSEED=seed) for seed in ("1", "2")] == [here, here]


def test_a_digest_ignores_the_order_of_keys_and_tells_values_apart() -> None:
    assert digest_of({"a": 1, "b": [2, 0.1]}) == digest_of({"b": [2, 0.1], "a": 1})
    texts = [{"a": 1}, {"a": "1"}, {"a": None}, {"a": True}, {"a": [1]}, {"b": 1}, {}]
    assert len({digest_of(text) for text in texts}) == len(texts)


def test_flat_has_dotted_keys_and_plain_values() -> None:
    flat = _mixture().flat()
    assert flat["model.schemes"] == ["int1", "int8", "int8"]
    assert flat["model.hidden"] == [16]
    assert flat["model.num_experts"] == 3
    assert flat["model.router.scheme"] == "int8"
    assert flat["seed"] == 0
    assert not any(isinstance(value, dict | tuple) for value in flat.values())
