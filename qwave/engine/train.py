"""Training of all folds of one configuration together.

Parameters carry a leading fold axis and one optimiser step advances every fold; folds share the
data and nothing else, so that a fold's result does not depend on the other folds.

The configuration is read here, once: trainers, batches and layers take numbers and modules.

Notation: f folds, n rows of the data, b batch rows, d features, c classes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from qwave.config import ConfigError, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold, Normalizer, fit_normalizer
from qwave.engine.batches import Batches, SoftTargets
from qwave.engine.build import build_dropout, build_mixture, start_at_centroids
from qwave.engine.compiled import CompiledTrainer, training_library
from qwave.engine.device import fold_generator, fold_seed, resolve_device
from qwave.engine.precision import Precision, resolve_precision
from qwave.engine.stacked import StackedTrainer
from qwave.engine.task import Trainer, TrainingTask, rows_on_device
from qwave.engine.usage import PhaseClock
from qwave.nn.mixture import Mixture

N_CHECKPOINTS = 10


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Held-out scores of all folds after an epoch: recorded, never used to choose anything.

    Attributes:
        epoch: Number of the epoch, counted from 1.
        loss: Negative log likelihood of the test rows of each fold, [f].
        accuracy: Accuracy on the test rows of each fold, [f].
    """

    epoch: int
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class TrainedFolds:
    """The result of training.

    Attributes:
        mixture: Parameters of all folds, on the CPU, in evaluation state.
        normalizers: Fitted normalisation of each fold.
        train_loss: Mean training loss of each epoch and fold, float32 [epochs, f].
        checkpoints: Held-out scores at about ten epochs, the last epoch among them.
        phase_seconds: Wall time of ``prepare`` (normalisation, parameters), ``steps`` (training)
            and ``evaluate`` (held-out scores).
    """

    mixture: Mixture = field(repr=False)
    normalizers: tuple[Normalizer, ...] = field(repr=False)
    train_loss: np.ndarray = field(repr=False)
    checkpoints: tuple[Checkpoint, ...] = field(repr=False)
    phase_seconds: Mapping[str, float]


def train_folds(
    config: TrialConfig,
    data: EmbeddingSet,
    folds: Sequence[Fold],
    *,
    soft_targets: Sequence[SoftTargets] | None = None,
    device: str = "cpu",
    backend: Literal["auto", "compiled", "stacked"] = "auto",
    precision: Precision = "auto",
) -> TrainedFolds:
    """Train one model a fold.

    Args:
        config: Canonical configuration.
        data: Embeddings and labels.
        folds: Folds to train; any part of a data set's folds. The largest training part sets the
            number of steps of an epoch.
        soft_targets: Training examples of each fold with the teacher's probabilities
            (`qwave.engine.teacher`), used where `train.distillation` is above 0; default: the
            training rows with their labels.
        device: ``cpu``, ``cuda`` or ``mps``.
        backend: ``compiled`` trains in C (`qwave.engine.compiled`), ``stacked`` by stacked
            products (`qwave.engine.stacked`), the same to rounding. ``auto`` is ``compiled`` on a
            CPU with a C compiler, and ``stacked`` elsewhere.
        precision: Type of the numbers that need not be exact: with ``bfloat16`` a compiled step
            of wide experts moves a third less memory, and is a fifth shorter. ``auto`` takes it
            where it pays (`qwave.engine.precision`).

    Raises:
        ConfigError: Compiled training on a GPU, or without a compiler; no such backend or
            precision.
        ValueError: Soft targets of other rows than the folds' training rows: the model would learn
            from clips that it is tested on.
    """
    clock = PhaseClock()
    where = resolve_device(device)
    library = _library(backend, where)
    model, train, digest = config.model, config.train, config.digest
    training_rows = [fold.train for fold in folds]
    if soft_targets is None or not train.distillation:
        soft_targets = [SoftTargets.from_labels(rows) for rows in training_rows]
    _refuse_foreign(soft_targets, training_rows)

    def seeds(purpose: str) -> list[int]:
        return [fold_seed(digest, fold.index, purpose) for fold in folds]

    normalizers = tuple(
        fit_normalizer(data.x[rows], config.data.normalization) for rows in training_rows
    )
    rows = rows_on_device(data.x, normalizers, where)
    generators = [fold_generator(digest, fold.index, "init") for fold in folds]
    n_features, n_classes = data.x.shape[1], data.num_classes
    mixture = build_mixture(model, n_features, n_classes, generators).to(where)
    start_at_centroids(mixture, rows, training_rows, data.y)
    most_rows = max(map(len, training_rows))
    n_steps = math.ceil(most_rows / train.batch_size)
    width = math.ceil(most_rows / n_steps)
    batches = Batches(
        data,
        soft_targets,
        [np.random.default_rng(seed) for seed in seeds("order")],
        label_smoothing=train.label_smoothing,
        distillation=train.distillation,
        is_class_weighted=train.class_weights,
        n_steps=n_steps,
        width=width,
    )
    task = TrainingTask(
        mixture,
        rows,
        build_dropout(model, n_features, width, seeds("dropout"), where),
        n_classes,
        is_quantized=train.mode == "qat",
        weight_decay=train.weight_decay,
        load_balance_weight=model.load_balance_weight,
    )
    trainer = _trainer(task, library, precision)
    checkpoint_epochs = {
        math.ceil(train.epochs * part / N_CHECKPOINTS) for part in range(1, N_CHECKPOINTS + 1)
    }
    losses, checkpoints = [], []
    clock.stop("prepare")
    for epoch in range(1, train.epochs + 1):
        examples = batches.epoch(epoch)
        epoch_losses = trainer.train(examples, _learning_rates(train, epoch, n_steps))
        losses.append(epoch_losses.mean(axis=1))
        clock.stop("steps")
        if epoch in checkpoint_epochs:
            checkpoints.append(_checkpoint(epoch, trainer, data.y, [fold.test for fold in folds]))
        clock.stop("evaluate")
    mixture.zero_grad()  # gradients are as large as the mixture, and of no more use
    return TrainedFolds(
        mixture.cpu().eval(), normalizers, np.stack(losses), tuple(checkpoints), clock.seconds
    )


