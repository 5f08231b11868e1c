"""Training steps of wide experts on a CPU: fold by fold, expert by expert, routed clips only.

Stacked products pay where the work is small and its overhead is not. From a hundred thousand
weights an expert on, it is the other way round: all experts for all clips is e/k times the work,
and what is left is bound by memory. So here

- an expert computes the clips that are sent to it and no others;
- products of codes up to 8 bits by 8-bit activations run in int8 with int32 sums, exact, and four
  times as fast as in float32; their backward products in bfloat16 where the processor has it, with
  codes, which bfloat16 holds exactly, on one side;
- the optimiser's step writes the codes of the next forward pass (`qwave.engine.kernels`).

Seconds for 20 epochs of the five folds of ESC-10 on one thread, stacked and routed:

    ==================================  =======  ======
    experts                             stacked  routed
    ==================================  =======  ======
    ternary [64]                           0.54    0.59
    ternary [256]                          1.16    0.83
    int1 + int4 + int16 [256], top-1       3.59    2.12
    int1 [640, 320]                        3.55    1.83
    four of [640, 320], top-1             14.79    4.79
    ==================================  =======  ======

Forward products of codes up to 8 bits are those of `qwave.quant.linear` to the last bit. Gradients
agree with those of stacked steps to 1e-5 with ``precision="float32"``; bfloat16 rounds them by up
to 2 % of a layer's norm. Dropout draws its numbers in another order.

Notation: f folds, b batch rows, n rows sent to an expert, d features, c classes, o and i outputs
and inputs of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from qwave.config import SCHEMES, ConfigError, Grid, TrialConfig
from qwave.engine.kernels import WeightState, step_and_codes, weight_state
from qwave.engine.stacked import TrainingLoss
from qwave.moe import NORM_EPSILON, FoldDropout, Mixture, MixtureOutput, StackedLinear
from qwave.quant import quantize_activations

Precision = Literal["auto", "bfloat16", "float32"]


class _Saved(NamedTuple):
    """What a layer keeps for its backward pass."""

    codes: Tensor  # of its input, [n, i]
    scale: Tensor | None  # over denominator, [n, 1]
    normalized: tuple[Tensor, Tensor, Tensor] | None  # layer norm's input, mean and rstd
    mask: Tensor | None  # what its output was multiplied with, [n, o]


@dataclass(eq=False)
class _Layer:
    """A layer of one expert of one fold."""

    state: WeightState
    bias: Tensor  # [o]
    bias_gradient: Tensor  # [o]
    activations: Grid | None
    is_exact: bool  # int8 codes on both sides
    gradient: Tensor  # of the weight, [o, i], bfloat16 where that is exact enough

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [n, i] as codes and the value of one code step [n, 1]; as it is for float products."""
        if self.activations is None:
            return x, None
        codes, scale = quantize_activations(x, self.activations)
        return (codes.to(torch.int8) if self.is_exact else codes), scale

    def forward(self, codes: Tensor, scale: Tensor | None) -> Tensor:
        """What `encode` returns to the result [n, o]."""
        grid, state = self.state.grid, self.state
        if self.is_exact:
            product = torch._int_mm(codes, state.codes.t()).to(torch.float32)
        else:
            product = codes @ (state.weight if grid is None else state.codes).t()
        if grid is not None:
            product *= state.scale / grid.denominator
        if scale is not None:
            product *= scale
        return product.add_(self.bias)

    def backward(self, g: Tensor, saved: _Saved) -> None:
        """Gradient of the result [n, o] to those of weight and bias."""
        kind = self.gradient.dtype
        self.bias_gradient += g.sum(dim=0)
        scaled = g if saved.scale is None else g * saved.scale
        torch.mm(scaled.to(kind).t(), saved.codes.to(kind), out=self.gradient)

    def backward_input(self, g: Tensor) -> Tensor:
        """Gradient of the result [n, o] to that of the input [n, i]."""
        grid, state, kind = self.state.grid, self.state, self.gradient.dtype
        if grid is None:
            return g @ state.weight
        scaled = g * (state.scale / grid.denominator)
        return (scaled.to(kind) @ state.codes.to(kind)).to(torch.float32)


