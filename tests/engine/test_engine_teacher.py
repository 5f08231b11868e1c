"""A teacher knows a fold's training rows and nothing else, and averages its members."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from qwave.config import (
    CuriosityConfig,
    DataConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, Fold, make_folds
from qwave.engine import (
    SoftTargets,
    TrainedFolds,
    teacher,
    teacher_key,
    train_folds,
    train_teacher,
)

from .examples import uneven

Gaussians = Callable[..., EmbeddingSet]
SIZES = (41, 20, 33)
FIELDS = [field.name for field in dataclasses.fields(SoftTargets)]
N_MEMBERS, N_ROUNDS = 2, 3


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, small_teacher: None) -> None:
    """A small teacher, and chunks that the sets do not fill."""
    monkeypatch.setattr(teacher, "_CHUNK", 17)


@pytest.fixture(scope="module")
def data(gaussians: Gaussians) -> EmbeddingSet:
    return gaussians(0, distance=0.6)


def _config(normalization: Normalization = "layer", **train: Any) -> TrialConfig:
    settings = TrainConfig(**{"distillation": 0.5, **train})
    return TrialConfig(DataConfig("some.npz", normalization, 3), train=settings).canonical()


def _assert_equal(one: SoftTargets, other: SoftTargets) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def _probabilities(own: SoftTargets) -> np.ndarray:
    assert own.teacher_probabilities is not None
    return own.teacher_probabilities


# --- what it predicts ---


def test_soft_targets_are_probabilities_of_mixtures_of_training_rows(data: EmbeddingSet) -> None:
    folds = uneven(data, SIZES)
    soft_targets = train_teacher(_config(), data, folds)
    assert len(soft_targets) == 3
    for fold, own in zip(folds, soft_targets, strict=True):
        shape = (N_ROUNDS, len(fold.train))
        assert own.row.shape == own.partner.shape == own.share.shape == shape
        for number in range(N_ROUNDS):
            np.testing.assert_array_equal(own.row[number], fold.train)
            np.testing.assert_array_equal(np.sort(own.partner[number]), fold.train)
        found = _probabilities(own)
        assert found.shape == (*shape, 3)
        assert found.dtype == np.float32
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)


def test_folds_do_not_share_their_mixtures(data: EmbeddingSet) -> None:
    rows = np.arange(0, 60, 2)
    folds = [Fold(index, rows, np.arange(1, 60, 2)) for index in range(2)]
    one, two = train_teacher(_config(), data, folds)
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
def test_its_probabilities_equal_a_plain_loop_over_clips_and_members(
    normalization: Normalization, data: EmbeddingSet
) -> None:
    config, folds = _config(normalization), uneven(data, SIZES)
    soft_targets = train_teacher(config, data, folds)
    members = [
        train_folds(teacher._member(config, seed), data, folds) for seed in range(N_MEMBERS)
    ]
    for fold, own in enumerate(soft_targets):
        for place in np.ndindex(own.row.shape):
            share = float(own.share[place])
            expected = np.zeros(3)
            for member in members:
                # Clips are mixed after their normalisation, not before.
                pair = data.x[[own.row[place], own.partner[place]]]
                one, other = member.normalizers[fold](pair).astype(np.float64)
                mixed = share * one + (1 - share) * other
                expected += _plain_probabilities(member, fold, mixed) / N_MEMBERS
            found = _probabilities(own)[place]
            np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=f"{fold=} {place=}")


def test_a_teacher_knows_its_training_clips(data: EmbeddingSet) -> None:
    folds = make_folds(data, DataConfig(n_folds=3))
    for own in train_teacher(_config(), data, folds):
        is_right = _probabilities(own).argmax(axis=-1) == data.y[own.row]
        # Of a mixture with nearly all of the first clip.
        assert is_right[own.share > 0.9].mean() > 0.6


def test_the_same_soft_targets_again_and_in_chunks_of_any_size(
    data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = uneven(data, SIZES)
    before, again = train_teacher(_config(), data, folds), train_teacher(_config(), data, folds)
    monkeypatch.setattr(teacher, "_CHUNK", 10_000)
    at_once = train_teacher(_config(), data, folds)
    for one, same, other in zip(before, again, at_once, strict=True):
        _assert_equal(one, same)
        np.testing.assert_allclose(_probabilities(one), _probabilities(other), atol=1e-6)


# --- what it does not see ---


@pytest.mark.parametrize("normalization", ["layer", "standard"])
def test_a_folds_soft_targets_do_not_depend_on_its_held_out_clips(
    normalization: Normalization, data: EmbeddingSet
) -> None:
    config = _config(normalization)
    folds = make_folds(data, config.data)
    before = train_teacher(config, data, folds)
    rng = np.random.default_rng(0)
    for position, fold in enumerate(folds):
        x, y = data.x.copy(), data.y.copy()
        x[fold.test] = rng.normal(size=(len(fold.test), 12)) * 9
        y[fold.test] = (y[fold.test] + 1) % 3
        after = train_teacher(config, dataclasses.replace(data, x=x, y=y), folds)
        _assert_equal(after[position], before[position])
        others = [other for other in range(3) if other != position]
        assert not any(
            np.array_equal(_probabilities(after[o]), _probabilities(before[o])) for o in others
        )


@pytest.mark.parametrize("normalization", ["layer", "standard"])
def test_a_folds_soft_targets_are_the_same_where_held_out_clips_are_no_numbers(
    normalization: Normalization, data: EmbeddingSet
) -> None:
    config = _config(normalization)
    for fold in make_folds(data, config.data):
        x = data.x.copy()
        x[fold.test] = np.nan
        # The fold alone: others are trained on these clips.
        (before,) = train_teacher(config, data, [fold])
        (after,) = train_teacher(config, dataclasses.replace(data, x=x), [fold])
        assert np.isfinite(_probabilities(after)).all()
        _assert_equal(after, before)


# --- who can share soft targets ---

BASE = TrialConfig(
    DataConfig("some.npz", "layer", 3), train=TrainConfig(distillation=0.5)
).canonical()
SHARING: dict[str, dict[str, Any]] = {
    "data": {"path": "other.npz"},
    "model": {
        "schemes": ("int1", "int4"),
        "hidden": (8,),
        "top_k": 2,
        "dropout": 0.4,
        "input_dropout": 0.1,
        "router": RouterConfig(hidden=4),
        "curiosity": CuriosityConfig(alpha=1.0),
    },
    "train": {
        "mode": "ptq",
        "epochs": 3,
        "batch_size": 7,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "label_smoothing": 0.0,
        "distillation": 1.0,
    },
}


def test_trials_that_differ_in_all_a_teacher_does_not_know_have_equal_keys_and_soft_targets(
    data: EmbeddingSet,
) -> None:
    other = BASE
    for section, changes in SHARING.items():
        for name, value in changes.items():
            assert getattr(getattr(other, section), name) != value, name
            part = dataclasses.replace(getattr(other, section), **{name: value})
            other = dataclasses.replace(other, **{section: part})
            assert teacher_key(other) == teacher_key(other.canonical()) == teacher_key(BASE), name
    folds = make_folds(data, BASE.data)
    for one, same in zip(
        train_teacher(BASE, data, folds),
        train_teacher(other.canonical(), data, folds),
        strict=True,
    ):
        _assert_equal(one, same)


def test_a_fresh_seed_has_a_fresh_teacher_none_of_whose_members_is_another_ones() -> None:
    members = [
        teacher._member(dataclasses.replace(BASE, seed=seed), number).digest
        for seed in range(7)
        for number in range(teacher._N_MEMBERS)
    ]
    assert len(set(members)) == len(members)


def test_trials_with_other_data_weights_or_seeds_have_other_keys() -> None:
    parts: list[dict[str, Any]] = [
        {},
        {"data": DataConfig("some.npz", "standard", 3)},
        {"data": DataConfig("some.npz", "layer", 4)},
        {"data": DataConfig("some.npz", "layer", 3, drop_overlap=True)},
        {"data": DataConfig("some.npz", "layer", 3, fold_seed=1)},
        {"train": TrainConfig(distillation=0.5, class_weights=False)},
        {"seed": 1},
        {"seed": 5},
    ]
    keys = [teacher_key(dataclasses.replace(BASE, **part)) for part in parts]
    assert len(set(keys)) == len(parts), keys


def test_class_weights_reach_the_teacher(make_set: Callable[..., EmbeddingSet]) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [50, 10])
    x = rng.normal(size=(60, 12)) + 0.3 * y[:, None]
    data = make_set(x, y)
    fold = Fold(0, np.arange(0, 60, 2), np.arange(1, 60, 2))
    with_weights, without = (
        _probabilities(train_teacher(_config(class_weights=is_weighted), data, [fold])[0])
        for is_weighted in (True, False)
    )
    assert with_weights[..., 1].mean() > without[..., 1].mean()


def test_members_differ_and_are_networks_of_floats_trained_on_labels() -> None:
    config = _config("standard", class_weights=False, epochs=3)
    members = [teacher._member(config, seed) for seed in range(N_MEMBERS)]
    assert len({member.digest for member in members}) == N_MEMBERS
    for member in members:
        assert member == member.canonical()
        assert member.data == config.data
        assert member.model.schemes == ("fp32",)
        assert member.model.hidden
        assert member.train.distillation == 0
        assert not member.train.class_weights


def test_soft_targets_do_not_depend_on_random_numbers_drawn_elsewhere(data: EmbeddingSet) -> None:
    folds = uneven(data, SIZES)
    torch.manual_seed(0)
    one = train_teacher(_config(), data, folds)
    torch.manual_seed(1)
    np.random.seed(1)
    for before, after in zip(one, train_teacher(_config(), data, folds), strict=True):
        _assert_equal(before, after)
