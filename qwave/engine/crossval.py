"""One trial: train every fold, pack it, and score what the packed file predicts.

The reported scores are those of the bytes that would be shipped: each fold's model is packed
first, and its held-out clips are predicted from the packed form.

Shapes: n clips, f folds, e experts, c classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qwave.config import DataError, TrialConfig, require_config
from qwave.data import EmbeddingSet, Fold, make_folds, require_embeddings, resolve_config
from qwave.engine import (
    Checkpoint,
    SoftTargets,
    pack_fold,
    resolve_device,
    train_folds,
    train_teacher,
)
from qwave.engine.usage import PhaseClock, peak_memory, reset_peak_memory
from qwave.packing import packed_size_parts
from qwave.runtime import PackedClassifier, Prediction
from qwave.scores.evaluate import clustered_standard_error, score_predictions, score_uncertainty


@dataclass(frozen=True, eq=False)
class Predictions:
    """Out-of-fold predictions: every clip by the model that did not see it.

    Attributes:
        probabilities: Class probabilities, float32 [n, c].
        predicted: Likeliest class, int64 [n].
        mutual_information: Curiosity, float32 [n].
        variance: Variance under MC-dropout, the other measure of curiosity, float32 [n].
        gates: Weight of each expert, float32 [n, e].
        fold: Fold in whose test part the clip stands, int64 [n], 0 to f - 1.
    """

    probabilities: np.ndarray = field(repr=False)
    predicted: np.ndarray = field(repr=False)
    mutual_information: np.ndarray = field(repr=False)
    variance: np.ndarray = field(repr=False)
    gates: np.ndarray = field(repr=False)
    fold: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class TrialResult:
    """The result of a cross-validation of one configuration.

    Attributes:
        config: Canonical configuration, its number of folds settled.
        scores: Mean over folds of every score; also ``size_bytes``, ``active_bytes``, and
            ``accuracy_standard_error`` (clustered by recording, pooled over folds).
        fold_scores: Score to one value a fold.
        pooled_scores: Scores of all out-of-fold predictions together, with those of the
            uncertainties: ``curiosity_*`` (mutual information), ``variance_*`` and, the baseline
            they have to beat, ``max_probability_*``.
        predictions: Out-of-fold predictions of all clips.
        models: Packed model of each fold.
        expert_load: Mean gate of each expert over all clips, [e].
        size_bytes: Length of the packed file.
        size_parts: Bytes of each part of the file; they sum to `size_bytes`.
        train_loss: Mean training loss of each epoch and fold, float32 [epochs, f].
        checkpoints: Held-out loss and accuracy at about ten epochs.
        seconds: Wall time of the whole trial.
        train_seconds: Wall time of the training, with a teacher that was trained for it.
        phase_seconds: Wall time of ``prepare`` (folds, normalisation, parameters), ``steps``,
            ``evaluate`` (held-out scores at a few epochs), ``pack`` (with the range of curiosity),
            ``predict`` (with curiosity) and ``score``.
        peak_memory_bytes: Highest resident memory of this process during the trial where the
            system can say (since its start elsewhere); on a GPU, highest allocation there.
    """

    config: TrialConfig
    scores: Mapping[str, float]
    fold_scores: Mapping[str, tuple[float, ...]] = field(repr=False)
    pooled_scores: Mapping[str, float] = field(repr=False)
    predictions: Predictions = field(repr=False)
    models: tuple[PackedClassifier, ...] = field(repr=False)
    expert_load: tuple[float, ...]
    size_bytes: int
    size_parts: Mapping[str, int]
    train_loss: np.ndarray = field(repr=False)
    checkpoints: tuple[Checkpoint, ...] = field(repr=False)
    seconds: float
    train_seconds: float
    phase_seconds: Mapping[str, float]
    peak_memory_bytes: int


def cross_validate(
    config: TrialConfig,
    data: EmbeddingSet,
    folds: Sequence[Fold] | None = None,
    *,
    soft_targets: Sequence[SoftTargets] | None = None,
    device: str = "cpu",
) -> TrialResult:
    """Run one trial.

    The data are not searched for leaks: `qwave.data.find_leaks` does, as every sweep does once.

    Args:
        config: Any configuration; its canonical form is what runs, with the number of folds that
            it comes to on these data (`qwave.data.resolve_folds`).
        data: Embeddings with labels.
        folds: The result of `qwave.data.make_folds` for these data and `config.data`; default:
            folds are made here, and its warnings are shown.
        soft_targets: The result of `qwave.engine.train_teacher` for these folds and a
            configuration of equal `teacher_key`; default: a teacher is trained where
            `train.distillation` asks for one.
        device: ``cpu``, ``cuda`` or ``mps``; predictions are always made on the CPU.

    Raises:
        ConfigError: `config` is no configuration, training diverged (see
            `qwave.engine.pack_fold`), or no packed file can hold such a model (see
            `qwave.packing.Header`).
        DataError: `data` is no `EmbeddingSet`, or cannot be split as asked, or `folds` do not
            test every row once.
        DeviceError: The device is not there.
    """
    require_config(config, "cross_validate")
    require_embeddings(data, "cross_validate")
    clock = PhaseClock()
    where = resolve_device(device)
    reset_peak_memory(where)
    if folds is None:
        folds = make_folds(data, config.data)
    tested = np.concatenate([fold.test for fold in folds])
    if not np.array_equal(np.sort(tested), np.arange(len(data.y))):
        raise DataError("cross_validate: folds must test every row of the data once")
    config = resolve_config(config, data)
    size_parts = packed_size_parts(config, data)  # refuses what no file can hold
    if config.train.distillation and soft_targets is None:
        soft_targets = train_teacher(config, data, folds, device=device)
    trained = train_folds(config, data, folds, soft_targets=soft_targets, device=device)
    clock.stop("train")
    models = tuple(
        PackedClassifier(pack_fold(trained, position, config, data, fold))
        for position, fold in enumerate(folds)
    )
    clock.stop("pack")
    parts = [model.examine(data.x[fold.test]) for model, fold in zip(models, folds, strict=True)]
    clock.stop("predict")
    predictions = _pooled_predictions(parts, folds)
    by_fold = [
        score_predictions(data.y[fold.test], part.probabilities)
        for fold, part in zip(folds, parts, strict=True)
    ]
    fold_scores = {name: tuple(scores[name] for scores in by_fold) for name in by_fold[0]}
    is_correct = predictions.predicted == data.y
    load = tuple(predictions.gates.mean(axis=0).tolist())
    # Twelve decimals: the mean of the same hits spread otherwise over the folds would differ in
    # the last bit, and one of two equal points on the front would dominate the other.
    scores = {name: round(float(np.mean(v)), 12) for name, v in fold_scores.items()}
    scores["accuracy_standard_error"] = clustered_standard_error(is_correct, data.group)
    scores["size_bytes"] = float(sum(size_parts.values()))
    scores["active_bytes"] = _active_bytes(size_parts, predictions.gates)
    pooled_scores = _pooled_scores(data.y, predictions, is_correct)
    clock.stop("score")
    train_seconds = clock.seconds.pop("train")
    used = peak_memory(where)
    return TrialResult(
        config=config,
        scores=scores,
        fold_scores=fold_scores,
        pooled_scores=pooled_scores,
        predictions=predictions,
        models=models,
        expert_load=load,
        size_bytes=sum(size_parts.values()),
        size_parts=size_parts,
        train_loss=trained.train_loss,
        checkpoints=trained.checkpoints,
        seconds=train_seconds + sum(clock.seconds.values()),
        train_seconds=train_seconds,
        phase_seconds={**trained.phase_seconds, **clock.seconds},
        peak_memory_bytes=used.private + used.shared,
    )


def _pooled_predictions(parts: Sequence[Prediction], folds: Sequence[Fold]) -> Predictions:
    """Predictions of each fold's model for its test rows, in the order of the rows."""
    order = np.argsort(np.concatenate([fold.test for fold in folds]))

    def pooled(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(values)[order]

    probabilities = pooled([part.probabilities for part in parts])
    return Predictions(
        probabilities,
        probabilities.argmax(axis=1),
        pooled([part.mutual_information for part in parts]),
        pooled([part.variance for part in parts]),
        pooled([part.gates for part in parts]),
        pooled([np.full(len(fold.test), fold.index) for fold in folds]),
    )


def _pooled_scores(
    y: np.ndarray, predictions: Predictions, is_correct: np.ndarray
) -> dict[str, float]:
    scores = score_predictions(y, predictions.probabilities)
    uncertainties = {
        "curiosity": predictions.mutual_information,
        "variance": predictions.variance,
        "max_probability": -predictions.probabilities.max(axis=1),
    }
    for name, uncertainty in uncertainties.items():
        for score, value in score_uncertainty(is_correct, uncertainty).items():
            scores[f"{name}_{score}"] = value
    return scores


def _active_bytes(size_parts: Mapping[str, int], gates: np.ndarray) -> float:
    """Bytes that one prediction reads on average: router, constants, and the experts used."""
    share = (gates > 0).mean(axis=0)
    experts = sum(share[e] * size_parts[f"expert_{e}"] for e in range(len(share)))
    shared = sum(size_parts.get(part, 0) for part in ("router", "normalization"))
    return float(experts + shared)
