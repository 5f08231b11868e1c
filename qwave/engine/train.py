"""Training of all folds of one configuration together.

Parameters carry a leading fold axis and one optimiser step advances every fold; folds share the
data and nothing else, so that a fold trained alone and the same fold in a stack are one thing.

Notation: f folds, n rows of the data, b batch rows, d features, c classes.
"""

from __future__ import annotations

import copy
import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from qwave.config import ConfigError, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold, Normalizer, fit_normalizer
from qwave.engine.clock import PhaseClock
from qwave.engine.compiled import CompiledTrainer, training_library
from qwave.engine.device import fold_generator, fold_seed, resolve_device
from qwave.engine.initial import start_at_centroids
from qwave.engine.lessons import Lessons, Syllabus
from qwave.engine.precision import Precision, resolve_precision
from qwave.engine.rows import fit_rows, rows_on_device
from qwave.engine.stacked import StackedTrainer
from qwave.engine.task import Trainer, TrainingTask
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import Mixture, build_mixture

N_CHECKPOINTS = 10


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of all folds after an epoch, on rows that do not train.

    Attributes:
        epoch: Counted from 1.
        loss: Held-out negative log likelihood, [f]. Recorded, never used to choose anything.
        accuracy: Held-out accuracy, [f]. Likewise.
    """

    epoch: int
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class TrainedFolds:
    """What training returns.

    Attributes:
        mixture: Parameters of all folds, on the CPU, in evaluation state.
        normalizers: One a fold.
        train_loss: Mean training loss of each epoch, [epochs, f].
        checkpoints: About ten over the epochs, the last epoch among them.
        epochs: Epoch whose parameters were kept, [f].
        phase_seconds: Wall time of ``prepare``, ``steps`` and ``look`` (at held-out rows).
    """

    mixture: Mixture
    normalizers: tuple[Normalizer, ...]
    train_loss: np.ndarray
    checkpoints: tuple[Checkpoint, ...]
    epochs: tuple[int, ...]
    phase_seconds: Mapping[str, float]


def train_folds(
    config: TrialConfig,
    data: EmbeddingSet,
    folds: Sequence[Fold],
    *,
    lessons: Sequence[Lessons] | None = None,
    device: str = "cpu",
    rows_per_fold: int | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    way: Literal["auto", "compiled", "stacked"] = "auto",
    precision: Precision = "auto",
) -> TrainedFolds:
    """Train one model a fold.

    Args:
        config: Canonical configuration.
        data: Embeddings and labels.
        folds: Folds to train; any part of a data set's folds.
        lessons: What each fold is taught (`qwave.engine.teacher`), where `train.distillation` is
            above 0; else, and by default, its rows' labels.
        device: ``cpu``, ``cuda`` or ``mps``.
        rows_per_fold: Largest number of training rows of any fold of the cross-validation, which
            sets the number of steps of an epoch; default: of the folds given.
        on_checkpoint: Called about ten times over the epochs.
        way: ``auto`` trains in C (`qwave.engine.compiled`) on a CPU with a C compiler, and by
            stacked products (`qwave.engine.stacked`), the same to rounding, elsewhere.
        precision: Of what need not be exact: with ``bfloat16`` a compiled step of wide experts
            moves a third less memory, and is a fifth shorter. ``auto`` takes it where it pays
            (`qwave.engine.precision`).

    Raises:
        ConfigError: Compiled training on a GPU, or without a compiler; no such way or precision.
        ValueError: Lessons of other folds: they would teach what is to be held out.
    """
    clock = PhaseClock()
    place = resolve_device(device)
    train = config.train
    fit, validation = fit_rows(config, data, folds)
    normalizers = tuple(fit_normalizer(data.x[rows], config.data.normalization) for rows in fit)
    rows = rows_on_device(config, data, normalizers, place)
    digest = config.digest
    init = [fold_generator(digest, fold.index, "init") for fold in folds]
    order = [np.random.default_rng(fold_seed(digest, fold.index, "order")) for fold in folds]
    mixture = build_mixture(config.model, data.x.shape[1], data.num_classes, init).to(place)
    start_at_centroids(mixture, rows, fit, data.y)
    most_rows = rows_per_fold or max(len(fold.train) for fold in folds)
    n_steps = math.ceil(most_rows / train.batch_size)
    width = math.ceil(most_rows / n_steps)
    seeds = [fold_seed(digest, fold.index, "dropout") for fold in folds]
    dropout = Dropout(config.model, data.x.shape[1], width, seeds, place)
    if lessons is None or not train.distillation:
        lessons = [Lessons.of_labels(part) for part in fit]
    _refuse_foreign(lessons, fit)
    syllabus = Syllabus(config, data, lessons, order, n_steps=n_steps, width=width)
    task = TrainingTask(mixture, config, rows, dropout, data.num_classes)
    trainer = _trainer(task, _library(way, place), precision)
    checkpoint_epochs = {
        math.ceil(train.epochs * part / N_CHECKPOINTS) for part in range(1, N_CHECKPOINTS + 1)
    }
    stopper = _Stopper(len(folds), train.patience) if train.patience is not None else None
    losses, checkpoints = [], []
    clock.stop("prepare")
    for epoch in range(1, train.epochs + 1):
        examples = syllabus.epoch(epoch)
        epoch_losses = trainer.train(examples, _learning_rates(train, epoch, n_steps))
        losses.append(epoch_losses.mean(axis=1))
        clock.stop("steps")
        if epoch in checkpoint_epochs:
            held_out = [fold.test for fold in folds]
            checkpoints.append(Checkpoint(epoch, *_evaluate(trainer, data.y, held_out)))
            if on_checkpoint is not None:
                on_checkpoint(checkpoints[-1])
        if stopper is not None:
            loss_now, _ = _evaluate(trainer, data.y, validation)
            if stopper.update(mixture, loss_now, epoch):
                break
        clock.stop("look")
    kept = (len(losses),) * len(folds)
    if stopper is not None:
        kept = stopper.restore(mixture)
    mixture.zero_grad()  # as large as the mixture, and of no more use
    return TrainedFolds(
        mixture.cpu().eval(),
        normalizers,
        np.stack(losses),
        tuple(checkpoints),
        kept,
        clock.seconds,
    )


def _refuse_foreign(lessons: Sequence[Lessons], fit: Sequence[np.ndarray]) -> None:
    if len(lessons) != len(fit):
        raise ValueError(f"{len(fit)} folds need as many lessons, but got {len(lessons)}")
    for place, (lesson, rows) in enumerate(zip(lessons, fit, strict=True)):
        if not np.array_equal(np.sort(lesson.row[0]), rows):
            raise ValueError(f"lessons[{place}] are not of the training rows of its fold")


class _Stopper:
    """Keeps each fold's parameters at its best validation loss; patience in epochs."""

    def __init__(self, n_folds: int, patience: int) -> None:
        self.patience = patience
        self.best_loss = [math.inf] * n_folds
        self.best_epoch = [0] * n_folds
        self.best: dict[str, Tensor] | None = None

    def update(self, mixture: Mixture, loss: Sequence[float], epoch: int) -> bool:
        """Look at an epoch; True once every fold has run out of patience.

        A fold that has run out is not looked at again, so that its result does not depend on how
        long the others go on.
        """
        state = mixture.state_dict()
        if self.best is None:
            self.best = copy.deepcopy(state)
        for fold, value in enumerate(loss):
            has_stopped = epoch - self.best_epoch[fold] > self.patience
            if not has_stopped and value < self.best_loss[fold]:
                self.best_loss[fold], self.best_epoch[fold] = value, epoch
                for name, parameter in state.items():
                    self.best[name][fold] = parameter[fold]
        return all(epoch - best >= self.patience for best in self.best_epoch)

    def restore(self, mixture: Mixture) -> tuple[int, ...]:
        """Put the best parameters back; returns the epoch of each fold."""
        assert self.best is not None, "restore comes after at least one epoch"
        mixture.load_state_dict(self.best)
        return tuple(self.best_epoch)


