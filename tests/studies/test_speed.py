"""The plain loop is the engine's twin, and the study measures both."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from qwave.config import (
    SCHEMES,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, load_embeddings, make_folds
from qwave.engine import Precision, train_folds
from qwave.engine.build import build_mixture, start_at_centroids
from qwave.engine.compiled import training_library
from qwave.engine.stacked import training_loss
from qwave.engine.task import Rows
from qwave.engine.usage import Memory
from qwave.nn.mixture import Mixture
from studies import speed
from studies.speed import study, timing
from studies.speed.plain_loop import PlainMixture, begin_at_centroids, plain_loss, train_plain

N_FEATURES, N_CLASSES = 20, 5
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16") if training_library() else ("float32",)
MODELS = {
    **{scheme: ModelConfig((scheme,), (16, 8)) for scheme in SCHEMES},
    "top-1": ModelConfig(("int1", "int4", "int16"), (16,), router=RouterConfig(dropout=0.0)),
    "top-2": ModelConfig(
        ("int1", "popcount", "fp32"), (), top_k=2, router=RouterConfig(hidden=6, dropout=0.0)
    ),
}


def _copy(mixture: Mixture, plain: PlainMixture) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Give the plain mixture the parameters of the first fold; pairs of its and theirs."""
    experts = [
        [(layer, member) for layer in group.layers]
        for group in mixture.groups
        for member in range(group.layers[0].weight.shape[1])
    ]
    pairs = [
        (twin, layer, member)
        for expert, layers in zip(plain.experts, experts, strict=True)
        for twin, (layer, member) in zip(expert.layers, layers, strict=True)  # type: ignore[arg-type]
    ]
    if mixture.router is not None:
        routers = zip(plain.router, mixture.router.layers, strict=True)
        pairs += [(twin, layer, 0) for twin, layer in routers]
    parameters = []
    for twin, layer, member in pairs:
        for name in ("weight", "bias"):
            theirs = getattr(layer, name)
            getattr(twin, name).data.copy_(theirs.data[0, member])
            parameters.append((getattr(twin, name), (theirs, member)))
    return parameters  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_of_the_plain_loop_are_the_engines(name: str, seed: int) -> None:
    config = TrialConfig(model=MODELS[name], train=TrainConfig(label_smoothing=0.1)).canonical()
    generator = torch.Generator().manual_seed(seed)
    mixture = build_mixture(config.model, N_FEATURES, N_CLASSES, [generator])
    plain = PlainMixture(config.model, N_FEATURES, N_CLASSES).eval()
    pairs = _copy(mixture, plain)
    x = torch.randn(1, 12, N_FEATURES, generator=generator)
    y = torch.randint(N_CLASSES, (1, 12), generator=generator)
    weight = torch.linspace(0.5, 1.5, N_CLASSES)
    smoothing = config.train.label_smoothing
    target = torch.full((1, 12, N_CLASSES), smoothing / N_CLASSES)
    target.scatter_add_(2, y.unsqueeze(2), torch.full((1, 12, 1), 1 - smoothing))
    loss = training_loss(mixture(x), target, weight[y], config.model.load_balance_weight).sum()
    other = plain_loss(plain(x[0]), y[0], weight, config)
    torch.testing.assert_close(other, loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    other.backward()
    for mine, (theirs, member) in pairs:
        expected = theirs.grad[0, member]
        # An expert that no clip is sent to has zeros in a stack and nothing alone.
        found = torch.zeros_like(mine) if mine.grad is None else mine.grad
        bound = 1e-5 * (float(expected.abs().max()) + 1e-6)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=bound)


