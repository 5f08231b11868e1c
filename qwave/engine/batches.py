"""The batches of every epoch: training clips with labels, or mixtures with soft targets.

Labels: every clip once an epoch, with its smoothed label.

Soft targets of a teacher: function matching (Beyer et al. 2022, arXiv 2106.05237). Inputs are
mixtures of two training clips (mixup, Zhang et al. 2018, arXiv 1710.09412, with uniform shares);
the target is in part the mixed label, in part the probabilities that an ensemble of float networks
(`qwave.engine.teacher`) gives the same mixture. On ESC-10 neither mixing nor the teacher does it
alone: see CHANGELOG.

Notation: f folds, m training rows of a fold, r rounds, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from qwave.data import EmbeddingSet
from qwave.engine.task import Examples


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """The training examples of one fold, in rounds of as many as it has training rows.

    Epochs take one round each, and begin again after the last.

    Attributes:
        row: Row of the data, int64 [r, m]; every training row once a round.
        partner: Row that it is mixed with, int64 [r, m].
        share: Share of `row` in the mixture, float32 [r, m], 0.5 to 1.
        teacher_probabilities: Probabilities that the teacher gives each mixture, float32
            [r, m, c]; None without a teacher.
    """

    row: np.ndarray = field(repr=False)
    partner: np.ndarray = field(repr=False)
    share: np.ndarray = field(repr=False)
    teacher_probabilities: np.ndarray | None = field(repr=False)

    @classmethod
    def from_labels(cls, rows: np.ndarray) -> SoftTargets:
        """Training rows [m] as they are, in one round, without a teacher."""
        row = np.asarray(rows, dtype=np.int64)[None]
        return cls(row, row, np.ones(row.shape, dtype=np.float32), None)

    @classmethod
    def from_mixtures(cls, rows: np.ndarray, n_rounds: int, seed: int) -> SoftTargets:
        """Each training row [m] mixed with a random other once a round, without a teacher."""
        generator = np.random.default_rng(seed)
        row = np.tile(np.asarray(rows, dtype=np.int64), (n_rounds, 1))
        partner = generator.permuted(row, axis=1)
        share = generator.uniform(0.5, 1.0, row.shape).astype(np.float32)
        return cls(row, partner, share, None)


class Batches:
    """Makes the batches of all folds, epoch by epoch.

    Args:
        data: Labels are read from it.
        soft_targets: Training examples, one value a fold.
        order: Generators of the order of examples, one a fold.
        label_smoothing: Share of a label spread evenly over the classes.
        distillation: Share of the target that is the teacher's; used only where there is one.
        is_class_weighted: Weigh each class by the inverse of its frequency (`class_weights`).
        n_steps: Number of batches in an epoch.
        width: Number of examples in a batch, with padding.
    """

    def __init__(
        self,
        data: EmbeddingSet,
        soft_targets: Sequence[SoftTargets],
        order: Sequence[np.random.Generator],
        *,
        label_smoothing: float,
        distillation: float,
        is_class_weighted: bool,
        n_steps: int,
        width: int,
    ) -> None:
        self.soft_targets, self.order = soft_targets, order
        self.n_steps, self.width = n_steps, width
        self.distillation = distillation
        one_hot = np.eye(data.num_classes, dtype=np.float32)
        even = label_smoothing / data.num_classes
        self.labels = ((1 - label_smoothing) * one_hot + even)[data.y]
        rows = [fold.row[0] for fold in soft_targets]
        self.weights = class_weights(data, rows, is_class_weighted)[:, data.y]

    def epoch(self, number: int) -> Examples:
        """The batches of an epoch, counted from 1; each epoch draws an order of its own."""
        sizes = [fold.row.shape[1] for fold in self.soft_targets]
        positions = shuffled(sizes, self.n_steps, self.width, self.order)
        row, partner = np.full_like(positions, -1), np.zeros_like(positions)
        share = np.ones(positions.shape, dtype=np.float32)
        weight = np.zeros(positions.shape, dtype=np.float32)
        target = np.full((*positions.shape, self.labels.shape[1]), 1 / self.labels.shape[1])
        target = target.astype(np.float32)
        for fold, own in enumerate(self.soft_targets):
            turn = (number - 1) % len(own.row)
            used = positions[fold] >= 0
            at = positions[fold][used]
            first, second = own.row[turn][at], own.partner[turn][at]
            part = own.share[turn][at]
            row[fold][used], partner[fold][used], share[fold][used] = first, second, part
            weights = self.weights[fold]
            weight[fold][used] = part * weights[first] + (1 - part) * weights[second]
            part = part[:, None]
            wanted = part * self.labels[first] + (1 - part) * self.labels[second]
            if own.teacher_probabilities is not None:
                distilled = self.distillation * own.teacher_probabilities[turn][at]
                wanted = (1 - self.distillation) * wanted + distilled
            target[fold][used] = wanted
        return Examples(*map(torch.from_numpy, (row, partner, share, target, weight)))


def shuffled(
    sizes: Sequence[int], n_steps: int, width: int, order: Sequence[np.random.Generator]
) -> np.ndarray:
    """Positions 0 to size - 1 of each fold's examples in random order, int64 [f, n_steps, width].

    -1 is padding. The positions are spread over the steps so that batch sizes differ by one at
    most; a short last batch, with its noisy gradient, does not occur. Every batch is padded to
    `width`, so that an example's column, on which its dropout masks depend, is the same whatever
    other folds there are.
    """
    positions = np.full((len(sizes), n_steps, width), -1, dtype=np.int64)
    for fold, (size, generator) in enumerate(zip(sizes, order, strict=True)):
        for step, part in enumerate(np.array_split(generator.permutation(size), n_steps)):
            positions[fold, step, : len(part)] = part
    return positions


def class_weights(data: EmbeddingSet, rows: Sequence[np.ndarray], is_weighted: bool) -> np.ndarray:
    """Weight of each class in each fold, float32 [f, c]: inverse frequency, mean 1 over the rows.

    Args:
        data: Labels are read from it.
        rows: Training rows of each fold.
        is_weighted: False makes every weight 1.

    A class without a row does not count: its weight is used for nothing.
    """
    weights = np.ones((len(rows), data.num_classes), dtype=np.float32)
    if is_weighted:
        for fold, part in enumerate(rows):
            counts = np.bincount(data.y[part], minlength=data.num_classes)
            n_present = np.count_nonzero(counts)
            weights[fold] = len(part) / (n_present * np.maximum(counts, 1))
    return weights
