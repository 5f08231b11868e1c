"""The protocol of a trainer, and the task that it is given.

Notation: f folds, s steps, b batch rows, n rows of the data, d features, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from qwave.data import Normalizer, normalize_clips
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import Mixture


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of the data on the device, and how each fold normalises them.

    Attributes:
        x: Features after the normalisation's part for each clip, float32 [n, d].
        offset: Constants that each fold subtracts from the features, float32 [f, 1, d]; None
            where the normalisation has no constants.
        factor: Constants that each fold then multiplies the features with, float32 [f, 1, d];
            None where the normalisation has no constants.
    """

    x: Tensor
    offset: Tensor | None
    factor: Tensor | None

    def take(self, index: Tensor) -> Tensor:
        """Normalised rows of each fold: index [f, b] to x [f, b, d]."""
        # Row by row; fancy indexing goes element by element, and takes four times as long.
        x = self.x.index_select(0, index.flatten()).view(*index.shape, -1)
        if self.offset is None or self.factor is None:
            return x
        return (x - self.offset) * self.factor

    def take_fold(self, index: Tensor, fold: int) -> Tensor:
        """Rows [b] as one fold normalises them, [b, d]."""
        x = self.x[index]
        if self.offset is None or self.factor is None:
            return x
        return (x - self.offset[fold]) * self.factor[fold]

    def mix(self, index: Tensor, partner: Tensor, share: Tensor) -> Tensor:
        """Rows mixed with others: ``share`` of the first is left, all [f, b]; to [f, b, d]."""
        other = self.take(partner)
        return other + share.unsqueeze(-1) * (self.take(index) - other)


def rows_on_device(x: np.ndarray, normalizers: Sequence[Normalizer], device: torch.device) -> Rows:
    """Put features float32 [n, d] on a device, with one normaliser of the same kind a fold."""
    clips = torch.from_numpy(normalize_clips(x, normalizers[0].normalization)).to(device)
    if normalizers[0].offset is None:
        return Rows(clips, None, None)

    def stack(name: str) -> Tensor:
        constants = np.stack([getattr(normalizer, name) for normalizer in normalizers])
        return torch.from_numpy(constants.astype(np.float32)).unsqueeze(1).to(device)

    return Rows(clips, stack("offset"), stack("factor"))


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """Mixtures of all folds and their training data, all on one device.

    Attributes:
        mixture: The mixtures; a trainer updates their parameters in place.
        rows: All rows of the data.
        dropout: Dropout masks of one batch; they also say how many rows a batch has.
        n_classes: Number of classes, c.
        is_quantized: Train in the arithmetic of each layer's scheme; otherwise in float32.
        weight_decay: Decoupled weight decay of AdamW.
        load_balance_weight: Weight of the load-balancing loss.
    """

    mixture: Mixture
    rows: Rows
    dropout: Dropout
    n_classes: int
    is_quantized: bool
    weight_decay: float
    load_balance_weight: float


class Examples(NamedTuple):
    """Batches of all folds: clips, or mixtures of two, with the wanted probabilities.

    Attributes:
        row: Row of the data, int64 [f, s, b]; -1 is padding.
        partner: Row that it is mixed with, int64 [f, s, b]; 0 or above, also for padding.
        share: Share of `row` in the mixture, float32 [f, s, b]; 1 where nothing is mixed.
        target: Wanted probabilities of the classes, float32 [f, s, b, c]; they sum to 1.
        weight: Weight of each example in the loss, float32 [f, s, b]; 0 for padding.
    """

    row: Tensor
    partner: Tensor
    share: Tensor
    target: Tensor
    weight: Tensor


class Trainer(Protocol):
    """A backend that trains the mixtures of a task."""

    def train(self, examples: Examples, learning_rates: Sequence[float]) -> np.ndarray:
        """Go on with the steps of all folds.

        Args:
            examples: One batch a step.
            learning_rates: One learning rate a step, [s].

        Returns:
            Loss of each fold before each step, float32 [f, s].
        """

    def predict(self, index: Tensor) -> Tensor:
        """Logits [f, b, c] of rows [f, b] of the data by each fold's mixture, without dropout."""
