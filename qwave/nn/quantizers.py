"""Quantizers: floats to codes and scales, with straight-through gradients.

Notation

| symbol | meaning | shape |
|---|---|---|
| w | weights of a layer; every row has its own scale | [..., o, i] |
| x | activations; every sample has its own scale | [..., b, i] |
| s | scale; that of weights is rounded to float16, as it is stored | [..., 1] |
| u | value in code units, ``w * denominator / s`` | as w |
| codes | whole numbers held in float32; ``value = codes * s / denominator`` | as w |

Codes instead of de-quantized values enter the product of a layer: products of codes up to 8 bits
are whole numbers, exact in float32 in any order as long as partial sums stay below 2^24 (1040
inputs of int8 by int8 even if all are extreme), so that a clip's result does not depend on its
batch.

Straight-through estimator (Bengio et al. 2013, arXiv 1308.3432): the gradient of rounding and
clipping is taken as 1 everywhere, as in BitNet b1.58. Masking it beyond half a step outside the
outermost level (as LSQ does, arXiv 1902.08153) was tried: on ESC-10, three seeds, linear and 64
hidden units, int1, ternary, popcount and int2 changed by -0.4 to +0.5 points, within the spread of
the seeds, for two more passes over every weight in every step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qwave.config import SCHEMES, Grid, Scheme, unknown_rule
from qwave.nn.fused import fused

_BACKEND = "torch fake-quantization"
_SMALLEST_SCALE = 2.0**-14  # the smallest normal float16; also the scale of a row of zeros
_LARGEST_SCALE = 65504.0
_SMALLEST_SAMPLE_SCALE = 2.0**-100  # keeps 1 / scale finite for a sample of zeros


def round_codes(u: Tensor, grid: Grid) -> Tensor:
    """Nearest code, in place of `u`; ties go to even codes, or up where codes are odd."""
    if grid.spacing == 1:
        return u.round_().clamp_(-grid.highest, grid.highest)
    if grid.spacing == 2:
        return u.mul_(0.5).floor_().mul_(2).add_(1).clamp_(-grid.highest, grid.highest)
    raise unknown_rule(_BACKEND, "Grid.spacing", grid.spacing)


def row_scale(values: Tensor, grid: Grid) -> Tensor:
    """What a grid's scale measures, row by row: [..., i] to [..., 1], above 0, no gradient.

    A row of zeros gets a scale so small that all of its values stay next to 0.
    """
    with torch.no_grad():
        if grid.scale == "absmax":
            # Twice as fast as `abs().amax()`, 15 times as `vector_norm(ord=inf)`.
            highest, lowest = values.amax(-1, keepdim=True), values.amin(-1, keepdim=True)
            scale = torch.maximum(highest, -lowest)
        elif grid.scale == "absmean":
            scale = values.abs().mean(dim=-1, keepdim=True)
        else:
            raise unknown_rule(_BACKEND, "Grid.scale", grid.scale)
        return (scale * grid.scale_factor).clamp_(_SMALLEST_SAMPLE_SCALE)


def stored_scale(weight: Tensor, grid: Grid) -> Tensor:
    """`row_scale` of weights at the precision of the packed file: exact in float16.

    A largest absolute that would lose half a step to rounding is rounded up: rounded to nearest,
    int16 clips, and loses 11 dB on rows of 32 weights.
    """
    scale = row_scale(weight, grid).clamp_(_SMALLEST_SCALE, _LARGEST_SCALE)
    # By bits: compilers leave out a float16 between two operations in float32.
    bits = scale.float().view(torch.int32)
    bits = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF
    half = bits.view(torch.float32)
    if grid.scale == "absmax":
        above = (bits + 0x2000).view(torch.float32)  # the next float16
        is_clipping = scale > half.to(scale.dtype) * (1 + 0.5 / grid.highest)
        half = torch.where(is_clipping, above, half)
    return torch.where(scale.isnan(), scale, half.to(scale.dtype))


class _RoundStraightThrough(torch.autograd.Function):
    """Codes, with the gradient of ``values * denominator / scale``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(scale)
        ctx.denominator = grid.denominator
        return _codes(values, scale, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        return gradient * (ctx.denominator / scale), None, None


class _Linear(torch.autograd.Function):
    """A quantized product whose backward pass is written out.

    With ``cx, cw`` codes and ``tx, tw`` scales over denominators, ``y = (cx cw^T) tx tw + b``; the
    straight-through gradients are ``dw = (g tx)^T cx`` and ``dx = (g tw) cw``. Left to autograd
    the same step spends 40 % of its time in copies: it makes the transposed gradient of a
    transposed weight, and multiplies it by ``1 / tw`` after having multiplied it by ``tw``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        scheme: Scheme,
        gradient_dtype: torch.dtype | None,
    ) -> Tensor:
        # Detached: compilers tell parameters from other tensors, and make a function for each.
        x, weight, bias = x.detach(), weight.detach(), bias.detach()
        cx, tx, cw, tw = x, None, weight, None
        dtype = torch.bfloat16 if _is_narrow(scheme) and x.device.type == "cuda" else x.dtype
        if scheme.activations is not None:
            # Flattened: compilers make a function anew for dimensions of one.
            cx, tx = _sample_codes(x.flatten(0, -2), scheme.activations, dtype)
            cx, tx = cx.view_as(x), tx.view(*x.shape[:-1], 1)
        if scheme.weights is not None:
            cw, tw = _weight_codes(weight.flatten(0, -2), scheme.weights, dtype)
            cw, tw = cw.view_as(weight), tw.view(*weight.shape[:-2], 1, -1)
        ctx.save_for_backward(cx, tx, cw, tw)
        ctx.gradient_dtype = gradient_dtype if _is_narrow(scheme) else None
        ctx.bias_shape = bias.shape
        return _with_scales(_product(cx, cw.transpose(-1, -2)), tx, tw, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        cx, tx, cw, tw = ctx.saved_tensors
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = _product(_gradient(g, tw, ctx.gradient_dtype), cw).sum_to_size(cx.shape)
        if ctx.needs_input_grad[1]:
            scaled = _gradient(g, tx, ctx.gradient_dtype)
            dw = _product(scaled.transpose(-1, -2), cx).sum_to_size(cw.shape)
        if ctx.needs_input_grad[2]:
            db = g.sum(dim=-2).sum_to_size(ctx.bias_shape)
        return dx, dw, db, None, None


def _is_narrow(scheme: Scheme) -> bool:
    """Whether codes are exact in bfloat16, which holds whole numbers up to 256.

    A GPU multiplies them several times faster, and sums in float32: the same numbers.
    """
    grids = scheme.weights, scheme.activations
    return all(grid is not None and grid.highest <= 256 for grid in grids)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a [..., m, k] times b [..., k, n], with sums in float32 where factors are bfloat16."""
    if a.dtype == b.dtype == torch.bfloat16 and a.device.type == "cuda":
        batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (t.expand(*batch, *t.shape[-2:]).reshape(-1, *t.shape[-2:]) for t in (a, b))
        short: Tensor = torch.bmm(a, b, out_dtype=torch.float32)
        return short.view(*batch, *short.shape[-2:])
    a, b = (t.to(torch.float32) if t.dtype == torch.bfloat16 else t for t in (a, b))
    return a @ b


@fused
def _sample_codes(x: Tensor, grid: Grid, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    scale = row_scale(x, grid)
    return _codes(x, scale, grid).to(dtype), scale / grid.denominator


@fused
def _weight_codes(weight: Tensor, grid: Grid, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    scale = stored_scale(weight, grid)
    return _codes(weight, scale, grid).to(dtype), scale / grid.denominator


@fused
def _with_scales(product: Tensor, tx: Tensor | None, tw: Tensor | None, bias: Tensor) -> Tensor:
    return _scaled(_scaled(product, tw), tx) + bias.unsqueeze(-2)


@fused
def _gradient(g: Tensor, factor: Tensor | None, dtype: torch.dtype | None) -> Tensor:
    return _scaled(g, factor).to(dtype or g.dtype)


def _codes(values: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    return round_codes(values * (grid.denominator / scale), grid)


def _scaled(values: Tensor, factor: Tensor | None) -> Tensor:
    return values if factor is None else values * factor


def quantize(weight: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes and scales of the rows of a weight tensor.

    Args:
        weight: [..., i], finite.
        grid: Levels and scale rule.

    Returns:
        codes [..., i] (whole numbers as floats, straight-through gradient to `weight`) and the
        scale [..., 1] (exact in float16, no gradient).
    """
    scale = stored_scale(weight, grid)
    codes: Tensor = _RoundStraightThrough.apply(weight, scale, grid)
    return codes, scale


def dequantize(codes: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """Values that codes stand for: ``codes * scale / denominator``."""
    return codes * (scale / grid.denominator)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scheme: str,
    *,
    gradient_dtype: torch.dtype | None = None,
) -> Tensor:
    """A layer in its scheme's arithmetic.

    Args:
        x: float [..., b, i].
        weight: float [..., o, i], leading dimensions broadcast against x's.
        bias: float [..., o].
        scheme: A scheme's name; ``fp32`` is a plain product.
        gradient_dtype: Type that the gradient of the result is rounded to before it is
            multiplied with codes up to 8 bits; sums are float32. None does not round.

    Returns:
        [..., b, o]
    """
    y: Tensor = _Linear.apply(x, weight, bias, SCHEMES[scheme], gradient_dtype)
    return y
