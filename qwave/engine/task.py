"""What a trainer is given."""

from __future__ import annotations

from dataclasses import dataclass

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
