"""A teacher knows a fold's training rows and nothing else, and says what its members say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qwave.config import (
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, Fold, make_folds
from qwave.engine import Lessons, TrainedFolds, lessons_key, teach, teacher, train_folds
from qwave.engine.rows import fit_rows

Gaussians = Callable[..., EmbeddingSet]
FIELDS = [field.name for field in dataclasses.fields(Lessons)]
N_MEMBERS, N_ROUNDS = 2, 3


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer members and rounds, which only cost time, and chunks that the sets do not fill."""
    monkeypatch.setattr(teacher, "_N_MEMBERS", N_MEMBERS)
    monkeypatch.setattr(teacher, "_N_ROUNDS", N_ROUNDS)
    monkeypatch.setattr(teacher, "_CHUNK", 17)


@pytest.fixture(scope="module")
def data(gaussians: Gaussians) -> EmbeddingSet:
    return gaussians(0, distance=0.6)


def _config(normalization: Normalization = "layer", **train: Any) -> TrialConfig:
    settings = TrainConfig(**{"distillation": 0.5, **train})
    return TrialConfig(DataConfig("some.npz", normalization, 3), train=settings).canonical()


def _uneven(data: EmbeddingSet, sizes: Sequence[int] = (41, 20, 33)) -> list[Fold]:
    """Folds with training parts of the given sizes and the rest of the rows to test."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(data.y)) for _ in sizes]
    return [
        Fold(index, np.sort(order[:size]), np.sort(order[size:]))
        for index, (order, size) in enumerate(zip(orders, sizes, strict=True))
    ]


def _assert_equal(one: Lessons, other: Lessons) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def _said(lessons: Lessons) -> np.ndarray:
    assert lessons.said is not None, "a teacher says something"
    return lessons.said


# --- what it says ---


def test_lessons_are_probabilities_of_mixtures_of_training_rows(data: EmbeddingSet) -> None:
    folds = _uneven(data)
    lessons = teach(_config(), data, folds)
    assert len(lessons) == 3
    for fold, lesson in zip(folds, lessons, strict=True):
        shape = (N_ROUNDS, len(fold.train))
        assert lesson.row.shape == lesson.partner.shape == lesson.share.shape == shape
        for number in range(N_ROUNDS):
            np.testing.assert_array_equal(lesson.row[number], fold.train)
            np.testing.assert_array_equal(np.sort(lesson.partner[number]), fold.train)
        said = _said(lesson)
        assert said.shape == (*shape, 3)
        assert said.dtype == np.float32
        assert (said >= 0).all()
        np.testing.assert_allclose(said.sum(axis=-1), 1, rtol=1e-5)


def test_folds_do_not_share_their_mixtures(data: EmbeddingSet) -> None:
    rows = np.arange(0, 60, 2)
    folds = [Fold(index, rows, np.arange(1, 60, 2)) for index in range(2)]
    one, two = teach(_config(), data, folds)
    np.testing.assert_array_equal(one.row, two.row)
    assert not np.array_equal(one.partner, two.partner)
    assert not np.array_equal(one.share, two.share)


def _plain_probabilities(trained: TrainedFolds, fold: int, x: np.ndarray) -> np.ndarray:
    """A clip [d] through the two layers of a fold's network, in float64."""
    first, second = trained.mixture.groups[0].layers
    weight, bias = (p[fold, 0].detach().double().numpy() for p in (first.weight, first.bias))
    hidden = weight @ x + bias
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
    hidden = np.maximum(hidden, 0)
    weight, bias = (p[fold, 0].detach().double().numpy() for p in (second.weight, second.bias))
    logits = weight @ hidden + bias
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


@pytest.mark.parametrize("normalization", ["layer", "standard"])
def test_what_it_says_equals_a_plain_loop_over_clips_and_members(
    normalization: Normalization, data: EmbeddingSet
) -> None:
    config, folds = _config(normalization), _uneven(data)
    lessons = teach(config, data, folds)
    members = [
        train_folds(teacher._member(config, seed), data, folds) for seed in range(N_MEMBERS)
    ]
    for fold, lesson in enumerate(lessons):
        for place in np.ndindex(lesson.row.shape):
            share = float(lesson.share[place])
            expected = np.zeros(3)
            for member in members:
                # Clips are mixed after their normalisation, not before.
                pair = data.x[[lesson.row[place], lesson.partner[place]]]
                one, other = member.normalizers[fold](pair).astype(np.float64)
                mixed = share * one + (1 - share) * other
                expected += _plain_probabilities(member, fold, mixed) / N_MEMBERS
            found = _said(lesson)[place]
            np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=f"{fold=} {place=}")


