"""From a model's configuration to modules, and where the training of linear experts begins.

No other module gives a configuration to layers.

Linear experts begin at the nearest-centroid classifier. Rows of weights drawn at random decide the
direction of every feature that the few training clips say little about, and with 1 to 4 bits they
go on deciding it. Measured on ESC-10: see CHANGELOG. Experts with hidden layers begin at random.

Notation: f folds, e experts of a group, d features, c classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
import torch

from qwave.config import ModelConfig
from qwave.engine.task import Rows
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import ExpertGroup, Mixture, Router, StackedLinear

_ROUNDING = 1e-6  # means that differ by this share of the features' size, or less, are equal


def build_mixture(
    config: ModelConfig,
    in_features: int,
    num_classes: int,
    generators: Sequence[torch.Generator],
) -> Mixture:
    """Build the mixture of a canonical configuration, one copy a fold.

    Args:
        config: The model; experts must stand in the order of their schemes
            (`TrialConfig.canonical`).
        in_features: Number of features of a clip.
        num_classes: Number of classes.
        generators: Generator of each fold, from which its parameters are drawn.
    """
    groups = []
    for scheme, members in groupby(config.schemes):
        num_members = len(list(members))
        widths = (in_features, *config.hidden, num_classes)
        layers = [
            StackedLinear(num_members, i, o, config.layer_scheme(scheme, layer), generators)
            for layer, (i, o) in enumerate(pairwise(widths))
        ]
        groups.append(ExpertGroup(layers))
    widths = config.router_widths(in_features)
    router = None
    if config.num_experts > 1:
        router = Router(
            [StackedLinear(1, i, o, config.router.scheme, generators) for i, o in pairwise(widths)]
        )
    return Mixture(groups, router, top_k=config.top_k)


def build_dropout(
    config: ModelConfig,
    in_features: int,
    n_rows: int,
    seeds: Sequence[int],
    device: torch.device | None = None,
) -> Dropout:
    """Build the dropout masks of one batch of a configuration's mixture.

    Args:
        config: The model.
        in_features: Number of features of a clip.
        n_rows: Number of rows of a batch, with padding.
        seeds: Seed of each fold's masks.
        device: Where the masks are used; default: the CPU.
    """
    experts = [(in_features, config.input_dropout), *((w, config.dropout) for w in config.hidden)]
    router = [(width, config.router.dropout) for width in config.router_widths(in_features)[:-1]]
    return Dropout(experts, router, n_rows, seeds, device)


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
