"""Quantizers in bfloat16: codes are exact in it, and gradients are rounded to it once."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from qwave.config import SCHEMES, Scheme
from qwave.nn import quantizers as quant

from .test_quantizers import (
    BROADCASTS,
    SAMPLED,
    activations_of,
    every_scheme,
    normals,
    weights_of,
)

every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
)

# bfloat16 holds whole numbers up to 256.
NARROW = [
    scheme
    for scheme in SAMPLED
    if max(weights_of(scheme).highest, activations_of(scheme).highest) <= 256
]
WIDE = [scheme for scheme in SCHEMES.values() if scheme not in NARROW]

every_narrow = pytest.mark.parametrize("scheme", NARROW, ids=lambda s: s.name)

CODES = {
    "all 127": (127,),
    "extremes": (-127, 127),
    "int8": tuple(range(-127, 128)),
    "odd": (-3, -1, 1, 3),
    "signs": (-1, 1),
    "trits": (-1, 0, 1),
}


def codes_among(seed: int, kind: str, *shape: int) -> Tensor:
    """Whole numbers drawn from one kind, int64."""
    places = torch.randint(len(CODES[kind]), shape, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(CODES[kind])[places]


@every_device
@pytest.mark.parametrize("n_inputs", [75, 1040])
def test_products_of_short_codes_are_those_of_whole_numbers(n_inputs: int, device: str) -> None:
    kinds = itertools.product(["extremes", "int8"], CODES)
    for (x_lead, w_lead), (of_x, of_weight) in itertools.product(BROADCASTS, kinds):
        x = codes_among(31, of_x, *x_lead, 6, n_inputs)
        weight = codes_among(32, of_weight, *w_lead, 5, n_inputs)
        short_x, short_w = (codes.bfloat16().to(device) for codes in (x, weight))
        found = quant._product(short_x, short_w.transpose(-1, -2))
        assert found.dtype == torch.float32
        is_equal = torch.equal(found.cpu().long(), x @ weight.transpose(-1, -2))
        assert is_equal, f"{of_x} {x_lead} by {of_weight} {w_lead}"


@every_device
@pytest.mark.parametrize("sign", [-1, 1])
def test_products_of_1040_short_codes_are_exact_even_if_none_cancels(
    sign: int, device: str
) -> None:
    x, weight = codes_among(0, "all 127", 2, 3, 1040), sign * codes_among(0, "all 127", 1, 1040, 4)
    found = quant._product(x.bfloat16().to(device), weight.bfloat16().to(device))
    assert (found == sign * 1040 * 127 * 127).all(), found.unique().tolist()


def hard_rows(seed: int, n_inputs: int) -> Tensor:
    """Normal rows and those at the edges: zeros, a constant, tiny, huge, ties, one spike."""
    x = normals(seed, 9, n_inputs)
    x[1], x[2], x[3], x[4] = 0, -0.25, x[3] * 1e-30, x[4] * 1e30
    x[5] = torch.arange(n_inputs).remainder(128) - 63.5
    x[5, 0] = 127
    x[6, 0] = 1e4
    return x


@every_device
@every_narrow
def test_short_codes_are_the_others_bit_for_bit(scheme: Scheme, device: str) -> None:
    quantizers = (
        (quant._sample_codes, activations_of(scheme)),
        (quant._weight_codes, weights_of(scheme)),
    )
    for seed, n_inputs in itertools.product(range(2), [1, 40, 333]):
        rows = hard_rows(seed, n_inputs).to(device)
        for quantizer, grid in quantizers:
            codes, scale = quantizer(rows, grid, torch.float32)
            short_codes, short_scale = quantizer(rows, grid, torch.bfloat16)
            assert short_codes.dtype == torch.bfloat16
            assert torch.equal(short_codes.float(), codes), f"{seed=}, {n_inputs} inputs"
            assert torch.equal(short_scale, scale), f"{seed=}, {n_inputs} inputs"


class Layer(NamedTuple):
    """Arguments of `linear`, and a gradient of its result."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    upstream: Tensor

    def gradients(self, scheme: Scheme, dtype: torch.dtype | None) -> tuple[Tensor, ...]:
        """Of x, weight and bias."""
        x, weight, bias = (leaf.detach().requires_grad_() for leaf in self[:3])
        found = quant.linear(x, weight, bias, scheme.name, gradient_dtype=dtype)
        return torch.autograd.grad(found, (x, weight, bias), self.upstream)


def layer_of(seed: int, x_lead: tuple[int, ...], w_lead: tuple[int, ...], device: str) -> Layer:
    lead = torch.broadcast_shapes(x_lead, w_lead)
    shapes = (*x_lead, 13, 40), (*w_lead, 6, 40), (*w_lead, 6), (*lead, 13, 6)
    drawn = (normals(10 * seed + place, *shape) for place, shape in enumerate(shapes))
    return Layer(*(tensor.to(device) for tensor in drawn))


