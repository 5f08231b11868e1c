"""From a model's configuration to modules: the only place where layers meet a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import torch

from qwave.config import ModelConfig
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import ExpertGroup, Mixture, Router, StackedLinear


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
        generators: One a fold; each fold's parameters are drawn from its own.
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
        seeds: One a fold.
        device: Where the masks are used; default: the CPU.
    """
    experts = [(in_features, config.input_dropout), *((w, config.dropout) for w in config.hidden)]
    router = [(width, config.router.dropout) for width in config.router_widths(in_features)[:-1]]
    return Dropout(experts, router, n_rows, seeds, device)