def test_a_teacher_knows_its_training_clips(data: EmbeddingSet) -> None:
    folds = make_folds(data, DataConfig(n_folds=3))
    for lesson in teach(_config(), data, folds):
        is_right = _said(lesson).argmax(axis=-1) == data.y[lesson.row]
        # Of a mixture with nearly all of the first clip.
        assert is_right[lesson.share > 0.9].mean() > 0.6


def test_the_same_lessons_again_and_in_chunks_of_any_size(
    data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = _uneven(data)
    before, again = teach(_config(), data, folds), teach(_config(), data, folds)
    monkeypatch.setattr(teacher, "_CHUNK", 10_000)
    at_once = teach(_config(), data, folds)
    for one, same, other in zip(before, again, at_once, strict=True):
        _assert_equal(one, same)
        np.testing.assert_allclose(_said(one), _said(other), atol=1e-6)


# --- what it does not see ---


@pytest.mark.parametrize("normalization", ["layer", "standard"])
def test_a_folds_lessons_do_not_depend_on_its_held_out_clips(
    normalization: Normalization, data: EmbeddingSet
) -> None:
    config = _config(normalization)
    folds = make_folds(data, config.data)
    before = teach(config, data, folds)
    rng = np.random.default_rng(0)
    for position, fold in enumerate(folds):
        x, y = data.x.copy(), data.y.copy()
        x[fold.test] = rng.normal(size=(len(fold.test), 12)) * 9
        y[fold.test] = (y[fold.test] + 1) % 3
        after = teach(config, dataclasses.replace(data, x=x, y=y), folds)
        _assert_equal(after[position], before[position])
        others = [other for other in range(3) if other != position]
        assert not any(np.array_equal(_said(after[o]), _said(before[o])) for o in others)


@pytest.mark.parametrize("normalization", ["layer", "standard"])
def test_a_folds_lessons_are_the_same_where_held_out_clips_are_no_numbers(
    normalization: Normalization, data: EmbeddingSet
) -> None:
    config = _config(normalization)
    for fold in make_folds(data, config.data):
        x = data.x.copy()
        x[fold.test] = np.nan
        # The fold alone: others are trained on these clips.
        (before,) = teach(config, data, [fold])
        (after,) = teach(config, dataclasses.replace(data, x=x), [fold])
        assert np.isfinite(_said(after)).all()
        _assert_equal(after, before)


def test_rows_that_patience_looks_at_are_not_in_the_lessons_and_change_nothing(
    data: EmbeddingSet,
) -> None:
    config = _config("standard", patience=4, validation_share=0.3)
    folds = make_folds(data, config.data)
    fit, validation = fit_rows(config, data, folds)
    before = teach(config, data, folds)
    for position, (lesson, rows, kept_back) in enumerate(
        zip(before, fit, validation, strict=True)
    ):
        assert len(kept_back) > 0
        assert set(lesson.row.flatten().tolist()) == set(rows.tolist())
        assert set(lesson.partner.flatten().tolist()) == set(rows.tolist())
        x = data.x.copy()
        x[kept_back] = np.random.default_rng(0).normal(size=(len(kept_back), 12)) * 9
        after = teach(config, dataclasses.replace(data, x=x), folds)
        _assert_equal(after[position], lesson)
    without = teach(_config("standard"), data, folds)
    assert set(without[0].row.flatten().tolist()) == set(folds[0].train.tolist())


# --- who can share lessons ---

BASE = TrialConfig(
    DataConfig("some.npz", "layer", 3), train=TrainConfig(distillation=0.5)
).canonical()
SHARING = {
    "schemes": {"model": ModelConfig(("int1", "int4"), (8,), top_k=2)},
    "linear": {"model": ModelConfig(("int1",), ())},
    "dropout": {"model": ModelConfig(dropout=0.4, input_dropout=0.1)},
    "router": {"model": ModelConfig(("int1", "int4"), router=RouterConfig(hidden=4))},
    "curiosity": {"model": ModelConfig(("int1", "int4"), curiosity=CuriosityConfig(alpha=1.0))},
    "mode": {"train": TrainConfig(mode="ptq", distillation=0.5)},
    "epochs": {"train": TrainConfig(epochs=3, distillation=0.5)},
    "batch size": {"train": TrainConfig(batch_size=7, distillation=0.5)},
    "learning rate": {"train": TrainConfig(learning_rate=0.1, distillation=0.5)},
    "weight decay": {"train": TrainConfig(weight_decay=0.1, distillation=0.5)},
    "smoothing": {"train": TrainConfig(label_smoothing=0.0, distillation=0.5)},
    "distillation": {"train": TrainConfig(distillation=1.0)},
    "path": {"data": DataConfig("other.npz", "layer", 3)},
}


@pytest.mark.parametrize("name", list(SHARING))
def test_trials_with_equal_keys_have_equal_lessons(name: str, data: EmbeddingSet) -> None:
    other = dataclasses.replace(BASE, **SHARING[name])  # type: ignore[arg-type]
    assert other != BASE
    assert lessons_key(other) == lessons_key(other.canonical()) == lessons_key(BASE)
    folds = make_folds(data, BASE.data)
    for one, same in zip(
        teach(BASE, data, folds), teach(other.canonical(), data, folds), strict=True
    ):
        _assert_equal(one, same)


def test_a_fresh_seed_has_a_fresh_teacher_none_of_whose_members_is_another_ones() -> None:
    members = [
        teacher._member(dataclasses.replace(BASE, seed=seed), number).digest
        for seed in range(7)
        for number in range(teacher._N_MEMBERS)
    ]
    assert len(set(members)) == len(members)


def test_trials_with_other_data_weights_seeds_or_patience_have_other_keys() -> None:
    parts: list[dict[str, Any]] = [
        {},
        {"data": DataConfig("some.npz", "standard", 3)},
        {"data": DataConfig("some.npz", "layer", 4)},
        {"data": DataConfig("some.npz", "layer", 3, drop_overlap=True)},
        {"data": DataConfig("some.npz", "layer", 3, fold_seed=1)},
        {"train": TrainConfig(distillation=0.5, class_weights=False)},
        {"seed": 1},
        {"seed": 5},
        # The rows that patience keeps back are each configuration's own.
        {"train": TrainConfig(distillation=0.5, patience=3)},
        {"train": TrainConfig(distillation=0.5, patience=3, validation_share=0.3)},
        {"train": TrainConfig(distillation=0.5, patience=3), "seed": 1},
        {"train": TrainConfig(distillation=0.5, patience=3), "model": ModelConfig(("int1",))},
    ]
    keys = [lessons_key(dataclasses.replace(BASE, **part)) for part in parts]
    assert len(set(keys)) == len(parts), keys
    twice = dataclasses.replace(BASE, **parts[-1])
    assert lessons_key(twice) == lessons_key(twice.canonical()) == keys[-1]


def test_class_weights_reach_the_teacher(make_set: Callable[..., EmbeddingSet]) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [50, 10])
    x = rng.normal(size=(60, 12)) + 0.3 * y[:, None]
    data = make_set(x, y)
    fold = Fold(0, np.arange(0, 60, 2), np.arange(1, 60, 2))
    with_weights, without = (
        _said(teach(_config(class_weights=is_weighted), data, [fold])[0])
        for is_weighted in (True, False)
    )
    assert with_weights[..., 1].mean() > without[..., 1].mean()


def test_members_differ_and_are_networks_of_floats_trained_on_labels() -> None:
    config = _config("standard", class_weights=False, epochs=3, patience=2)
    members = [teacher._member(config, seed) for seed in range(N_MEMBERS)]
    assert len({member.digest for member in members}) == N_MEMBERS
    for member in members:
        assert member == member.canonical()
        assert member.data == config.data
        assert member.model.schemes == ("fp32",)
        assert member.model.hidden
        assert member.train.distillation == 0
        assert member.train.patience is None
        assert not member.train.class_weights


def test_lessons_do_not_depend_on_random_numbers_drawn_elsewhere(data: EmbeddingSet) -> None:
    folds = _uneven(data)
    torch.manual_seed(0)
    one = teach(_config(), data, folds)
    torch.manual_seed(1)
    np.random.seed(1)
    for before, after in zip(one, teach(_config(), data, folds), strict=True):
        _assert_equal(before, after)
