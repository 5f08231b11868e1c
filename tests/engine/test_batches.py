"""What an epoch holds: every clip and its label, or mixtures with soft targets of a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from qwave.config import TrainConfig
from qwave.data import EmbeddingSet
from qwave.engine import SoftTargets
from qwave.engine.batches import Batches, class_weights, shuffled
from qwave.engine.task import Examples

from .examples import random_soft_targets

MakeSet = Callable[..., EmbeddingSet]


def _data(make_set: MakeSet, n_rows: int = 50, n_classes: int = 4, seed: int = 0) -> EmbeddingSet:
    """Classes of unequal size, each with a row at least."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n_rows - n_classes) // 2])
    return make_set(np.zeros((n_rows, 2)), y)


def _batches(
    train: TrainConfig,
    data: EmbeddingSet,
    soft_targets: Sequence[SoftTargets],
    seeds: Sequence[int],
    shape: tuple[int, int],
) -> Batches:
    """The order of each fold is drawn from its seed; shape is that of an epoch's batches."""
    order = [np.random.default_rng(seed) for seed in seeds]
    return Batches(
        data,
        soft_targets,
        order,
        label_smoothing=train.label_smoothing,
        distillation=train.distillation,
        is_class_weighted=train.class_weights,
        n_steps=shape[0],
        width=shape[1],
    )


# --- positions and class weights ---


@pytest.mark.parametrize("seed", range(6))
def test_every_row_trains_once_an_epoch_in_batches_of_almost_one_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_steps = int(rng.integers(1, 9))
    sizes = rng.integers(1, 60, size=rng.integers(1, 5))
    width = -(-int(sizes.max()) // n_steps) + int(rng.integers(0, 3))
    order = [np.random.default_rng(fold) for fold in range(len(sizes))]
    epoch = shuffled(sizes.tolist(), n_steps, width, order)
    assert epoch.dtype == np.int64
    assert epoch.shape == (len(sizes), n_steps, width), f"{seed=}"
    for fold, size in enumerate(sizes):
        taken = [
            [position for position in batch if position != -1] for batch in epoch[fold].tolist()
        ]
        assert sorted(sum(taken, [])) == list(range(size)), f"{seed=} {fold=}"
        lengths = [len(part) for part in taken]
        assert max(lengths) - min(lengths) <= 1, f"{seed=} {lengths}"
        # Examples stand in front, padding behind them: masks depend on an example's column.
        for batch, part in zip(epoch[fold].tolist(), taken, strict=True):
            assert batch == part + [-1] * (width - len(part)), f"{seed=} {fold=}"


def test_a_fold_with_fewer_rows_than_steps_has_batches_of_padding_alone() -> None:
    order = [np.random.default_rng(0)]
    epoch = shuffled([2], 4, 3, order)[0]
    assert sorted(epoch[:, 0].tolist()) == [-1, -1, 0, 1]
    assert (epoch[:, 1:] == -1).all()


def test_every_epoch_has_an_order_of_its_own_and_a_fold_the_same_alone() -> None:
    # The second fold is smaller: its padding, too, is the same alone.
    sizes = [20, 15]

    def orders(sizes: list[int], seeds: list[int]) -> list[list[list[int]]]:
        generators = [np.random.default_rng(seed) for seed in seeds]
        return [shuffled(sizes, 3, 7, generators)[-1].tolist() for _ in range(2)]

    first, second = orders(sizes, [0, 1])
    assert first != second
    assert orders(sizes[1:], [1]) == [first, second]


@pytest.mark.parametrize("seed", range(5))
def test_class_weights_are_inverse_frequencies_with_mean_1_over_the_rows(
    seed: int, make_set: MakeSet
) -> None:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(4), rng.choice(4, p=[0.6, 0.2, 0.1, 0.1], size=96)])
    data = make_set(np.zeros((100, 2)), y)
    fit = [np.arange(60), np.arange(100)]
    weights = class_weights(data, fit, True)
    for fold, rows in enumerate(fit):
        for label in range(4):
            count = sum(y[row] == label for row in rows)
            assert weights[fold, label] == pytest.approx(len(rows) / (4 * count)), f"{seed=}"
        assert weights[fold][y[rows]].mean() == pytest.approx(1), f"{seed=}"
    assert class_weights(data, fit, False).tolist() == [[1.0] * 4] * 2


