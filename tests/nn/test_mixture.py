"""The mixture against loops over rows and experts: outputs, folds, gradients and dropout."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from qwave.config import SCHEMES, ModelConfig, RouterConfig, TrialConfig
from qwave.engine import fold_seed
from qwave.engine.build import build_dropout, build_mixture
from qwave.nn import quantizers as quant
from qwave.nn.dropout import DropMask, Dropout
from qwave.nn.mixture import (
    QUANTIZED,
    Arithmetic,
    Mixture,
    MixtureOutput,
    StackedLinear,
    mutual_information,
    standardize,
)

ALL = tuple(SCHEMES)
EXACT = [name for name, scheme in SCHEMES.items() if scheme.activations is not None]
N_FEATURES, N_CLASSES = 9, 4

MIXTURES = {
    "plain linear": ModelConfig(("int4",), ()),
    "plain": ModelConfig(("int8",), (7,)),
    "plain, two hidden layers": ModelConfig(("int2",), (7, 5)),
    "two of one scheme": ModelConfig(("int1", "int1"), (7,)),
    "linear experts": ModelConfig(("ternary", "int4", "int4"), (), top_k=2),
    "other head": ModelConfig(("int1", "int1", "popcount"), (7,), head_scheme="int8", top_k=2),
    "deep router": ModelConfig(("int2", "fp32"), (6,), router=RouterConfig(5, "ternary")),
    "all": ModelConfig(ALL, (6,), top_k=3, router=RouterConfig(6, "int4")),
    "all, dense": ModelConfig(ALL, (6,), top_k=8, router=RouterConfig(0, "fp32")),
}
every_mixture = pytest.mark.parametrize("config", MIXTURES.values(), ids=MIXTURES)


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def build(config: ModelConfig, *seeds: int) -> Mixture:
    canonical = TrialConfig(model=config).canonical().model
    return build_mixture(canonical, N_FEATURES, N_CLASSES, generators(*seeds))


def with_dropout(config: ModelConfig) -> ModelConfig:
    router = dataclasses.replace(config.router, dropout=0.3)
    return dataclasses.replace(config, dropout=0.2, input_dropout=0.4, router=router)


def mask_seeds(*numbers: int) -> list[int]:
    return [fold_seed("mixture", number, "dropout") for number in numbers]


def masks_of(
    config: ModelConfig, n_rows: int, numbers: Sequence[int], *, step: int = 1
) -> Dropout:
    dropout = build_dropout(config, N_FEATURES, n_rows, mask_seeds(*numbers))
    dropout.draw(dropout.keys([step])[0])
    return dropout


# --- the mixture against a loop ----------------------------------------------------------------


def one_layer(
    row: Tensor, layer: StackedLinear, fold: int, member: int, quantized: bool
) -> Tensor:
    scheme = layer.scheme if quantized else "fp32"
    weight, bias = layer.weight[fold, member], layer.bias[fold, member]
    return quant.linear(row, weight, bias, scheme)


def factors_of(masks: Sequence[DropMask], n_folds: int) -> list[Tensor]:
    """What inputs of each layer are multiplied with, [f, b, i]."""
    return [mask(torch.ones(n_folds, *mask.shape)) for mask in masks]


def loop(
    mixture: Mixture, x: Tensor, is_quantized: bool, dropout: Dropout | None = None
) -> MixtureOutput:
    """One fold, one clip, one expert after the other."""
    experts = [
        [(layer, member) for layer in group.layers]
        for group in mixture.groups
        for member in range(group.layers[0].weight.shape[1])
    ]
    n_folds, n_rows, _ = x.shape
    factors = factors_of(dropout.experts, n_folds) if dropout else None
    router_factors = factors_of(dropout.router, n_folds) if dropout else None
    logits = torch.zeros(n_folds, n_rows, N_CLASSES)
    probabilities = torch.zeros(n_folds, n_rows, len(experts))
    gates = torch.zeros(n_folds, n_rows, len(experts))
    for fold, row in itertools.product(range(n_folds), range(n_rows)):
        clip = x[fold, row].unsqueeze(0)
        each = []
        for expert in experts:
            hidden = clip
            for depth, (layer, member) in enumerate(expert):
                if depth > 0:
                    hidden = torch.relu(standardize(hidden))
                if factors is not None:
                    hidden = hidden * factors[depth][fold, row]
                hidden = one_layer(hidden, layer, fold, member, is_quantized)
            each.append(hidden[0])
        if mixture.router is None:
            logits[fold, row] = each[0]
            continue
        hidden = clip
        for depth, layer in enumerate(mixture.router.layers):
            if depth > 0:
                hidden = torch.relu(standardize(hidden))
            if router_factors is not None:
                hidden = hidden * router_factors[depth][fold, row]
            hidden = one_layer(hidden, layer, fold, 0, is_quantized)
        p = torch.softmax(hidden[0], dim=0)
        chosen = sorted(range(len(experts)), key=lambda e: (-float(p[e]), e))[: mixture.top_k]
        total = sum(float(p[index]) for index in chosen)
        for index in chosen:
            gates[fold, row, index] = float(p[index]) / total
            logits[fold, row] += float(p[index]) / total * each[index]
        probabilities[fold, row] = p
    if mixture.router is None:
        return MixtureOutput(logits, None, None)
    return MixtureOutput(logits, probabilities, gates)


@torch.no_grad()
@pytest.mark.parametrize("has_dropout", [False, True], ids=["whole", "dropped"])
@pytest.mark.parametrize("is_quantized", [True, False], ids=["quantized", "fp32"])
@every_mixture
def test_mixture_is_a_loop_over_clips_and_experts(
    config: ModelConfig, is_quantized: bool, has_dropout: bool
) -> None:
    mixture = build(config, 1, 2)
    x = normals(3, 2, 5, N_FEATURES)
    dropout = masks_of(with_dropout(config), 5, (1, 2)) if has_dropout else None
    found = mixture(x, dropout=dropout, arithmetic=Arithmetic(is_quantized))
    wanted = loop(mixture, x, is_quantized, dropout)
    for field in MixtureOutput._fields:
        ours, twins = getattr(found, field), getattr(wanted, field)
        if config.num_experts == 1 and field != "logits":
            assert ours is None
            continue
        assert ours.shape == twins.shape
        worst = float((ours - twins).abs().max())
        assert worst < 1e-4, f"{field} differ by {worst}"


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_one_expert_is_the_plain_network_written_out(hidden: tuple[int, ...]) -> None:
    mixture = build(ModelConfig(("fp32",), hidden), 4, 5)
    x = normals(6, 2, 8, N_FEATURES)
    output = mixture(x)
    for fold in range(2):
        h = x[fold].double().numpy()
        for depth, layer in enumerate(mixture.groups[0].layers):
            if depth > 0:
                mean, variance = h.mean(1, keepdims=True), h.var(1, keepdims=True)
                h = np.maximum((h - mean) / np.sqrt(variance + 1e-5), 0)
            weight = layer.weight[fold, 0].detach().double().numpy()
            h = h @ weight.T + layer.bias[fold, 0].detach().double().numpy()
        np.testing.assert_allclose(output.logits[fold].detach().numpy(), h, rtol=1e-4, atol=1e-5)
    assert output.probabilities is None
    assert output.gates is None


@torch.no_grad()
def test_ramp_weights_give_the_golden_logits() -> None:
    # Every parameter is a ramp from -1 to 1, so that the numbers outlive torch's random streams.
    # The golden values come from the plain sums in numpy's float64.
    config = ModelConfig(("int1", "int8", "fp32"), (6,), top_k=2)
    mixture = build(config, 0)
    for parameter in mixture.parameters():
        ramp = torch.linspace(-1, 1, parameter.numel() + 1)[1:]
        parameter.copy_(ramp.reshape(parameter.shape))
    x = torch.linspace(-2, 2, 3 * N_FEATURES).reshape(1, 3, N_FEATURES).sin()
    output = mixture(x, arithmetic=Arithmetic(is_quantized=False))
    golden = [
        [-2.79336, -0.97590, 0.84156, 2.65903],
        [-1.93943, -0.12199, 1.69546, 3.51290],
        [-1.93945, -0.12199, 1.69548, 3.51294],
    ]
    np.testing.assert_allclose(output.logits[0].numpy(), golden, atol=1e-4)


@torch.no_grad()
def test_permuting_experts_permutes_the_gates_and_nothing_else() -> None:
    mixture = build(ModelConfig(("int4",) * 4, (6,), top_k=2), 7)
    x = normals(8, 1, 20, N_FEATURES)
    before = mixture(x)
    order = [2, 0, 3, 1]
    assert mixture.router is not None
    for layer in mixture.groups[0].layers:
        layer.weight.copy_(layer.weight[:, order])
        layer.bias.copy_(layer.bias[:, order])
    router = mixture.router.layers[0]
    router.weight.copy_(router.weight[:, :, order])
    router.bias.copy_(router.bias[:, :, order])
    after = mixture(x)
    torch.testing.assert_close(after.gates, before.gates[..., order])
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", EXACT)
def test_batch_mates_do_not_change_a_clips_result(name: str) -> None:
    config = ModelConfig((name,) * 3, (7,), top_k=2, router=RouterConfig(5, name))
    mixture = build(config, 9)
    x = normals(10, 1, 12, N_FEATURES)
    together = mixture(x)
    for row in range(12):
        alone = mixture(x[:, row : row + 1])
        assert torch.equal(alone.probabilities[:, 0], together.probabilities[:, row])
        torch.testing.assert_close(
            alone.logits[:, 0], together.logits[:, row], rtol=1e-5, atol=1e-6
        )


@every_mixture
def test_no_clips_give_no_logits(config: ModelConfig) -> None:
    mixture = build(config, 1, 2)
    for given in (None, masks_of(with_dropout(config), 0, (3, 4))):
        output = mixture(torch.empty(2, 0, N_FEATURES), dropout=given)
        assert output.logits.shape == (2, 0, N_CLASSES)
        assert output.gates is None or output.gates.shape == (2, 0, config.num_experts)


# --- folds --------------------------------------------------------------------------------------


@torch.no_grad()
@every_mixture
def test_fold_alone_is_the_same_fold_in_a_stack(config: ModelConfig) -> None:
    config = with_dropout(config)
    seeds = (11, 12, 13)
    stack = build(config, *seeds)
    x = normals(14, 3, 10, N_FEATURES)
    drawn = [masks_of(config, 10, seeds, step=step) for step in (1, 2, 3)]
    stacked = [stack(x), *(stack(x, dropout=dropout) for dropout in drawn)]
    for fold, seed in enumerate(seeds):
        alone = build(config, seed)
        for (name, ours), (_, theirs) in zip(
            alone.named_parameters(), stack.named_parameters(), strict=True
        ):
            assert torch.equal(ours[0], theirs[fold]), f"{name} of fold {fold}"
        one = x[fold : fold + 1]
        drawn = [masks_of(config, 10, [seed], step=step) for step in (1, 2, 3)]
        for step, output in enumerate(
            [alone(one), *(alone(one, dropout=dropout) for dropout in drawn)]
        ):
            worst = float((output.logits[0] - stacked[step].logits[fold]).abs().max())
            assert worst < 1e-6, f"fold {fold}, seed {seed}, step {step}: {worst}"


def test_folds_start_from_different_parameters_within_their_bound() -> None:
    mixture = build(MIXTURES["all"], 1, 2)
    for name, parameter in mixture.named_parameters():
        assert not torch.equal(parameter[0], parameter[1]), name
    layer = mixture.groups[0].layers[0]
    largest = float(layer.weight.detach().abs().max())
    assert 0.8 * N_FEATURES**-0.5 < largest <= N_FEATURES**-0.5
    assert float(layer.bias.detach().abs().max()) <= N_FEATURES**-0.5


# --- gradients ----------------------------------------------------------------------------------


def task_loss(output: MixtureOutput, y: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), y.flatten())


@pytest.mark.parametrize("router_scheme", ALL)
@pytest.mark.parametrize("router_hidden", [0, 5])
def test_every_parameter_of_a_mixture_of_all_schemes_gets_a_gradient(
    router_scheme: str, router_hidden: int
) -> None:
    router = RouterConfig(router_hidden, router_scheme)
    mixture = build(ModelConfig(ALL, (6,), top_k=len(ALL), router=router), 40, 41)
    x = normals(42, 2, 64, N_FEATURES)
    y = torch.arange(128).reshape(2, 64) % N_CLASSES
    task_loss(mixture(x), y).backward()
    for name, parameter in mixture.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        # Of every fold, every expert and every output: its row of weights, or its bias.
        rows = gradient if gradient.dim() == 3 else gradient.abs().sum(-1)
        assert (rows != 0).all(), f"{name}: no gradient at {(rows == 0).nonzero().tolist()}"


@pytest.mark.parametrize("router_scheme", ALL)
def test_router_learns_from_the_task_alone_under_top_1(router_scheme: str) -> None:
    config = ModelConfig(("int1", "int8"), (6,), top_k=1, router=RouterConfig(4, router_scheme))
    mixture = build(config, 43)
    x, y = normals(44, 1, 64, N_FEATURES), torch.arange(64).reshape(1, 64) % N_CLASSES
    task_loss(mixture(x), y).backward()
    assert mixture.router is not None
    for name, parameter in mixture.router.named_parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) > 0, name


def test_experts_that_get_no_clip_get_no_gradient() -> None:
    mixture = build(ModelConfig(("int4", "int4"), (6,), top_k=1), 45)
    assert mixture.router is not None
    with torch.no_grad():
        mixture.router.layers[0].bias[..., 1] = -100
    y = torch.arange(20).reshape(1, 20) % N_CLASSES
    task_loss(mixture(normals(46, 1, 20, N_FEATURES)), y).backward()
    for parameter in mixture.groups[0].parameters():
        assert parameter.grad is not None
        assert (parameter.grad[:, 1] == 0).all()
        assert (parameter.grad[:, 0] != 0).any()


# --- samples of the router -----------------------------------------------------------------------


def random_masks(seed: int, n_folds: int, n_samples: int, widths: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(n_folds, n_samples, width, generator=generator) < 0.7).float() / 0.7
        for width in widths
    ]


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize("hidden", [0, 5])
def test_router_samples_are_a_loop_over_masks_and_clips(scheme: str, hidden: int) -> None:
    config = ModelConfig(("int1", "int8", "fp32"), (), router=RouterConfig(hidden, scheme))
    router = build(config, 90, 91).router
    assert router is not None
    x = normals(92, 2, 6, N_FEATURES)
    masks = random_masks(93, 2, 4, [N_FEATURES, hidden][: len(router.layers)])
    found = router.sample(x, masks)
    assert found.shape == (2, 4, 6, 3)
    assert not found.requires_grad, "the router must not be able to shape its own uncertainty"
    for fold, sample, row in itertools.product(range(2), range(4), range(6)):
        h = x[fold, row : row + 1]
        for depth, layer in enumerate(router.layers):
            if depth > 0:
                h = torch.relu(standardize(h))
            h = one_layer(h * masks[depth][fold, sample], layer, fold, 0, True)
        wanted = torch.softmax(h[0], dim=0)
        worst = float((found[fold, sample, row] - wanted.detach()).abs().max())
        assert worst < 1e-5, f"{scheme}, fold {fold}, sample {sample}, row {row}: {worst}"
    second = router.sample(x[1:], [mask[1:] for mask in masks], folds=slice(1, 2))
    torch.testing.assert_close(second[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheme", EXACT)
def test_router_samples_do_not_depend_on_batch_mates(scheme: str) -> None:
    config = ModelConfig(("int1", "int8", "fp32"), (), router=RouterConfig(5, scheme))
    router = build(config, 94).router
    assert router is not None
    x = normals(95, 1, 9, N_FEATURES)
    masks = random_masks(96, 1, 5, [N_FEATURES, 5])
    together = router.sample(x, masks)
    for row in range(9):
        assert torch.equal(router.sample(x[:, row : row + 1], masks)[:, :, 0], together[:, :, row])
    # Nor, of course, on what stands beside them.
    crowd = torch.cat([100 * normals(97, 1, 30, N_FEATURES), x], dim=1)
    assert torch.equal(router.sample(crowd, masks)[:, :, 30:], together)


@torch.no_grad()
@pytest.mark.parametrize("scheme", ALL)
def test_masks_of_ones_sample_the_routers_own_probabilities(scheme: str) -> None:
    config = ModelConfig(("int1", "fp32"), (), router=RouterConfig(5, scheme))
    router = build(config, 98).router
    assert router is not None
    x = normals(99, 1, 7, N_FEATURES)
    masks = [torch.ones(1, 3, N_FEATURES), torch.ones(1, 3, 5)]
    plain = router(x, masks=(), arithmetic=QUANTIZED)
    for sample in range(3):
        torch.testing.assert_close(router.sample(x, masks)[:, sample], plain)
    assert float(mutual_information(router.sample(x, masks)).max()) < 1e-6


# --- dropout ------------------------------------------------------------------------------------


def test_masks_are_the_same_in_whatever_order_they_are_asked_for() -> None:
    config = with_dropout(MIXTURES["deep router"])
    x = normals(14, 2, 6, N_FEATURES)
    mixture = build(config, 14, 15)
    dropout = masks_of(config, 6, (14, 15), step=5)
    fifth = mixture(x, dropout=dropout).logits
    dropout.draw(dropout.keys([2])[0])
    second = mixture(x, dropout=dropout).logits
    assert not torch.equal(second, fifth)
    assert torch.equal(mixture(x, dropout=masks_of(config, 6, (14, 15), step=2)).logits, second)
    dropout.draw(dropout.keys([5])[0])
    assert torch.equal(mixture(x, dropout=dropout).logits, fifth)


def test_masks_that_were_not_drawn_are_refused() -> None:
    config = with_dropout(MIXTURES["two of one scheme"])
    dropout = build_dropout(config, N_FEATURES, 4, mask_seeds(21))
    with pytest.raises(AssertionError, match="masks are drawn before a step"):
        build(config, 21)(normals(21, 1, 4, N_FEATURES), dropout=dropout)


@torch.no_grad()
def test_router_and_experts_are_dropped_at_rates_of_their_own() -> None:
    config = ModelConfig(("int4", "int8"), (30,), top_k=2)
    x = normals(19, 1, 20, N_FEATURES)
    for input_dropout, dropout, router_dropout in [(0.9, 0.0, 0.0), (0.0, 0.9, 0.0), (0, 0, 0.9)]:
        rates = dataclasses.replace(
            config,
            input_dropout=input_dropout,
            dropout=dropout,
            router=RouterConfig(10, "int8", router_dropout),
        )
        mixture = build(rates, 20)
        calm, shaken = mixture(x), mixture(x, dropout=masks_of(rates, 20, [21]))
        is_routed_alike = torch.equal(calm.probabilities, shaken.probabilities)
        assert is_routed_alike == (router_dropout == 0), f"{input_dropout}, {dropout}"
        whole = [group(x, masks=(), arithmetic=QUANTIZED) for group in mixture.groups]
        undropped = torch.einsum("febc,fbe->fbc", torch.cat(whole, dim=1), shaken.gates)
        assert torch.equal(shaken.logits, undropped) == (input_dropout == dropout == 0)
