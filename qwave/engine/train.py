"""Training of all folds of one configuration together.

Parameters carry a leading fold axis and one optimiser step advances every fold; folds share the
data and nothing else, so that a fold trained alone and the same fold in a stack are one thing.

Notation: f folds, n rows of the data, b batch rows, d features, c classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from qwave.config import ConfigError, TrialConfig
from qwave.data import EmbeddingSet, Fold, Normalizer, fit_normalizer
from qwave.engine.device import fold_generator, fold_seed, resolve_device
from qwave.engine.routed import Precision, RoutedStep
from qwave.engine.rows import Rows, batches, class_weights, fit_rows, rows_on_device
from qwave.engine.stacked import StackedStep, TrainingLoss
from qwave.moe import FoldDropout, Mixture, build_mixture

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
    """

    mixture: Mixture
    normalizers: tuple[Normalizer, ...]
    train_loss: np.ndarray
    checkpoints: tuple[Checkpoint, ...]
    epochs: tuple[int, ...]


def train_folds(
    config: TrialConfig,
    data: EmbeddingSet,
    folds: Sequence[Fold],
    *,
    device: str = "cpu",
    rows_per_fold: int | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    steps: Literal["stacked", "routed"] = "stacked",
    precision: Precision = "auto",
) -> TrainedFolds:
    """Train one model a fold.

    Args:
        config: Canonical configuration.
        data: Embeddings and labels.
        folds: Folds to train; any part of a data set's folds.
        device: ``cpu``, ``cuda`` or ``mps``.
        rows_per_fold: Largest number of training rows of any fold of the cross-validation, which
            sets the number of steps of an epoch; default: of the folds given.
        on_checkpoint: Called about ten times over the epochs.
        steps: ``routed`` is up to four times as fast on a CPU where experts are wide, and rounds
            otherwise (`qwave.engine.routed`); only with ``mode: qat``.
        precision: Of the backward products of routed steps: ``bfloat16``, ``float32``, or
            ``auto``, which is bfloat16 where the processor has it.

    Raises:
        ConfigError: Routed steps on a GPU, or without quantization.
    """
    place = resolve_device(device)
    train = config.train
    fit, validation = fit_rows(config, data, folds)
    normalizers = tuple(fit_normalizer(data.x[rows], config.data.normalization) for rows in fit)
    rows = rows_on_device(config, data, normalizers, place)
    digest = config.digest
    init = [fold_generator(digest, fold.index, "init") for fold in folds]
    order = [np.random.default_rng(fold_seed(digest, fold.index, "order")) for fold in folds]
    dropout = FoldDropout([fold_generator(digest, fold.index, "dropout", place) for fold in folds])
    mixture = build_mixture(config.model, data.x.shape[1], data.num_classes, init).to(place)
    loss = TrainingLoss(config, class_weights(data, fit, train.class_weights).to(place))
    is_quantized = train.mode == "qat"
    take_step: StackedStep | RoutedStep
    if steps == "routed":
        if place.type != "cpu" or not is_quantized:
            raise ConfigError(
                "routed steps are for device cpu and train.mode qat, but got "
                f"{place.type} and {train.mode}; use steps='stacked'"
            )
        take_step = RoutedStep(mixture, config, dropout, loss, precision)
    else:
        take_step = StackedStep(mixture, config, dropout, loss, is_quantized=is_quantized)
    most_rows = rows_per_fold or max(len(fold.train) for fold in folds)
    n_steps = math.ceil(most_rows / train.batch_size)
    width = math.ceil(most_rows / n_steps)
    checkpoint_epochs = {
        math.ceil(train.epochs * part / N_CHECKPOINTS) for part in range(1, N_CHECKPOINTS + 1)
    }
    stopper = _Stopper(len(folds), train.patience) if train.patience is not None else None
    losses, checkpoints = [], []
    for epoch in range(1, train.epochs + 1):
        epoch_loss = torch.zeros(len(folds), device=place)
        for step, (index, row_weight) in enumerate(batches(fit, n_steps, width, order, place)):
            progress = ((epoch - 1) * n_steps + step) / (train.epochs * n_steps)
            learning_rate = train.learning_rate * (1 + math.cos(math.pi * progress)) / 2
            epoch_loss += take_step(rows.take(index), rows.y[index], row_weight, learning_rate)
        losses.append((epoch_loss / n_steps).cpu().numpy())
        if epoch in checkpoint_epochs:
            held_out = [fold.test for fold in folds]
            checkpoints.append(
                Checkpoint(epoch, *_evaluate(mixture, rows, held_out, is_quantized))
            )
            if on_checkpoint is not None:
                on_checkpoint(checkpoints[-1])
        if stopper is not None:
            loss_now, _ = _evaluate(mixture, rows, validation, is_quantized)
            if stopper.update(mixture, loss_now, epoch):
                break
    kept = (len(losses),) * len(folds)
    if stopper is not None:
        kept = stopper.restore(mixture)
    return TrainedFolds(
        mixture.cpu().eval(), normalizers, np.stack(losses), tuple(checkpoints), kept
    )


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


@torch.no_grad()
def _evaluate(
    mixture: Mixture, rows: Rows, index: Sequence[np.ndarray], is_quantized: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Negative log likelihood and accuracy of each fold on its own rows."""
    device = rows.x.device
    width = max(map(len, index))
    padded = torch.from_numpy(np.stack([np.resize(part, width) for part in index])).to(device)
    lengths = torch.tensor([len(part) for part in index], device=device).unsqueeze(1)
    weight = (torch.arange(width, device=device) < lengths) / lengths
    log_p = torch.log_softmax(mixture(rows.take(padded), is_quantized=is_quantized).logits, -1)
    y = rows.y[padded]
    loss = -(log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1) * weight).sum(dim=1)
    accuracy = ((log_p.argmax(dim=-1) == y) * weight).sum(dim=1)
    return tuple(loss.tolist()), tuple(accuracy.tolist())