def test_class_weights_of_rows_without_a_class_have_mean_1_over_the_rows(
    make_set: MakeSet,
) -> None:
    data = _data(make_set)
    rows = np.flatnonzero(data.y != 1)[1:]
    (weights,) = class_weights(data, [rows], is_weighted=True)
    assert np.isfinite(weights).all()
    assert weights[data.y[rows]].mean() == pytest.approx(1, rel=1e-6)


# --- labels ---


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_of_labels_holds_each_training_clip_once(seed: int, make_set: MakeSet) -> None:
    rng = np.random.default_rng(seed)
    data = _data(make_set)
    smoothing = 0.2
    fit = [np.sort(rng.permutation(50)[:size]) for size in (30, 17)]
    soft_targets = [SoftTargets.from_labels(rows) for rows in fit]
    batches = _batches(TrainConfig(label_smoothing=smoothing), data, soft_targets, [0, 1], (4, 9))
    for number in (1, 2):
        row, _, share, target, weight = (t.numpy() for t in batches.epoch(number))
        assert row.shape == share.shape == weight.shape == (2, 4, 9)
        for fold, rows in enumerate(fit):
            used = row[fold] >= 0
            assert sorted(row[fold][used].tolist()) == rows.tolist(), f"{seed=} {fold=} {number=}"
            y = data.y[row[fold][used]]
            one_hot = np.eye(4)[y]
            wanted = (1 - smoothing) * one_hot + smoothing / 4
            np.testing.assert_allclose(target[fold][used], wanted, rtol=1e-6, err_msg=f"{seed=}")
            counts = np.array([sum(data.y[rows] == label) for label in range(4)])
            inverse = len(rows) / (np.count_nonzero(counts) * np.maximum(counts, 1))
            np.testing.assert_allclose(weight[fold][used], inverse[y], rtol=1e-6)
        assert (share == 1).all()


def test_a_clip_that_is_not_mixed_has_itself_for_a_partner() -> None:
    # So that what is left of the two, x + 1 * (x - x), is x to the last bit.
    own = SoftTargets.from_labels(np.array([4, 7, 8]))
    np.testing.assert_array_equal(own.row, [[4, 7, 8]])
    np.testing.assert_array_equal(own.partner, own.row)
    np.testing.assert_array_equal(own.share, [[1, 1, 1]])
    assert own.teacher_probabilities is None