def _refuse_foreign(
    soft_targets: Sequence[SoftTargets], training_rows: Sequence[np.ndarray]
) -> None:
    if len(soft_targets) != len(training_rows):
        raise ValueError(
            f"{len(training_rows)} folds need as many soft targets, but got {len(soft_targets)}"
        )
    for index, (own, rows) in enumerate(zip(soft_targets, training_rows, strict=True)):
        if not np.array_equal(np.sort(own.row[0]), rows):
            raise ValueError(f"soft_targets[{index}] are not of the training rows of its fold")


def _library(backend: str, device: torch.device) -> ctypes.CDLL | None:
    """The compiled library, or None where training is stacked."""
    if backend not in ("auto", "compiled", "stacked"):
        raise ConfigError(f"backend must be one of auto, compiled, stacked, but got {backend!r}")
    if backend == "stacked" or (backend == "auto" and device.type != "cpu"):
        return None
    if device.type != "cpu":
        raise ConfigError(f"compiled training runs on the cpu, but got device {device}")
    library = training_library()
    if library is None and backend == "compiled":
        raise ConfigError(
            "compiled training needs a C compiler (cc, or what CC names), and there is none that "
            "works; backend='auto' goes on without"
        )
    return library


def _trainer(task: TrainingTask, library: ctypes.CDLL | None, precision: Precision) -> Trainer:
    resolved = resolve_precision(precision, task.mixture, library)
    if library is None:
        return StackedTrainer(task, precision=resolved)
    return CompiledTrainer(library, task, precision=resolved)


def _learning_rates(train: TrainConfig, epoch: int, n_steps: int) -> list[float]:
    """Learning rate of each step of an epoch: half a cosine over all epochs, down to 0."""
    first, n_all = (epoch - 1) * n_steps, train.epochs * n_steps
    progress = [step / n_all for step in range(first, first + n_steps)]
    return [train.learning_rate * (1 + math.cos(math.pi * part)) / 2 for part in progress]


def _checkpoint(
    epoch: int, trainer: Trainer, y: np.ndarray, rows: Sequence[np.ndarray]
) -> Checkpoint:
    """Negative log likelihood and accuracy of each fold on its test rows."""
    padded = np.stack([np.resize(part, max(map(len, rows))) for part in rows])
    log_p = torch.log_softmax(trainer.predict(torch.from_numpy(padded)), dim=-1).numpy()
    losses, accuracies = [], []
    for fold, part in enumerate(rows):
        own = log_p[fold, : len(part)]
        losses.append(float(-own[np.arange(len(part)), y[part]].mean()))
        accuracies.append(float((own.argmax(axis=1) == y[part]).mean()))
    return Checkpoint(epoch, tuple(losses), tuple(accuracies))
