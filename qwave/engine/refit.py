"""One model, trained on given rows and packed: what a cross-validation's configuration becomes.

Shapes: n clips, m models, k held-out clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qwave.config import TrialConfig, require_config
from qwave.data import EmbeddingSet, Fold, holdout_split, require_embeddings, resolve_config
from qwave.engine import (
    SoftTargets,
    TrainedFolds,
    pack_fold,
    teacher_key,
    train_folds,
    train_teacher,
)
from qwave.packing import PackedModel, packed_size_bytes
from qwave.runtime import PackedClassifier


class FittedModel(NamedTuple):
    """A model, before and after packing.

    Attributes:
        packed: The packed model, which is shipped.
        trained: The trained parameters of one fold. The fold of `fit_model` is tested on its own
            training rows, and so are its checkpoints.
    """

    packed: PackedModel
    trained: TrainedFolds


def fit_model(config: TrialConfig, data: EmbeddingSet, *, device: str = "cpu") -> FittedModel:
    """Train a configuration on all rows, as each fold of its cross-validation was on its own.

    Its seeds are those of a further fold, so that the same configuration and data give the same
    file. `data.folds`, `data.n_folds` and `data.holdout_fold` decide nothing else here: data that
    cannot be split can be fitted.

    Raises:
        ConfigError: `config` is no configuration, training diverged, or no packed file can hold
            such a model.
        DataError: `data` is no `EmbeddingSet`.
        DeviceError: The device is not there.
    """
    require_config(config, "fit_model")
    require_embeddings(data, "fit_model")
    rows = np.arange(len(data.y))
    config = resolve_config(config, data)
    assert config.data.n_folds is not None, "resolving settles it"
    return _fit(config, data, Fold(config.data.n_folds, rows, rows), None, device)


def predict_holdout(
    configs: Sequence[TrialConfig], data: EmbeddingSet, *, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Train on all rows but those of the held-out fold, and predict these from the packed model.

    Args:
        configs: Configurations with the same `data.holdout_fold`.
        data: All rows, the held-out ones among them.
        device: ``cpu``, ``cuda`` or ``mps``; predictions are always made on the CPU.

    Returns:
        Held-out rows, int64 [k], and the class that each configuration's model predicts for them,
        int64 [m, k].
    """
    by_teacher: dict[str, list[SoftTargets]] = {}
    predicted = []
    for config in (resolve_config(config, data) for config in configs):
        fold = holdout_split(data, config.data)
        key = teacher_key(config)
        if config.train.distillation and key not in by_teacher:
            by_teacher[key] = train_teacher(config, data, [fold], device=device)
        fitted = _fit(config, data, fold, by_teacher.get(key), device)
        model = PackedClassifier(fitted.packed)
        predicted.append(model.predict_proba(data.x[fold.test]).argmax(axis=1))
    return fold.test, np.array(predicted)


def _fit(
    config: TrialConfig,
    data: EmbeddingSet,
    fold: Fold,
    soft_targets: Sequence[SoftTargets] | None,
    device: str,
) -> FittedModel:
    """Train a canonical configuration on a fold's training rows, with a teacher if it asks so."""
    packed_size_bytes(config, data)  # refuses what no file can hold, before it is trained
    if config.train.distillation and soft_targets is None:
        soft_targets = train_teacher(config, data, [fold], device=device)
    trained = train_folds(config, data, [fold], soft_targets=soft_targets, device=device)
    return FittedModel(pack_fold(trained, 0, config, data, fold), trained)
