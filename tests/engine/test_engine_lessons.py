"""What an epoch holds: every clip and its label, or mixtures and what a teacher says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from qwave.config import TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine import Lessons
from qwave.engine.lessons import Syllabus
from qwave.engine.task import Examples

MakeSet = Callable[..., EmbeddingSet]


def _config(**train: Any) -> TrialConfig:
    return TrialConfig(train=TrainConfig(**train)).canonical()


def _data(make_set: MakeSet, n_rows: int = 50, n_classes: int = 4, seed: int = 0) -> EmbeddingSet:
    """Classes of unequal size, each with a row at least."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n_rows - n_classes) // 2])
    return make_set(np.zeros((n_rows, 2)), y)


def _lessons(rows: np.ndarray, n_rounds: int, n_classes: int, seed: int) -> Lessons:
    """Mixtures of these rows, with probabilities drawn at random as a teacher's."""
    rng = np.random.default_rng(seed)
    said = rng.dirichlet(np.ones(n_classes), (n_rounds, len(rows))).astype(np.float32)
    return dataclasses.replace(Lessons.of_mixtures(rows, n_rounds, seed), said=said)


def _syllabus(
    config: TrialConfig,
    data: EmbeddingSet,
    lessons: Sequence[Lessons],
    seeds: Sequence[int],
    shape: tuple[int, int],
) -> Syllabus:
    """The order of each fold is drawn from its seed; shape is that of an epoch's batches."""
    order = [np.random.default_rng(seed) for seed in seeds]
    return Syllabus(config, data, lessons, order, n_steps=shape[0], width=shape[1])


# --- labels ---


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_of_labels_holds_each_training_clip_once(seed: int, make_set: MakeSet) -> None:
    rng = np.random.default_rng(seed)
    data = _data(make_set)
    smoothing = 0.2
    fit = [np.sort(rng.permutation(50)[:size]) for size in (30, 17)]
    lessons = [Lessons.of_labels(rows) for rows in fit]
    syllabus = _syllabus(_config(label_smoothing=smoothing), data, lessons, [0, 1], (4, 9))
    for number in (1, 2):
        row, _, share, target, weight = (t.numpy() for t in syllabus.epoch(number))
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
    lesson = Lessons.of_labels(np.array([4, 7, 8]))
    np.testing.assert_array_equal(lesson.row, [[4, 7, 8]])
    np.testing.assert_array_equal(lesson.partner, lesson.row)
    np.testing.assert_array_equal(lesson.share, [[1, 1, 1]])
    assert lesson.said is None


