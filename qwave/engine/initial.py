"""Where the training of linear experts begins: at the nearest-centroid classifier.

Rows of weights drawn at random decide the direction of every feature that the few training clips
say little about, and with 1 to 4 bits they go on deciding it. Measured on ESC-10: see CHANGELOG.
Experts with hidden layers begin at random.

Notation: f folds, e experts of a group, d features, c classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from qwave.engine.task import Rows
from qwave.nn.mixture import Mixture

_ROUNDING = 1e-6  # means that differ by this share of the features' size, or less, are equal


@torch.no_grad()
def start_at_centroids(
    mixture: Mixture, rows: Rows, training_rows: Sequence[np.ndarray], y: np.ndarray
) -> None:
    """Set the weights of linear experts, in place, to how classes' means differ from each other.

    Their mean absolute value is that of a random beginning, ``1 / (2 sqrt(d))``. A class without
    rows begins at zero; where all means are equal nothing is changed. All linear experts of a fold
    begin equal; the router's random beginning sends them different clips.

    Args:
        mixture: A new mixture, on any device.
        rows: All rows of the data, on the same device.
        training_rows: Numbers of the training rows of each fold.
        y: Class of every row of the data.
    """
    layers = [group.layers[0] for group in mixture.groups if len(group.layers) == 1]
    if not layers:
        return
    n_classes, width = layers[0].weight.shape[2:]
    for fold, part in enumerate(training_rows):
        index = torch.from_numpy(part).to(rows.x.device)
        x = rows.take_fold(index, fold)
        own = torch.from_numpy(y[part]).to(x.device)
        one_hot = torch.nn.functional.one_hot(own, n_classes).to(x.dtype)
        count = one_hot.sum(dim=0).unsqueeze(1)
        sums = one_hot.T @ (x - x.mean(dim=0))
        centroids = sums / count.clamp_min(1)
        size = centroids.abs().mean()
        if size > _ROUNDING * x.abs().mean():
            for layer in layers:
                layer.weight[fold] = centroids * (0.5 / math.sqrt(width) / size)
