"""What the tests of this folder share: configurations, folds, and examples for trainers.

Notation: f folds, s steps, b batch rows, n clips, c classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qwave.config import DataConfig, ModelConfig, RouterConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold
from qwave.engine import SoftTargets, TrainedFolds
from qwave.engine.build import build_dropout
from qwave.engine.task import Examples, Rows, TrainingTask
from qwave.nn.mixture import Mixture

MIXTURE = ModelConfig(
    schemes=("int1", "int8", "int8"), hidden=(8,), top_k=2, router=RouterConfig(hidden=5)
)
SHARES = 16  # shares of `mixtures` are multiples of one in so many


def config_of(
    model: ModelConfig | None = None,
    *,
    seed: int = 0,
    normalization: Any = "layer",
    **train: Any,
) -> TrialConfig:
    """A canonical configuration of three folds and few short epochs."""
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, **train}
    return TrialConfig(
        data=DataConfig(normalization=normalization, n_folds=3),
        model=model or ModelConfig(hidden=(8,)),
        train=TrainConfig(**settings),
        seed=seed,
    ).canonical()


def uneven(data: EmbeddingSet, sizes: Sequence[int]) -> list[Fold]:
    """Folds with training parts of the given sizes and the rest of the rows to test."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(data.y)) for _ in sizes]
    return [
        Fold(index, np.sort(order[:size]), np.sort(order[size:]))
        for index, (order, size) in enumerate(zip(orders, sizes, strict=True))
    ]


def random_soft_targets(rows: np.ndarray, n_rounds: int, n_classes: int, seed: int) -> SoftTargets:
    """Mixtures of these rows, with random probabilities in place of a teacher's."""
    mixed = SoftTargets.from_mixtures(rows, n_rounds, seed)
    drawn = np.random.default_rng(seed).dirichlet(np.ones(n_classes), mixed.row.shape)
    return dataclasses.replace(mixed, teacher_probabilities=drawn.astype(np.float32))


def parameters_of(trained: TrainedFolds, position: int = 0) -> dict[str, Tensor]:
    """Parameters of one of the trained folds by name."""
    return {name: p.detach()[position] for name, p in trained.mixture.named_parameters()}


def task_of(
    config: TrialConfig,
    mixture: Mixture,
    rows: Rows,
    *,
    n_rows: int,
    seeds: Sequence[int],
    n_classes: int,
    is_quantized: bool = True,
) -> TrainingTask:
    """The task of a configuration's mixture; `n_rows` and `seeds` are those of its dropout."""
    return TrainingTask(
        mixture,
        rows,
        build_dropout(config.model, rows.x.shape[1], n_rows, seeds, rows.x.device),
        n_classes,
        is_quantized,
        config.train.weight_decay,
        config.model.load_balance_weight,
    )


def of_labels(index: Tensor, y: Tensor, class_weight: Tensor, smoothing: float) -> Examples:
    """Clips as they are, with smoothed labels, weighed by class.

    Args:
        index: Rows, int64 [f, s, b]; -1 is padding.
        y: Labels, [n].
        class_weight: [f, c].
        smoothing: Share of the target that is spread evenly over the classes.
    """
    row = index.clamp_min(0)
    n_classes = class_weight.shape[1]
    one_hot = nn.functional.one_hot(y[row], n_classes).to(torch.float32)
    target = (1 - smoothing) * one_hot + smoothing / n_classes
    fold = torch.arange(len(index)).view(-1, 1, 1)
    weight = class_weight[fold, y[row]] * (index >= 0)
    return Examples(index, row, torch.ones(index.shape), target, weight)


def mixtures(index: Tensor, n_clips: int, n_classes: int, seeds: Sequence[int]) -> Examples:
    """Each clip mixed with any other, with random targets and weights.

    Shares are from 1/2 to 1, and a few are 1: the partner does not matter there. Padding has
    weight 0 and random values besides.

    Args:
        index: Rows, int64 [f, s, b]; -1 is padding.
        n_clips: n.
        n_classes: c.
        seeds: One a fold.
    """
    folds = []
    for rows, seed in zip(index, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        partner = torch.randint(n_clips, rows.shape, generator=generator)
        share = torch.randint(SHARES // 2, SHARES + 1, rows.shape, generator=generator) / SHARES
        scores = 4 * torch.randn(*rows.shape, n_classes, generator=generator)
        weight = torch.rand(rows.shape, generator=generator) + 0.5
        target = torch.softmax(scores, dim=-1)
        folds.append(Examples(rows, partner, share, target, weight * (rows >= 0)))
    return Examples(*(torch.stack(tensors) for tensors in zip(*folds, strict=True)))


def exact(x: Tensor) -> Tensor:
    """Features in units of 2^-16: products with shares of `mixtures`, and their sums, are exact.

    So no code flips because products and sums are rounded at once in one place and apart in the
    other. With units much larger, features lie on the edge of two codes.
    """
    return (x * 2**16).round() / 2**16


def steps(examples: Examples, which: slice | list[int]) -> Examples:
    """The examples of some of the steps."""
    return Examples(*(tensor[:, which] for tensor in examples))
