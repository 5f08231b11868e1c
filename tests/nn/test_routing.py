"""Gates, load balance, mutual information and standardisation against plain computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from qwave.nn.mixture import (
    NORM_EPSILON,
    load_balance_loss,
    mutual_information,
    standardize,
    top_k_gates,
)


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_probabilities(seed: int, *shape: int) -> Tensor:
    return torch.softmax(2 * normals(seed, *shape), dim=-1)


# --- gates ---


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
        # Sorting algorithms that are not stable only show on longer rows.
        ([1 / 64] * 64, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_ties_go_to_the_expert_listed_first(p: list[float], top_k: int, chosen: list[int]) -> None:
    gates = top_k_gates(torch.tensor([[p]]), top_k)
    assert gates[0, 0].nonzero().flatten().tolist() == chosen


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


# --- load balance ---


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


# --- mutual information ---


@pytest.mark.parametrize("num_experts", [2, 3, 8])
def test_mutual_information_of_equal_samples_is_0_and_of_contradicting_ones_log_e(
    num_experts: int,
) -> None:
    p = random_probabilities(70, 2, 1, 6, num_experts).expand(2, 16, 6, num_experts)
    assert mutual_information(p).abs().max() < 1e-6
    certain = torch.zeros(1, 4, 3, num_experts)
    certain[..., 0] = 1
    assert torch.equal(mutual_information(certain), torch.zeros(1, 3))
    contradicting = torch.eye(num_experts).reshape(1, num_experts, 1, num_experts)
    found = mutual_information(contradicting)
    assert float(found) == pytest.approx(math.log(num_experts), rel=1e-6)


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


# --- standardize ---


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
