"""A trial with a teacher: its own, or soft targets that it is given; never held-out clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from qwave.config import ModelConfig, TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import SoftTargets, teacher_key, train_teacher
from qwave.engine.crossval import TrialResult, cross_validate

from .examples import config_of

pytestmark = pytest.mark.usefixtures("small_teacher")

MODELS = {
    "plain": ModelConfig(schemes=("int8",), hidden=(8,), dropout=0.2),
    "linear": ModelConfig(schemes=("int1",), hidden=()),
    "mixture": ModelConfig(schemes=("int8", "ternary", "int1"), hidden=(6,), top_k=2),
}


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


def _soft_targets(data: EmbeddingSet, config: TrialConfig) -> list[SoftTargets]:
    config = config.canonical()
    return train_teacher(config, data, make_folds(data, config.data))


@pytest.mark.parametrize("name", ["linear", "mixture"])
def test_a_trial_trains_the_teacher_that_it_asks_for(name: str, data: EmbeddingSet) -> None:
    config = config_of(MODELS[name], distillation=0.8)
    alone = cross_validate(config, data)
    assert alone.config.train.distillation == 0.8
    assert alone.config.flat()["train.distillation"] == 0.8
    _assert_same_result(
        alone, cross_validate(config, data, soft_targets=_soft_targets(data, config))
    )
    # Of another configuration with the same key: the soft targets are equal.
    other = config_of(MODELS["plain"], distillation=0.1, epochs=2)
    assert teacher_key(other) == teacher_key(config)
    _assert_same_result(
        alone, cross_validate(config, data, soft_targets=_soft_targets(data, other))
    )
    by_labels = cross_validate(config_of(MODELS[name], distillation=0.0), data)
    assert not np.array_equal(alone.train_loss, by_labels.train_loss)


def test_a_trial_learns_what_it_is_soft_targets(data: EmbeddingSet) -> None:
    config = config_of(MODELS["linear"], distillation=1.0, epochs=30)
    # A teacher that takes each class for the next.
    wrong = [
        dataclasses.replace(
            own, teacher_probabilities=np.eye(3, dtype=np.float32)[(data.y[own.row] + 1) % 3]
        )
        for own in _soft_targets(data, config)
    ]
    found = cross_validate(config, data, soft_targets=wrong).predictions.predicted
    assert (found == (data.y + 1) % 3).mean() > (found == data.y).mean() + 0.3


def test_without_distillation_given_say_nothing(
    data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft_targets = _soft_targets(data, config_of(MODELS["mixture"], distillation=0.5))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nobody asked for a teacher")

    monkeypatch.setattr("qwave.engine.crossval.train_teacher", refuse)
    config = config_of(MODELS["mixture"], distillation=0.0)
    plain = cross_validate(config, data)
    _assert_same_result(plain, cross_validate(config, data, soft_targets=soft_targets))
    # With them no teacher is trained, either, where one is asked for.
    distilled = cross_validate(
        config_of(MODELS["mixture"], distillation=0.5), data, soft_targets=soft_targets
    )
    assert not np.array_equal(distilled.train_loss, plain.train_loss)
    with pytest.raises(AssertionError, match="nobody asked for a teacher"):
        cross_validate(config_of(MODELS["mixture"], distillation=0.5), data)


@pytest.mark.parametrize("n_given", [2, 4])
def test_soft_targets_of_another_number_of_folds_are_refused(
    n_given: int, data: EmbeddingSet
) -> None:
    config = config_of(MODELS["linear"], distillation=0.5)
    soft_targets = (_soft_targets(data, config) * 2)[:n_given]
    with pytest.raises(ValueError, match=f"3 folds need as many soft targets, but got {n_given}"):
        cross_validate(config, data, soft_targets=soft_targets)


def test_soft_targets_that_show_a_fold_its_held_out_clips_are_refused(data: EmbeddingSet) -> None:
    config = config_of(MODELS["linear"], distillation=0.5)
    first, second, third = _soft_targets(data, config)
    with pytest.raises(
        ValueError, match=r"soft_targets\[1\] are not of the training rows of its fold"
    ):
        cross_validate(config, data, soft_targets=[first, third, second])


def test_a_teacher_never_sees_held_out_clips(data: EmbeddingSet) -> None:
    config = config_of(MODELS["linear"], distillation=1.0)
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
