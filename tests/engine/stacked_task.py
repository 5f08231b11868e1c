"""Tasks of stacked training, made anew for each trainer, and how they are run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from qwave.config import (
    SCHEMES,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.engine.build import build_dropout, build_mixture
from qwave.engine.precision import FloatName
from qwave.engine.stacked import StackedTrainer
from qwave.engine.task import Examples, Rows
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import (
    Arithmetic,
    Mixture,
)

from .examples import mixtures, of_labels, steps, task_of

N_FOLDS, N_CLIPS, N_ROWS, N_FEATURES, N_CLASSES = 3, 60, 13, 75, 5
SINGLE = {
    f"{scheme} {hidden}": ModelConfig((scheme,), hidden)
    for scheme in SCHEMES
    for hidden in ((), (16,))
}
TOP_1 = ModelConfig(("int2", "int4", "int4", "int16"), (16, 8), router=RouterConfig(hidden=6))
TOP_2 = ModelConfig(("int1", "popcount", "fp32"), (16,), top_k=2)
IN_PORTIONS = {
    "linear": ModelConfig(("int4",), ()),
    "top-2 with dropout": dataclasses.replace(
        TOP_2, dropout=0.3, input_dropout=0.2, router=RouterConfig(hidden=6, dropout=0.4)
    ),
    "two of one scheme": ModelConfig(("int8", "int8"), (16,)),
}
MODELS = {**SINGLE, "top-1": TOP_1, **IN_PORTIONS}
IN_FLOATS = Arithmetic(is_quantized=False)
SHORT = Arithmetic(gradient_dtype=torch.bfloat16)

every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
)
in_portions = pytest.mark.parametrize("name", IN_PORTIONS)
of_both_kinds = pytest.mark.parametrize("is_mixed", [False, True], ids=["labels", "mixtures"])


@dataclass(frozen=True)
class StackedTask:
    """What a trainer is given, made anew for each trainer."""

    model: ModelConfig
    seed: int
    device: str = "cpu"
    arithmetic: Arithmetic = Arithmetic()
    is_mixed: bool = False

    @property
    def config(self) -> TrialConfig:
        train = TrainConfig(epochs=2, label_smoothing=0.1)
        return TrialConfig(model=self.model, train=train).canonical()

    def mixture(self, folds: Sequence[int] = range(N_FOLDS)) -> Mixture:
        generators = [torch.Generator().manual_seed(100 * self.seed + fold) for fold in folds]
        return build_mixture(self.config.model, N_FEATURES, N_CLASSES, generators)

    def rows(self) -> Rows:
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(N_CLIPS, N_FEATURES, generator=generator)
        offset, factor = torch.rand(2, N_FOLDS, 1, N_FEATURES, generator=generator) + 0.5
        return Rows(*(tensor.to(self.device) for tensor in (x, offset, factor)))

    def y(self) -> Tensor:
        generator = torch.Generator().manual_seed(1000 + self.seed)
        return torch.randint(N_CLASSES, (N_CLIPS,), generator=generator)

    def dropout(self) -> Dropout:
        device = torch.device(self.device)
        return build_dropout(self.config.model, N_FEATURES, N_ROWS, self.seeds(), device)

    def class_weight(self) -> Tensor:
        return torch.linspace(0.5, 1.5, N_FOLDS * N_CLASSES).reshape(N_FOLDS, N_CLASSES)

    def batches(self, n_steps: int) -> Examples:
        """Of folds that have two to four rows less than there is room for; on the CPU."""
        generator = torch.Generator().manual_seed(self.seed)
        index = torch.randint(N_CLIPS, (N_FOLDS, n_steps, N_ROWS), generator=generator)
        index[0, :, -2:] = index[1, :, 3:7] = index[2, :, ::5] = -1
        if self.is_mixed:
            seeds = [10 * self.seed + fold for fold in range(N_FOLDS)]
            return mixtures(index, N_CLIPS, N_CLASSES, seeds)
        return of_labels(index, self.y(), self.class_weight(), self.config.train.label_smoothing)

    def trainer(self) -> StackedTrainer:
        return self.trainer_of(self.mixture().to(self.device), self.rows())

    def trainer_of(self, mixture: Mixture, rows: Rows) -> StackedTrainer:
        task = task_of(
            self.config,
            mixture,
            rows,
            n_rows=N_ROWS,
            seeds=self.seeds(),
            n_classes=N_CLASSES,
            is_quantized=self.arithmetic.is_quantized,
        )
        precision: FloatName = "float32" if self.arithmetic.gradient_dtype is None else "bfloat16"
        return StackedTrainer(task, precision=precision)

    def seeds(self) -> list[int]:
        return [2**62 + 7 * self.seed + fold for fold in range(N_FOLDS)]


RATES = (1e-2, 9e-3, 8e-3, 7e-3, 6e-3, 5e-3, 4e-3, 3e-3, 2e-3, 0.0)


def run_in_portions(task: StackedTask, cuts: Sequence[int]) -> tuple[np.ndarray, StackedTrainer]:
    """Losses of steps in portions, and the trainer after them."""
    trainer = task.trainer()
    examples = task.batches(len(RATES))
    parts = [
        trainer.train(steps(examples, slice(first, last)), RATES[first:last])
        for first, last in zip(cuts, cuts[1:], strict=False)
    ]
    return np.concatenate(parts, axis=1), trainer


def bits_of(losses: np.ndarray, trainer: StackedTrainer) -> bytes:
    parts = [p.detach().cpu().numpy().tobytes() for p in trainer.mixture.parameters()]
    return b"".join(parts) + losses.tobytes()
