"""The mixture against loops over rows and experts, its router, losses and dropout."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from qwave.config import SCHEMES, ModelConfig, RouterConfig, TrialConfig
from qwave.engine import fold_seed
from qwave.nn import quantizers as quant
from qwave.nn.dropout import DropMask, Dropout
from qwave.nn.mixture import (
    NORM_EPSILON,
    QUANTIZED,
    Arithmetic,
    Mixture,
    MixtureOutput,
    StackedLinear,
    build_mixture,
    load_balance_loss,
    mutual_information,
    standardize,
    top_k_gates,
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
    dropout = Dropout(config, N_FEATURES, n_rows, mask_seeds(*numbers))
    dropout.draw(dropout.keys([step])[0])
    return dropout


def random_probabilities(seed: int, *shape: int) -> Tensor:
    return torch.softmax(2 * normals(seed, *shape), dim=-1)


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
        said = []
        for expert in experts:
            hidden = clip
            for depth, (layer, member) in enumerate(expert):
                if depth > 0:
                    hidden = torch.relu(standardize(hidden))
                if factors is not None:
                    hidden = hidden * factors[depth][fold, row]
                hidden = one_layer(hidden, layer, fold, member, is_quantized)
            said.append(hidden[0])
        if mixture.router is None:
            logits[fold, row] = said[0]
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
            logits[fold, row] += float(p[index]) / total * said[index]
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
    # The golden values come from the same sums in numpy's float64.
    config = ModelConfig(("int1", "int8", "fp32"), (6,), top_k=2)
    mixture = build(config, 0)
    for parameter in mixture.parameters():
        ramp = torch.linspace(-1, 1, parameter.numel() + 1)[1:]
        parameter.copy_(ramp.reshape(parameter.shape))
    x = torch.linspace(-2, 2, 3 * N_FEATURES).reshape(1, 3, N_FEATURES).sin()
    output = mixture(x, arithmetic=Arithmetic(is_quantized=False))
    layers = [layer for group in mixture.groups for layer in group.layers]
    assert mixture.router is not None
    router = mixture.router.layers[0]
    for row in range(3):
        clip = x[0, row].double().numpy()
        z = router.weight[0, 0].double().numpy() @ clip + router.bias[0, 0].double().numpy()
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        chosen = np.argsort(-p, kind="stable")[:2]
        wanted = np.zeros(N_CLASSES)
        for expert in chosen:
            first, head = layers[2 * expert], layers[2 * expert + 1]
            h = first.weight[0, 0].double().numpy() @ clip + first.bias[0, 0].double().numpy()
            h = np.maximum((h - h.mean()) / np.sqrt(h.var() + 1e-5), 0)
            y = head.weight[0, 0].double().numpy() @ h + head.bias[0, 0].double().numpy()
            wanted += p[expert] / p[chosen].sum() * y
        np.testing.assert_allclose(output.logits[0, row].numpy(), wanted, rtol=1e-4, atol=1e-5)
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


@every_mixture
def test_mixture_has_one_group_for_each_scheme_in_the_order_of_experts(
    config: ModelConfig,
) -> None:
    mixture = build(config, 1)
    schemes = [
        group.layers[0].scheme
        for group in mixture.groups
        for _ in range(group.layers[0].weight.shape[1])
    ]
    assert schemes == list(TrialConfig(model=config).canonical().model.schemes)
    assert len(mixture.groups) == len(set(config.schemes))
    for group in mixture.groups:
        is_deep = len(group.layers) > 1
        head = config.head_scheme if is_deep and config.head_scheme else group.layers[0].scheme
        assert group.layers[-1].scheme == head
        assert len(group.layers) == len(config.hidden) + 1
    assert (mixture.router is None) == (config.num_experts == 1)


# --- gates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_gates_sum_to_one_over_the_chosen_and_are_zero_elsewhere(top_k: int, seed: int) -> None:
    probabilities = random_probabilities(20 + seed, 2, 30, 5)
    gates = top_k_gates(probabilities, top_k)
    for fold, row in itertools.product(range(2), range(30)):
        p = probabilities[fold, row].tolist()
        chosen = sorted(range(5), key=lambda e: (-p[e], e))[:top_k]
        total = math.fsum(p[e] for e in chosen)
        wanted = [p[e] / total if e in chosen else 0.0 for e in range(5)]
        found = gates[fold, row].tolist()
        assert found == pytest.approx(wanted, rel=1e-5), f"seed {seed}: {p}"
        assert all(found[e] == 0 for e in range(5) if e not in chosen)
    torch.testing.assert_close(gates.sum(-1), torch.ones(2, 30))


@pytest.mark.parametrize(
    ("p", "top_k", "chosen"),
    [
        ([0.25, 0.25, 0.25, 0.25], 1, [0]),
        ([0.25, 0.25, 0.25, 0.25], 3, [0, 1, 2]),
        ([0.1, 0.4, 0.1, 0.4], 1, [1]),
        ([0.1, 0.4, 0.1, 0.4], 3, [0, 1, 3]),
        ([0.3, 0.2, 0.3, 0.2], 2, [0, 2]),
    ],
)
def test_ties_go_to_the_expert_listed_first(p: list[float], top_k: int, chosen: list[int]) -> None:
    gates = top_k_gates(torch.tensor([[p]]), top_k)
    assert gates[0, 0].nonzero().flatten().tolist() == chosen


def test_ties_among_many_experts_go_to_the_first_too() -> None:
    # Sorting algorithms that are not stable only show on longer rows.
    gates = top_k_gates(torch.full((1, 3, 64), 1 / 64), 5)
    for row in gates[0]:
        assert row.nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


def test_top_1_gate_is_exactly_one_and_hands_the_router_a_gradient() -> None:
    logits = (3 * normals(30, 2, 50, 6)).requires_grad_()
    probabilities = torch.softmax(logits, dim=-1)
    gates = top_k_gates(probabilities, 1)
    assert torch.equal(gates.amax(-1), torch.ones(2, 50))
    assert torch.equal(gates.sum(-1), torch.ones(2, 50))
    # With g = p / stop_gradient(p) the gradient of a gate is that of log p.
    (found,) = torch.autograd.grad(gates.amax(-1).sum(), logits)
    winner = probabilities.argmax(-1, keepdim=True)
    (wanted,) = torch.autograd.grad(torch.log_softmax(logits, -1).gather(-1, winner).sum(), logits)
    torch.testing.assert_close(found, wanted)
    assert (found.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("upstream", [1.0, 4.0, 100.0])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_probabilities_that_underflow_give_no_nan(top_k: int, upstream: float) -> None:
    logits = torch.tensor([[[0.0, -200.0, -1000.0, 0.0], [5e4, 0.0, -5e4, 1.0]]])
    logits.requires_grad_()
    gates = top_k_gates(torch.softmax(logits, dim=-1), top_k)
    assert torch.isfinite(gates).all()
    torch.testing.assert_close(gates.sum(-1), torch.ones(1, 2))
    weighted = upstream * (gates * torch.tensor([1.0, 0.5, -0.5, -1.0])).sum()
    (found,) = torch.autograd.grad(weighted, logits)
    assert torch.isfinite(found).all(), f"gradient {found.tolist()}"


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


# --- load balance -------------------------------------------------------------------------------


def load_balance_by_hand(
    probabilities: list[list[float]], gates: list[list[float]], weight: list[float]
) -> float:
    rows = [row for row, w in enumerate(weight) if w]
    experts = range(len(probabilities[0]))
    used = [sum(gates[row][expert] > 0 for row in rows) for expert in experts]
    mean = [
        math.fsum(probabilities[row][expert] for row in rows) / len(rows) for expert in experts
    ]
    return len(experts) * math.fsum(used[expert] / sum(used) * mean[expert] for expert in experts)


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_load_balance_loss_is_its_brute_force_twin(top_k: int, seed: int) -> None:
    probabilities = random_probabilities(50 + seed, 3, 17, 5)
    gates = top_k_gates(probabilities, top_k)
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(3, 17, generator=generator) < 0.7).float()
    found = load_balance_loss(probabilities, gates, weight)
    assert found.shape == (3,)
    for fold in range(3):
        wanted = load_balance_by_hand(
            probabilities[fold].tolist(), gates[fold].tolist(), weight[fold].tolist()
        )
        assert float(found[fold]) == pytest.approx(wanted, rel=1e-5), f"seed {seed}"


@pytest.mark.parametrize("num_experts", [2, 4, 8])
def test_load_balance_loss_is_1_at_uniform_routing(num_experts: int) -> None:
    # Clip r goes to expert r mod e with certainty, or everywhere alike.
    certain = torch.eye(num_experts).repeat(3, 1).unsqueeze(0)
    rows = torch.ones(1, 3 * num_experts)
    assert float(load_balance_loss(certain, certain, rows)) == pytest.approx(1)
    alike = torch.full((1, 5, num_experts), 1 / num_experts)
    for top_k in (1, num_experts):
        gates = top_k_gates(alike, top_k)
        assert float(load_balance_loss(alike, gates, torch.ones(1, 5))) == pytest.approx(1)


@pytest.mark.parametrize("num_experts", [2, 4, 8])
def test_load_balance_loss_is_e_at_collapse(num_experts: int) -> None:
    collapsed = torch.zeros(2, 7, num_experts)
    collapsed[..., 1] = 1
    found = load_balance_loss(collapsed, top_k_gates(collapsed, 1), torch.ones(2, 7))
    assert found.tolist() == pytest.approx([num_experts] * 2)


def test_load_balance_loss_ignores_padding() -> None:
    probabilities = random_probabilities(60, 2, 9, 4)
    gates = top_k_gates(probabilities, 2)
    weight = torch.ones(2, 9)
    weight[0, 6:] = 0
    found = load_balance_loss(probabilities, gates, weight)
    cut = load_balance_loss(probabilities[:1, :6], gates[:1, :6], torch.ones(1, 6))
    assert float(found[0]) == pytest.approx(float(cut[0]))
    other, other_gates = probabilities.clone(), gates.clone()
    other[0, 6:] = torch.tensor([0.97, 0.01, 0.01, 0.01])
    other_gates[0, 6:] = torch.tensor([1.0, 0, 0, 0])
    assert torch.equal(load_balance_loss(other, other_gates, weight), found)


def test_load_balance_loss_of_a_fold_without_rows_is_zero_and_has_no_gradient() -> None:
    probabilities = random_probabilities(61, 2, 6, 4).requires_grad_()
    gates = top_k_gates(probabilities, 2)
    weight = torch.ones(2, 6)
    weight[0] = 0
    found = load_balance_loss(probabilities, gates, weight)
    assert float(found[0].detach()) == 0
    alone = load_balance_loss(probabilities[1:], gates[1:], weight[1:])
    assert torch.equal(found[1:], alone)
    (gradient,) = torch.autograd.grad(found.sum(), probabilities)
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).any()


def test_load_balance_loss_pushes_against_the_fuller_expert() -> None:
    probabilities = torch.tensor([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]], requires_grad=True)
    gates = top_k_gates(probabilities, 1)
    load_balance_loss(probabilities, gates, torch.ones(1, 3)).sum().backward()
    assert probabilities.grad is not None
    # e * f_i / n, with f = (2/3, 1/3): the counted share itself has no gradient.
    wanted = torch.tensor([4 / 9, 2 / 9]).expand(1, 3, 2)
    torch.testing.assert_close(probabilities.grad, wanted)


# --- uncertainty --------------------------------------------------------------------------------


@pytest.mark.parametrize("num_experts", [2, 3, 8])
def test_mutual_information_of_identical_samples_is_zero(num_experts: int) -> None:
    p = random_probabilities(70, 2, 1, 6, num_experts).expand(2, 16, 6, num_experts)
    assert mutual_information(p).abs().max() < 1e-6
    certain = torch.zeros(1, 4, 3, num_experts)
    certain[..., 0] = 1
    assert torch.equal(mutual_information(certain), torch.zeros(1, 3))


@pytest.mark.parametrize("num_experts", [2, 3, 8])
def test_mutual_information_of_samples_that_contradict_each_other_is_log_e(
    num_experts: int,
) -> None:
    samples = torch.eye(num_experts).reshape(1, num_experts, 1, num_experts)
    found = mutual_information(samples)
    assert found.shape == (1, 1)
    assert float(found) == pytest.approx(math.log(num_experts), rel=1e-6)


def test_mutual_information_of_two_certain_groups_is_the_entropy_of_their_shares() -> None:
    samples = torch.zeros(1, 10, 1, 3)
    samples[0, :3, 0, 0] = 1
    samples[0, 3:, 0, 2] = 1
    wanted = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert float(mutual_information(samples)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_mutual_information_is_scipys_and_never_negative(seed: int) -> None:
    spread = 10.0 ** (seed - 3)
    samples = torch.softmax(normals(80, 2, 1, 7, 4) + spread * normals(81 + seed, 2, 12, 7, 4), -1)
    found = mutual_information(samples)
    assert found.shape == (2, 7)
    p = samples.double().numpy()
    wanted = stats.entropy(p.mean(1), axis=-1) - stats.entropy(p, axis=-1).mean(1)
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-6, err_msg=f"seed {seed}")
    assert (found >= 0).all(), f"seed {seed}"
    assert (found <= math.log(4) + 1e-6).all(), f"seed {seed}"


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
def test_masks_of_ones_sample_what_the_router_says(scheme: str) -> None:
    config = ModelConfig(("int1", "fp32"), (), router=RouterConfig(5, scheme))
    router = build(config, 98).router
    assert router is not None
    x = normals(99, 1, 7, N_FEATURES)
    masks = [torch.ones(1, 3, N_FEATURES), torch.ones(1, 3, 5)]
    said = router(x, masks=(), arithmetic=QUANTIZED)
    for sample in range(3):
        torch.testing.assert_close(router.sample(x, masks)[:, sample], said)
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
    dropout = Dropout(config, N_FEATURES, 4, mask_seeds(21))
    with pytest.raises(AssertionError, match="masks are drawn before a step"):
        build(config, 21)(normals(21, 1, 4, N_FEATURES), dropout=dropout)


@every_mixture
def test_every_layer_has_a_mask_of_its_own_at_its_rate(config: ModelConfig) -> None:
    config = with_dropout(config)
    dropout = Dropout(config, N_FEATURES, 4, mask_seeds(22))
    assert [mask.shape for mask in dropout.experts] == [
        (4, width) for width in (N_FEATURES, *config.hidden)
    ]
    is_single = config.num_experts == 1
    inputs = () if is_single else config.router_widths(N_FEATURES)[:-1]
    assert [mask.shape for mask in dropout.router] == [(4, width) for width in inputs]
    assert is_single == (not dropout.router)
    every = (*dropout.experts, *dropout.router)
    assert len({mask.slot for mask in every}) == len(every)
    rates = [0.4, *(0.2 for _ in config.hidden), *(0.3 for _ in inputs)]
    for mask, rate in zip(every, rates, strict=True):
        assert mask.factor == pytest.approx(1 / (1 - rate)), f"slot {mask.slot}"
        assert mask.threshold == round(rate * 2**16) - 2**15, f"slot {mask.slot}"


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
        said = [group(x, masks=(), arithmetic=QUANTIZED) for group in mixture.groups]
        undropped = torch.einsum("febc,fbe->fbc", torch.cat(said, dim=1), shaken.gates)
        assert torch.equal(shaken.logits, undropped) == (input_dropout == dropout == 0)


# --- standardize --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_standardize_is_numpys_mean_and_variance(seed: int) -> None:
    x = normals(seed, 2, 3, 4, 11) * 10.0 ** (seed - 1) + seed
    values = x.double().numpy()
    wanted = (values - values.mean(-1, keepdims=True)) / np.sqrt(
        values.var(-1, keepdims=True) + NORM_EPSILON
    )
    found = standardize(x).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=f"seed {seed}")


@pytest.mark.parametrize("value", [0.0, 1.5, -2.0])
@pytest.mark.parametrize("width", [1, 8])
def test_standardize_turns_rows_of_equals_into_zeros(value: float, width: int) -> None:
    assert torch.equal(standardize(torch.full((2, width), value)), torch.zeros(2, width))
