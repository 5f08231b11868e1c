"""A fold trains the same whatever folds are beside it: alone, in any stack, in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qwave.config import ModelConfig, RouterConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold, make_folds
from qwave.engine import SoftTargets, pack_fold, train_folds
from qwave.runtime import PackedClassifier

from .examples import MIXTURE, config_of, parameters_of, random_soft_targets, uneven

Gaussians = Callable[..., EmbeddingSet]
SIZES = (48, 47, 33)


def _check_alone_equals_stacked(
    data: EmbeddingSet,
    config: TrialConfig,
    folds: Sequence[Fold],
    soft_targets: Sequence[SoftTargets] | None = None,
    **how: Any,
) -> None:
    """Each fold alone, or beside the one whose size sets the number of steps."""
    stacked = train_folds(config, data, folds, soft_targets=soft_targets, **how)
    longest = max(range(len(folds)), key=lambda position: len(folds[position].train))
    for position, fold in enumerate(folds):
        kept = [position]
        if len(fold.train) < len(folds[longest].train):
            kept.append(longest)
        own = None if soft_targets is None else [soft_targets[k] for k in kept]
        alone = train_folds(config, data, [folds[k] for k in kept], soft_targets=own, **how)
        np.testing.assert_allclose(
            stacked.train_loss[:, position], alone.train_loss[:, 0], atol=1e-6
        )
        expected, got = parameters_of(alone), parameters_of(stacked, position)
        for name, parameter in expected.items():
            torch.testing.assert_close(got[name], parameter, rtol=0, atol=1e-6, msg=name)
        one = PackedClassifier(pack_fold(alone, 0, config, data, fold))
        two = PackedClassifier(pack_fold(stacked, position, config, data, fold))
        np.testing.assert_allclose(
            two.predict_proba(data.x), one.predict_proba(data.x), rtol=0, atol=1e-6
        )


MODELS = {
    "int8": ModelConfig(("int8",), (8,)),
    "popcount": ModelConfig(("popcount",), (8,)),
    "mixture": dataclasses.replace(MIXTURE, router=RouterConfig(hidden=5, dropout=0.0)),
    "mixture with dropout": dataclasses.replace(MIXTURE, dropout=0.3, input_dropout=0.2),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_fold_alone_equals_the_fold_in_the_stack(
    gaussians: Gaussians, name: str, how: dict[str, Any]
) -> None:
    data = gaussians(3, n_per_class=21)  # folds of one size
    config = config_of(MODELS[name])
    folds = make_folds(data, config.data)
    assert len({len(fold.train) for fold in folds}) == 1
    _check_alone_equals_stacked(data, config, folds, **how)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(("int8",), (8,)),
        ModelConfig(("int8",), (8,), dropout=0.3, input_dropout=0.3),
        ModelConfig(("int8", "int8"), (8,), router=RouterConfig(dropout=0.3)),
    ],
)
def test_a_small_fold_does_not_depend_on_the_other_folds(
    gaussians: Gaussians, model: ModelConfig, how: dict[str, Any]
) -> None:
    data = gaussians(3)
    _check_alone_equals_stacked(data, config_of(model), uneven(data, SIZES), **how)


def test_a_small_fold_with_soft_targets_does_not_depend_on_the_other_folds(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(3)
    config = config_of(MIXTURE, distillation=0.7)
    folds = uneven(data, SIZES)
    soft_targets = [random_soft_targets(fold.train, 2, 3, fold.index) for fold in folds]
    _check_alone_equals_stacked(data, config, folds, soft_targets, **how)


def test_the_order_of_folds_does_not_matter(gaussians: Gaussians, how: dict[str, Any]) -> None:
    data = gaussians(3)
    config = config_of(MIXTURE)
    folds = make_folds(data, config.data)
    one, two = (train_folds(config, data, order, **how) for order in (folds, folds[::-1]))
    for position in range(3):
        turned = parameters_of(two, 2 - position)
        for name, parameter in parameters_of(one, position).items():
            torch.testing.assert_close(turned[name], parameter, rtol=0, atol=1e-6, msg=name)
