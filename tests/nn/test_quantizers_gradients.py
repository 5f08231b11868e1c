"""Gradients of the quantizers: straight through, and as autograd finds them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from qwave.config import Scheme
from qwave.nn import quantizers as quant

from .test_quantizers import (
    BROADCASTS,
    every_quantized,
    every_scheme,
    fake_samples,
    fake_weights,
    normals,
    weights_of,
)


@every_quantized
@pytest.mark.parametrize("seed", range(3))
def test_codes_have_the_gradient_of_weights_in_code_units(scheme: Scheme, seed: int) -> None:
    grid = weights_of(scheme)
    weight = (normals(30 + seed, 4, 9) * 3).requires_grad_()
    upstream = normals(40 + seed, 4, 9)
    codes, scale = quant.quantize(weight, grid)
    (found,) = torch.autograd.grad(codes, weight, upstream)
    for row, column in itertools.product(range(4), range(9)):
        wanted = float(upstream[row, column]) * grid.denominator / float(scale[row, 0])
        assert float(found[row, column]) == pytest.approx(wanted, rel=1e-6), f"seed {seed}"


@every_quantized
def test_quantizing_passes_gradients_straight_through_inside_and_outside_the_range(
    scheme: Scheme,
) -> None:
    weight = normals(50, 4, 30)
    weight[0, 0], weight[1] = 50.0, 0.0
    weight.requires_grad_()
    upstream = normals(51, 4, 30)
    grid = weights_of(scheme)
    fake = quant.dequantize(*quant.quantize(weight, grid), grid)
    (found,) = torch.autograd.grad(fake, weight, upstream)
    torch.testing.assert_close(found, upstream, rtol=1e-6, atol=0)


@every_scheme
@pytest.mark.parametrize(("x_lead", "w_lead"), BROADCASTS)
def test_linear_has_the_gradients_of_its_dumb_twin(
    scheme: Scheme, x_lead: tuple[int, ...], w_lead: tuple[int, ...]
) -> None:
    x = normals(52, *x_lead, 5, 8).requires_grad_()
    weight = normals(53, *w_lead, 4, 8).requires_grad_()
    bias = normals(54, *w_lead, 4).requires_grad_()
    leaves = (x, weight, bias)
    found = quant.linear(*leaves, scheme.name)
    x_twin = x + (fake_samples(x, scheme.activations) - x).detach()
    weight_twin = weight + (fake_weights(weight, scheme.weights) - weight).detach()
    wanted = x_twin @ weight_twin.transpose(-1, -2) + bias.unsqueeze(-2)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    upstream = normals(55, *found.shape)
    for name, leaf, ours, twins in zip(
        ("x", "weight", "bias"),
        leaves,
        torch.autograd.grad(found, leaves, upstream),
        torch.autograd.grad(wanted, leaves, upstream),
        strict=True,
    ):
        assert ours.shape == leaf.shape
        worst = float((ours - twins).abs().max())
        assert torch.allclose(ours, twins, rtol=1e-4, atol=1e-4), f"gradient of {name}: {worst}"


@every_scheme
def test_gradients_that_nobody_asks_for_change_none_of_the_others(scheme: Scheme) -> None:
    upstream = normals(56, 5, 4)

    def gradients(*wanted: bool) -> list[Tensor | None]:
        x, weight, bias = normals(57, 5, 8), normals(58, 4, 8), normals(59, 4)
        for leaf, is_wanted in zip((x, weight, bias), wanted, strict=True):
            leaf.requires_grad_(is_wanted)
        quant.linear(x, weight, bias, scheme.name).backward(upstream)
        return [x.grad, weight.grad, bias.grad]

    everything = gradients(True, True, True)
    for wanted in [(True, False, False), (False, True, False), (False, False, True)]:
        for is_wanted, alone, full in zip(wanted, gradients(*wanted), everything, strict=True):
            if not is_wanted:
                assert alone is None
                continue
            assert alone is not None
            assert full is not None
            assert torch.equal(alone, full)


@pytest.mark.parametrize("seed", range(3))
def test_fp32_gradients_are_those_of_finite_differences(seed: int) -> None:
    leaves = [
        normals(60 + seed, 2, 1, 3, 4).double().requires_grad_(),
        normals(70 + seed, 2, 2, 2, 4).double().requires_grad_(),
        normals(80 + seed, 2, 2, 2).double().requires_grad_(),
    ]
    assert torch.autograd.gradcheck(
        lambda x, w, b: quant.linear(x, w, b, "fp32"), leaves, raise_exception=True
    ), f"seed {seed}"


@every_scheme
def test_a_layer_learns_a_map_of_signs(scheme: Scheme) -> None:
    x = normals(90, 256, 16)
    target = x @ normals(91, 2, 16).sign().T / 4
    weight = (normals(92, 2, 16) / 4).requires_grad_()
    bias = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=0.02)
    losses = []
    for _ in range(150):
        loss = (quant.linear(x, weight, bias, scheme.name) - target).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    before, after = losses[0], math.fsum(losses[-10:]) / 10
    assert after < 0.5 * before, f"{scheme.name}: loss {before:.3f} to {after:.3f}"
