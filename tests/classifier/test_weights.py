"""Weights are repetitions of rows: beside repeated rows, and beside counts found one by one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from qwave import QuantizedMoEClassifier
from qwave.classifier.weights import repetitions, training_rows
from qwave.config import DataError
from qwave.data import EmbeddingSet
from qwave.packing import to_bytes

SEEDS = range(4)


def _estimator(**parameters: Any) -> QuantizedMoEClassifier:
    options = {"epochs": 4, "distillation": 0.0, "random_state": 0, **parameters}
    return QuantizedMoEClassifier(**options)


def _file(estimator: QuantizedMoEClassifier) -> bytes:
    return to_bytes(estimator.model_.packed)


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(3, n_per_class=10, num_features=5, distance=1.0)


def _counts_one_by_one(shares: list[Fraction]) -> list[int]:
    """Systematic resampling in exact arithmetic: how many k + 1/2 lie in each row's interval."""
    counts, end = [], Fraction(0)
    for share in shares:
        start, end = end, end + share
        points = range(int(end) + 1)
        counts.append(sum(start < point + Fraction(1, 2) <= end for point in points))
    return counts


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_are_counted_as_in_exact_arithmetic(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Fractions of a power of two up to another, with which floats reckon exactly.
    weights = rng.choice([0.0, 0.5, 0.71875, 0.75, 0.875, 1.25, 2.0], 40)
    weights[:2] = 0.5, 2.0
    expected = _counts_one_by_one([Fraction(weight) / Fraction(1, 2) for weight in weights])
    found = repetitions(weights, np.zeros(40, dtype=np.int64), "w")
    assert found.tolist() == expected, f"seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("unit", [1e-300, 0.1, 1.0, 3e7, 1e300])
def test_any_run_of_rows_has_its_share_to_within_one(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.4, 3.0, 50) * unit
    weights[rng.random(50) < 0.2] = 0
    found = repetitions(weights, np.arange(50) // 25, "w")
    shares = weights / weights[weights > 0].min()
    for start in range(0, 50, 7):
        for end in range(start + 1, 51):
            difference = found[start:end].sum() - shares[start:end].sum()
            assert abs(difference) <= 1 + 1e-9, f"seed {seed}, unit {unit}, {start}:{end}"
    assert (found[weights == 0] == 0).all()
    assert (found[weights > 0] >= 1).all()


def test_equal_weights_that_are_not_whole_count_once() -> None:
    weights = np.full(7, 1 / 7)
    assert repetitions(weights, np.arange(7) % 2, "w").tolist() == [1] * 7
    assert repetitions(np.array([0.5, 1.5, 1.0]), np.array([0, 0, 1]), "w").tolist() == [1, 3, 2]


def test_few_light_rows_do_not_make_many_of_the_others() -> None:
    weights = np.full(100, 0.9)
    weights[0] = 1e-6
    counts = repetitions(weights, np.repeat([0, 1], 50), "w")
    assert counts.sum() == 800
    assert counts[0] == 0
    assert set(counts[1:].tolist()) == {8, 9}


def test_a_class_that_weighs_next_to_nothing_keeps_its_heaviest_row() -> None:
    weights = np.array([1e-9, 3e-9, 3e-9, 0.0, 1.0, 1.1])
    counts = repetitions(weights, np.array([0, 0, 0, 1, 2, 2]), "w")
    assert counts[:4].tolist() == [0, 1, 0, 0]
    assert counts[4:].sum() == 8 * 5


def test_whole_weights_are_shares_where_they_are_far_too_many() -> None:
    y = np.array([0, 1])
    assert repetitions(np.array([100.0, 100.0]), y, "w").tolist() == [100, 100]
    assert repetitions(np.array([100.0, 101.0]), y, "w").tolist() == [1, 1]
    assert repetitions(np.array([2e18, 6e18]), y, "w").tolist() == [1, 3]


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([1.0, -2.0, -3.0], "w must be finite and 0 or above, but holds -2"),
        ([1.0, np.nan, 1.0], "w must be finite and 0 or above, but holds nan"),
        ([np.inf, 1.0, 1.0], "w must be finite and 0 or above, but holds inf"),
        ([0.0, 0.0, 0.0], "w is zero for all 3 rows; at least two classes need a row"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: list[float], says: str) -> None:
    with pytest.raises(DataError, match=says):
        repetitions(np.array(weights), np.array([0, 1, 1]), "w")


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_come_out_by_class_and_features_whatever_their_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (40, 2)).astype(np.float32)  # with equal rows
    y = rng.integers(0, 3, 40)
    weight = rng.integers(0, 4, 40).astype(float)
    labels = np.array([5, 7, 9])
    rows = training_rows(x, y, labels, weight, {5: 1, 7: 2, 9: 1})
    shuffled = rng.permutation(40)
    other = training_rows(x[shuffled], y[shuffled], labels, weight[shuffled], {5: 1, 7: 2, 9: 1})
    np.testing.assert_array_equal(x[rows], x[shuffled][other], err_msg=f"seed {seed}")
    np.testing.assert_array_equal(y[rows], y[shuffled][other], err_msg=f"seed {seed}")
    assert (np.diff(y[rows]) >= 0).all()
    found = np.bincount(rows, minlength=40)
    np.testing.assert_array_equal(found, weight * np.where(y == 1, 2, 1), err_msg=f"seed {seed}")


@pytest.mark.parametrize(
    ("class_weight", "seed"), [(None, 0), ("balanced", 1), ({0: 0.5, 1: 2, 2: 0.7}, 2)]
)
def test_weighted_rows_train_the_file_of_repeated_rows(
    data: EmbeddingSet, class_weight: object, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 4, len(data.y))
    order = rng.permutation(len(data.y))
    weighted = _estimator(class_weight=class_weight, distillation=0.5)
    weighted.fit(data.x[order], data.y[order], sample_weight=weight[order])
    repeated = _estimator(class_weight=class_weight, distillation=0.5)
    repeated.fit(data.x.repeat(weight, axis=0), data.y.repeat(weight))
    assert _file(weighted) == _file(repeated), f"seed {seed}"
    assert _file(repeated) != _file(_estimator(distillation=0.5).fit(data.x, data.y))


def test_constant_weights_change_nothing_unless_they_repeat(data: EmbeddingSet) -> None:
    plain = _file(_estimator().fit(data.x, data.y))
    for constant in (1, 0.3, 1 / len(data.y)):
        weight = np.full(len(data.y), constant)
        assert _file(_estimator().fit(data.x, data.y, weight)) == plain, constant
    assert _file(_estimator().fit(data.x, data.y, np.full(len(data.y), 2))) != plain


def test_a_class_without_weight_has_probability_zero(data: EmbeddingSet) -> None:
    weight = (data.y != 1).astype(float)
    for estimator in (
        _estimator().fit(data.x, data.y, weight),
        _estimator(class_weight={0: 1, 1: 0, 2: 1}).fit(data.x, data.y),
    ):
        probabilities = estimator.predict_proba(data.x)
        assert estimator.classes_.tolist() == [0, 1, 2]
        assert estimator.model_.class_names == ("0", "2")
        assert probabilities.shape == (len(data.y), 3)
        assert (probabilities[:, 1] == 0).all()
        np.testing.assert_array_equal(
            probabilities[:, [0, 2]], estimator.model_.predict_proba(data.x)
        )
        assert set(estimator.predict(data.x)) == {0, 2}


def test_class_weights_are_the_sample_weights_that_scikit_learn_makes_of_them(
    data: EmbeddingSet,
) -> None:
    kept = np.flatnonzero((data.y != 2) | (np.arange(len(data.y)) % 3 == 0))
    x, y = data.x[kept], np.array(["a", "b", "c"])[data.y[kept]]
    for class_weight in ("balanced", {"a": 1, "b": 3, "c": 2}):
        by_class = _estimator(class_weight=class_weight).fit(x, y)
        by_row = _estimator().fit(x, y, compute_sample_weight(class_weight, y))
        assert _file(by_class) == _file(by_row), class_weight
        assert _file(by_class) != _file(_estimator().fit(x, y)), class_weight


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        ([-1.0] * 30, "sample_weight must be finite and 0 or above, but holds -1"),
        ([np.nan] * 30, "Input sample_weight contains NaN"),
        ([[1.0]] * 30, r"sample_weight must have one value for each of the 30 rows.*\(30, 1\)"),
        ([1.0] * 10 + [0.0] * 20, "got 1 class with weight above 0: 0"),
    ],
)
def test_bad_sample_weights_are_named(data: EmbeddingSet, weight: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        _estimator().fit(data.x, data.y, weight)


@pytest.mark.parametrize(
    ("class_weight", "says"),
    [
        ("equal", "class_weight must be None, 'balanced' or a mapping .* but got 'equal'"),
        ({0: 1, 1: -1, 2: 1}, "class_weight must be finite and 0 or above, but holds -1"),
        ({0: 1, 1: 1, 3: 1}, r"The classes, \[2\], are not in class_weight"),
        ({0: 0, 1: 0, 2: 1}, "got 1 class with weight above 0: 2"),
    ],
)
def test_bad_class_weights_are_named(data: EmbeddingSet, class_weight: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _estimator(class_weight=class_weight).fit(data.x, data.y)
