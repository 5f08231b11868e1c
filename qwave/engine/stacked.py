"""The loss of a step, and training that computes all folds and all experts as stacked products.

Notation: f folds, s steps, b batch rows, e experts, c classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from qwave.config import TrialConfig
from qwave.engine.captured import CapturedStep
from qwave.engine.precision import FloatName
from qwave.engine.task import TrainingTask
from qwave.fusion import fused
from qwave.moe import Arithmetic, MixtureOutput, load_balance_loss


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
        loss = _cross_entropy(output.logits, y, row_weight, self.class_weight, smoothing)
        if output.probabilities is not None and output.gates is not None:
            balance = load_balance_loss(output.probabilities, output.gates, row_weight)
            loss = loss + self.config.model.load_balance_weight * balance
        return loss


@fused
def _cross_entropy(
    logits: Tensor, y: Tensor, row_weight: Tensor, class_weight: Tensor, smoothing: float
) -> Tensor:
    log_p = torch.log_softmax(logits, dim=-1)
    likelihood = log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    each = -(1 - smoothing) * likelihood - smoothing * log_p.mean(dim=-1)
    weight = class_weight.gather(1, y) * row_weight
    # The floor: a fold with fewer rows than steps has empty batches.
    total = weight.sum(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)
    return (each * weight).sum(dim=1) / total


@dataclass(frozen=True, eq=False)
class _Schedule:
    """What the steps of an epoch read and write, all on the device.

    Attributes:
        index: int64 [f, s, b].
        learning_rates: [s]
        keys: Of dropout masks, int32 [s, m, f, 2].
        losses: [f, s]
        place: Of the next step, int64 [1].
    """

    index: Tensor
    learning_rates: Tensor
    keys: Tensor
    losses: Tensor
    place: Tensor


class StackedTrainer:
    """Trains all folds by autograd and one optimiser: on GPUs, and without a C compiler.

    A step finds its place in a schedule on the device, and moves it on: on a CUDA device it is
    captured once, and replayed without anything coming from the host.

    Args:
        task: On any device; its masks are drawn anew for every step.
        is_quantized: Or in float32.
        precision: What gradients are rounded to in products: see `qwave.engine.precision`.
    """

    def __init__(self, task: TrainingTask, *, is_quantized: bool, precision: FloatName) -> None:
        self.mixture, self.rows, self.dropout = task.mixture, task.rows, task.dropout
        self.loss = TrainingLoss(task.config, task.class_weight)
        short = torch.bfloat16 if precision == "bfloat16" else None
        self.arithmetic = Arithmetic(is_quantized, gradient_dtype=short)
        self.n_steps = 0
        self.device = task.rows.x.device
        self.learning_rate = torch.zeros((), device=self.device)
        self.optimizer = torch.optim.AdamW(
            task.mixture.parameters(),
            lr=self.learning_rate,
            weight_decay=task.config.train.weight_decay,
            fused=self.device.type != "mps",
            capturable=self.device.type == "cuda",
        )
        self.schedule: _Schedule | None = None
        self.step: Callable[[], None] = self._step

    def train(self, index: Tensor, learning_rates: Sequence[float]) -> np.ndarray:
        """See `Trainer.train`."""
        n_folds, n_steps, _ = index.shape
        assert len(learning_rates) == n_steps, "a learning rate a step"
        now = _Schedule(
            index.to(self.device),
            torch.tensor(learning_rates, dtype=torch.float32, device=self.device),
            self.dropout.keys(range(self.n_steps + 1, self.n_steps + n_steps + 1)),
            torch.empty(n_folds, n_steps, device=self.device),
            torch.zeros(1, dtype=torch.int64, device=self.device),
        )
        if self.schedule is None or self.schedule.index.shape != index.shape:
            self.schedule = now
            self.step = self._step
            if self.device.type == "cuda":
                self.step = CapturedStep(self._step, self.device)
        else:
            # Into the same memory, which a captured step knows.
            for field in fields(_Schedule):
                getattr(self.schedule, field.name).copy_(getattr(now, field.name))
        for _ in range(n_steps):
            self.step()
        self.n_steps += n_steps
        return self.schedule.losses.cpu().numpy().copy()

    def _step(self) -> None:
        assert self.schedule is not None, "train makes the schedule"
        schedule = self.schedule
        index = schedule.index.index_select(1, schedule.place).squeeze(1)
        self.learning_rate.copy_(schedule.learning_rates.index_select(0, schedule.place).squeeze())
        self.dropout.draw(schedule.keys.index_select(0, schedule.place).squeeze(0))
        rows = index.clamp_min(0)
        y = self.rows.y.index_select(0, rows.flatten()).view_as(rows)
        output = self.mixture(
            self.rows.take(rows), dropout=self.dropout, arithmetic=self.arithmetic
        )
        loss = self.loss(output, y, (index >= 0).to(torch.float32))
        self.optimizer.zero_grad()
        loss.sum().backward()
        self.optimizer.step()
        schedule.losses.index_copy_(1, schedule.place, loss.detach().unsqueeze(1))
        schedule.place.add_(1)

    @torch.no_grad()
    def predict(self, index: Tensor) -> Tensor:
        """See `Trainer.predict`."""
        x = self.rows.take(index.to(self.device))
        logits: Tensor = self.mixture(x, arithmetic=self.arithmetic).logits
        return logits.cpu()