@pytest.mark.parametrize("schemes", [("int1",), ("int1", "int1", "fp32")], ids="+".join)
@pytest.mark.parametrize("hidden", [(), (16,)])
def test_the_plain_loop_begins_where_the_engine_does(
    schemes: tuple[str, ...], hidden: tuple[int, ...]
) -> None:
    config = TrialConfig(model=ModelConfig(schemes, hidden)).canonical()
    generator = torch.Generator().manual_seed(0)
    mixture = build_mixture(config.model, N_FEATURES, N_CLASSES, [generator])
    plain = PlainMixture(config.model, N_FEATURES, N_CLASSES)
    pairs = _copy(mixture, plain)
    x = torch.randn(30, N_FEATURES, generator=generator)
    y = torch.randint(N_CLASSES - 1, (30,), generator=generator)  # the last class has no clip
    fit = np.arange(3, 30)
    start_at_centroids(mixture, Rows(x, None, None), [fit], y.numpy())
    begin_at_centroids(plain, x[fit], y[fit])
    for mine, (theirs, member) in pairs:
        torch.testing.assert_close(mine.data, theirs.data[0, member], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_plain_loop_learns(gaussians: Callable[..., EmbeddingSet]) -> None:
    data = gaussians(0)
    config = TrialConfig(
        data=DataConfig(normalization="layer", n_folds=3),
        model=ModelConfig(("int1", "int4"), (8,)),
        train=TrainConfig(epochs=12, batch_size=16, learning_rate=0.01),
    ).canonical()
    torch.manual_seed(0)
    accuracies = train_plain(config, data, make_folds(data, config.data))
    assert len(accuracies) == 3
    assert np.mean(accuracies) > 0.8


def test_linear_experts_of_the_plain_loop_know_the_centroids_before_the_first_step(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0)
    config = TrialConfig(
        data=DataConfig(normalization="layer", n_folds=3),
        model=ModelConfig(("int4",), ()),
        train=TrainConfig(epochs=1, learning_rate=1e-9),
    ).canonical()
    accuracies = train_plain(config, data, make_folds(data, config.data))
    assert min(accuracies) > 0.8, "chance is 0.33"


@pytest.mark.slow
@pytest.mark.parametrize("schemes", [("ternary",), ("int1", "int8")], ids="+".join)
def test_accuracy_is_that_of_the_plain_loop_within_the_spread_of_seeds(
    schemes: tuple[str, ...],
) -> None:
    data = load_embeddings("esc10")
    accuracies: dict[str, list[float]] = {"plain": [], "float32": [], "bfloat16": []}
    for seed in range(5):
        config = TrialConfig(
            model=ModelConfig(schemes, (16,)), train=TrainConfig(epochs=30), seed=seed
        ).canonical()
        folds = make_folds(data, config.data)
        torch.manual_seed(seed)
        accuracies["plain"].append(float(np.mean(train_plain(config, data, folds))))
        for precision in PRECISIONS:
            trained = train_folds(config, data, folds, precision=precision)
            accuracies[precision].append(float(np.mean(trained.checkpoints[-1].accuracy)))
    for precision in PRECISIONS:
        # Welch: three standard errors of the difference of two means.
        pair = np.array([accuracies["plain"], accuracies[precision]])
        error = float(np.sqrt((pair.var(axis=1, ddof=1) / 5).sum()))
        difference = float(pair[1].mean() - pair[0].mean())
        assert abs(difference) <= 3 * error, f"{precision}: {accuracies}"
        assert pair.min() > 0.8, accuracies


@pytest.mark.slow
def test_the_study_measures_both_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = timing.Shape("ESC-50", 60, 12, 3, 3, 1, 1, hidden=(8,))
    monkeypatch.setattr(study, "SHAPES", (tiny, tiny, tiny))
    monkeypatch.setattr(study, "ROUNDS", 2)
    assert speed.main(["--quick", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out.splitlines()[-1])
    assert found["ratio"] == pytest.approx(found["plain_seconds"] / found["engine_seconds"])
    assert found["ratio_float32"] == pytest.approx(
        found["plain_seconds"] / found["engine_seconds_float32"]
    )
    assert found["ratio_at_equal_processes"] == pytest.approx(
        found["plain_seconds_at_equal_processes"] / found["engine_seconds"]
    )
    assert min(found["plain_seconds"], found["plain_seconds_at_equal_processes"]) > 0
    assert found["engine_peak_bytes"] > 50_000_000, "torch alone is more"
    assert "ESC-50" in shown.err


def test_memory_that_is_shared_is_counted_once() -> None:
    one, other = Memory(private=5, shared=3), Memory(private=7, shared=4)
    assert timing.total_bytes([one, other]) == 16


def test_medians_over_rounds_are_compared() -> None:
    found = timing.Timing(
        plain={1: [9.0, 30.0, 12.0], 2: [8.0, 10.0, 99.0]},
        plain_on_each=[6.0, 5.0, 4.0],
        engine={"bfloat16": [1.0, 2.0, 3.0], "float32": [4.0, 4.0, 40.0]},
        peak_bytes={"bfloat16": 1, "float32": 2},
    )
    assert (found.best_threads, found.plain_seconds) == (2, 10.0)
    assert found.ratio("bfloat16") == 5.0
    assert found.ratio("float32") == 2.5
    assert found.ratio_on_each("bfloat16") == 2.5


def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--device", "abacus"]) == 2
    assert "device must be cpu, cuda or mps, but got 'abacus'" in capsys.readouterr().err


def test_synthetic_shapes_have_the_sizes_that_they_name() -> None:
    for shape in timing.SHAPES:
        data = timing.synthetic(shape)
        assert data.x.shape == (shape.n_clips, shape.n_features)
        assert data.num_classes == shape.n_classes
        folds = make_folds(data, timing.config_of(shape).data)
        assert len(folds) == shape.n_folds
        assert {len(np.unique(data.y[fold.train])) for fold in folds} == {shape.n_classes}