class RoutedStep:
    """Steps of all folds of a mixture whose experts are wide.

    Args:
        mixture: Its parameters are updated in place.
        config: Canonical configuration.
        dropout: Random numbers of the folds.
        loss: Of each fold.
        precision: Of backward products of codes; ``auto`` is bfloat16 where the processor has it.
    """

    def __init__(
        self,
        mixture: Mixture,
        config: TrialConfig,
        dropout: FoldDropout,
        loss: TrainingLoss,
        precision: Precision,
    ) -> None:
        self.mixture, self.config, self.loss = mixture, config, loss
        self.dropout = dropout
        self.of_fold = [FoldDropout([generator]) for generator in dropout.generators]
        self.dtype = backward_dtype(precision)
        self.n_steps = 0
        self.num_classes = mixture.groups[0].layers[-1].bias.shape[-1]
        biases = [layer.bias for group in mixture.groups for layer in group.layers]
        for bias in biases:
            bias.grad = torch.zeros_like(bias)
        routers = [] if mixture.router is None else [*mixture.router.parameters()]
        self.rest = torch.optim.AdamW(
            [*biases, *routers], weight_decay=config.train.weight_decay, fused=True
        )
        self.experts = [
            [
                [self._layer(layer, fold, member) for layer in group.layers]
                for group in mixture.groups
                for member in range(group.layers[0].weight.shape[1])
            ]
            for fold in range(len(self.of_fold))
        ]
        self.layers = [layer for fold in self.experts for expert in fold for layer in expert]

    def __call__(self, x: Tensor, y: Tensor, row_weight: Tensor, learning_rate: float) -> Tensor:
        """One step.

        Args:
            x: Normalised clips, [f, b, d].
            y: Classes, [f, b].
            row_weight: [f, b]; 0 marks padding.
            learning_rate: Of this step.

        Returns:
            Loss of each fold before the step, [f].
        """
        mixture, n_folds, n_experts = self.mixture, len(self.of_fold), len(self.experts[0])
        self.n_steps += 1
        self.rest.zero_grad(set_to_none=False)
        seen = self.dropout(x, self.config.model.input_dropout)
        probabilities, gates = mixture.route(x, dropout=self.dropout)
        is_sent = row_weight.unsqueeze(-1) > 0
        is_sent = is_sent if gates is None else is_sent & (gates.detach() > 0)
        parts: list[list[tuple[Tensor, Tensor, list[_Saved]]]] = []
        logits = []
        for fold in range(n_folds):
            parts.append([])
            mixed = torch.zeros(x.shape[1], self.num_classes)
            sent = [is_sent[fold, :, expert].nonzero().squeeze(-1) for expert in range(n_experts)]
            masks = self._masks(fold, sum(map(len, sent))).split([len(rows) for rows in sent])
            encoded: dict[Grid | None, tuple[Tensor, Tensor | None]] = {}
            for expert, (layers, rows) in enumerate(zip(self.experts[fold], sent, strict=True)):
                first = layers[0]
                if first.activations not in encoded:
                    encoded[first.activations] = first.encode(seen[fold])
                codes, scale = encoded[first.activations]
                inputs = codes[rows], None if scale is None else scale[rows]
                part, saved = self._forward(layers, inputs, masks[expert])
                part.requires_grad_()
                parts[fold].append((rows, part, saved))
                if gates is not None:
                    part = part * gates[fold, rows, expert].unsqueeze(-1)
                mixed = mixed.index_add(0, rows, part)
            logits.append(mixed)
        output = MixtureOutput(torch.stack(logits), probabilities, gates)
        loss = self.loss(output, y, row_weight)
        loss.sum().backward()
        for fold in range(n_folds):
            for (_, part, saved), layers in zip(parts[fold], self.experts[fold], strict=True):
                assert part.grad is not None, "every part has a place in the logits"
                _backward(layers, part.grad, saved)
        # Last, and all together: it sends all weights through the caches, and the first run of
        # any operation after that takes twenty times its usual microseconds.
        weight_decay = self.config.train.weight_decay
        for layer in self.layers:
            step_and_codes(layer.state, layer.gradient, self.n_steps, learning_rate, weight_decay)
        for group in self.rest.param_groups:
            group["lr"] = learning_rate
        self.rest.step()
        return loss.detach()

    def _masks(self, fold: int, n_rows: int) -> Tensor:
        """What hidden units are multiplied with, for each row that is sent: [n, units]."""
        model = self.config.model
        ones = torch.ones(1, n_rows, sum(model.hidden))
        return self.of_fold[fold](ones, model.dropout).squeeze(0)

    @torch.no_grad()
    def _forward(
        self, layers: list[_Layer], inputs: tuple[Tensor, Tensor | None], masks: Tensor
    ) -> tuple[Tensor, list[_Saved]]:
        """Encoded clips through one expert: logits [n, c], and what the backward pass needs."""
        *body, head = layers
        kept = []
        for layer, mask in zip(body, masks.split(self.config.model.hidden, dim=1), strict=True):
            y = layer.forward(*inputs)
            normal, mean, rstd = torch.native_layer_norm(
                y, [y.shape[-1]], None, None, NORM_EPSILON
            )
            mask = mask * (normal > 0)
            kept.append(_Saved(*inputs, (y, mean, rstd), mask))
            inputs = layers[len(kept)].encode(normal * mask)
        return head.forward(*inputs), [*kept, _Saved(*inputs, None, None)]

    def _layer(self, layer: StackedLinear, fold: int, member: int) -> _Layer:
        scheme = SCHEMES[layer.scheme]
        grids = scheme.weights, scheme.activations
        is_exact = self.dtype == torch.bfloat16 and all(
            grid is not None and grid.highest <= 127 for grid in grids
        )
        state = weight_state(
            layer.weight.data[fold, member],
            scheme.weights,
            torch.int8 if is_exact else torch.float32,
        )
        assert layer.bias.grad is not None, "made before"
        bias, gradient = layer.bias.data[fold, member], layer.bias.grad[fold, member]
        of_weight = torch.empty_like(
            state.weight, dtype=torch.bfloat16 if is_exact else torch.float32
        )
        return _Layer(state, bias, gradient, scheme.activations, is_exact, of_weight)


@torch.no_grad()
def _backward(layers: list[_Layer], g: Tensor, saved: list[_Saved]) -> None:
    """Gradients of one expert's parameters from that of its logits, [n, c]."""
    for index in reversed(range(len(layers))):
        layer, kept = layers[index], saved[index]
        if kept.normalized is not None and kept.mask is not None:
            y, mean, rstd = kept.normalized
            g, _, _ = torch.ops.aten.native_layer_norm_backward(
                g * kept.mask, y, [y.shape[-1]], mean, rstd, None, None, [True, False, False]
            )
        layer.backward(g, kept)
        if index > 0:
            g = layer.backward_input(g)


def backward_dtype(precision: Precision) -> torch.dtype:
    """bfloat16 where it is asked for, or where the processor multiplies it.

    Raises:
        ConfigError: There is no such precision.
    """
    if precision not in get_args(Precision):
        allowed = ", ".join(get_args(Precision))
        raise ConfigError(f"precision must be one of {allowed}, but got {precision!r}")
    if precision == "auto":
        precision = "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
