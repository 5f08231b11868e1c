"""What a trainer is given, and what it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from qwave.config import TrialConfig
from qwave.dropout import Dropout
from qwave.engine.rows import Rows
from qwave.moe import Mixture


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """Mixtures of all folds, and what they are trained on; all of it on one device.

    Attributes:
        mixture: Its parameters are updated in place.
        config: Canonical configuration.
        rows: The data.
        dropout: Masks of a batch; how many rows it has is read from them.
        class_weight: [f, c].
    """

    mixture: Mixture
    config: TrialConfig
    rows: Rows
    dropout: Dropout
    class_weight: Tensor


class Trainer(Protocol):
    """A way to train the mixtures of a task.

    Notation: f folds, s steps, b batch rows, n clips, c classes.
    """

    def train(self, index: Tensor, learning_rates: Sequence[float]) -> np.ndarray:
        """Go on with the steps of all folds.

        Args:
            index: Rows of each fold's batches, int64 [f, s, b]; -1 is padding.
            learning_rates: [s]

        Returns:
            Loss of each fold before each step, float32 [f, s].
        """

    def predict(self, index: Tensor) -> Tensor:
        """Logits [f, n, c] of rows [f, n] of the data by each fold's mixture, nothing dropped."""