def test_the_partner_of_a_clip_that_is_not_mixed_changes_nothing(make_set: MakeSet) -> None:
    data = _data(make_set)
    own = SoftTargets.from_labels(np.arange(5, 40))
    other = dataclasses.replace(own, partner=own.partner[:, ::-1].copy())
    one, two = (
        _batches(TrainConfig(), data, [each], [3], (3, 12)).epoch(1) for each in (own, other)
    )
    assert not np.array_equal(one.partner, two.partner)
    for name in ("row", "share", "target", "weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


@pytest.mark.parametrize("distillation", [0.0, 0.7])
def test_padding_weighs_nothing_and_has_a_target_to_compute_with(
    distillation: float, make_set: MakeSet
) -> None:
    data = _data(make_set)
    fit = [np.arange(30), np.arange(9)]
    soft_targets = [random_soft_targets(rows, 2, 4, seed=0) for rows in fit]
    if not distillation:
        soft_targets = [SoftTargets.from_labels(rows) for rows in fit]
    batches = _batches(TrainConfig(distillation=distillation), data, soft_targets, [0, 1], (4, 10))
    examples = batches.epoch(1)
    is_padding = examples.row.numpy() < 0
    assert is_padding.sum(axis=(1, 2)).tolist() == [10, 31]
    assert (examples.row.numpy()[is_padding] == -1).all()
    assert (examples.weight.numpy() == 0).tolist() == is_padding.tolist()
    assert (examples.partner.numpy() >= 0).all()
    assert (examples.share.numpy()[is_padding] == 1).all()
    assert (examples.target.numpy()[is_padding] == 0.25).all()


def test_examples_have_the_types_that_c_reads(make_set: MakeSet) -> None:
    data = _data(make_set)
    for own in (
        SoftTargets.from_labels(np.arange(20)),
        random_soft_targets(np.arange(20), 2, 4, seed=0),
    ):
        examples = _batches(TrainConfig(distillation=0.5), data, [own], [0], (2, 10)).epoch(1)
        types = [tensor.dtype for tensor in examples]
        assert types == [torch.int64] * 2 + [torch.float32] * 3


# --- mixtures ---


@pytest.mark.parametrize("seed", range(6))
def test_partners_are_the_training_rows_in_an_order_of_their_own_each_round(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(500)[: rng.integers(20, 60)])
    own = SoftTargets.from_mixtures(rows, 6, seed)
    assert own.row.shape == own.partner.shape == own.share.shape == (6, len(rows))
    assert own.share.dtype == np.float32
    assert own.teacher_probabilities is None
    for number in range(6):
        np.testing.assert_array_equal(own.row[number], rows, err_msg=f"{seed=}")
        np.testing.assert_array_equal(np.sort(own.partner[number]), rows, err_msg=f"{seed=}")
    orders = {tuple(partners) for partners in own.partner.tolist()}
    assert len(orders | {tuple(rows.tolist())}) == 7, f"{seed=}"
    assert own.share.min() >= 0.5, f"{seed=}"
    assert own.share.max() <= 1, f"{seed=}"


def test_shares_are_uniform_from_one_half_to_one() -> None:
    share = SoftTargets.from_mixtures(np.arange(1000), 20, 0).share
    # 2000 a tenth, with a standard deviation of 42.
    counts, _ = np.histogram(share, bins=10, range=(0.5, 1))
    assert np.abs(counts - 2000).max() < 250, counts


def test_mixtures_are_those_of_their_seed() -> None:
    one, two, other = (SoftTargets.from_mixtures(np.arange(30), 4, seed) for seed in (5, 5, 6))
    for name in ("row", "partner", "share"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert not np.array_equal(one.partner, other.partner)
    assert not np.array_equal(one.share, other.share)


# --- epochs ---


def _plain_epoch(
    train: TrainConfig,
    data: EmbeddingSet,
    own: SoftTargets,
    number: int,
    generator: np.random.Generator,
    shape: tuple[int, int],
) -> list[list[tuple[int, int, float, list[float], float] | None]]:
    """One fold's batches, example by example: row, partner, share, target, weight; or padding."""
    n_rounds, size = own.row.shape
    n_classes = data.num_classes
    classes = [int(data.y[row]) for row in own.row[0]]
    at = (number - 1) % n_rounds
    batches = []
    for positions in np.array_split(generator.permutation(size), shape[0]):
        batch: list[tuple[int, int, float, list[float], float] | None] = []
        for position in positions:
            row, partner = int(own.row[at, position]), int(own.partner[at, position])
            share = float(own.share[at, position])
            target, weight = [0.0] * n_classes, 0.0
            for clip, part in ((row, share), (partner, 1 - share)):
                label = int(data.y[clip])
                # Of the classes that there are: the others have no row to weigh.
                class_weight = size / (len(set(classes)) * classes.count(label))
                weight += part * (class_weight if train.class_weights else 1)
                for c in range(n_classes):
                    smooth = (1 - train.label_smoothing) * (c == label)
                    target[c] += part * (smooth + train.label_smoothing / n_classes)
            if own.teacher_probabilities is not None:
                for c in range(n_classes):
                    own_part = float(own.teacher_probabilities[at, position, c])
                    target[c] = (1 - train.distillation) * target[c]
                    target[c] += train.distillation * own_part
            batch.append((row, partner, share, target, weight))
        batches.append(batch + [None] * (shape[1] - len(batch)))
    return batches


@pytest.mark.parametrize("seed", range(6))
def test_epochs_equal_a_plain_loop_over_examples(seed: int, make_set: MakeSet) -> None:
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 6))
    data = _data(make_set, n_rows=60, n_classes=n_classes, seed=seed)
    config = TrainConfig(
        label_smoothing=float(rng.choice([0, rng.random()])),
        class_weights=bool(rng.integers(2)),
        distillation=float(rng.choice([1, rng.random()])),
    )
    n_folds, n_steps = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    fit = [rng.permutation(60)[: rng.integers(5, 50)] for _ in range(n_folds)]
    width = -(-max(map(len, fit)) // n_steps) + int(rng.integers(3))
    is_distilled = rng.integers(4) > 0
    n_rounds = [int(rng.integers(1, 4)) for _ in fit]
    soft_targets = [
        random_soft_targets(rows, n, n_classes, seed + fold)
        if is_distilled
        else SoftTargets.from_mixtures(rows, n, seed + fold)
        for fold, (rows, n) in enumerate(zip(fit, n_rounds, strict=True))
    ]
    seeds = [seed + fold for fold in range(n_folds)]
    batches = _batches(config, data, soft_targets, seeds, (n_steps, width))
    generators = [np.random.default_rng(each) for each in seeds]
    for number in range(1, 6):
        examples = batches.epoch(number)
        found = {name: tensor.numpy() for name, tensor in examples._asdict().items()}
        case = f"{seed=} {number=} {config}"
        np.testing.assert_allclose(found["target"].sum(axis=-1), 1, rtol=1e-5, err_msg=case)
        for fold, own in enumerate(soft_targets):
            plain = _plain_epoch(config, data, own, number, generators[fold], (n_steps, width))
            for step, batch in enumerate(plain):
                for column, wanted in enumerate(batch):
                    place = (fold, step, column)
                    if wanted is None:
                        assert found["row"][place] == -1, f"{case} {place}"
                        continue
                    row, partner, share, target, weight = wanted
                    assert found["row"][place] == row, f"{case} {place}"
                    assert found["partner"][place] == partner, f"{case} {place}"
                    assert found["share"][place] == np.float32(share), f"{case} {place}"
                    assert found["target"][place] == pytest.approx(target, rel=1e-5), case
                    assert found["weight"][place] == pytest.approx(weight, rel=1e-5), case


def test_where_the_target_is_all_the_teachers_labels_and_smoothing_change_nothing(
    make_set: MakeSet,
) -> None:
    data = _data(make_set)
    own = random_soft_targets(np.arange(30), 1, 4, seed=0)
    assert own.teacher_probabilities is not None
    for smoothing in (0.0, 0.3):
        train = TrainConfig(distillation=1.0, label_smoothing=smoothing, class_weights=False)
        batches = _batches(train, data, [own], [0], (3, 10))
        found = _in_order(batches.epoch(1), "target")
        np.testing.assert_array_equal(found, own.teacher_probabilities[0], err_msg=f"{smoothing=}")


def _in_order(examples: Examples, name: str) -> np.ndarray:
    """Values of the one fold's examples, by row: epochs differ in their order."""
    used = examples.row[0].numpy() >= 0
    values: np.ndarray = getattr(examples, name)[0].numpy()[used]
    return values[np.argsort(examples.row[0].numpy()[used])]


def test_making_epochs_changes_no_lesson(make_set: MakeSet) -> None:
    data = _data(make_set)
    own = random_soft_targets(np.arange(30), 2, 4, seed=0)
    before = {name: value.copy() for name, value in vars(own).items()}
    batches = _batches(TrainConfig(distillation=0.5), data, [own], [0], (3, 10))
    for number in (1, 2, 3):
        batches.epoch(number)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(own, name), value, err_msg=name)
