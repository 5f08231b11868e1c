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

from qwave.config import SCHEMES, Grid

_SMALLEST_SCALE = 2.0**-14  # the smallest normal float16; also the scale of a row of zeros
_LARGEST_SCALE = 65504.0
_SMALLEST_SAMPLE_SCALE = 2.0**-100  # keeps 1 / scale finite for a sample of zeros


def round_codes(u: Tensor, grid: Grid) -> Tensor:
    """Nearest code, in place of `u`; ties go to even codes, or up where codes are odd."""
    if grid.spacing == 1:
        return u.round_().clamp_(-grid.highest, grid.highest)
    return u.mul_(0.5).floor_().mul_(2).add_(1).clamp_(-grid.highest, grid.highest)


def row_scale(values: Tensor, grid: Grid) -> Tensor:
    """What a grid's scale measures, row by row: [..., i] to [..., 1], above 0, no gradient.

    A row of zeros gets a scale so small that all of its values stay next to 0.
    """
    with torch.no_grad():
        if grid.scale == "absmax":
            # Twice as fast as `abs().amax()`, 15 times as `vector_norm(ord=inf)`.
            highest, lowest = values.amax(-1, keepdim=True), values.amin(-1, keepdim=True)
            scale = torch.maximum(highest, -lowest)
        else:
            scale = values.abs().mean(dim=-1, keepdim=True)
        return (scale * grid.scale_factor).clamp_(_SMALLEST_SAMPLE_SCALE)


def stored_scale(weight: Tensor, grid: Grid) -> Tensor:
    """`row_scale` of weights at the precision of the packed file: exact in float16.

    A largest absolute that would lose half a step to rounding is rounded up: rounded to nearest,
    int16 clips, and loses 11 dB on rows of 32 weights.
    """
    scale = row_scale(weight, grid).clamp_(_SMALLEST_SCALE, _LARGEST_SCALE)
    half = scale.half()
    if grid.scale == "absmax":
        # The next float16: `torch.nextafter` has no float16 kernel on CUDA.
        above = (half.view(torch.int16) + 1).view(torch.float16)
        is_clipping = scale > half.to(scale.dtype) * (1 + 0.5 / grid.highest)
        half = torch.where(is_clipping, above, half)
    return half.to(weight.dtype)


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

    With ``cx, cw`` codes and ``tx, tw`` scales over denominators, ``y = (cx cw^T) tx tw``; the
    straight-through gradients are ``dw = (g tx)^T cx`` and ``dx = (g tw) cw``. Left to autograd
    the same step spends 40 % of its time in copies: it makes the transposed gradient of a
    transposed weight, and multiplies it by ``1 / tw`` after having multiplied it by ``tw``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, x_grid: Grid | None, weight_grid: Grid | None
    ) -> Tensor:
        cx, tx, cw, tw = x, None, weight, None
        if x_grid is not None:
            cx, tx = quantize_activations(x, x_grid)
        if weight_grid is not None:
            scale = stored_scale(weight, weight_grid)
            cw = _codes(weight, scale, weight_grid)
            tw = scale.transpose(-1, -2) / weight_grid.denominator
        ctx.save_for_backward(cx, tx, cw, tw)
        return _scaled(_scaled(cx @ cw.transpose(-1, -2), tw), tx)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        cx, tx, cw, tw = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = (_scaled(g, tw) @ cw).sum_to_size(cx.shape)
        if ctx.needs_input_grad[1]:
            dw = (_scaled(g, tx).transpose(-1, -2) @ cx).sum_to_size(cw.shape)
        return dx, dw, None, None


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


def quantize_activations(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes [..., b, i] of samples, and the value of one code step, [..., b, 1]; no gradient."""
    scale = row_scale(x, grid)
    return _codes(x, scale, grid), scale / grid.denominator


def dequantize(codes: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """Values that codes stand for: ``codes * scale / denominator``."""
    return codes * (scale / grid.denominator)


def fake_quantize(weight: Tensor, grid: Grid) -> Tensor:
    """``dequantize(*quantize(weight))``, with the straight-through gradient."""
    return dequantize(*quantize(weight, grid), grid)


def linear(x: Tensor, weight: Tensor, bias: Tensor, scheme: str) -> Tensor:
    """A layer in its scheme's arithmetic.

    Args:
        x: float [..., b, i].
        weight: float [..., o, i], leading dimensions broadcast against x's.
        bias: float [..., o].
        scheme: A scheme's name; ``fp32`` is a plain product.

    Returns:
        [..., b, o]
    """
    spec = SCHEMES[scheme]
    y: Tensor = _Linear.apply(x, weight, spec.activations, spec.weights)
    return y + bias.unsqueeze(-2)
