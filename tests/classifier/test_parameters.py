"""The estimator's parameters: scikit-learn's rules, the configuration they make, bad values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qwave import QuantizedMoEClassifier
from qwave.classifier.parameters import trial_config
from qwave.config import (
    ConfigError,
    DeviceError,
    ModelConfig,
    QwaveError,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet
from qwave.packing import to_bytes


def _estimator(**parameters: Any) -> QuantizedMoEClassifier:
    options = {"epochs": 4, "distillation": 0.0, "random_state": 0, **parameters}
    return QuantizedMoEClassifier(**options)


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(4, n_per_class=12, num_features=7, distance=1.0)


def test_defaults_are_those_of_the_configuration_with_a_linear_expert() -> None:
    parameters = QuantizedMoEClassifier().get_params()
    found = trial_config(parameters, np.ones((1, 64), dtype=np.float32), seed=0)
    model = dataclasses.replace(ModelConfig(), hidden=())
    train = dataclasses.replace(TrainConfig(), class_weights=False)
    expected = TrialConfig(model=model, train=train)
    # As many folds as there would be official ones: what `fit` calls its fold, and its seeds.
    data = dataclasses.replace(expected.data, path="", n_folds=5)
    assert found == dataclasses.replace(expected, data=data)


def test_every_parameter_reaches_the_configuration() -> None:
    values: dict[str, Any] = {
        "schemes": ("int4", "int2"),
        "hidden": (9, 8),
        "head_scheme": "int16",
        "top_k": 2,
        "dropout": 0.11,
        "input_dropout": 0.12,
        "load_balance_weight": 0.13,
        "normalization": "l2",
        "mode": "ptq",
        "epochs": 14,
        "batch_size": 15,
        "learning_rate": 0.16,
        "weight_decay": 0.17,
        "label_smoothing": 0.18,
        "distillation": 0.19,
    }
    router = {"router_hidden": 3, "router_scheme": "int1", "router_dropout": 0.21}
    curiosity = {"curiosity_alpha": 0.22, "mc_samples": 23}
    config = trial_config({**values, **router, **curiosity}, np.ones((1, 2)), seed=24)
    flat = config.flat()
    for name, value in values.items():
        found = [
            flat[f"{part}.{name}"]
            for part in ("model", "train", "data")
            if f"{part}.{name}" in flat
        ]
        assert found == [list(value) if isinstance(value, tuple) else value], name
    assert config.model.router == RouterConfig(3, "int1", 0.21)
    assert dataclasses.astuple(config.model.curiosity) == (0.22, 23)
    assert config.seed == 24
    # None was forgotten.
    others = {"class_weight", "random_state", "device"}
    assert {*values, *router, *curiosity, *others} == set(QuantizedMoEClassifier().get_params())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"schemes": ["bitnet", 4]}, {"schemes": ("ternary", "int4")}),
        ({"schemes": np.array(["int4", "int1"])}, {"schemes": ("int4", "int1")}),
        ({"hidden": [np.int64(3)]}, {"hidden": (3,)}),
        ({"learning_rate": np.float64(0.01)}, {"learning_rate": 0.01}),
    ],
)
def test_values_that_searches_draw_mean_the_plain_ones(
    data: EmbeddingSet, given: dict[str, Any], meant: dict[str, Any]
) -> None:
    files = [
        to_bytes(_estimator(**one).fit(data.x, data.y).model_.packed) for one in (given, meant)
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("parameters", "error", "says"),
    [
        ({"schemes": "int5"}, ConfigError, r"unknown scheme 'int5' \(did you mean 'int8'\?\)"),
        ({"schemes": ()}, ConfigError, r"`len\(schemes\) >= 1` must hold"),
        ({"hidden": 64}, ConfigError, "^QuantizedMoEClassifier: hidden = 64: .*valid array"),
        ({"top_k": 2}, ConfigError, "`top_k <= num_experts` .* top_k=2, num_experts=1"),
        ({"dropout": 1.0}, ConfigError, "`0 <= dropout < 1` must hold, but got dropout=1.0"),
        ({"router_dropout": 1.5}, ConfigError, "`0 <= router_dropout < 1` must hold"),
        ({"curiosity_alpha": math.inf}, ConfigError, "`0 <= curiosity_alpha` must hold"),
        ({"mc_samples": 1}, ConfigError, "`mc_samples >= 2` must hold"),
        ({"normalization": "sqrt"}, ConfigError, r"auto, standard,.*mean 'sqrt_layer'\?\)"),
        ({"mode": "qta"}, ConfigError, ": mode = 'qta': input should be 'qat' or 'ptq'"),
        ({"learning_rate": "fast"}, ConfigError, ": learning_rate = 'fast': .*valid number"),
        ({"learning_rate": 1e9}, ConfigError, "training diverged: .*; lower learning_rate"),
        ({"device": None}, DeviceError, "device must be cpu, cuda or mps, but got 'None'"),
        ({"random_state": "x"}, ValueError, "'x' cannot be used to seed"),
    ],
)
def test_a_bad_parameter_is_named_when_fitting(
    data: EmbeddingSet, parameters: dict[str, Any], error: type[ValueError], says: str
) -> None:
    estimator = _estimator(**parameters)
    with pytest.raises(error, match=says) as caught:
        estimator.fit(data.x, data.y)
    for prefix in ("model.", "train.", "data."):
        assert prefix not in str(caught.value)
    if error is not ValueError:
        assert isinstance(caught.value, QwaveError)
