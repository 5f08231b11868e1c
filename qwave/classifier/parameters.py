"""The estimator's parameters as the configuration of a trial."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from qwave.config import DEFAULT_N_FOLDS, ConfigError, TrialConfig, nearest
from qwave.config.trial import Normalization

# The key that each parameter sets; `normalization` is resolved first.
_KEYS = {
    "schemes": "model.schemes",
    "hidden": "model.hidden",
    "head_scheme": "model.head_scheme",
    "top_k": "model.top_k",
    "dropout": "model.dropout",
    "input_dropout": "model.input_dropout",
    "router_hidden": "model.router.hidden",
    "router_scheme": "model.router.scheme",
    "router_dropout": "model.router.dropout",
    "load_balance_weight": "model.load_balance_weight",
    "curiosity_alpha": "model.curiosity.alpha",
    "mc_samples": "model.curiosity.mc_samples",
    "normalization": "data.normalization",
    "mode": "train.mode",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "weight_decay": "train.weight_decay",
    "label_smoothing": "train.label_smoothing",
    "distillation": "train.distillation",
}
_PARAMETERS = {key: parameter for parameter, key in _KEYS.items()}
# Fewer features than this are likely to be measurements, each with a scale of its own.
_FEWEST_EMBEDDED = 64


def trial_config(parameters: Mapping[str, Any], x: np.ndarray, seed: int) -> TrialConfig:
    """The configuration that an estimator trains.

    Args:
        parameters: Values of the parameters, from `get_params`.
        x: Training rows, float32 [n, d].
        seed: Seed of the configuration.

    Raises:
        ConfigError: A parameter is impossible; the message names keys (see `in_parameters`).
    """
    # Imported here: prediction does not need pydantic.
    from qwave.space import parse_config

    values = {key: _plain(parameters[name]) for name, key in _KEYS.items()}
    if isinstance(parameters["schemes"], str):
        values["model.schemes"] = [parameters["schemes"]]
    values["data.normalization"] = _resolve_normalization(parameters["normalization"], x)
    values["data.path"] = ""  # the rows come from no file
    values["data.n_folds"] = DEFAULT_N_FOLDS  # and are not split: seeds follow from the number
    values["train.class_weights"] = False  # `class_weight` repeats rows
    values["seed"] = seed
    return parse_config(values, "QuantizedMoEClassifier")


def in_parameters(message: str) -> str:
    """A message with the keys of the configuration replaced by the estimator's parameters."""
    keys = "|".join(map(re.escape, _PARAMETERS))
    return re.sub(rf"\b(?:{keys})\b", lambda found: _PARAMETERS[found.group()], message)


def _resolve_normalization(normalization: str, x: np.ndarray) -> str:
    if normalization == "auto":
        is_embedding = x.shape[1] >= _FEWEST_EMBEDDED and x.min() >= 0
        return "sqrt_layer" if is_embedding else "standard"
    allowed = ("auto", *get_args(Normalization))
    if normalization not in allowed:
        raise ConfigError(
            f"QuantizedMoEClassifier: `normalization` must be one of {', '.join(allowed)}, but "
            f"got {normalization!r}{nearest(str(normalization), allowed)}"
        )
    return normalization


def _plain(value: Any) -> Any:
    """A parameter as plain Python values: searches over distributions draw numpy's types."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
