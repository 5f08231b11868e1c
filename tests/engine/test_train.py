"""Training: it learns, equals a plain PyTorch loop, and reads nothing that it must not."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qwave.config import SCHEMES, ModelConfig, RouterConfig, TrialConfig
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, Fold, make_folds
from qwave.data.embeddings import take_rows
from qwave.engine import (
    TrainedFolds,
    fold_generator,
    fold_seed,
    pack_fold,
    train_folds,
)
from qwave.engine.build import build_mixture, start_at_centroids
from qwave.engine.task import Rows
from qwave.nn.mixture import Arithmetic
from qwave.runtime import PackedClassifier

from ..pairs import pairwise
from .conftest import Backend
from .examples import MIXTURE, config_of, parameters_of, uneven

Gaussians = Callable[..., EmbeddingSet]


def _folds(data: EmbeddingSet, config: TrialConfig) -> tuple[Fold, ...]:
    return make_folds(data, config.data)


@torch.no_grad()
def _logits(trained: TrainedFolds, position: int, x: np.ndarray, is_quantized: bool) -> Tensor:
    normalized = torch.from_numpy(trained.normalizers[position](x))
    n_folds = len(trained.normalizers)
    stacked = normalized.expand(n_folds, *normalized.shape)
    logits: Tensor = trained.mixture(stacked, arithmetic=Arithmetic(is_quantized)).logits[position]
    return logits


# --- it learns ---


def test_the_loss_falls_on_a_separable_set(gaussians: Gaussians, how: dict[str, Any]) -> None:
    data = gaussians(0)
    config = config_of(MIXTURE, epochs=15)
    trained = train_folds(config, data, _folds(data, config), **how)
    assert trained.train_loss.shape == (15, 3)
    assert np.isfinite(trained.train_loss).all()
    assert (trained.train_loss[-1] < 0.7 * trained.train_loss[0]).all(), trained.train_loss
    assert not trained.mixture.training


@pytest.mark.parametrize("scheme", list(SCHEMES))
@pytest.mark.parametrize("hidden", [(), (16,)])
def test_every_scheme_learns(
    gaussians: Gaussians, scheme: str, hidden: tuple[int, ...], how: dict[str, Any]
) -> None:
    data = gaussians(1, num_features=24)
    config = config_of(ModelConfig(schemes=(scheme,), hidden=hidden), epochs=10)
    trained = train_folds(config, data, _folds(data, config), **how)
    # Three classes: chance is 0.33.
    assert np.mean(trained.checkpoints[-1].accuracy) > 0.75, trained.checkpoints[-1]


def test_held_out_scores_of_a_checkpoint_equal_a_plain_computation(
    gaussians: Gaussians, backend: Backend
) -> None:
    data = gaussians(2, distance=0.5)
    config = config_of(epochs=4)
    folds = uneven(data, [40, 33, 25])
    trained = train_folds(config, data, folds, backend=backend)
    last = trained.checkpoints[-1]
    for position, fold in enumerate(folds):
        logits = _logits(trained, position, data.x[fold.test], True)
        y = torch.from_numpy(data.y[fold.test])
        loss = nn.functional.cross_entropy(logits, y).item()
        assert last.loss[position] == pytest.approx(loss, abs=1e-5)
        accuracy = (logits.argmax(dim=1) == y).double().mean().item()
        assert last.accuracy[position] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [1]),
        (3, [1, 2, 3]),
        (10, list(range(1, 11))),
        (25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]),
    ],
)
def test_checkpoints_come_about_ten_times_with_the_last_epoch_among_them(
    gaussians: Gaussians, epochs: int, expected: list[int]
) -> None:
    data = gaussians(0, n_per_class=6)
    config = config_of(epochs=epochs)
    trained = train_folds(config, data, _folds(data, config))
    assert [checkpoint.epoch for checkpoint in trained.checkpoints] == expected


# --- a plain PyTorch loop says the same ---


def _fake_int8(values: Tensor, stored: bool) -> Tensor:
    """Rounded to 255 levels by the row's largest magnitude; the gradient passes through."""
    scale = values.detach().abs().amax(dim=-1, keepdim=True)
    if stored:
        scale = scale.half().float()
    rounded = (values.detach() * (127 / scale)).round().clamp(-127, 127) * scale / 127
    return values + (rounded - values.detach())


