"""What a fold's mixture learns from its training clips: labels, or what a teacher says.

Labels: every clip once an epoch, with its smoothed label.

Lessons of a teacher: function matching (Beyer et al. 2022, arXiv 2106.05237). Inputs are mixtures
of two training clips (mixup, Zhang et al. 2018, arXiv 1710.09412, with uniform shares); the target
is in part the mixed label, in part what an ensemble of float networks, trained on the same rows,
says of the same mixture. On ESC-10 neither mixing nor the teacher does it alone: see CHANGELOG.

Notation: f folds, m examples of a fold, r rounds, d features, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.rows import batches, class_weights
from qwave.engine.task import Examples


@dataclass(frozen=True, eq=False)
class Lessons:
    """The examples of one fold, in rounds of as many as it has training rows.

    Epochs take one round each, and begin again after the last.

    Attributes:
        row: Of the data, int64 [r, m].
        partner: Row that it is mixed with, int64 [r, m].
        share: What is left of the first, float32 [r, m], 0.5 to 1.
        said: The teacher's probabilities, float32 [r, m, c]; None without a teacher.
    """

    row: np.ndarray
    partner: np.ndarray
    share: np.ndarray
    said: np.ndarray | None

    @classmethod
    def of_labels(cls, rows: np.ndarray) -> Lessons:
        """Training rows [m] as they are."""
        row = np.asarray(rows, dtype=np.int64)[None]
        return cls(row, row, np.ones(row.shape, dtype=np.float32), None)

    @classmethod
    def of_mixtures(cls, rows: np.ndarray, n_rounds: int, seed: int) -> Lessons:
        """Each training row [m] mixed with a random other, once a round; nothing said of them."""
        generator = np.random.default_rng(seed)
        row = np.tile(np.asarray(rows, dtype=np.int64), (n_rounds, 1))
        partner = generator.permuted(row, axis=1)
        share = generator.uniform(0.5, 1.0, row.shape).astype(np.float32)
        return cls(row, partner, share, None)


class Syllabus:
    """Makes every epoch's examples of all folds.

    Args:
        config: Canonical configuration.
        data: Embeddings and labels.
        lessons: One a fold.
        order: Generators of the order of examples, one a fold.
        n_steps: Of an epoch.
        width: Examples of a batch, with padding.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: EmbeddingSet,
        lessons: Sequence[Lessons],
        order: Sequence[np.random.Generator],
        *,
        n_steps: int,
        width: int,
    ) -> None:
        self.lessons, self.order = lessons, order
        self.n_steps, self.width = n_steps, width
        self.taught = config.train.distillation
        smoothing = config.train.label_smoothing
        one_hot = np.eye(data.num_classes, dtype=np.float32)
        self.labels = ((1 - smoothing) * one_hot + smoothing / data.num_classes)[data.y]
        fit = [lesson.row[0] for lesson in lessons]
        by_class = class_weights(data, fit, config.train.class_weights)
        self.weights = by_class[:, data.y]

    def epoch(self, number: int) -> Examples:
        """The examples of an epoch, counted from 1."""
        sizes = [lesson.row.shape[1] for lesson in self.lessons]
        places = batches(sizes, self.n_steps, self.width, self.order)
        row, partner = np.full_like(places, -1), np.zeros_like(places)
        share = np.ones(places.shape, dtype=np.float32)
        weight = np.zeros(places.shape, dtype=np.float32)
        target = np.full((*places.shape, self.labels.shape[1]), 1 / self.labels.shape[1])
        target = target.astype(np.float32)
        for fold, lesson in enumerate(self.lessons):
            now = (number - 1) % len(lesson.row)
            used = places[fold] >= 0
            at = places[fold][used]
            first, second = lesson.row[now][at], lesson.partner[now][at]
            part = lesson.share[now][at]
            row[fold][used], partner[fold][used], share[fold][used] = first, second, part
            weights = self.weights[fold]
            weight[fold][used] = part * weights[first] + (1 - part) * weights[second]
            part = part[:, None]
            wanted = part * self.labels[first] + (1 - part) * self.labels[second]
            if lesson.said is not None:
                wanted = (1 - self.taught) * wanted + self.taught * lesson.said[now][at]
            target[fold][used] = wanted
        return Examples(*map(torch.from_numpy, (row, partner, share, target, weight)))
