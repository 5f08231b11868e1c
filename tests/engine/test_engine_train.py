"""Training: folds together equal folds alone, and both equal a plain PyTorch loop, either way."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qwave.config import (
    SCHEMES,
    ConfigError,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, Fold, inner_split, make_folds
from qwave.engine import (
    Checkpoint,
    Lessons,
    TrainedFolds,
    fold_generator,
    fold_seed,
    pack_fold,
    train_folds,
)
from qwave.engine import train as train_module
from qwave.engine.compiled import training_library
from qwave.engine.initial import start_at_centroids
from qwave.engine.precision import Precision
from qwave.engine.rows import Rows
from qwave.nn.mixture import Arithmetic, build_mixture
from qwave.runtime import PackedClassifier

Gaussians = Callable[..., EmbeddingSet]
Way = Literal["compiled", "stacked"]
MIXTURE = ModelConfig(
    schemes=("int1", "int8", "int8"), hidden=(8,), top_k=2, router=RouterConfig(hidden=5)
)


@pytest.fixture(params=["compiled", "stacked"])
def way(request: pytest.FixtureRequest) -> Way:
    """Both ways to train on a CPU."""
    if request.param == "compiled" and training_library() is None:
        pytest.skip("no C compiler here")
    chosen: Way = request.param
    return chosen


@pytest.fixture(params=["compiled", "compiled, bfloat16", "stacked"])
def how(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Both ways, and both precisions of the one that has two: arguments of `train_folds`."""
    if request.param != "stacked" and training_library() is None:
        pytest.skip("no C compiler here")
    way = "stacked" if request.param == "stacked" else "compiled"
    precision: Precision = "bfloat16" if "bfloat16" in request.param else "float32"
    return {"way": way, "precision": precision}


def _config(
    model: ModelConfig | None = None, *, seed: int = 0, n_folds: int = 3, **train: Any
) -> TrialConfig:
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, **train}
    return TrialConfig(
        data=DataConfig(normalization="layer", n_folds=n_folds),
        model=model or ModelConfig(hidden=(8,)),
        train=TrainConfig(**settings),
        seed=seed,
    ).canonical()


def _folds(data: EmbeddingSet, config: TrialConfig) -> tuple[Fold, ...]:
    return make_folds(data, config.data)


def _uneven(data: EmbeddingSet, sizes: Sequence[int]) -> list[Fold]:
    """Folds with training parts of the given sizes and the rest of the rows to test."""
    rng = np.random.default_rng(0)
    folds = []
    for index, size in enumerate(sizes):
        order = rng.permutation(len(data.y))
        folds.append(Fold(index, np.sort(order[:size]), np.sort(order[size:])))
    return folds


def _lessons(data: EmbeddingSet, folds: Sequence[Fold]) -> list[Lessons]:
    """Two rounds of mixtures, and at random what a teacher says of them."""
    lessons = []
    for fold in folds:
        rng = np.random.default_rng(fold.index)
        mixed = Lessons.of_mixtures(fold.train, 2, fold.index)
        said = rng.dirichlet(np.ones(data.num_classes), mixed.row.shape).astype(np.float32)
        lessons.append(dataclasses.replace(mixed, said=said))
    return lessons


def _parameters(trained: TrainedFolds, position: int = 0) -> dict[str, Tensor]:
    return {name: p.detach()[position] for name, p in trained.mixture.named_parameters()}


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
    config = _config(MIXTURE, epochs=15)
    trained = train_folds(config, data, _folds(data, config), **how)
    assert trained.train_loss.shape == (15, 3)
    assert np.isfinite(trained.train_loss).all()
    assert (trained.train_loss[-1] < 0.7 * trained.train_loss[0]).all(), trained.train_loss
    assert trained.epochs == (15, 15, 15)
    assert not trained.mixture.training


@pytest.mark.parametrize("scheme", list(SCHEMES))
@pytest.mark.parametrize("hidden", [(), (16,)])
def test_every_scheme_learns(
    gaussians: Gaussians, scheme: str, hidden: tuple[int, ...], how: dict[str, Any]
) -> None:
    data = gaussians(1, num_features=24)
    config = _config(ModelConfig(schemes=(scheme,), hidden=hidden), epochs=10)
    trained = train_folds(config, data, _folds(data, config), **how)
    # Three classes: chance is 0.33.
    assert np.mean(trained.checkpoints[-1].accuracy) > 0.75, trained.checkpoints[-1]


