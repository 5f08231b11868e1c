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
from qwave.data import EmbeddingSet, make_folds
from qwave.engine.stacked import TrainingLoss
from qwave.moe import Mixture, build_mixture
from studies import speed
from studies.plain_loop import PlainMixture, plain_loss, train_plain

N_FEATURES, N_CLASSES = 20, 5
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
    loss = TrainingLoss(config, weight.unsqueeze(0))(mixture(x), y, torch.ones(1, 12)).sum()
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


@pytest.mark.slow
def test_the_study_measures_both_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = speed.Shape("ESC-50", 60, 12, 3, 3, 1, (1, 2))
    monkeypatch.setattr(speed, "SHAPES", (tiny, tiny, tiny))
    assert speed.main(["--quick", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out.splitlines()[-1])
    assert found["ratio"] == pytest.approx(found["plain_seconds"] / found["engine_seconds"])
    assert found["ratio_at_equal_processes"] == pytest.approx(
        found["plain_seconds_at_equal_processes"] / found["engine_seconds"]
    )
    assert min(found["plain_seconds"], found["plain_seconds_at_equal_processes"]) > 0
    assert found["engine_peak_bytes"] > 50_000_000, "torch alone is more"
    assert "ESC-50" in shown.err


def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--device", "abacus"]) == 2
    assert "device must be cpu, cuda or mps, but got 'abacus'" in capsys.readouterr().err


def test_synthetic_shapes_have_the_sizes_that_they_name() -> None:
    for shape in speed.SHAPES:
        data = speed.synthetic(shape)
        assert data.x.shape == (shape.n_clips, shape.n_features)
        assert data.num_classes == shape.n_classes
        folds = make_folds(data, speed.config_of(shape).data)
        assert len(folds) == shape.n_folds
        assert {len(np.unique(data.y[fold.train])) for fold in folds} == {shape.n_classes}
