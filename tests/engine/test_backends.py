"""The backends of training: both give the same losses, and which one trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import pytest
import torch

from qwave.config import SCHEMES, ConfigError, ModelConfig, RouterConfig, TrialConfig
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, Fold, make_folds
from qwave.engine import SoftTargets, train_folds
from qwave.engine import train as train_module
from qwave.engine.compiled import training_library

from ..pairs import pairwise
from .conftest import Backend
from .examples import MIXTURE, config_of, random_soft_targets, uneven

Gaussians = Callable[..., EmbeddingSet]


def _check_both_backends_give_the_same_losses(
    data: EmbeddingSet,
    config: TrialConfig,
    folds: Sequence[Fold],
    soft_targets: Sequence[SoftTargets] | None = None,
) -> None:
    if training_library() is None:
        pytest.skip("no C compiler here")
    one, two = (
        train_folds(config, data, folds, soft_targets=soft_targets, backend=backend)
        for backend in get_args(Backend)
    )
    assert np.isfinite(one.train_loss).all()
    np.testing.assert_allclose(one.train_loss, two.train_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_mixture", [False, True], ids=["plain", "mixture"])
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_both_backends_drop_the_same_inputs_before_the_first_step(
    gaussians: Gaussians, scheme: str, is_mixture: bool
) -> None:
    data = gaussians(12, num_features=13, distance=0.5)
    model = ModelConfig(
        schemes=(scheme, "int4", "fp32") if is_mixture else (scheme,),
        hidden=(8, 5),
        top_k=2 if is_mixture else 1,
        router=RouterConfig(hidden=5, dropout=0.4),
        dropout=0.3,
        input_dropout=0.2,
    )
    # One batch of all rows: its loss is that of the parameters before the first step, and codes
    # that rounding turns over later do not matter yet.
    config = config_of(model, epochs=1, batch_size=64)
    _check_both_backends_give_the_same_losses(data, config, uneven(data, [50, 41, 29]))


@pairwise(top_k=[1, 2], normalization=["layer", "standard"], is_distilled=[False, True])
def test_both_backends_take_the_same_steps_where_some_batches_are_empty(
    gaussians: Gaussians, top_k: int, normalization: Normalization, is_distilled: bool
) -> None:
    data = gaussians(13, num_features=13, distance=0.5)
    model = ModelConfig(
        schemes=("fp32",) * 3,
        hidden=(9,),
        top_k=top_k,
        load_balance_weight=0.1,
        router=RouterConfig(hidden=5, scheme="fp32", dropout=0.4),
        dropout=0.3,
        input_dropout=0.2,
    )
    config = config_of(
        model,
        epochs=3,
        batch_size=8,
        learning_rate=0.003,
        distillation=0.7 if is_distilled else 0.0,
        normalization=normalization,
    )
    # Seven steps, of which the last fold fills three.
    folds = uneven(data, [50, 41, 3])
    soft_targets = [random_soft_targets(f.train, 2, 3, f.index) for f in folds]
    _check_both_backends_give_the_same_losses(
        data, config, folds, soft_targets if is_distilled else None
    )


@pytest.mark.parametrize("has_compiler", [True, False])
def test_left_to_itself_training_is_compiled_where_it_can_be(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch, has_compiler: bool
) -> None:
    if has_compiler and training_library() is None:
        pytest.skip("no C compiler here")
    if not has_compiler:
        monkeypatch.setattr(train_module, "training_library", lambda: None)
    data = gaussians(0)
    config = config_of(MIXTURE, epochs=2)
    folds = make_folds(data, config.data)
    used: list[str] = []

    def spy(name: str) -> None:
        trainer = getattr(train_module, name)

        def make(*given: Any, **named: Any) -> Any:
            used.append(name)
            return trainer(*given, **named)

        monkeypatch.setattr(train_module, name, make)

    spy("CompiledTrainer")
    spy("StackedTrainer")
    train_folds(config, data, folds)
    assert used == ["CompiledTrainer" if has_compiler else "StackedTrainer"]


def test_compiled_training_without_a_compiler_is_refused(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "training_library", lambda: None)
    data = gaussians(0)
    config = config_of()
    with pytest.raises(
        ConfigError, match=r"needs a C compiler .*; backend='auto' goes on without"
    ):
        train_folds(config, data, make_folds(data, config.data), backend="compiled")


def test_compiled_training_on_a_gpu_is_refused_and_by_itself_is_stacked_there() -> None:
    gpu = torch.device("cuda", 0)
    with pytest.raises(ConfigError, match="runs on the cpu, but got device cuda:0"):
        train_module._library("compiled", gpu)
    assert train_module._library("auto", gpu) is None


def test_a_precision_that_is_none_is_refused(gaussians: Gaussians, backend: Backend) -> None:
    data = gaussians(0)
    config = config_of()
    with pytest.raises(ConfigError, match="one of auto, bfloat16, float32, but got 'bf16'"):
        train_folds(
            config,
            data,
            make_folds(data, config.data),
            backend=backend,
            precision="bf16",  # type: ignore[arg-type]
        )


def test_short_moments_are_refused_where_training_is_stacked(gaussians: Gaussians) -> None:
    data = gaussians(0)
    config = config_of()
    with pytest.raises(ConfigError, match="bfloat16 is for compiled training and CUDA"):
        train_folds(
            config, data, make_folds(data, config.data), backend="stacked", precision="bfloat16"
        )


def test_no_gradients_are_left(gaussians: Gaussians, backend: Backend) -> None:
    """They are as large as the parameters, and would travel with them."""
    data = gaussians(0)
    config = config_of()
    trained = train_folds(config, data, make_folds(data, config.data), backend=backend)
    assert all(parameter.grad is None for parameter in trained.mixture.parameters())
