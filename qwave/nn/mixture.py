"""Mixtures of quantized experts, all folds of a cross-validation stacked.

Notation: every tensor carries the folds in front.

| symbol | meaning |
|---|---|
| f | folds |
| b | batch rows (of each fold) |
| d | input features |
| e | experts (in a group: experts of one scheme) |
| k | experts that a clip is sent to |
| c | classes |
| s | MC-dropout samples |
| o, i | outputs and inputs of a layer |

Experts of one scheme form a group and share each product; groups stand in the order of schemes,
which is the order of experts in a canonical configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qwave.nn import quantizers as quant
from qwave.nn.dropout import DropMask, Dropout
from qwave.nn.fused import fused

NORM_EPSILON = 1e-5


class MixtureOutput(NamedTuple):
    """Result of a mixture for a batch of clips.

    Attributes:
        logits: Logits of the classes, [f, b, c].
        probabilities: Router probabilities of the experts, [f, b, e]; None for a single expert.
        gates: Weight of each expert, zero outside the chosen k, summing to 1: [f, b, e]; None for
            a single expert.
    """

    logits: Tensor
    probabilities: Tensor | None
    gates: Tensor | None


class Arithmetic(NamedTuple):
    """What products are computed in.

    Attributes:
        is_quantized: Whether products use the arithmetic of each layer's scheme; otherwise all
            are in fp32.
        gradient_dtype: Type that gradients are rounded to in the products of a backward pass; see
            `qwave.nn.quantizers.linear`.
    """

    is_quantized: bool = True
    gradient_dtype: torch.dtype | None = None


QUANTIZED = Arithmetic()


class StackedLinear(nn.Module):
    """Linear layers of all folds and of the experts of one scheme.

    Parameters: ``weight`` [f, e, o, i] and ``bias`` [f, e, o], drawn uniformly within
    +-1/sqrt(i), each fold's from its own generator.
    """

    def __init__(
        self,
        num_experts: int,
        in_features: int,
        out_features: int,
        scheme: str,
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__()
        self.scheme = scheme
        bound = in_features**-0.5

        def draw(*shape: int) -> nn.Parameter:
            drawn = torch.empty(len(generators), *shape)
            for fold, generator in zip(drawn, generators, strict=True):
                fold.uniform_(-bound, bound, generator=generator)
            return nn.Parameter(drawn)

        self.weight = draw(num_experts, out_features, in_features)
        self.bias = draw(num_experts, out_features)

    def forward(self, x: Tensor, arithmetic: Arithmetic) -> Tensor:
        """x [f, e or 1, b, i] to [f, e, b, o], in the scheme's arithmetic or in fp32."""
        scheme = self.scheme if arithmetic.is_quantized else "fp32"
        return quant.linear(
            x, self.weight, self.bias, scheme, gradient_dtype=arithmetic.gradient_dtype
        )


class ExpertGroup(nn.Module):
    """Experts of one scheme: linear layers with standardisation, ReLU and dropout in between.

    The standardisation has no parameters (a LayerNorm's two vectors a layer would outweigh the
    codes of a 1-bit expert); a ReLU after it always has both signs to work on.
    """

    def __init__(self, layers: Sequence[StackedLinear]) -> None:
        super().__init__()
        # A ModuleList, typed as what it holds.
        self.layers: Sequence[StackedLinear] = nn.ModuleList(layers)  # type: ignore[assignment]

    def forward(self, x: Tensor, *, masks: Sequence[DropMask], arithmetic: Arithmetic) -> Tensor:
        """x [f, b, d], dropped already, to logits [f, e, b, c]; masks of later layers' inputs."""
        hidden = self.layers[0](x.unsqueeze(1), arithmetic)
        for index, layer in enumerate(self.layers[1:]):
            hidden = _activate(hidden)
            if masks:
                hidden = masks[index](hidden)
            hidden = layer(hidden, arithmetic)
        return hidden


class Router(nn.Module):
    """Softmax router with a linear layer or one hidden layer."""

    def __init__(self, layers: Sequence[StackedLinear]) -> None:
        super().__init__()
        # A ModuleList, typed as what it holds.
        self.layers: Sequence[StackedLinear] = nn.ModuleList(layers)  # type: ignore[assignment]

    def forward(self, x: Tensor, *, masks: Sequence[DropMask], arithmetic: Arithmetic) -> Tensor:
        """x [f, b, d] to probabilities [f, b, e]; masks of all layers' inputs."""
        hidden = x.unsqueeze(1)
        for index, layer in enumerate(self.layers):
            if index > 0:
                hidden = _activate(hidden)
            if masks:
                hidden = masks[index](hidden)
            hidden = layer(hidden, arithmetic)
        return torch.softmax(hidden.squeeze(1), dim=-1)

    @torch.no_grad()
    def sample(self, x: Tensor, masks: Sequence[Tensor], folds: slice = slice(None)) -> Tensor:
        """MC-dropout in the router's own arithmetic, without gradient.

        One pass a sample: all at once would need s copies of x.

        Args:
            x: Normalised clips, [f, n, d].
            masks: Factors of the inputs of each layer, [f, s, i]: 0, or 1 over the share that is
                kept. The same masks serve every clip, so that a clip's uncertainty does
                not depend on its batch.
            folds: Which folds' parameters x and masks belong to.

        Returns:
            Probabilities, [f, s, n, e].
        """
        samples = []
        for sample in range(masks[0].shape[1]):
            hidden = x.unsqueeze(1)
            for index, (layer, mask) in enumerate(zip(self.layers, masks, strict=True)):
                if index > 0:
                    hidden = _activate(hidden)
                hidden = hidden * mask[:, sample, None, None, :]
                weight, bias = layer.weight[folds], layer.bias[folds]
                hidden = quant.linear(hidden, weight, bias, layer.scheme)
            samples.append(torch.softmax(hidden.squeeze(1), dim=-1))
        return torch.stack(samples, dim=1)


