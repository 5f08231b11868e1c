"""The plain PyTorch loop that the engine is compared with.

The same model, initial weights, loss, optimiser and schedule as `qwave.engine` without a teacher,
fold after fold, with nn.Module, DataLoader, AdamW and quantization operation by operation. The
comparison is fair: only the experts that a clip is routed to are computed, the optimiser is
PyTorch's default for the device, and nothing is computed that the engine does not compute. Random
numbers are PyTorch's own: loop and engine agree to rounding where nothing random is drawn (tests),
and in distribution elsewhere.

Notation: n clips, b batch rows, d features, e experts, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from qwave.config import SCHEMES, Grid, ModelConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold, fit_normalizer
from qwave.nn.mixture import standardize
from qwave.nn.quantizers import dequantize, round_codes, row_scale, stored_scale


class PlainLinear(nn.Module):
    """A linear layer that quantizes weights and activations on every pass."""

    def __init__(self, in_features: int, out_features: int, scheme: str) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.scheme = SCHEMES[scheme]
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [b, o] of x [b, i]."""
        weight: Tensor = self.weight
        if self.scheme.activations is not None:
            scale = row_scale(x, self.scheme.activations)
            x = _through(x, scale, self.scheme.activations)
        if self.scheme.weights is not None:
            scale = stored_scale(weight.detach(), self.scheme.weights)
            weight = _through(weight, scale, self.scheme.weights)
        return nn.functional.linear(x, weight, self.bias)


def _through(values: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """Quantize `values`; the gradient is that of the values (straight-through)."""
    codes = round_codes(values.detach() * (grid.denominator / scale), grid)
    return values + (dequantize(codes, scale, grid) - values).detach()


class PlainExpert(nn.Module):
    """Linear layers with standardisation, ReLU and dropout in between."""

    def __init__(self, config: ModelConfig, widths: Sequence[int], scheme: str) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.layers = nn.ModuleList(
            PlainLinear(i, o, config.layer_scheme(scheme, layer))
            for layer, (i, o) in enumerate(pairwise(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits [b, c] of x [b, d]."""
        for index, layer in enumerate(self.layers):
            if index > 0:
                x = torch.relu(standardize(x))
                x = nn.functional.dropout(x, self.dropout, self.training)
            x = layer(x)
        return x


class PlainMixture(nn.Module):
    """A list of experts, and a router where there are two or more experts."""

    def __init__(self, config: ModelConfig, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes
        widths = (in_features, *config.hidden, num_classes)
        self.experts = nn.ModuleList(
            PlainExpert(config, widths, scheme) for scheme in config.schemes
        )
        self.router = nn.ModuleList(
            PlainLinear(i, o, config.router.scheme)
            for i, o in pairwise(config.router_widths(in_features))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [b, c], router probabilities [b, e] and gates [b, e] of x [b, d]."""
        config = self.config
        seen = nn.functional.dropout(x, config.input_dropout, self.training)
        if not self.router:
            ones = torch.ones(len(x), 1, device=x.device)
            return self.experts[0](seen), ones, ones
        hidden = x
        for index, layer in enumerate(self.router):
            if index > 0:
                hidden = torch.relu(standardize(hidden))
            hidden = layer(nn.functional.dropout(hidden, config.router.dropout, self.training))
        probabilities = torch.softmax(hidden, dim=-1)
        kept, chosen = probabilities.topk(config.top_k, dim=-1)
        total = kept.detach() if config.top_k == 1 else kept.sum(dim=-1, keepdim=True)
        kept = kept / total
        gates = torch.zeros_like(probabilities).scatter(-1, chosen, kept)
        logits = torch.zeros(len(x), self.num_classes, device=x.device)
        for expert in range(config.num_experts):
            rows = (chosen == expert).any(dim=-1).nonzero().squeeze(-1)
            if len(rows) > 0:
                part = self.experts[expert](seen[rows]) * gates[rows, expert].unsqueeze(-1)
                logits = logits.index_add(0, rows, part)
        return logits, probabilities, gates


@torch.no_grad()
def begin_at_centroids(model: PlainMixture, x: Tensor, y: Tensor) -> None:
    """Set the weights of linear experts to the differences of class means, as the engine does.

    Args:
        model: Changed in place, unless its experts have hidden layers.
        x: Training clips, [n, d]; the means of the classes must not all be equal.
        y: Class of each clip, [n].
    """
    if model.config.hidden:
        return
    means = torch.zeros(model.num_classes, x.shape[1], device=x.device)
    for label in y.unique():
        means[label] = x[y == label].mean(dim=0) - x.mean(dim=0)
    for layer in model.experts.modules():
        if isinstance(layer, PlainLinear):
            layer.weight.copy_(means * (0.5 * x.shape[1] ** -0.5 / means.abs().mean()))


def plain_loss(
    output: tuple[Tensor, Tensor, Tensor], y: Tensor, class_weight: Tensor, config: TrialConfig
) -> Tensor:
    """Smoothed, class-weighted cross-entropy and the load balance of Switch (arXiv 2101.03961)."""
    logits, probabilities, gates = output
    smoothing = config.train.label_smoothing
    log_p = torch.log_softmax(logits, dim=-1)
    each = -(1 - smoothing) * log_p.gather(1, y.unsqueeze(1)).squeeze(1)
    each = each - smoothing * log_p.mean(dim=1)
    weight = class_weight[y]
    loss = (each * weight).sum() / weight.sum()
    if probabilities.shape[1] > 1:
        used = (gates.detach() > 0).float()
        share = used.sum(dim=0) / used.sum()
        balance = probabilities.shape[1] * (share * probabilities.mean(dim=0)).sum()
        loss = loss + config.model.load_balance_weight * balance
    return loss


def train_plain(
    config: TrialConfig,
    data: EmbeddingSet,
    folds: Sequence[Fold],
    *,
    device: str = "cpu",
) -> list[float]:
    """Train the folds one after another; returns each fold's held-out accuracy."""
    accuracies = []
    for fold in folds:
        normalizer = fit_normalizer(data.x[fold.train], config.data.normalization)
        x = torch.from_numpy(normalizer(data.x)).to(device)
        y = torch.from_numpy(data.y).to(device)
        counts = torch.bincount(y[fold.train], minlength=data.num_classes)
        class_weight = torch.ones(data.num_classes, device=device)
        if config.train.class_weights:
            class_weight = len(fold.train) / (data.num_classes * counts.clamp_min(1).float())
        model = PlainMixture(config.model, data.x.shape[1], data.num_classes).to(device)
        begin_at_centroids(model, x[fold.train], y[fold.train])
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.train.learning_rate,
            weight_decay=config.train.weight_decay,
        )
        loader = DataLoader(
            TensorDataset(x[fold.train], y[fold.train]),
            batch_size=config.train.batch_size,
            shuffle=True,
        )
        n_steps = config.train.epochs * len(loader)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        model.train()
        for _ in range(config.train.epochs):
            for batch_x, batch_y in loader:
                loss = plain_loss(model(batch_x), batch_y, class_weight, config)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        model.eval()
        with torch.no_grad():
            predicted = model(x[fold.test])[0].argmax(dim=1)
            accuracies.append(float((predicted == y[fold.test]).float().mean()))
    return accuracies
