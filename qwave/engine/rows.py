"""The rows that a trial trains on: normalised, on the device, in batches.

Notation: f folds, n rows of the data, b batch rows, d features, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet, Fold, Normalizer, inner_split, normalize_clips
from qwave.engine.device import fold_seed


@dataclass(frozen=True, eq=False)
class Rows:
    """The data on the device: per-clip normalisation done, per-feature constants by fold."""

    x: Tensor  # [n, d]
    offset: Tensor | None  # [f, 1, d]
    factor: Tensor | None  # [f, 1, d]

    def take(self, index: Tensor) -> Tensor:
        """Rows of each fold, index [f, b] to normalised x [f, b, d]."""
        # Row by row; fancy indexing goes element by element, and takes four times as long.
        x = self.x.index_select(0, index.flatten()).view(*index.shape, -1)
        if self.offset is None or self.factor is None:
            return x
        return (x - self.offset) * self.factor

    def take_fold(self, index: Tensor, fold: int) -> Tensor:
        """Rows [m] as one fold sees them, normalised, [m, d]."""
        x = self.x[index]
        if self.offset is None or self.factor is None:
            return x
        return (x - self.offset[fold]) * self.factor[fold]

    def mix(self, index: Tensor, partner: Tensor, share: Tensor) -> Tensor:
        """Rows mixed with others: ``share`` of the first is left, all [f, b]; to [f, b, d]."""
        other = self.take(partner)
        return other + share.unsqueeze(-1) * (self.take(index) - other)


def fit_rows(
    config: TrialConfig, data: EmbeddingSet, folds: Sequence[Fold]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows that are fitted and rows that patience looks at (none without patience)."""
    if config.train.patience is None:
        return [fold.train for fold in folds], []
    splits = [
        inner_split(
            data,
            fold.train,
            config.train.validation_share,
            fold_seed(config.digest, fold.index, "validation") % 2**32,
        )
        for fold in folds
    ]
    return [split[0] for split in splits], [split[1] for split in splits]


def rows_on_device(
    config: TrialConfig,
    data: EmbeddingSet,
    normalizers: Sequence[Normalizer],
    device: torch.device,
) -> Rows:
    x = torch.from_numpy(normalize_clips(data.x, config.data.normalization)).to(device)
    if normalizers[0].offset is None:
        return Rows(x, None, None)

    def stack(name: str) -> Tensor:
        constants = np.stack([getattr(normalizer, name) for normalizer in normalizers])
        return torch.from_numpy(constants.astype(np.float32)).unsqueeze(1).to(device)

    return Rows(x, stack("offset"), stack("factor"))


def batches(
    sizes: Sequence[int], n_steps: int, width: int, order: Sequence[np.random.Generator]
) -> np.ndarray:
    """One epoch: places 0 to size - 1 of each fold's batches, int64 [f, n_steps, width].

    -1 is padding. Each fold's shuffled places are spread over the steps so that batch sizes differ
    by one at most; a short last batch, with its noisy gradient, does not occur. Every batch is
    padded to `width`, so that an example's column, on which its dropout masks hang, is the same
    alone as beside larger folds.
    """
    index = np.full((len(sizes), n_steps, width), -1, dtype=np.int64)
    for fold, (size, generator) in enumerate(zip(sizes, order, strict=True)):
        for step, part in enumerate(np.array_split(generator.permutation(size), n_steps)):
            index[fold, step, : len(part)] = part
    return index


def class_weights(data: EmbeddingSet, fit: Sequence[np.ndarray], is_weighted: bool) -> np.ndarray:
    """Weight of each class in each fold, [f, c]: inverse frequency, mean 1 over the rows.

    Classes without a row do not count: their weights are used for nothing.
    """
    weights = np.ones((len(fit), data.num_classes), dtype=np.float32)
    if is_weighted:
        for fold, rows in enumerate(fit):
            counts = np.bincount(data.y[rows], minlength=data.num_classes)
            n_present = np.count_nonzero(counts)
            weights[fold] = len(rows) / (n_present * np.maximum(counts, 1))
    return weights