def test_the_partner_of_a_clip_that_is_not_mixed_says_nothing(make_set: MakeSet) -> None:
    data = _data(make_set)
    lesson = Lessons.of_labels(np.arange(5, 40))
    other = dataclasses.replace(lesson, partner=lesson.partner[:, ::-1].copy())
    one, two = (
        _syllabus(_config(), data, [each], [3], (3, 12)).epoch(1) for each in (lesson, other)
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
    lessons = [_lessons(rows, 2, 4, seed=0) for rows in fit]
    if not distillation:
        lessons = [Lessons.of_labels(rows) for rows in fit]
    syllabus = _syllabus(_config(distillation=distillation), data, lessons, [0, 1], (4, 10))
    examples = syllabus.epoch(1)
    is_padding = examples.row.numpy() < 0
    assert is_padding.sum(axis=(1, 2)).tolist() == [10, 31]
    assert (examples.row.numpy()[is_padding] == -1).all()
    assert (examples.weight.numpy() == 0).tolist() == is_padding.tolist()
    assert (examples.partner.numpy() >= 0).all()
    assert (examples.share.numpy()[is_padding] == 1).all()
    assert (examples.target.numpy()[is_padding] == 0.25).all()


def test_examples_have_the_types_that_c_reads(make_set: MakeSet) -> None:
    data = _data(make_set)
    for lesson in (Lessons.of_labels(np.arange(20)), _lessons(np.arange(20), 2, 4, seed=0)):
        examples = _syllabus(_config(distillation=0.5), data, [lesson], [0], (2, 10)).epoch(1)
        types = {name: str(tensor.dtype) for name, tensor in examples._asdict().items()}
        assert types == {
            "row": "torch.int64",
            "partner": "torch.int64",
            "share": "torch.float32",
            "target": "torch.float32",
            "weight": "torch.float32",
        }


# --- mixtures ---


@pytest.mark.parametrize("seed", range(10))
def test_partners_are_the_training_rows_in_an_order_of_their_own_each_round(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(500)[: rng.integers(20, 60)])
    lesson = Lessons.of_mixtures(rows, 6, seed)
    assert lesson.row.shape == lesson.partner.shape == lesson.share.shape == (6, len(rows))
    assert lesson.share.dtype == np.float32
    assert lesson.said is None
    for number in range(6):
        np.testing.assert_array_equal(lesson.row[number], rows, err_msg=f"{seed=}")
        np.testing.assert_array_equal(np.sort(lesson.partner[number]), rows, err_msg=f"{seed=}")
    orders = {tuple(partners) for partners in lesson.partner.tolist()}
    assert len(orders | {tuple(rows.tolist())}) == 7, f"{seed=}"
    assert lesson.share.min() >= 0.5, f"{seed=}"
    assert lesson.share.max() <= 1, f"{seed=}"


def test_shares_are_uniform_from_one_half_to_one() -> None:
    share = Lessons.of_mixtures(np.arange(1000), 20, 0).share
    # 2000 a tenth, with a standard deviation of 42.
    counts, _ = np.histogram(share, bins=10, range=(0.5, 1))
    assert np.abs(counts - 2000).max() < 250, counts


def test_mixtures_are_those_of_their_seed() -> None:
    one, two, other = (Lessons.of_mixtures(np.arange(30), 4, seed) for seed in (5, 5, 6))
    for name in ("row", "partner", "share"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert not np.array_equal(one.partner, other.partner)
    assert not np.array_equal(one.share, other.share)


# --- epochs ---


def _plain_epoch(
    config: TrialConfig,
    data: EmbeddingSet,
    lesson: Lessons,
    number: int,
    generator: np.random.Generator,
    shape: tuple[int, int],
) -> list[list[tuple[int, int, float, list[float], float] | None]]:
    """One fold's batches, example by example: row, partner, share, target, weight; or padding."""
    n_rounds, size = lesson.row.shape
    n_classes, train = data.num_classes, config.train
    classes = [int(data.y[row]) for row in lesson.row[0]]
    at = (number - 1) % n_rounds
    batches = []
    for places in np.array_split(generator.permutation(size), shape[0]):
        batch: list[tuple[int, int, float, list[float], float] | None] = []
        for place in places:
            row, partner = int(lesson.row[at, place]), int(lesson.partner[at, place])
            share = float(lesson.share[at, place])
            target, weight = [0.0] * n_classes, 0.0
            for clip, part in ((row, share), (partner, 1 - share)):
                label = int(data.y[clip])
                # Of the classes that there are: the others have no row to weigh.
                class_weight = size / (len(set(classes)) * classes.count(label))
                weight += part * (class_weight if train.class_weights else 1)
                for c in range(n_classes):
                    smooth = (1 - train.label_smoothing) * (c == label)
                    target[c] += part * (smooth + train.label_smoothing / n_classes)
            if lesson.said is not None:
                for c in range(n_classes):
                    said = float(lesson.said[at, place, c])
                    target[c] = (1 - train.distillation) * target[c] + train.distillation * said
            batch.append((row, partner, share, target, weight))
        batches.append(batch + [None] * (shape[1] - len(batch)))
    return batches


@pytest.mark.parametrize("seed", range(25))
def test_epochs_equal_a_plain_loop_over_examples(seed: int, make_set: MakeSet) -> None:
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 6))
    data = _data(make_set, n_rows=60, n_classes=n_classes, seed=seed)
    config = _config(
        label_smoothing=float(rng.choice([0, rng.random()])),
        class_weights=bool(rng.integers(2)),
        distillation=float(rng.choice([1, rng.random()])),
    )
    n_folds, n_steps = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    fit = [rng.permutation(60)[: rng.integers(5, 50)] for _ in range(n_folds)]
    width = -(-max(map(len, fit)) // n_steps) + int(rng.integers(3))
    is_said = rng.integers(4) > 0
    n_rounds = [int(rng.integers(1, 4)) for _ in fit]
    lessons = [
        _lessons(rows, n, n_classes, seed + fold)
        if is_said
        else Lessons.of_mixtures(rows, n, seed + fold)
        for fold, (rows, n) in enumerate(zip(fit, n_rounds, strict=True))
    ]
    seeds = [seed + fold for fold in range(n_folds)]
    syllabus = _syllabus(config, data, lessons, seeds, (n_steps, width))
    generators = [np.random.default_rng(each) for each in seeds]
    for number in range(1, 6):
        examples = syllabus.epoch(number)
        found = {name: tensor.numpy() for name, tensor in examples._asdict().items()}
        case = f"{seed=} {number=} {config.train}"
        np.testing.assert_allclose(found["target"].sum(axis=-1), 1, rtol=1e-5, err_msg=case)
        for fold, lesson in enumerate(lessons):
            plain = _plain_epoch(config, data, lesson, number, generators[fold], (n_steps, width))
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


def test_where_the_teacher_says_everything_labels_and_their_smoothing_say_nothing(
    make_set: MakeSet,
) -> None:
    data = _data(make_set)
    lesson = _lessons(np.arange(30), 1, 4, seed=0)
    assert lesson.said is not None
    for smoothing in (0.0, 0.3):
        train = TrainConfig(distillation=1.0, label_smoothing=smoothing, class_weights=False)
        syllabus = _syllabus(TrialConfig(train=train), data, [lesson], [0], (3, 10))
        found = _in_order(syllabus.epoch(1), "target")
        np.testing.assert_array_equal(found, lesson.said[0], err_msg=f"{smoothing=}")


def _in_order(examples: Examples, name: str) -> np.ndarray:
    """Values of the one fold's examples, by row: epochs differ in their order."""
    used = examples.row[0].numpy() >= 0
    values: np.ndarray = getattr(examples, name)[0].numpy()[used]
    return values[np.argsort(examples.row[0].numpy()[used])]


def test_after_the_last_round_the_first_comes_again(make_set: MakeSet) -> None:
    data = _data(make_set)
    lesson = _lessons(np.arange(10, 40), 3, 4, seed=0)
    syllabus = _syllabus(_config(distillation=0.5), data, [lesson], [0], (3, 10))
    epochs = [syllabus.epoch(number) for number in range(1, 8)]
    for name in ("partner", "share", "target", "weight"):
        values = [_in_order(examples, name) for examples in epochs]
        for one in range(7):
            for other in range(one):
                is_same_round = (one - other) % 3 == 0
                is_same = np.array_equal(values[one], values[other])
                assert is_same == is_same_round, f"{name}, epochs {other + 1} and {one + 1}"
    assert not np.array_equal(epochs[0].row, epochs[3].row), "in another order"


@pytest.mark.parametrize("kind", ["labels", "mixtures"])
def test_a_fold_alone_has_the_examples_that_it_has_among_others(
    kind: str, make_set: MakeSet
) -> None:
    data = _data(make_set)
    rng = np.random.default_rng(0)
    fit = [np.sort(rng.permutation(50)[:size]) for size in (45, 28, 33)]
    lessons = [
        Lessons.of_labels(rows) if kind == "labels" else _lessons(rows, 2, 4, seed)
        for seed, rows in enumerate(fit)
    ]
    config = _config(distillation=0.6)
    together = _syllabus(config, data, lessons, [4, 5, 6], (5, 9))
    alone = [_syllabus(config, data, lessons[f : f + 1], [4 + f], (5, 9)) for f in range(3)]
    for number in (1, 2, 3):
        examples = together.epoch(number)
        for fold in range(3):
            own = alone[fold].epoch(number)
            for name in Examples._fields:
                np.testing.assert_array_equal(
                    getattr(own, name)[0], getattr(examples, name)[fold], err_msg=f"{fold} {name}"
                )


def test_making_epochs_changes_no_lesson(make_set: MakeSet) -> None:
    data = _data(make_set)
    lesson = _lessons(np.arange(30), 2, 4, seed=0)
    before = {name: value.copy() for name, value in vars(lesson).items()}
    syllabus = _syllabus(_config(distillation=0.5), data, [lesson], [0], (3, 10))
    for number in (1, 2, 3):
        syllabus.epoch(number)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(lesson, name), value, err_msg=name)


def test_lessons_of_more_folds_than_are_trained_are_refused(make_set: MakeSet) -> None:
    data = _data(make_set)
    lessons = [Lessons.of_labels(np.arange(20)), Lessons.of_labels(np.arange(20))]
    syllabus = _syllabus(_config(), data, lessons, [0], (2, 10))
    with pytest.raises(ValueError, match=r"zip\(\) argument 2 is shorter than argument 1"):
        syllabus.epoch(1)
