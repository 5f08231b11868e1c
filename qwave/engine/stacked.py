"""The loss of a step, and training that computes all folds and all experts as stacked products.

Notation: f folds, s steps, b batch rows, e experts, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qwave.config import TrialConfig
from qwave.dropout import Dropout
from qwave.engine.rows import Rows
from qwave.moe import Mixture, MixtureOutput, load_balance_loss


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


class StackedTrainer:
    """Trains all folds by autograd and one optimiser: on GPUs, and without a C compiler.

    Args:
        mixture: Its parameters are updated in place.
        config: Canonical configuration.
        rows: The data, on the mixture's device.
        dropout: Masks, drawn anew for every step.
        class_weight: [f, c].
        is_quantized: Or in float32.
    """

    def __init__(
        self,
        mixture: Mixture,
        config: TrialConfig,
        rows: Rows,
        dropout: Dropout,
        class_weight: Tensor,
        *,
        is_quantized: bool,
    ) -> None:
        self.mixture, self.rows, self.dropout = mixture, rows, dropout
        self.loss = TrainingLoss(config, class_weight)
        self.is_quantized = is_quantized
        self.n_steps = 0
        self.optimizer = torch.optim.AdamW(
            mixture.parameters(),
            weight_decay=config.train.weight_decay,
            fused=next(mixture.parameters()).device.type != "mps",
        )

    def train(self, index: Tensor, learning_rates: Sequence[float]) -> np.ndarray:
        """Steps of all folds.

        Args:
            index: Rows of each fold's batches, int64 [f, s, b]; -1 is padding.
            learning_rates: [s]

        Returns:
            Loss of each fold before each step, float32 [f, s].
        """
        index = index.to(self.rows.x.device)
        losses = [
            self._step(batch, learning_rate)
            for batch, learning_rate in zip(index.unbind(dim=1), learning_rates, strict=True)
        ]
        return torch.stack(losses, dim=1).cpu().numpy()

    def _step(self, index: Tensor, learning_rate: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.n_steps += 1
        self.dropout.draw(self.n_steps)
        rows = index.clamp_min(0)
        output = self.mixture(
            self.rows.take(rows), dropout=self.dropout, is_quantized=self.is_quantized
        )
        loss = self.loss(output, self.rows.y[rows], (index >= 0).to(torch.float32))
        self.optimizer.zero_grad()
        loss.sum().backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def predict(self, index: Tensor) -> Tensor:
        """Logits [f, n, c] of rows [f, n] of the data by each fold's mixture, nothing dropped."""
        x = self.rows.take(index.to(self.rows.x.device))
        logits: Tensor = self.mixture(x, is_quantized=self.is_quantized).logits
        return logits.cpu()
