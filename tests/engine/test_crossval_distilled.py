"""A trial with a teacher: its own, or lessons that are handed to it; never held-out clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import Lessons, lessons_key, teach
from qwave.engine.crossval import TrialResult, cross_validate

MODELS = {
    "plain": ModelConfig(schemes=("int8",), hidden=(8,), dropout=0.2),
    "linear": ModelConfig(schemes=("int1",), hidden=()),
    "mixture": ModelConfig(schemes=("int8", "ternary", "int1"), hidden=(6,), top_k=2),
}


def _config(model: ModelConfig, **train: Any) -> TrialConfig:
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, **train}
    return TrialConfig(
        data=DataConfig(normalization="layer", n_folds=3),
        model=model,
        train=TrainConfig(**settings),
    )


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(0, distance=0.6)


def _assert_same_result(one: TrialResult, other: TrialResult) -> None:
    assert one.config == other.config
    assert one.scores == other.scores
    assert one.fold_scores == other.fold_scores
    np.testing.assert_array_equal(one.train_loss, other.train_loss)
    for field in dataclasses.fields(one.predictions):
        np.testing.assert_array_equal(
            getattr(one.predictions, field.name),
            getattr(other.predictions, field.name),
            err_msg=field.name,
        )


def _taught(data: EmbeddingSet, config: TrialConfig) -> list[Lessons]:
    config = config.canonical()
    return teach(config, data, make_folds(data, config.data))


@pytest.mark.parametrize("name", ["linear", "mixture"])
def test_a_trial_trains_the_teacher_that_it_asks_for(name: str, data: EmbeddingSet) -> None:
    config = _config(MODELS[name], distillation=0.8)
    alone = cross_validate(config, data)
    assert alone.config.train.distillation == 0.8
    assert alone.config.flat()["train.distillation"] == 0.8
    _assert_same_result(alone, cross_validate(config, data, lessons=_taught(data, config)))
    # Of another configuration with the same key: the lessons are equal.
    other = _config(MODELS["plain"], distillation=0.1, epochs=2)
    assert lessons_key(other) == lessons_key(config)
    _assert_same_result(alone, cross_validate(config, data, lessons=_taught(data, other)))
    by_labels = cross_validate(_config(MODELS[name], distillation=0.0), data)
    assert not np.array_equal(alone.train_loss, by_labels.train_loss)


def test_a_trial_learns_what_it_is_taught(data: EmbeddingSet) -> None:
    config = _config(MODELS["linear"], distillation=1.0, epochs=30)
    # A teacher that takes each class for the next.
    wrong = [
        dataclasses.replace(lesson, said=np.eye(3, dtype=np.float32)[(data.y[lesson.row] + 1) % 3])
        for lesson in _taught(data, config)
    ]
    found = cross_validate(config, data, lessons=wrong).predictions.predicted
    assert (found == (data.y + 1) % 3).mean() > (found == data.y).mean() + 0.3


def test_without_distillation_lessons_say_nothing(
    data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons = _taught(data, _config(MODELS["mixture"], distillation=0.5))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nobody asked for a teacher")

    monkeypatch.setattr("qwave.engine.crossval.teach", refuse)
    config = _config(MODELS["mixture"], distillation=0.0)
    plain = cross_validate(config, data)
    _assert_same_result(plain, cross_validate(config, data, lessons=lessons))
    # With them no teacher is trained, either, where one is asked for.
    taught = cross_validate(_config(MODELS["mixture"], distillation=0.5), data, lessons=lessons)
    assert not np.array_equal(taught.train_loss, plain.train_loss)
    with pytest.raises(AssertionError, match="nobody asked for a teacher"):
        cross_validate(_config(MODELS["mixture"], distillation=0.5), data)


@pytest.mark.parametrize("n_lessons", [2, 4])
def test_lessons_of_another_number_of_folds_are_refused(
    n_lessons: int, data: EmbeddingSet
) -> None:
    config = _config(MODELS["linear"], distillation=0.5)
    lessons = (_taught(data, config) * 2)[:n_lessons]
    with pytest.raises(ValueError, match=f"3 folds need as many lessons, but got {n_lessons}"):
        cross_validate(config, data, lessons=lessons)


def test_lessons_that_show_a_fold_its_held_out_clips_are_refused(data: EmbeddingSet) -> None:
    config = _config(MODELS["linear"], distillation=0.5)
    first, second, third = _taught(data, config)
    with pytest.raises(ValueError, match=r"lessons\[1\] are not of the training rows of its fold"):
        cross_validate(config, data, lessons=[first, third, second])


def test_a_taught_trial_with_patience_keeps_rows_back_from_the_teacher(
    data: EmbeddingSet,
) -> None:
    config = _config(MODELS["linear"], distillation=0.5, patience=2, validation_share=0.3)
    result = cross_validate(config, data)
    _assert_same_result(result, cross_validate(config, data, lessons=_taught(data, config)))
    for lesson, fold in zip(_taught(data, config), make_folds(data, config.data), strict=True):
        assert 0 < lesson.row.shape[1] < len(fold.train)


def test_a_teacher_never_sees_held_out_clips(data: EmbeddingSet) -> None:
    config = _config(MODELS["linear"], distillation=1.0)
    test = make_folds(data, config.data)[1].test
    y = data.y.copy()
    y[test] = (y[test] + 1) % 3
    before = cross_validate(config, data)
    after = cross_validate(config, dataclasses.replace(data, y=y))
    for name in ("probabilities", "mutual_information", "gates"):
        np.testing.assert_array_equal(
            getattr(after.predictions, name)[test], getattr(before.predictions, name)[test]
        )
    others = np.setdiff1d(np.arange(len(y)), test)
    assert not np.array_equal(
        after.predictions.probabilities[others], before.predictions.probabilities[others]
    )