def _library(way: str, place: torch.device) -> ctypes.CDLL | None:
    """The compiled library where it is to be used."""
    if way not in ("auto", "compiled", "stacked"):
        raise ConfigError(f"way must be one of auto, compiled, stacked, but got {way!r}")
    if way == "stacked" or (way == "auto" and place.type != "cpu"):
        return None
    if place.type != "cpu":
        raise ConfigError(f"compiled training runs on the cpu, but got device {place}")
    library = training_library()
    if library is None and way == "compiled":
        raise ConfigError(
            "compiled training needs a C compiler (cc, or what CC names), and there is none that "
            "works; way='auto' goes on without"
        )
    return library


def _trainer(task: TrainingTask, library: ctypes.CDLL | None, precision: Precision) -> Trainer:
    is_quantized = task.config.train.mode == "qat"
    resolved = resolve_precision(precision, task.mixture, library)
    if library is None:
        return StackedTrainer(task, is_quantized=is_quantized, precision=resolved)
    return CompiledTrainer(library, task, is_quantized=is_quantized, precision=resolved)


def _learning_rates(train: TrainConfig, epoch: int, n_steps: int) -> list[float]:
    """Of the steps of an epoch, counted from 1: half a cosine over all epochs, down to 0."""
    first, n_all = (epoch - 1) * n_steps, train.epochs * n_steps
    progress = [step / n_all for step in range(first, first + n_steps)]
    return [train.learning_rate * (1 + math.cos(math.pi * part)) / 2 for part in progress]


def _evaluate(
    trainer: Trainer, y: np.ndarray, rows: Sequence[np.ndarray]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Negative log likelihood and accuracy of each fold on its own rows."""
    padded = np.stack([np.resize(part, max(map(len, rows))) for part in rows])
    log_p = torch.log_softmax(trainer.predict(torch.from_numpy(padded)), dim=-1).numpy()
    losses, accuracies = [], []
    for fold, part in enumerate(rows):
        own = log_p[fold, : len(part)]
        losses.append(float(-own[np.arange(len(part)), y[part]].mean()))
        accuracies.append(float((own.argmax(axis=1) == y[part]).mean()))
    return tuple(losses), tuple(accuracies)