def _plain_losses(
    config: TrialConfig, data: EmbeddingSet, fold: Fold, most_rows: int
) -> list[float]:
    """Mean training loss of each epoch of one fold: one expert, no stack, no padding."""
    train, digest = config.train, config.digest
    generator = fold_generator(digest, fold.index, "init")
    start = build_mixture(config.model, data.x.shape[1], data.num_classes, [generator])
    x = data.x - data.x.mean(axis=1, keepdims=True)
    x /= x.std(axis=1, keepdims=True)
    start_at_centroids(start, Rows(torch.from_numpy(x), None, None), [fold.train], data.y)
    layers = [
        (
            nn.Parameter(layer.weight[0, 0].detach().clone()),
            nn.Parameter(layer.bias[0, 0].detach().clone()),
        )
        for layer in start.groups[0].layers
    ]
    (scheme,) = config.model.schemes

    def forward(x: Tensor) -> Tensor:
        for depth, (parameter, bias) in enumerate(layers):
            weight: Tensor = parameter
            if depth > 0:
                x = torch.relu(nn.functional.layer_norm(x, x.shape[-1:], eps=1e-5))
            if scheme == "int8":
                x, weight = _fake_int8(x, False), _fake_int8(weight, True)
            x = nn.functional.linear(x, weight, bias)
        return x

    counts = np.bincount(data.y[fold.train], minlength=data.num_classes)
    class_weight = torch.ones(data.num_classes)
    if train.class_weights:
        class_weight = torch.tensor(len(fold.train) / (data.num_classes * counts)).float()
    optimizer = torch.optim.AdamW(
        [p for layer in layers for p in layer],
        lr=train.learning_rate,
        weight_decay=train.weight_decay,
    )
    n_steps = math.ceil(most_rows / train.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=train.epochs * n_steps)
    order = np.random.default_rng(fold_seed(digest, fold.index, "order"))
    losses = []
    for _ in range(train.epochs):
        total = 0.0
        for part in np.array_split(order.permutation(fold.train), n_steps):
            y = torch.from_numpy(data.y[part])
            each = nn.functional.cross_entropy(
                forward(torch.from_numpy(x[part])),
                y,
                reduction="none",
                label_smoothing=train.label_smoothing,
            )
            # Not PyTorch's `weight`: with smoothing, it weighs each class of a target by itself.
            loss = (class_weight[y] * each).sum() / class_weight[y].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        losses.append(total / n_steps)
    return losses


