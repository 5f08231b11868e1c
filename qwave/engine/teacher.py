"""The teacher of a fold: an ensemble of float networks that were trained on the same rows.

The probabilities that it gives depend on the data, the folds, the normalisation, the class weights
and the seed, and on nothing else that a study searches; `teacher_key` tells which trials can share
their soft targets. A fresh seed has a teacher of its own: otherwise the luck of one teacher, which
all of its students share, would be missing from the spread over seeds.

Notation: f folds, m training rows of a fold, r rounds, c classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qwave.config import ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold
from qwave.engine.batches import SoftTargets
from qwave.engine.device import fold_seed, resolve_device
from qwave.engine.task import Rows, rows_on_device
from qwave.engine.train import TrainedFolds, train_folds

_MODEL = ModelConfig(schemes=("fp32",), hidden=(64,), dropout=0.2, input_dropout=0.5)
_N_MEMBERS = 5
_N_ROUNDS = 20
_CHUNK = 512  # examples of each fold that are mixed at a time


def train_teacher(
    config: TrialConfig, data: EmbeddingSet, folds: Sequence[Fold], *, device: str = "cpu"
) -> list[SoftTargets]:
    """Train a teacher for each fold and let it predict mixtures of the fold's training rows.

    Args:
        config: Canonical configuration of the trial that is to be distilled.
        data: Embeddings and labels.
        folds: All folds of the cross-validation.
        device: ``cpu``, ``cuda`` or ``mps``.

    Returns:
        Soft targets of each fold, for `train_folds`.
    """
    members = [
        train_folds(_member(config, number), data, folds, device=device)
        for number in range(_N_MEMBERS)
    ]
    digest = _member(config, 0).digest
    mixed = [
        SoftTargets.from_mixtures(fold.train, _N_ROUNDS, fold_seed(digest, fold.index, "mixtures"))
        for fold in folds
    ]
    where = resolve_device(device)
    rows = rows_on_device(data.x, members[0].normalizers, where)
    probabilities = _mean_probabilities(members, rows, mixed, where)
    return [
        dataclasses.replace(fold, teacher_probabilities=part)
        for fold, part in zip(mixed, probabilities, strict=True)
    ]


def teacher_key(config: TrialConfig) -> str:
    """Name of the teacher: trials on the same data with equal keys have equal soft targets."""
    return _member(config, 0).digest


def _member(config: TrialConfig, number: int) -> TrialConfig:
    train = TrainConfig(
        epochs=60, weight_decay=0.01, distillation=0.0, class_weights=config.train.class_weights
    )
    seed = config.seed * _N_MEMBERS + number
    return TrialConfig(config.data, _MODEL, train, seed).canonical()


@torch.no_grad()
def _mean_probabilities(
    members: Sequence[TrainedFolds],
    rows: Rows,
    mixed: Sequence[SoftTargets],
    device: torch.device,
) -> list[np.ndarray]:
    """Mean probabilities over the members, float32 [r, m, c], for each fold's mixtures."""
    longest = max(fold.row.size for fold in mixed)

    def flat(name: str) -> Tensor:
        # Folds of fewer examples are filled up with their own.
        values = [np.resize(getattr(fold, name), longest) for fold in mixed]
        return torch.from_numpy(np.stack(values)).to(device)

    row, partner, share = flat("row"), flat("partner"), flat("share")
    mixtures = [member.mixture.to(device) for member in members]
    parts = []
    for start in range(0, longest, _CHUNK):
        part = slice(start, start + _CHUNK)
        x = rows.mix(row[:, part], partner[:, part], share[:, part])
        each = [torch.softmax(mixture(x).logits, dim=-1) for mixture in mixtures]
        parts.append(torch.stack(each).mean(dim=0).cpu())
    probabilities = torch.cat(parts, dim=1).numpy()
    return [
        probabilities[index, : fold.row.size].reshape(*fold.row.shape, -1)
        for index, fold in enumerate(mixed)
    ]
