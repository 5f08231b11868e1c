"""What a trainer is given, and what it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from qwave.config import TrialConfig
from qwave.engine.rows import Rows
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import Mixture


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """Mixtures of all folds, and what they are trained on; all of it on one device.

    Attributes:
        mixture: Its parameters are updated in place.
        config: Canonical configuration.
        rows: The data.
        dropout: Masks of a batch; how many rows it has is read from them.
        n_classes: c.
    """

    mixture: Mixture
    config: TrialConfig
    rows: Rows
    dropout: Dropout
    n_classes: int


class Examples(NamedTuple):
    """Batches of all folds: clips, or mixtures of two, and what is to be said of them.

    Attributes:
        row: Of the data, int64 [f, s, b]; -1 is padding.
        partner: Row that it is mixed with, likewise; 0 or above everywhere.
        share: What is left of the first, float32 [f, s, b]; 1 where nothing is mixed.
        target: Probabilities of the classes, float32 [f, s, b, c]; they sum to 1.
        weight: Of each example in the loss, float32 [f, s, b]; 0 for padding.
    """

    row: Tensor
    partner: Tensor
    share: Tensor
    target: Tensor
    weight: Tensor


class Trainer(Protocol):
    """A way to train the mixtures of a task.

    Notation: f folds, s steps, b batch rows, n clips, c classes.
    """

    def train(self, examples: Examples, learning_rates: Sequence[float]) -> np.ndarray:
        """Go on with the steps of all folds.

        Args:
            examples: A batch a step.
            learning_rates: [s]

        Returns:
            Loss of each fold before each step, float32 [f, s].
        """

    def predict(self, index: Tensor) -> Tensor:
        """Logits [f, n, c] of rows [f, n] of the data by each fold's mixture, nothing dropped."""
