"""The loss of a step, and training that computes all folds and all experts as stacked products.

Notation: f folds, s steps, m dropout masks, b batch rows, e experts, c classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qwave.engine.precision import FloatName
from qwave.engine.task import Examples, TrainingTask
from qwave.nn.fused import fused
from qwave.nn.mixture import Arithmetic, MixtureOutput, load_balance_loss

# Steps that are run before one is captured: libraries choose their kernels and compilers make
# theirs in the first, and the optimiser makes its state.
N_WARM_UP = 3


def training_loss(
    output: MixtureOutput, target: Tensor, weight: Tensor, load_balance_weight: float
) -> Tensor:
    """Weighted cross-entropy and load balance of each fold.

    Args:
        output: Output of the mixture for a batch.
        target: Wanted probabilities of the classes, [f, b, c].
        weight: Weight of each example, [f, b]; 0 marks padding.
        load_balance_weight: Weight of the load-balancing loss beside the cross-entropy.

    Returns:
        Loss of each fold, [f].
    """
    loss = _cross_entropy(output.logits, target, weight)
    if output.probabilities is not None and output.gates is not None:
        is_row = (weight > 0).to(weight.dtype)
        balance = load_balance_loss(output.probabilities, output.gates, is_row)
        loss = loss + load_balance_weight * balance
    return loss


@fused
def _cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    each = -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    # The floor: a fold with fewer rows than steps has empty batches.
    total = weight.sum(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)
    return (each * weight).sum(dim=1) / total


@dataclass(frozen=True, eq=False)
class _Schedule:
    """The tensors that the steps of an epoch read and write, all on the device.

    Attributes:
        examples: One batch a step.
        learning_rates: One learning rate a step, [s].
        keys: Keys of the dropout masks of each step, int32 [s, m, f, 2].
        losses: Loss of each fold before each step, written by the steps, [f, s].
        position: Number of the next step, counted from 0, int64 [1].
    """

    examples: Examples
    learning_rates: Tensor
    keys: Tensor
    losses: Tensor
    position: Tensor

    def tensors(self) -> list[Tensor]:
        """All tensors of the schedule."""
        return [*self.examples, self.learning_rates, self.keys, self.losses, self.position]


class CapturedStep:
    """A training step that is launched as one CUDA graph from its fourth call on.

    A step of four experts of two hidden layers is 810 operations before any are fused, many of
    them shorter than their launch. Replayed, they follow each other without the processor.

    The first calls run as they are, and count like any other: nothing is computed twice, and no
    state has to be put back.

    Args:
        function: The step; it reads and writes the same tensors on every call, and never waits
            for the device.
        device: A CUDA device.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self.function = function
        self.n_calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        # Capture is not possible on the default stream; autograd remembers the stream of a
        # parameter's first gradient, therefore one for all calls.
        self.stream = torch.cuda.Stream(device)

    def __call__(self) -> None:
        """Run one more step."""
        if self.n_calls >= N_WARM_UP and self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.function()
        self.n_calls += 1
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            if self.graph is None:
                self.function()
            else:
                self.graph.replay()
        current.wait_stream(self.stream)


class StackedTrainer:
    """Trains all folds by autograd and one optimiser: on GPUs, and without a C compiler.

    A step reads its number from a schedule on the device, and raises it: on a CUDA device it is
    captured once, and replayed without anything coming from the host.

    Args:
        task: Mixtures and data, on any device; dropout masks are drawn anew for every step.
        precision: Type that gradients are rounded to in products (`qwave.engine.precision`).
    """

    def __init__(self, task: TrainingTask, *, precision: FloatName) -> None:
        self.mixture, self.rows, self.dropout = task.mixture, task.rows, task.dropout
        self.load_balance_weight = task.load_balance_weight
        short = torch.bfloat16 if precision == "bfloat16" else None
        self.arithmetic = Arithmetic(task.is_quantized, gradient_dtype=short)
        self.n_steps = 0
        self.device = task.rows.x.device
        self.learning_rate = torch.zeros((), device=self.device)
        self.optimizer = torch.optim.AdamW(
            task.mixture.parameters(),
            lr=self.learning_rate,
            weight_decay=task.weight_decay,
            fused=self.device.type != "mps",
            capturable=self.device.type == "cuda",
        )
        self.schedule: _Schedule | None = None
        self.step: Callable[[], None] = self._step

    def train(self, examples: Examples, learning_rates: Sequence[float]) -> np.ndarray:
        """See `Trainer.train`."""
        n_folds, n_steps, _ = examples.row.shape
        assert len(learning_rates) == n_steps, "a learning rate a step"
        now = _Schedule(
            Examples(*(tensor.to(self.device) for tensor in examples)),
            torch.tensor(learning_rates, dtype=torch.float32, device=self.device),
            self.dropout.keys(range(self.n_steps + 1, self.n_steps + n_steps + 1)),
            torch.empty(n_folds, n_steps, device=self.device),
            torch.zeros(1, dtype=torch.int64, device=self.device),
        )
        if self.schedule is None or self.schedule.examples.row.shape != now.examples.row.shape:
            self.schedule = now
            self.step = self._step
            if self.device.type == "cuda":
                self.step = CapturedStep(self._step, self.device)
        else:
            # Into the same memory, which a captured step knows.
            for known, new in zip(self.schedule.tensors(), now.tensors(), strict=True):
                known.copy_(new)
        for _ in range(n_steps):
            self.step()
        self.n_steps += n_steps
        return self.schedule.losses.cpu().numpy().copy()

    def _step(self) -> None:
        assert self.schedule is not None, "train makes the schedule"
        schedule = self.schedule
        row, partner, share, target, weight = (
            tensor.index_select(1, schedule.position).squeeze(1) for tensor in schedule.examples
        )
        self.learning_rate.copy_(
            schedule.learning_rates.index_select(0, schedule.position).squeeze()
        )
        self.dropout.draw(schedule.keys.index_select(0, schedule.position).squeeze(0))
        x = self.rows.mix(row.clamp_min(0), partner, share)
        output = self.mixture(x, dropout=self.dropout, arithmetic=self.arithmetic)
        loss = training_loss(output, target, weight, self.load_balance_weight)
        self.optimizer.zero_grad()
        loss.sum().backward()
        self.optimizer.step()
        schedule.losses.index_copy_(1, schedule.position, loss.detach().unsqueeze(1))
        schedule.position.add_(1)

    @torch.no_grad()
    def predict(self, index: Tensor) -> Tensor:
        """See `Trainer.predict`."""
        x = self.rows.take(index.to(self.device))
        logits: Tensor = self.mixture(x, arithmetic=self.arithmetic).logits
        return logits.cpu()
