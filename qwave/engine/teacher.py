"""The teacher of a fold: an ensemble of float networks that were trained on the same rows.

What it says depends on the data, the folds, the normalisation and the seed, and on nothing that a
study searches besides; `lessons_key` tells which trials can share their lessons. A fresh seed has
a teacher of its own: or else the luck of one teacher, which all of its students share, would be in
no spread over seeds.

Notation: f folds, m examples of a fold, r rounds, d features, c classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qwave.config import ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold
from qwave.engine.device import fold_seed, resolve_device
from qwave.engine.lessons import Lessons
from qwave.engine.rows import Rows, fit_rows, rows_on_device
from qwave.engine.train import TrainedFolds, train_folds

_MODEL = ModelConfig(schemes=("fp32",), hidden=(64,), dropout=0.2, input_dropout=0.5)
_N_MEMBERS = 5
_N_ROUNDS = 20
_CHUNK = 512  # examples of each fold that are mixed at a time


def teach(
    config: TrialConfig, data: EmbeddingSet, folds: Sequence[Fold], *, device: str = "cpu"
) -> list[Lessons]:
    """Train a teacher for each fold and ask it about mixtures of the fold's training rows.

    Args:
        config: Canonical configuration of the trial that is to be taught.
        data: Embeddings and labels.
        folds: All folds of the cross-validation.
        device: ``cpu``, ``cuda`` or ``mps``.

    Returns:
        Lessons of each fold, for `train_folds`. Rows that `patience` looks at are not in them, nor
        was the teacher trained on them.
    """
    fit, _ = fit_rows(config, data, folds)
    taught = [dataclasses.replace(fold, train=rows) for fold, rows in zip(folds, fit, strict=True)]
    members = [
        train_folds(_member(config, number), data, taught, device=device)
        for number in range(_N_MEMBERS)
    ]
    digest = _member(config, 0).digest
    lessons = [
        Lessons.of_mixtures(rows, _N_ROUNDS, fold_seed(digest, fold.index, "mixtures"))
        for fold, rows in zip(folds, fit, strict=True)
    ]
    place = resolve_device(device)
    rows = rows_on_device(config, data, members[0].normalizers, place)
    said = _say(members, rows, lessons, place)
    return [
        dataclasses.replace(lesson, said=part) for lesson, part in zip(lessons, said, strict=True)
    ]


def lessons_key(config: TrialConfig) -> str:
    """Trials on the same data with equal keys have equal lessons."""
    key = _member(config, 0).digest
    # The rows that patience keeps back are drawn for each configuration.
    return key if config.train.patience is None else f"{key}-{config.digest}"


def _member(config: TrialConfig, number: int) -> TrialConfig:
    train = TrainConfig(
        epochs=60, weight_decay=0.01, distillation=0.0, class_weights=config.train.class_weights
    )
    seed = config.seed * _N_MEMBERS + number
    return TrialConfig(config.data, _MODEL, train, seed).canonical()


@torch.no_grad()
def _say(
    members: Sequence[TrainedFolds], rows: Rows, lessons: Sequence[Lessons], place: torch.device
) -> list[np.ndarray]:
    """Mean probabilities [r, m, c] of each fold's members for its mixtures."""
    longest = max(lesson.row.size for lesson in lessons)

    def flat(name: str) -> Tensor:
        # Folds of fewer examples are filled up with their own.
        values = [np.resize(getattr(lesson, name), longest) for lesson in lessons]
        return torch.from_numpy(np.stack(values)).to(place)

    row, partner, share = flat("row"), flat("partner"), flat("share")
    mixtures = [member.mixture.to(place) for member in members]
    parts = []
    for start in range(0, longest, _CHUNK):
        part = slice(start, start + _CHUNK)
        x = rows.mix(row[:, part], partner[:, part], share[:, part])
        each = [torch.softmax(mixture(x).logits, dim=-1) for mixture in mixtures]
        parts.append(torch.stack(each).mean(dim=0).cpu())
    said = torch.cat(parts, dim=1).numpy()
    return [
        said[fold, : lesson.row.size].reshape(*lesson.row.shape, -1)
        for fold, lesson in enumerate(lessons)
    ]