class Mixture(nn.Module):
    """Experts, and a router where there are two or more of them."""

    def __init__(
        self,
        groups: Sequence[ExpertGroup],
        router: Router | None,
        *,
        top_k: int,
    ) -> None:
        super().__init__()
        self.groups: Sequence[ExpertGroup] = nn.ModuleList(groups)  # type: ignore[assignment]
        self.router = router
        self.top_k = top_k

    def forward(
        self, x: Tensor, *, dropout: Dropout | None = None, arithmetic: Arithmetic = QUANTIZED
    ) -> MixtureOutput:
        """x [f, b, d], normalised, to logits [f, b, c]; `dropout` only in training."""
        seen = x
        masks: Sequence[DropMask] = ()
        router_masks: Sequence[DropMask] = ()
        if dropout is not None:
            first, *masks = dropout.experts
            seen, router_masks = first(x), dropout.router
        outputs = [group(seen, masks=masks, arithmetic=arithmetic) for group in self.groups]
        if self.router is None:
            return MixtureOutput(outputs[0].squeeze(1), None, None)
        probabilities = self.router(x, masks=router_masks, arithmetic=arithmetic)
        gates = top_k_gates(probabilities, self.top_k)
        logits = torch.einsum("febc,fbe->fbc", torch.cat(outputs, dim=1), gates)
        return MixtureOutput(logits, probabilities, gates)


def standardize(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the last dimension; all-equal rows become zeros."""
    return nn.functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)


@fused
def _activate(y: Tensor) -> Tensor:
    return torch.relu(standardize(y))


@fused
def top_k_gates(probabilities: Tensor, top_k: int) -> Tensor:
    """Weights of the chosen experts, [f, b, e]: zero outside the k likeliest, summing to 1.

    Among equal probabilities the expert listed first wins. With k = 1 a renormalised gate is the
    constant 1 and would hand the router no gradient; it is passed straight through as
    ``p / stop_gradient(p)``.
    """
    order = torch.sort(probabilities, dim=-1, descending=True, stable=True).indices
    chosen = torch.zeros_like(probabilities).scatter_(-1, order[..., :top_k], 1.0)
    kept = probabilities * chosen
    if top_k == 1:
        # Only chosen ones are divided: others underflow to 0, and 0 / 0 is NaN.
        return kept / torch.where(chosen > 0, probabilities.detach(), 1.0)
    return kept / kept.sum(dim=-1, keepdim=True)


@fused
def load_balance_loss(probabilities: Tensor, gates: Tensor, row_weight: Tensor) -> Tensor:
    """Switch load-balancing loss of each fold (arXiv 2101.03961, eq. 4): ``e * sum_i f_i P_i``.

    Args:
        probabilities: [f, b, e].
        gates: [f, b, e]; an expert is used where its gate is above 0.
        row_weight: [f, b]; 0 marks padding.

    Returns:
        [f]; 1 where routing is uniform, e where one expert gets every clip with certainty, 0 for
        a fold without rows.
    """
    used = (gates.detach() > 0).to(probabilities.dtype) * row_weight.unsqueeze(-1)
    tiny = torch.finfo(probabilities.dtype).tiny
    share = used.sum(dim=1) / used.sum(dim=(1, 2)).unsqueeze(-1).clamp_min(tiny)
    n_rows = row_weight.sum(dim=1, keepdim=True).clamp_min(tiny)
    mean = (probabilities * row_weight.unsqueeze(-1)).sum(dim=1) / n_rows
    return probabilities.shape[-1] * (share * mean).sum(dim=-1)


def mutual_information(probabilities: Tensor) -> Tensor:
    """Epistemic uncertainty of MC samples, [f, s, n, e] to [f, n], in nats, from 0 to log e.

    ``H(mean_s p) - mean_s H(p)`` (BALD, Houlsby et al. 2011, arXiv 1112.5745, eq. 2).
    """
    mean = probabilities.mean(dim=1)
    expected = _entropy(probabilities).mean(dim=1)
    return (_entropy(mean) - expected).clamp_min(0.0)


def _entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)
