"""The same training task for a compiled and a stacked trainer, made anew for each of them."""

from __future__ import annotations

import ctypes
import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qwave.config import SCHEMES, ModelConfig, RouterConfig, TrainConfig, TrialConfig
from qwave.engine.compiled import CompiledTrainer
from qwave.engine.rows import Rows
from qwave.engine.stacked import StackedTrainer
from qwave.engine.task import Examples, TrainingTask
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import Mixture, build_mixture

from .examples import exact, mixtures, of_labels

# Odd widths: no multiple of the length of any vector.
N_FOLDS, N_CLIPS, N_ROWS, N_FEATURES, N_CLASSES = 3, 60, 13, 75, 5
N_SEEDS, RATE = 4, 1e-3
Precision = Literal["bfloat16", "float32"]
MIXTURES = {
    "top-1": ModelConfig(("int1", "int4", "int4", "int16"), (16, 8)),
    "top-2": ModelConfig(("int1", "int2", "fp32"), (16,), top_k=2, router=RouterConfig(hidden=6)),
    "top-3 with other heads": ModelConfig(
        ("ternary", "popcount", "int8", "int16"),
        (16,),
        head_scheme="int4",
        top_k=3,
        router=RouterConfig(scheme="fp32"),
    ),
}
MODELS = MIXTURES | {
    f"{scheme} {hidden}": ModelConfig((scheme,), hidden)
    for scheme in SCHEMES
    for hidden in ((), (16, 8))
}


@dataclass(frozen=True)
class Task:
    """What a trainer is given, made anew for each trainer."""

    model: ModelConfig
    seed: int
    folds: range = range(N_FOLDS)
    n_rows: int = N_ROWS
    is_quantized: bool = True
    is_mixed: bool = False

    @property
    def config(self) -> TrialConfig:
        return TrialConfig(model=self.model, train=TrainConfig(epochs=2)).canonical()

    def mixture(self) -> Mixture:
        generators = [torch.Generator().manual_seed(100 * self.seed + f) for f in self.folds]
        return build_mixture(self.config.model, N_FEATURES, N_CLASSES, generators)

    def rows(self) -> Rows:
        """The data of every second seed has constants of its folds."""
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(N_CLIPS, N_FEATURES, generator=generator)
        x = exact(x) if self.is_mixed else x
        x[0], x[1], x[2] = 0.0, -0.25, x[2] * 1e-30  # silence, a constant and next to nothing
        if self.seed % 2:
            return Rows(x, None, None)
        shape = N_FOLDS, 1, N_FEATURES
        offset, factor = (torch.rand(shape, generator=generator) + 0.5 for _ in range(2))
        part = slice(self.folds.start, self.folds.stop)
        return Rows(x, offset[part], factor[part])

    def index(self, n_steps: int) -> Tensor:
        """Rows of folds that have two to four less than there is room for."""
        generator = torch.Generator().manual_seed(self.seed)
        index = torch.randint(N_CLIPS, (N_FOLDS, n_steps, self.n_rows), generator=generator)
        index[0, :, -2:] = index[1, :, 3:7] = index[2, :, ::5] = -1
        return index[self.folds.start : self.folds.stop]

    def examples(self, index: Tensor) -> Examples:
        """Of rows: their labels, or mixtures of them with others."""
        if self.is_mixed:
            seeds = [100 * self.seed + fold for fold in self.folds]
            return mixtures(index, N_CLIPS, N_CLASSES, seeds)
        generator = torch.Generator().manual_seed(self.seed)
        y = torch.randint(N_CLASSES, (N_CLIPS,), generator=generator)
        weight = torch.linspace(0.5, 1.5, N_FOLDS * N_CLASSES).reshape(N_FOLDS, N_CLASSES)
        part = weight[self.folds.start : self.folds.stop]
        return of_labels(index, y, part, self.config.train.label_smoothing)

    def batches(self, n_steps: int) -> Examples:
        return self.examples(self.index(n_steps))

    def given(self, mixture: Mixture) -> TrainingTask:
        seeds = [2**62 + 7 * self.seed + fold for fold in self.folds]
        dropout = Dropout(self.config.model, N_FEATURES, self.n_rows, seeds)
        return TrainingTask(mixture, self.config, self.rows(), dropout, N_CLASSES)

    def stacked(self, mixture: Mixture) -> StackedTrainer:
        return StackedTrainer(
            self.given(mixture), is_quantized=self.is_quantized, precision="float32"
        )

    def compiled(
        self, native: ctypes.CDLL, mixture: Mixture, precision: Precision = "float32"
    ) -> CompiledTrainer:
        return CompiledTrainer(
            native, self.given(mixture), is_quantized=self.is_quantized, precision=precision
        )


def with_dropout(model: ModelConfig, rate: float) -> ModelConfig:
    router = dataclasses.replace(model.router, dropout=rate)
    return dataclasses.replace(model, dropout=rate, input_dropout=rate / 2, router=router)
