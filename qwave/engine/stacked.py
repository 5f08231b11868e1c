"""The loss of a step, and steps that compute all folds and all experts as stacked products.

Notation: f folds, b batch rows, d features, e experts, c classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qwave.config import TrialConfig
from qwave.moe import FoldDropout, Mixture, MixtureOutput, load_balance_loss


@dataclass(frozen=True, eq=False)
class TrainingLoss:
    """Smoothed, class-weighted cross-entropy and load balance, of each fold.

    Attributes:
        config: Canonical configuration.
        class_weight: [f, c].
    """

    config: TrialConfig
    class_weight: Tensor

    def __call__(self, output: MixtureOutput, y: Tensor, row_weight: Tensor) -> Tensor:
        """Output, classes [f, b] and row weights [f, b] (0 marks padding) to losses [f]."""
        smoothing = self.config.train.label_smoothing
        log_p = torch.log_softmax(output.logits, dim=-1)
        likelihood = log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1)
        cross_entropy = -(1 - smoothing) * likelihood - smoothing * log_p.mean(dim=-1)
        weight = self.class_weight.gather(1, y) * row_weight
        # The floor: a fold with fewer rows than steps has empty batches.
        total = weight.sum(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)
        loss = (cross_entropy * weight).sum(dim=1) / total
        if output.probabilities is not None and output.gates is not None:
            balance = load_balance_loss(output.probabilities, output.gates, row_weight)
            loss = loss + self.config.model.load_balance_weight * balance
        return loss


class StackedStep:
    """Steps of all folds by autograd and one optimiser, for small experts and for GPUs."""

    def __init__(
        self,
        mixture: Mixture,
        config: TrialConfig,
        dropout: FoldDropout,
        loss: TrainingLoss,
        *,
        is_quantized: bool,
    ) -> None:
        self.mixture, self.dropout, self.loss = mixture, dropout, loss
        self.is_quantized = is_quantized
        self.optimizer = torch.optim.AdamW(
            mixture.parameters(),
            weight_decay=config.train.weight_decay,
            fused=next(mixture.parameters()).device.type != "mps",
        )

    def __call__(self, x: Tensor, y: Tensor, row_weight: Tensor, learning_rate: float) -> Tensor:
        """One step; see `RoutedStep`."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        output = self.mixture(x, dropout=self.dropout, is_quantized=self.is_quantized)
        loss = self.loss(output, y, row_weight)
        self.optimizer.zero_grad()
        loss.sum().backward()
        self.optimizer.step()
        return loss.detach()
