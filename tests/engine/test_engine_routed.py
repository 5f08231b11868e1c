"""Routed steps against stacked ones: the same losses and gradients, computed another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from qwave.config import (
    SCHEMES,
    ConfigError,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import train_folds
from qwave.engine.routed import Precision, RoutedStep, backward_dtype
from qwave.engine.stacked import StackedStep, TrainingLoss
from qwave.moe import FoldDropout, Mixture, build_mixture

N_FOLDS, N_ROWS, N_FEATURES, N_CLASSES = 3, 12, 20, 5
MIXTURES = {
    "top-1": ModelConfig(
        ("int1", "int4", "int4", "int16"), (16, 8), router=RouterConfig(dropout=0.0)
    ),
    "top-2": ModelConfig(
        ("int1", "int2", "fp32"), (16,), top_k=2, router=RouterConfig(hidden=6, dropout=0.0)
    ),
}
SINGLE = {
    f"{scheme}{hidden}": ModelConfig((scheme,), hidden)
    for scheme in SCHEMES
    for hidden in ((), (16,), (16, 8))
}


def _config(model: ModelConfig) -> TrialConfig:
    return TrialConfig(model=model, train=TrainConfig(epochs=2, batch_size=16)).canonical()


def _mixture(config: TrialConfig, seed: int, folds: range = range(N_FOLDS)) -> Mixture:
    generators = [torch.Generator().manual_seed(100 * seed + fold) for fold in folds]
    return build_mixture(config.model, N_FEATURES, N_CLASSES, generators)


def _loss(config: TrialConfig, n_folds: int = N_FOLDS) -> TrainingLoss:
    weight = torch.linspace(0.5, 1.5, n_folds * N_CLASSES).reshape(n_folds, N_CLASSES)
    return TrainingLoss(config, weight)


def _no_dropout(n_folds: int = N_FOLDS) -> FoldDropout:
    return FoldDropout([torch.Generator() for _ in range(n_folds)])


def _batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N_FOLDS, N_ROWS, N_FEATURES, generator=generator)
    y = torch.randint(N_CLASSES, (N_FOLDS, N_ROWS), generator=generator)
    weight = torch.ones(N_FOLDS, N_ROWS)
    weight[1, -2:] = 0  # padding
    return x, y, weight


def _both(
    model: ModelConfig, seed: int, precision: Precision
) -> tuple[Mixture, Tensor, RoutedStep, Tensor]:
    """A stacked and a routed step from the same parameters on the same batch."""
    config = _config(model)
    stacked, routed = _mixture(config, seed), _mixture(config, seed)
    one = StackedStep(stacked, config, _no_dropout(), _loss(config), is_quantized=True)
    other = RoutedStep(routed, config, _no_dropout(), _loss(config), precision)
    batch = _batch(seed)
    return stacked, one(*batch, 1e-3), other, other(*batch, 1e-3)


def _gradients(stacked: Mixture, step: RoutedStep) -> list[tuple[Tensor, Tensor]]:
    """Pairs of gradients, the stacked one first: weights, biases, router."""
    members = [
        (layer, member)
        for group in stacked.groups
        for member in range(group.layers[0].weight.shape[1])
        for layer in group.layers
    ]
    pairs = []
    for fold, experts in enumerate(step.experts):
        flat = [layer for expert in experts for layer in expert]
        for (twin, member), layer in zip(members, flat, strict=True):
            assert twin.weight.grad is not None
            assert twin.bias.grad is not None
            pairs.append((twin.weight.grad[fold, member], layer.gradient.float()))
            pairs.append((twin.bias.grad[fold, member], layer.bias_gradient))
    if stacked.router is not None and step.mixture.router is not None:
        pairs += [
            (a.grad, b.grad)
            for a, b in zip(
                stacked.router.parameters(), step.mixture.router.parameters(), strict=True
            )
            if a.grad is not None and b.grad is not None
        ]
    return pairs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", [*MIXTURES, *SINGLE])
def test_losses_and_gradients_are_those_of_stacked_steps(name: str, seed: int) -> None:
    model = {**MIXTURES, **SINGLE}[name]
    stacked, loss, step, routed_loss = _both(model, seed, "float32")
    torch.testing.assert_close(routed_loss, loss, rtol=1e-6, atol=1e-6)
    for expected, found in _gradients(stacked, step):
        scale = float(expected.abs().max()) + 1e-12
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", [*MIXTURES, *SINGLE])
def test_int8_products_give_the_same_loss_and_bfloat16_nearly_the_same_gradient(
    name: str, seed: int
) -> None:
    model = {**MIXTURES, **SINGLE}[name]
    stacked, loss, step, routed_loss = _both(model, seed, "bfloat16")
    # The forward products are whole numbers: exact in either arithmetic.
    torch.testing.assert_close(routed_loss, loss, rtol=1e-6, atol=1e-6)
    for expected, found in _gradients(stacked, step):
        error = float((found - expected).norm()) / (float(expected.norm()) + 1e-12)
        # Each layer rounds twice, by 2^-9 at most, and hands its error down; the standardisation
        # between layers takes two components out of the gradient and none out of the error.
        assert error < 0.02, f"{name}, seed {seed}: {error:.4f}"


def test_forward_products_are_exact_where_bfloat16_would_round() -> None:
    config = _config(ModelConfig(("int8",), (16,)))
    step = RoutedStep(_mixture(config, 0), config, _no_dropout(), _loss(config), "bfloat16")
    layer = step.experts[0][0][0]
    x = torch.randn(9, N_FEATURES)
    codes, scale = layer.encode(x)
    assert codes.dtype == layer.state.codes.dtype == torch.int8
    whole = codes.long() @ layer.state.codes.long().t()
    assert whole.abs().max() > 256, "beyond what bfloat16 holds"
    assert scale is not None
    assert layer.state.grid is not None
    expected = whole.float() * (layer.state.scale / layer.state.grid.denominator) * scale
    assert torch.equal(layer.forward(codes, scale), expected + layer.bias)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MIXTURES)
def test_several_steps_lower_the_loss_like_stacked_ones(name: str, precision: Precision) -> None:
    config = _config(MIXTURES[name])
    stacked, routed = _mixture(config, 7), _mixture(config, 7)
    one = StackedStep(stacked, config, _no_dropout(), _loss(config), is_quantized=True)
    other = RoutedStep(routed, config, _no_dropout(), _loss(config), precision)
    batch = _batch(7)
    first = one(*batch, 1e-3), other(*batch, 1e-3)
    for _ in range(60):
        last = one(*batch, 1e-2), other(*batch, 1e-2)
    assert torch.allclose(*first)
    assert (last[0] < 0.8 * first[0]).all()
    # Codes that flip at other moments make two runs of one training differ a little.
    torch.testing.assert_close(last[1], last[0], rtol=0.15, atol=0.05)


def test_a_fold_alone_takes_the_steps_that_it_takes_in_a_stack() -> None:
    model = dataclasses.replace(
        MIXTURES["top-1"], dropout=0.4, input_dropout=0.3, router=RouterConfig(dropout=0.2)
    )
    config = _config(model)

    def train(folds: range) -> list[Tensor]:
        mixture = _mixture(config, 3, folds)
        dropout = FoldDropout([torch.Generator().manual_seed(fold) for fold in folds])
        loss = TrainingLoss(config, torch.ones(len(folds), N_CLASSES))
        step = RoutedStep(mixture, config, dropout, loss, "auto")
        for seed in range(5):
            x, y, weight = _batch(seed)
            chosen = slice(folds.start, folds.stop)
            step(x[chosen], y[chosen], weight[chosen], 1e-2)
        return [parameter.detach() for parameter in mixture.parameters()]

    together = train(range(N_FOLDS))
    for fold in range(N_FOLDS):
        for alone, stacked in zip(train(range(fold, fold + 1)), together, strict=True):
            torch.testing.assert_close(alone[0], stacked[fold], rtol=0, atol=1e-6)


def test_an_expert_that_gets_no_clip_only_decays() -> None:
    config = _config(ModelConfig(("int1", "int4"), (16,), router=RouterConfig(dropout=0.0)))
    mixture = _mixture(config, 0)
    assert mixture.router is not None
    with torch.no_grad():
        mixture.router.layers[0].weight.zero_()
        mixture.router.layers[0].bias[...] = torch.tensor([9.0, -9.0])
    before = [layer.weight.detach().clone() for layer in mixture.groups[1].layers]
    step = RoutedStep(mixture, config, _no_dropout(), _loss(config), "auto")
    step(*_batch(0), 1e-2)
    decay = 1 - 1e-2 * config.train.weight_decay
    for layer, old in zip(mixture.groups[1].layers, before, strict=True):
        torch.testing.assert_close(layer.weight.detach(), old * decay)


def test_masks_are_zero_or_one_over_the_kept_share() -> None:
    config = _config(ModelConfig(("int1",), (64, 32), dropout=0.25))
    dropout = FoldDropout([torch.Generator().manual_seed(f) for f in range(N_FOLDS)])
    step = RoutedStep(_mixture(config, 0), config, dropout, _loss(config), "auto")
    masks = step._masks(0, 500)
    assert masks.shape == (500, 96)
    assert set(masks.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert float((masks == 0).float().mean()) == pytest.approx(0.25, abs=0.01)


def test_backward_precision_is_what_is_asked_for() -> None:
    assert backward_dtype("float32") == torch.float32
    assert backward_dtype("bfloat16") == torch.bfloat16
    assert backward_dtype("auto") in (torch.float32, torch.bfloat16)
    with pytest.raises(ConfigError, match="one of auto, bfloat16, float32, but got 'bf16'"):
        backward_dtype("bf16")  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_by_routed_steps_learns_and_repeats(
    gaussians: Callable[..., EmbeddingSet], precision: Precision
) -> None:
    data = gaussians(0)
    config = _trained_config()
    folds = make_folds(data, config.data)
    stacked = train_folds(config, data, folds)
    routed = train_folds(config, data, folds, steps="routed", precision=precision)
    again = train_folds(config, data, folds, steps="routed", precision=precision)
    for one, two in zip(routed.mixture.parameters(), again.mixture.parameters(), strict=True):
        assert torch.equal(one, two)
    for trained in (stacked, routed):
        assert np.mean(trained.checkpoints[-1].accuracy) > 0.8
    for one, two in zip(stacked.mixture.parameters(), routed.mixture.parameters(), strict=True):
        assert not torch.equal(one, two), "other random numbers are drawn"


def test_routed_steps_without_quantization_are_refused(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0)
    config = _trained_config()
    ptq = dataclasses.replace(config, train=dataclasses.replace(config.train, mode="ptq"))
    with pytest.raises(
        ConfigError, match="cpu and train.mode qat, but got cpu and ptq; use steps"
    ):
        train_folds(ptq.canonical(), data, make_folds(data, config.data), steps="routed")


def _trained_config() -> TrialConfig:
    return TrialConfig(
        data=DataConfig(normalization="layer", n_folds=3),
        model=ModelConfig(("int1", "int4"), (8,), dropout=0.1, input_dropout=0.1),
        train=TrainConfig(epochs=12, batch_size=16, learning_rate=0.01),
    ).canonical()