def test_held_out_scores_of_a_checkpoint_equal_a_plain_computation(
    gaussians: Gaussians, way: Way
) -> None:
    data = gaussians(2, distance=0.5)
    config = _config(epochs=4)
    folds = _uneven(data, [40, 33, 25])
    trained = train_folds(config, data, folds, way=way)
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
    config = _config(epochs=epochs)
    seen: list[Checkpoint] = []
    trained = train_folds(config, data, _folds(data, config), on_checkpoint=seen.append)
    assert [checkpoint.epoch for checkpoint in seen] == expected
    assert tuple(seen) == trained.checkpoints


# --- a fold alone is the fold in the stack ---


def _check_alone_equals_stacked(
    data: EmbeddingSet,
    config: TrialConfig,
    folds: Sequence[Fold],
    lessons: Sequence[Lessons] | None = None,
    **how: Any,
) -> None:
    longest = max(len(fold.train) for fold in folds)
    stacked = train_folds(config, data, folds, lessons=lessons, rows_per_fold=longest, **how)
    for position, fold in enumerate(folds):
        own = None if lessons is None else [lessons[position]]
        alone = train_folds(config, data, [fold], lessons=own, rows_per_fold=longest, **how)
        epochs = len(alone.train_loss)
        np.testing.assert_allclose(
            stacked.train_loss[:epochs, position], alone.train_loss[:, 0], atol=1e-6
        )
        assert alone.epochs[0] == stacked.epochs[position]
        expected, got = _parameters(alone), _parameters(stacked, position)
        for name, parameter in expected.items():
            torch.testing.assert_close(got[name], parameter, rtol=0, atol=1e-6, msg=name)
        one = PackedClassifier(pack_fold(alone, 0, config, data, fold))
        two = PackedClassifier(pack_fold(stacked, position, config, data, fold))
        np.testing.assert_allclose(
            two.predict_proba(data.x), one.predict_proba(data.x), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("scheme", ["fp32", "int8", "popcount"])
def test_a_fold_alone_equals_the_fold_in_the_stack(
    gaussians: Gaussians, scheme: str, how: dict[str, Any]
) -> None:
    data = gaussians(3)
    config = _config(ModelConfig(schemes=(scheme,), hidden=(8,)))
    _check_alone_equals_stacked(data, config, _folds(data, config), **how)


def test_a_mixture_alone_equals_the_mixture_in_the_stack(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(3)
    config = _config(dataclasses.replace(MIXTURE, router=RouterConfig(hidden=5, dropout=0.0)))
    _check_alone_equals_stacked(data, config, _folds(data, config), **how)


def test_a_fold_with_dropout_alone_equals_the_fold_in_the_stack(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(3, n_per_class=21)  # folds of one size; for others see below
    config = _config(dataclasses.replace(MIXTURE, dropout=0.3, input_dropout=0.2))
    _check_alone_equals_stacked(data, config, _folds(data, config), **how)


def test_a_small_fold_alone_equals_the_small_fold_beside_large_ones(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(3)
    config = _config(ModelConfig(schemes=("int8",), hidden=(8,)))
    _check_alone_equals_stacked(data, config, _uneven(data, [48, 47, 33]), **how)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(schemes=("int8",), hidden=(8,), dropout=0.3),
        ModelConfig(schemes=("int8",), hidden=(8,), input_dropout=0.3),
        ModelConfig(schemes=("int8", "int8"), hidden=(8,), router=RouterConfig(dropout=0.3)),
    ],
)
def test_a_small_fold_with_dropout_alone_equals_the_small_fold_beside_large_ones(
    gaussians: Gaussians, model: ModelConfig, how: dict[str, Any]
) -> None:
    data = gaussians(3)
    _check_alone_equals_stacked(data, _config(model), _uneven(data, [48, 47, 33]), **how)


def test_a_small_fold_with_lessons_alone_equals_the_small_fold_beside_large_ones(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(3)
    config = _config(MIXTURE, distillation=0.7)
    folds = _uneven(data, [48, 47, 33])
    _check_alone_equals_stacked(data, config, folds, _lessons(data, folds), **how)


def test_the_order_of_folds_does_not_matter(gaussians: Gaussians, how: dict[str, Any]) -> None:
    data = gaussians(3)
    config = _config(MIXTURE)
    folds = _folds(data, config)
    one, two = (train_folds(config, data, order, **how) for order in (folds, folds[::-1]))
    for position in range(3):
        turned = _parameters(two, 2 - position)
        for name, parameter in _parameters(one, position).items():
            torch.testing.assert_close(turned[name], parameter, rtol=0, atol=1e-6, msg=name)


# --- a plain PyTorch loop says the same ---


def _fake_int8(values: Tensor, stored: bool) -> Tensor:
    """Rounded to 255 levels by the row's largest magnitude; the gradient passes through."""
    scale = values.detach().abs().amax(dim=-1, keepdim=True)
    if stored:
        scale = scale.half().float()
    rounded = (values.detach() * (127 / scale)).round().clamp(-127, 127) * scale / 127
    return values + (rounded - values.detach())


def _plain_losses(
    config: TrialConfig, data: EmbeddingSet, fold: Fold, rows_per_fold: int
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
        for place, (parameter, bias) in enumerate(layers):
            weight: Tensor = parameter
            if place > 0:
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
    n_steps = math.ceil(rows_per_fold / train.batch_size)
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


@pytest.mark.parametrize("scheme", ["fp32", "int8"])
@pytest.mark.parametrize("hidden", [(), (8,)])
@pytest.mark.parametrize("is_weighted", [True, False])
def test_folds_of_unequal_size_equal_a_plain_loop_over_each(
    gaussians: Gaussians, scheme: str, hidden: tuple[int, ...], is_weighted: bool, way: Way
) -> None:
    data = gaussians(4, distance=0.7)
    config = _config(
        ModelConfig(schemes=(scheme,), hidden=hidden),
        epochs=3,
        label_smoothing=0.0,
        class_weights=is_weighted,
    )
    folds = _uneven(data, [50, 41, 29])
    trained = train_folds(config, data, folds, way=way)
    for position, fold in enumerate(folds):
        expected = _plain_losses(config, data, fold, 50)
        np.testing.assert_allclose(trained.train_loss[:, position], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_weighted", [True, False])
def test_label_smoothing_equals_pytorchs(
    gaussians: Gaussians, is_weighted: bool, way: Way
) -> None:
    data = gaussians(5)
    config = _config(
        ModelConfig(schemes=("fp32",)), epochs=2, label_smoothing=0.2, class_weights=is_weighted
    )
    folds = _uneven(data, [40, 40, 40])
    trained = train_folds(config, data, folds, way=way)
    expected = _plain_losses(config, data, folds[1], 40)
    np.testing.assert_allclose(trained.train_loss[:, 1], expected, rtol=0, atol=1e-5)


# --- both ways are one training ---


def _check_both_ways_give_the_same_losses(
    data: EmbeddingSet,
    config: TrialConfig,
    folds: Sequence[Fold],
    lessons: Sequence[Lessons] | None = None,
) -> None:
    if training_library() is None:
        pytest.skip("no C compiler here")
    one, two = (
        train_folds(config, data, folds, lessons=lessons, way=way) for way in get_args(Way)
    )
    assert np.isfinite(one.train_loss).all()
    np.testing.assert_allclose(one.train_loss, two.train_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_mixture", [False, True], ids=["plain", "mixture"])
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_both_ways_drop_the_same_inputs_before_the_first_step(
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
    config = _config(model, epochs=1, batch_size=64)
    _check_both_ways_give_the_same_losses(data, config, _uneven(data, [50, 41, 29]))


@pytest.mark.parametrize("is_taught", [False, True], ids=["labels", "lessons"])
@pytest.mark.parametrize("normalization", ["layer", "standard"])
@pytest.mark.parametrize("top_k", [1, 2])
def test_both_ways_take_the_same_steps_where_some_batches_are_empty(
    gaussians: Gaussians, top_k: int, normalization: Normalization, is_taught: bool
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
    config = _config(
        model,
        epochs=3,
        batch_size=8,
        learning_rate=0.003,
        distillation=0.7 if is_taught else 0.0,
    )
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, normalization=normalization)
    )
    # Seven steps, of which the last fold fills three.
    folds = _uneven(data, [50, 41, 3])
    lessons = _lessons(data, folds) if is_taught else None
    _check_both_ways_give_the_same_losses(data, config, folds, lessons)


@pytest.mark.parametrize("has_compiler", [True, False])
def test_left_to_itself_training_is_compiled_where_it_can_be(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch, has_compiler: bool
) -> None:
    if has_compiler and training_library() is None:
        pytest.skip("no C compiler here")
    if not has_compiler:
        monkeypatch.setattr(train_module, "training_library", lambda: None)
    data = gaussians(0)
    config = _config(MIXTURE, epochs=2)
    folds = _folds(data, config)
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
    config = _config()
    with pytest.raises(ConfigError, match=r"needs a C compiler .*; way='auto' goes on without"):
        train_folds(config, data, _folds(data, config), way="compiled")


def test_compiled_training_on_a_gpu_is_refused_and_by_itself_is_stacked_there() -> None:
    place = torch.device("cuda", 0)
    with pytest.raises(ConfigError, match="runs on the cpu, but got device cuda:0"):
        train_module._library("compiled", place)
    assert train_module._library("auto", place) is None


def test_a_precision_that_is_none_is_refused(gaussians: Gaussians, way: Way) -> None:
    data = gaussians(0)
    config = _config()
    with pytest.raises(ConfigError, match="one of auto, bfloat16, float32, but got 'bf16'"):
        train_folds(
            config,
            data,
            _folds(data, config),
            way=way,
            precision="bf16",  # type: ignore[arg-type]
        )


def test_short_moments_are_refused_where_training_is_stacked(gaussians: Gaussians) -> None:
    data = gaussians(0)
    config = _config()
    with pytest.raises(ConfigError, match="bfloat16 is for compiled training and CUDA"):
        train_folds(config, data, _folds(data, config), way="stacked", precision="bfloat16")


def test_no_gradients_are_left(gaussians: Gaussians, way: Way) -> None:
    """They are as large as the parameters, and would travel with them."""
    data = gaussians(0)
    config = _config()
    trained = train_folds(config, data, _folds(data, config), way=way)
    assert all(parameter.grad is None for parameter in trained.mixture.parameters())


# --- quantization after training ---


def test_ptq_trains_in_fp32_and_quantizes_after(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    # Seeds follow the digest; here both configurations get the same.
    monkeypatch.setattr(TrialConfig, "digest", property(lambda self: "0123456789abcdef"))
    data = gaussians(6)
    after = _config(ModelConfig(schemes=("int1",), hidden=(8,)), mode="ptq")
    during = _config(ModelConfig(schemes=("int1",), hidden=(8,)), mode="qat")
    floats = _config(ModelConfig(schemes=("fp32",), hidden=(8,)))
    folds = _folds(data, floats)
    trained = {
        name: train_folds(config, data, folds, way=way)
        for name, config in (("ptq", after), ("qat", during), ("fp32", floats))
    }
    np.testing.assert_array_equal(trained["ptq"].train_loss, trained["fp32"].train_loss)
    for name, parameter in _parameters(trained["fp32"]).items():
        assert torch.equal(_parameters(trained["ptq"])[name], parameter), name
    assert not np.allclose(trained["qat"].train_loss, trained["fp32"].train_loss)
    packed = PackedClassifier(pack_fold(trained["ptq"], 0, after, data, folds[0]))
    codes = packed.packed.layers["e0.0"].codes
    assert set(np.unique(codes)) == {-1.0, 1.0}
    weight = _parameters(trained["ptq"])["groups.0.layers.0.weight"][0].numpy()
    np.testing.assert_array_equal(codes, np.where(weight >= 0, 1, -1))
    quantized = packed.predict_proba(data.x)
    plain = torch.softmax(_logits(trained["ptq"], 0, data.x, False), -1).numpy()
    assert np.abs(quantized - plain).max() > 0.01


# --- patience ---


class _Spy:
    """Remembers what the stopper was shown, epoch by epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.losses: list[Sequence[float]] = []
        update = train_module._Stopper.update

        def spy(stopper: Any, mixture: Any, loss: Sequence[float], epoch: int) -> bool:
            self.states.append(copy.deepcopy(mixture.state_dict()))
            self.losses.append(loss)
            return update(stopper, mixture, loss, epoch)

        monkeypatch.setattr(train_module._Stopper, "update", spy)


def _plain_best_epoch(losses: Sequence[float], patience: int) -> tuple[int, int]:
    """Best and last epoch of one fold under patience, counted from 1."""
    best, best_loss = 0, math.inf
    for epoch, loss in enumerate(losses, start=1):
        if loss < best_loss:
            best, best_loss = epoch, loss
        if epoch - best >= patience:
            return best, epoch
    return best, len(losses)


def test_patience_stops_early_and_restores_each_folds_best_epoch(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    spy = _Spy(monkeypatch)
    data = gaussians(7, distance=0.4)
    config = _config(
        ModelConfig(schemes=("fp32",), hidden=(32,)),
        epochs=60,
        learning_rate=0.03,
        patience=3,
        validation_share=0.25,
    )
    folds = _folds(data, config)
    trained = train_folds(config, data, folds, **how)
    n_epochs = len(spy.states)
    assert n_epochs < 60
    assert len(trained.train_loss) == n_epochs
    best, last = zip(
        *(_plain_best_epoch([loss[f] for loss in spy.losses], 3) for f in range(3)), strict=True
    )
    assert trained.epochs == best
    assert n_epochs == max(last)
    assert len(set(best)) > 1, "folds that stop together prove little: choose another seed"
    for position, epoch in enumerate(best):
        expected = spy.states[epoch - 1]
        for name, parameter in _parameters(trained, position).items():
            assert torch.equal(parameter, expected[name][position]), name


def test_the_loss_that_patience_looks_at_is_that_of_the_inner_validation_rows(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    spy = _Spy(monkeypatch)
    data = gaussians(8, distance=0.5)
    config = _config(epochs=1, patience=1, validation_share=0.25)
    folds = _folds(data, config)
    trained = train_folds(config, data, folds, way=way)
    for position, fold in enumerate(folds):
        seed = fold_seed(config.digest, fold.index, "validation") % 2**32
        _, rows = inner_split(data, fold.train, 0.25, seed)
        logits = _logits(trained, position, data.x[rows], True)
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(data.y[rows])).item()
        assert spy.losses[0][position] == pytest.approx(loss, abs=1e-5)


def test_with_patience_constants_are_fitted_without_the_validation_rows(
    gaussians: Gaussians,
) -> None:
    data = gaussians(8)
    config = _config(epochs=1, patience=1, validation_share=0.25)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, normalization="standard")
    )
    folds = _folds(data, config)
    trained = train_folds(config, data, folds)
    for position, fold in enumerate(folds):
        seed = fold_seed(config.digest, fold.index, "validation") % 2**32
        fit, _ = inner_split(data, fold.train, 0.25, seed)
        expected = data.x[fit].mean(axis=0).astype(np.float16)
        np.testing.assert_array_equal(trained.normalizers[position].offset, expected)


def test_with_patience_a_fold_does_not_depend_on_the_other_folds(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(7, distance=0.4)
    config = _config(
        ModelConfig(schemes=("int8",), hidden=(16,)),
        epochs=40,
        learning_rate=0.03,
        patience=2,
        validation_share=0.25,
    )
    _check_alone_equals_stacked(data, config, _folds(data, config), **how)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("patience", [1, 3])
def test_the_stopper_equals_a_plain_loop_over_each_fold(seed: int, patience: int) -> None:
    rng = np.random.default_rng(seed)
    losses = np.round(rng.random((25, 3)), 1)  # ties: the earlier epoch wins
    mixture = nn.Module()
    mixture.weight = nn.Parameter(torch.zeros(3, 2))
    stopper = train_module._Stopper(3, patience)
    n_epochs = 0
    for epoch in range(1, 26):
        n_epochs = epoch
        mixture.weight.data.fill_(epoch)
        if stopper.update(mixture, losses[epoch - 1].tolist(), epoch):  # type: ignore[arg-type]
            break
    best, last = zip(
        *(_plain_best_epoch(losses[:, f].tolist(), patience) for f in range(3)), strict=True
    )
    assert n_epochs == max(last), f"{seed=}"
    assert stopper.restore(mixture) == best, f"{seed=}"  # type: ignore[arg-type]
    assert mixture.weight[:, 0].tolist() == list(best), f"{seed=}"


# --- what must not matter, and what must ---


@pytest.mark.parametrize("patience", [None, 3])
@pytest.mark.parametrize("normalization", ["layer", "standard", "min_max"])
def test_neither_labels_nor_features_of_test_rows_reach_the_parameters(
    gaussians: Gaussians, patience: int | None, normalization: Normalization, how: dict[str, Any]
) -> None:
    data = gaussians(9)
    config = _config(MIXTURE, patience=patience, validation_share=0.25)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, normalization=normalization)
    )
    fold = _folds(data, config)[1]
    y, x = data.y.copy(), data.x.copy()
    y[fold.test] = np.random.default_rng(0).permutation((y[fold.test] + 1) % 3)
    x[fold.test] *= 3
    before = train_folds(config, data, [fold], **how)
    after = train_folds(config, dataclasses.replace(data, y=y, x=x), [fold], **how)
    for name, parameter in _parameters(before).items():
        assert torch.equal(_parameters(after)[name], parameter), name
    for name in ("offset", "factor"):
        kept, got = (getattr(t.normalizers[0], name) for t in (before, after))
        assert (kept is None) == (normalization == "layer")
        np.testing.assert_array_equal(got, kept)
    assert after.epochs == before.epochs
    assert after.checkpoints[-1].accuracy != before.checkpoints[-1].accuracy


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(10)
    model = dataclasses.replace(MIXTURE, dropout=0.2, input_dropout=0.1)
    folds = _folds(data, _config(model))
    one, two = (train_folds(_config(model), data, folds, **how) for _ in range(2))
    other = train_folds(_config(model, seed=1), data, folds, **how)
    np.testing.assert_array_equal(one.train_loss, two.train_loss)
    for name, parameter in one.mixture.state_dict().items():
        assert torch.equal(two.mixture.state_dict()[name], parameter), name
        assert not torch.equal(other.mixture.state_dict()[name], parameter), name


def test_training_neither_reads_nor_changes_the_global_random_state(
    gaussians: Gaussians, how: dict[str, Any]
) -> None:
    data = gaussians(10)
    config = _config(dataclasses.replace(MIXTURE, dropout=0.2))
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
    config = _config(MIXTURE, epochs=3)
    folds = _uneven(data, [48, 33])
    arrays = [data.x, data.y, *(part for fold in folds for part in (fold.train, fold.test))]
    before = copy.deepcopy(arrays)
    train_folds(config, data, folds, **how)
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_class_weights_raise_balanced_accuracy_where_a_class_is_rare(
    gaussians: Gaussians, way: Way
) -> None:
    gains = []
    for seed in range(4):
        data = gaussians(seed, n_per_class=60, num_features=4, distance=0.7)
        # A quarter of class 0 is left, in training and in test alike.
        kept = np.concatenate([np.arange(15), np.arange(60, 180)])
        assert data.fold is not None
        assert data.group is not None
        rare = dataclasses.replace(
            data,
            x=data.x[kept],
            y=data.y[kept],
            fold=data.fold[kept],
            group=data.group[kept],
            names=tuple(data.names[row] for row in kept),
        )
        balanced = []
        for is_weighted in (True, False):
            config = _config(
                ModelConfig(schemes=("int8",), hidden=()), epochs=15, class_weights=is_weighted
            )
            folds = _folds(rare, config)
            trained = train_folds(config, rare, folds, way=way)
            recalls = []
            for position, fold in enumerate(folds):
                predicted = _logits(trained, position, rare.x[fold.test], True).argmax(1).numpy()
                y = rare.y[fold.test]
                recalls += [(predicted[y == label] == label).mean() for label in range(3)]
            balanced.append(np.mean(recalls))
        gains.append(balanced[0] - balanced[1])
    assert np.mean(gains) > 0.02, gains


def test_the_load_balancing_loss_evens_out_the_experts(gaussians: Gaussians, way: Way) -> None:
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
            config = _config(model, epochs=25, learning_rate=0.03)
            folds = _folds(data, config)
            trained = train_folds(config, data, folds, way=way)
            for position, fold in enumerate(folds):
                packed = PackedClassifier(pack_fold(trained, position, config, data, fold))
                largest.append(packed.examine(data.x[fold.train]).gates.mean(axis=0).max())
    # Even is 0.25 each.
    assert np.mean(loads[1.0]) < np.mean(loads[0.0]) - 0.05, loads
    assert np.mean(loads[1.0]) < 0.45, loads


def test_default_rows_per_fold_is_that_of_the_folds_given(gaussians: Gaussians) -> None:
    data = gaussians(11)
    config = _config(epochs=2)
    folds = _uneven(data, [48, 33])
    given = train_folds(config, data, folds, rows_per_fold=48)
    default = train_folds(config, data, folds)
    np.testing.assert_array_equal(given.train_loss, default.train_loss)
    # More rows, more steps, smaller batches.
    other = train_folds(config, data, folds, rows_per_fold=60)
    assert not np.array_equal(other.train_loss, default.train_loss)