def rounded_product(gradient: Tensor, codes: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Of a gradient rounded to bfloat16 with codes, and how far a sum of float32 may be off."""
    a, b = gradient.bfloat16().double(), codes.double()
    products = a @ b
    n_terms = a.shape[-1] * products.numel() // shape.numel()
    # A GPU may cut partial sums off instead of rounding them.
    bound = n_terms * 2**-23 * (a.abs() @ b.abs())
    return products.sum_to_size(shape), bound.sum_to_size(shape)


@torch.no_grad()
def plain_gradients(layer: Layer, scheme: Scheme) -> list[tuple[Tensor, Tensor]]:
    """Of x and weight, each with its bound."""
    # Asked for as `linear` does, so that a compiler has no reason to make another kernel.
    x, weight = (leaf.detach().requires_grad_() for leaf in layer[:2])
    cx, tx = quant._sample_codes(x.flatten(0, -2), activations_of(scheme), torch.bfloat16)
    cw, tw = quant._weight_codes(weight.flatten(0, -2), weights_of(scheme), torch.bfloat16)
    of_x = layer.upstream * tw.view(*weight.shape[:-2], 1, -1)
    of_weight = layer.upstream * tx.view(*x.shape[:-1], 1)
    return [
        rounded_product(of_x, cw.view_as(weight), x.shape),
        rounded_product(of_weight.transpose(-1, -2), cx.view_as(x), weight.shape),
    ]


@every_device
@every_narrow
def test_gradients_are_rounded_once_and_multiplied_with_codes(scheme: Scheme, device: str) -> None:
    for seed, (x_lead, w_lead) in itertools.product(range(2), BROADCASTS):
        where = f"{seed=}, {x_lead} by {w_lead}"
        layer = layer_of(seed, x_lead, w_lead, device)
        found, unrounded = (layer.gradients(scheme, dtype) for dtype in (torch.bfloat16, None))
        wanted = plain_gradients(layer, scheme)
        for name, ours, exact, (plain, bound) in zip(
            ("x", "weight"), found, unrounded, wanted, strict=False
        ):
            assert ours.dtype == torch.float32
            assert ((ours - plain).abs() <= bound).all(), f"gradient of {name}, {where}"
            assert not torch.equal(ours, exact), f"the gradient of {name} is not rounded, {where}"
        of_bias = layer.upstream.double().sum(-2).sum_to_size(layer.bias.shape)
        torch.testing.assert_close(found[2].double(), of_bias, rtol=1e-5, atol=1e-5)
        assert torch.equal(found[2], unrounded[2]), where


@every_device
@pytest.mark.parametrize("scheme", WIDE, ids=lambda s: s.name)
def test_gradients_that_meet_wide_codes_are_not_rounded(scheme: Scheme, device: str) -> None:
    for x_lead, w_lead in BROADCASTS:
        layer = layer_of(3, x_lead, w_lead, device)
        rounded, exact = (layer.gradients(scheme, dtype) for dtype in (torch.bfloat16, None))
        for ours, wanted in zip(rounded, exact, strict=True):
            assert torch.equal(ours, wanted), f"{x_lead} by {w_lead}"


@every_device
@every_scheme
def test_results_are_the_same_whatever_gradients_are_rounded_to(
    scheme: Scheme, device: str
) -> None:
    x, weight, bias, _ = layer_of(4, (2, 1), (2, 3), device)
    exact = quant.linear(x, weight, bias, scheme.name)
    rounded = quant.linear(x, weight, bias, scheme.name, gradient_dtype=torch.bfloat16)
    assert torch.equal(rounded, exact)


@every_device
@pytest.mark.parametrize("scheme", [NARROW[-1], *WIDE], ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_bias_gets_the_gradients_of_every_row_that_it_is_added_to(
    scheme: Scheme, dtype: torch.dtype | None, device: str
) -> None:
    for x_lead, w_lead in BROADCASTS:
        for b_lead in dict.fromkeys((w_lead, w_lead[1:], ())):
            layer = layer_of(5, x_lead, w_lead, device)
            # Whole numbers, which add up exactly in any order.
            upstream = layer.upstream.mul(8).round()
            layer = layer._replace(bias=normals(60, *b_lead, 6).to(device), upstream=upstream)
            wanted = torch.zeros(*b_lead, 6)
            own = wanted.expand(*upstream.shape[:-2], 6)  # of each place, one memory
            for place in itertools.product(*map(range, upstream.shape[:-2])):
                for row in upstream[place].cpu():
                    own[place].add_(row)
            found = layer.gradients(scheme, dtype)[2]
            assert torch.equal(found.cpu(), wanted), f"{x_lead} by {w_lead}, bias {b_lead}"