@pairwise(scheme=["fp32", "int8"], hidden=[(), (8,)], is_weighted=[True, False])
def test_folds_of_unequal_size_equal_a_plain_loop_over_each(
    gaussians: Gaussians, scheme: str, hidden: tuple[int, ...], is_weighted: bool, backend: Backend
) -> None:
    data = gaussians(4, distance=0.7)
    config = config_of(
        ModelConfig(schemes=(scheme,), hidden=hidden),
        epochs=3,
        label_smoothing=0.0,
        class_weights=is_weighted,
    )
    folds = uneven(data, [50, 41, 29])
    trained = train_folds(config, data, folds, backend=backend)
    for position, fold in enumerate(folds):
        expected = _plain_losses(config, data, fold, 50)
        np.testing.assert_allclose(trained.train_loss[:, position], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_weighted", [True, False])
def test_label_smoothing_equals_pytorchs(
    gaussians: Gaussians, is_weighted: bool, backend: Backend
) -> None:
    data = gaussians(5)
    config = config_of(
        ModelConfig(schemes=("fp32",)), epochs=2, label_smoothing=0.2, class_weights=is_weighted
    )
    folds = uneven(data, [40, 40, 40])
    trained = train_folds(config, data, folds, backend=backend)
    expected = _plain_losses(config, data, folds[1], 40)
    np.testing.assert_allclose(trained.train_loss[:, 1], expected, rtol=0, atol=1e-5)


# --- quantization after training ---


def test_ptq_trains_in_fp32_and_quantizes_after(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    # Seeds follow the digest; here both configurations get the same.
    monkeypatch.setattr(TrialConfig, "digest", property(lambda self: "0123456789abcdef"))
    data = gaussians(6)
    after = config_of(ModelConfig(schemes=("int1",), hidden=(8,)), mode="ptq")
    during = config_of(ModelConfig(schemes=("int1",), hidden=(8,)), mode="qat")
    floats = config_of(ModelConfig(schemes=("fp32",), hidden=(8,)))
    folds = _folds(data, floats)
    trained = {
        name: train_folds(config, data, folds, backend=backend)
        for name, config in (("ptq", after), ("qat", during), ("fp32", floats))
    }
    np.testing.assert_array_equal(trained["ptq"].train_loss, trained["fp32"].train_loss)
    for name, parameter in parameters_of(trained["fp32"]).items():
        assert torch.equal(parameters_of(trained["ptq"])[name], parameter), name
    assert not np.allclose(trained["qat"].train_loss, trained["fp32"].train_loss)
    packed = PackedClassifier(pack_fold(trained["ptq"], 0, after, data, folds[0]))
    codes = packed.packed.layers["e0.0"].codes
    assert set(np.unique(codes)) == {-1.0, 1.0}
    weight = parameters_of(trained["ptq"])["groups.0.layers.0.weight"][0].numpy()
    np.testing.assert_array_equal(codes, np.where(weight >= 0, 1, -1))
    quantized = packed.predict_proba(data.x)
    plain = torch.softmax(_logits(trained["ptq"], 0, data.x, False), -1).numpy()
    assert np.abs(quantized - plain).max() > 0.01


# --- what must not matter, and what must ---


@pytest.mark.parametrize("normalization", ["layer", "standard", "min_max"])
def test_neither_labels_nor_features_of_test_rows_reach_the_parameters(
    gaussians: Gaussians, normalization: Normalization, how: dict[str, Any]
) -> None:
    data = gaussians(9)
    config = config_of(MIXTURE, normalization=normalization)
    fold = _folds(data, config)[1]
    y, x = data.y.copy(), data.x.copy()
    y[fold.test] = np.random.default_rng(0).permutation((y[fold.test] + 1) % 3)
    x[fold.test] *= 3
    before = train_folds(config, data, [fold], **how)
    after = train_folds(config, dataclasses.replace(data, y=y, x=x), [fold], **how)
    for name, parameter in parameters_of(before).items():
        assert torch.equal(parameters_of(after)[name], parameter), name
    for name in ("offset", "factor"):
        kept, got = (getattr(t.normalizers[0], name) for t in (before, after))
        assert (kept is None) == (normalization == "layer")
        np.testing.assert_array_equal(got, kept)
    assert after.checkpoints[-1].accuracy != before.checkpoints[-1].accuracy


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(10)
    model = dataclasses.replace(MIXTURE, dropout=0.2, input_dropout=0.1)
    folds = _folds(data, config_of(model))
    one, two = (train_folds(config_of(model), data, folds, **how) for _ in range(2))
    other = train_folds(config_of(model, seed=1), data, folds, **how)
    np.testing.assert_array_equal(one.train_loss, two.train_loss)
    for name, parameter in one.mixture.state_dict().items():
        assert torch.equal(two.mixture.state_dict()[name], parameter), name
        assert not torch.equal(other.mixture.state_dict()[name], parameter), name


def test_training_neither_reads_nor_changes_the_global_random_state(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(10)
    config = config_of(dataclasses.replace(MIXTURE, dropout=0.2))
    folds = _folds(data, config)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()
    one = train_folds(config, data, folds, **how)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert all(
        np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_before, strict=True)
    )
    torch.rand(3)
    two = train_folds(config, data, folds, **how)
    torch.set_rng_state(torch_before)
    np.testing.assert_array_equal(one.train_loss, two.train_loss)


def test_training_changes_neither_the_data_nor_the_folds(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(10)
    config = config_of(MIXTURE, epochs=3)
    folds = uneven(data, [48, 33])
    arrays = [data.x, data.y, *(part for fold in folds for part in (fold.train, fold.test))]
    before = copy.deepcopy(arrays)
    train_folds(config, data, folds, **how)
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.slow
def test_class_weights_raise_balanced_accuracy_where_a_class_is_rare(
    gaussians: Gaussians, backend: Backend
) -> None:
    gains = []
    for seed in range(4):
        data = gaussians(seed, n_per_class=60, num_features=4, distance=0.7)
        # A quarter of class 0 is left, in training and in test alike.
        kept = np.concatenate([np.arange(15), np.arange(60, 180)])
        rare = take_rows(data, kept)
        balanced = []
        for is_weighted in (True, False):
            config = config_of(
                ModelConfig(schemes=("int8",), hidden=()), epochs=15, class_weights=is_weighted
            )
            folds = _folds(rare, config)
            trained = train_folds(config, rare, folds, backend=backend)
            recalls = []
            for position, fold in enumerate(folds):
                predicted = _logits(trained, position, rare.x[fold.test], True).argmax(1).numpy()
                y = rare.y[fold.test]
                recalls += [(predicted[y == label] == label).mean() for label in range(3)]
            balanced.append(np.mean(recalls))
        gains.append(balanced[0] - balanced[1])
    assert np.mean(gains) > 0.02, gains


@pytest.mark.slow
def test_the_load_balancing_loss_evens_out_the_experts(
    gaussians: Gaussians, backend: Backend
) -> None:
    loads: dict[float, list[float]] = {0.0: [], 1.0: []}
    for seed in range(3):
        data = gaussians(seed, num_features=6)
        for weight, largest in loads.items():
            model = ModelConfig(
                schemes=("int4",) * 4,
                hidden=(),
                load_balance_weight=weight,
                router=RouterConfig(dropout=0.0),
            )
            config = config_of(model, epochs=25, learning_rate=0.03)
            folds = _folds(data, config)
            trained = train_folds(config, data, folds, backend=backend)
            for position, fold in enumerate(folds):
                packed = PackedClassifier(pack_fold(trained, position, config, data, fold))
                largest.append(packed.examine(data.x[fold.train]).gates.mean(axis=0).max())
    # Even is 0.25 each.
    assert np.mean(loads[1.0]) < np.mean(loads[0.0]) - 0.05, loads
    assert np.mean(loads[1.0]) < 0.45, loads
