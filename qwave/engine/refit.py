"""One model, trained on given rows and packed: what a cross-validation's configuration becomes.

Shapes: n clips, m models, k held-out clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qwave.config import TrialConfig, require_config
from qwave.data import EmbeddingSet, Fold, holdout_split, require_embeddings, resolve_config
from qwave.engine import Lessons, TrainedFolds, lessons_key, pack_fold, teach, train_folds
from qwave.packing import PackedModel, packed_size_bytes
from qwave.runtime import PackedClassifier


class FittedModel(NamedTuple):
    """A model, before and after packing.

    Attributes:
        packed: What is shipped.
        trained: What training left, with one fold; its checkpoints are of the training rows.
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
        configs: With one `data.holdout_fold` between them.
        data: All rows, the held-out ones among them.
        device: As of `qwave.engine.crossval.cross_validate`.

    Returns:
        Held-out rows [k], and the class that each configuration's model predicts of them, [m, k].
    """
    lessons: dict[str, list[Lessons]] = {}
    predicted = []
    for config in (resolve_config(config, data) for config in configs):
        fold = holdout_split(data, config.data)
        key = lessons_key(config)
        if config.train.distillation and key not in lessons:
            lessons[key] = teach(config, data, [fold], device=device)
        fitted = _fit(config, data, fold, lessons.get(key), device)
        model = PackedClassifier(fitted.packed)
        predicted.append(model.predict_proba(data.x[fold.test]).argmax(axis=1))
    return fold.test, np.array(predicted)


def _fit(
    config: TrialConfig,
    data: EmbeddingSet,
    fold: Fold,
    lessons: Sequence[Lessons] | None,
    device: str,
) -> FittedModel:
    """Train a canonical configuration on a fold's training rows, taught where it asks for that."""
    packed_size_bytes(config, data)  # refuses what no file can hold, before it is trained
    if config.train.distillation and lessons is None:
        lessons = teach(config, data, [fold], device=device)
    trained = train_folds(config, data, [fold], lessons=lessons, device=device)
    return FittedModel(pack_fold(trained, 0, config, data, fold), trained)
