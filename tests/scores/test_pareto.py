"""The front and its hypervolume against brute force, closed forms and Optuna."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import optuna
import pytest

from qwave.scores.pareto import hypervolume, non_dominated

REFERENCE = {"reference_accuracy": 0.1, "reference_bytes": 1e6}


def _brute_force(accuracy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Every point against every other."""

    def dominates(i: int, j: int) -> bool:
        no_worse = accuracy[i] >= accuracy[j] and size[i] <= size[j]
        return bool(no_worse and (accuracy[i] > accuracy[j] or size[i] < size[j]))

    n = len(accuracy)
    return np.array([not any(dominates(i, j) for i in range(n)) for j in range(n)], dtype=bool)


def _inclusion_exclusion(accuracy: np.ndarray, size: np.ndarray) -> float:
    """Area of a union of boxes: of every subset, the box that its members share."""
    width = np.maximum(math.log10(REFERENCE["reference_bytes"]) - np.log10(size), 0)
    height = np.maximum(accuracy - REFERENCE["reference_accuracy"], 0)
    total = 0.0
    for n_members in range(1, len(size) + 1):
        for members in map(list, itertools.combinations(range(len(size)), n_members)):
            shared = width[members].min() * height[members].min()
            total -= (-1) ** n_members * shared
    return total


def _cells(accuracy: np.ndarray, size: np.ndarray) -> float:
    """Area of a union of boxes: of every cell between neighbouring corners, is it covered."""
    x = np.log10(np.append(size, REFERENCE["reference_bytes"]))
    x = np.unique(np.minimum(x, x[-1]))
    y = np.unique(np.maximum(np.append(accuracy, REFERENCE["reference_accuracy"]), 0.1))
    total = 0.0
    for left, right in itertools.pairwise(x):
        for low, high in itertools.pairwise(y):
            inside = (np.log10(size) <= left + 1e-12) & (accuracy >= high - 1e-12)
            total += (right - left) * (high - low) * inside.any()
    return total


def _random_set(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points with ties in either coordinate and duplicates, or without any."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 40))
    levels = int(rng.choice([2, 5, 10**6]))
    accuracy = rng.integers(0, levels + 1, size=n) / levels
    size = 10 ** (1 + 6 * rng.integers(0, levels + 1, size=n) / levels)
    return accuracy, size


SEEDS = range(300)


def test_the_front_is_what_comparing_all_pairs_finds() -> None:
    n_ties = 0
    for seed in SEEDS:
        accuracy, size = _random_set(seed)
        kept = non_dominated(accuracy, size)
        assert kept.dtype == bool
        assert kept.tolist() == _brute_force(accuracy, size).tolist(), f"seed {seed}"
        n_ties += len(np.unique(size)) < len(size)
    assert n_ties > 50


def test_the_front_does_not_depend_on_the_order_of_points() -> None:
    for seed in SEEDS:
        accuracy, size = _random_set(seed)
        order = np.random.default_rng(seed).permutation(len(size))
        shuffled = non_dominated(accuracy[order], size[order])
        assert shuffled.tolist() == non_dominated(accuracy, size)[order].tolist(), f"seed {seed}"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(0.5, 100)], [True]),
        ([(0.5, 100), (0.5, 100)], [True, True]),
        ([(0.5, 100), (0.5, 100), (0.6, 100)], [False, False, True]),
        ([(0.5, 100), (0.5, 99)], [False, True]),
        ([(0.5, 100), (0.6, 200)], [True, True]),
        ([(0.6, 100), (0.5, 200)], [True, False]),
        ([(0.6, 200), (0.6, 100), (0.6, 100)], [False, True, True]),
        ([(0.0, 1), (0.0, 1), (0.0, 2)], [True, True, False]),
        ([(0.9, 5), (0.8, 4), (0.85, 4.5), (0.85, 4.5), (0.8, 5)], [True] * 4 + [False]),
    ],
)
def test_small_fronts_are_known(points: list[tuple[float, float]], expected: list[bool]) -> None:
    accuracy, size = [a for a, _ in points], [s for _, s in points]
    assert non_dominated(accuracy, size).tolist() == expected


def test_the_front_agrees_with_an_optuna_study() -> None:
    optuna_points: list[tuple[float, float]] = []
    for seed in range(20):
        accuracy, size = _random_set(seed)
        study = optuna.create_study(directions=["maximize", "minimize"])
        for values in zip(accuracy, size, strict=True):
            study.add_trial(optuna.trial.create_trial(values=list(map(float, values))))
        best = {trial.number for trial in study.best_trials}
        ours = set(np.flatnonzero(non_dominated(accuracy, size)).tolist())
        # Optuna keeps duplicates as well.
        assert ours == best, f"seed {seed}"
        optuna_points += [(t.values[0], t.values[1]) for t in study.best_trials]
    assert optuna_points


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], 0.0),
        # 0.4 above the reference over three powers of ten.
        ([(0.5, 1000)], 0.4 * 3),
        ([(0.5, 1000), (0.5, 1000)], 0.4 * 3),
        # A staircase: 0.2 over [10^2, 10^4], 0.7 over [10^4, 10^6].
        ([(0.3, 1e2), (0.8, 1e4)], 0.2 * 2 + 0.7 * 2),
        ([(0.8, 1e4), (0.3, 1e2), (0.8, 1e5), (0.2, 1e3)], 0.2 * 2 + 0.7 * 2),
        ([(1.0, 1.0)], 0.9 * 6),
        # On the edges of what counts, and outside.
        ([(0.1, 10.0)], 0.0),
        ([(0.9, 1e6)], 0.0),
        ([(0.05, 10.0), (0.9, 2e6)], 0.0),
    ],
)
def test_hypervolumes_of_staircases_are_known(
    points: list[tuple[float, float]], expected: float
) -> None:
    accuracy, size = [a for a, _ in points], [s for _, s in points]
    assert hypervolume(accuracy, size, **REFERENCE) == pytest.approx(expected, abs=1e-12)


def test_n_equal_steps_cover_a_triangle_of_them() -> None:
    for n in (1, 2, 7, 50):
        accuracy = 0.1 + 0.9 * np.arange(1, n + 1) / n
        size = 10 ** (6 * np.arange(n) / n)
        expected = 0.9 * 6 * (n + 1) / (2 * n)
        assert hypervolume(accuracy, size, **REFERENCE) == pytest.approx(expected), n


@pytest.mark.parametrize("twin", [_inclusion_exclusion, _cells])
def test_hypervolumes_equal_those_of_slow_twins(
    twin: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    n_positive = 0
    for seed in range(80):
        accuracy, size = (values[:7] for values in _random_set(seed))
        found = hypervolume(accuracy, size, **REFERENCE)
        assert found == pytest.approx(twin(accuracy, size), abs=1e-9), f"seed {seed}"
        n_positive += found > 0
    assert n_positive > 40


def test_hypervolumes_equal_the_share_of_random_darts() -> None:
    rng = np.random.default_rng(1)
    for seed in (3, 8, 11):
        accuracy, size = _random_set(seed)
        x, y = rng.uniform(0, 6, 200_000), rng.uniform(0.1, 1, 200_000)
        covered = np.zeros(len(x), dtype=bool)
        for a, s in zip(accuracy, size, strict=True):
            covered |= (x >= math.log10(s)) & (y <= a)
        expected = covered.mean() * 6 * 0.9
        found = hypervolume(accuracy, size, **REFERENCE)
        # Six standard errors of the darts.
        assert found == pytest.approx(expected, abs=6 * 5.4 * 0.5 / math.sqrt(200_000)), seed


@pytest.mark.filterwarnings(
    "ignore:.*plot_hypervolume_history is experimental:optuna.exceptions.ExperimentalWarning"
)
def test_hypervolumes_equal_optunas_history_on_logarithms() -> None:
    for seed in (1, 4, 9):
        accuracy, size = _random_set(seed)
        study = optuna.create_study(directions=["maximize", "minimize"])
        for a, s in zip(accuracy, size, strict=True):
            trial = optuna.trial.create_trial(values=[float(a), math.log10(s)])
            study.add_trial(trial)
        figure = optuna.visualization.plot_hypervolume_history(
            study, reference_point=[REFERENCE["reference_accuracy"], 6.0]
        )
        history = list(figure.data[0].y)
        ours = [
            hypervolume(accuracy[: n + 1], size[: n + 1], **REFERENCE) for n in range(len(size))
        ]
        assert ours == pytest.approx(history, abs=1e-9), f"seed {seed}"


def test_a_dominated_point_adds_nothing_and_any_other_something() -> None:
    n_dominated = n_others = 0
    for seed in SEEDS:
        rng = np.random.default_rng(10_000 + seed)
        accuracy, size = _random_set(seed)
        before = hypervolume(accuracy, size, **REFERENCE)
        new_accuracy, new_size = rng.uniform(0.11, 1), 10 ** rng.uniform(1, 5.9)
        more = np.append(accuracy, new_accuracy), np.append(size, new_size)
        after = hypervolume(*more, **REFERENCE)
        if non_dominated(*more)[-1]:
            n_others += 1
            assert after > before, f"seed {seed}"
        else:
            n_dominated += 1
            assert after == before, f"seed {seed}"
            kept = non_dominated(accuracy, size).tolist()
            assert non_dominated(*more)[:-1].tolist() == kept, f"seed {seed}"
    assert min(n_dominated, n_others) > 20


def test_points_outside_the_reference_add_nothing() -> None:
    for seed in SEEDS:
        accuracy, size = _random_set(seed)
        outside_accuracy = np.concatenate([accuracy, [0.1, 0.05, 1.0, 0.5, -3.0]])
        outside_size = np.concatenate([size, [1.0, 1.0, 1e6, 1e9, 1.0]])
        before = hypervolume(accuracy, size, **REFERENCE)
        assert hypervolume(outside_accuracy, outside_size, **REFERENCE) == before, f"seed {seed}"


def test_the_unit_of_size_does_not_matter() -> None:
    for seed in range(50):
        accuracy, size = _random_set(seed)
        in_bits = hypervolume(accuracy, 8 * size, reference_accuracy=0.1, reference_bytes=8e6)
        assert in_bits == pytest.approx(hypervolume(accuracy, size, **REFERENCE)), f"seed {seed}"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_what_is_not_finite_is_refused(bad: float, column: int) -> None:
    columns = [[0.5, 0.6], [100.0, 200.0]]
    columns[column][1] = bad
    with pytest.raises(ValueError, match="accuracies and sizes must be finite"):
        non_dominated(*columns)
    with pytest.raises(ValueError, match="accuracies and sizes must be finite"):
        hypervolume(*columns, **REFERENCE)


@pytest.mark.parametrize(
    ("accuracy", "size", "message"),
    [
        ([0.5], [1.0, 2.0], r"as many accuracies as sizes, but got shapes \(1,\) and \(2,\)"),
        ([[0.5]], [[1.0]], r"as many accuracies as sizes, but got shapes \(1, 1\) and \(1, 1\)"),
        (0.5, 1.0, r"as many accuracies as sizes, but got shapes \(\) and \(\)"),
        ([], [1.0], r"as many accuracies as sizes, but got shapes \(0,\) and \(1,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(accuracy: object, size: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        non_dominated(accuracy, size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        hypervolume(accuracy, size, **REFERENCE)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0.0, -5.0])
def test_sizes_without_a_logarithm_are_refused(size: float) -> None:
    with pytest.raises(ValueError, match=f"`size_bytes > 0` must hold, but got {size}"):
        hypervolume([0.5, 0.6], [10.0, size], **REFERENCE)


@pytest.mark.parametrize("points", [[], [0.5]])
def test_a_reference_without_a_logarithm_is_refused(points: list[float]) -> None:
    with pytest.raises(
        ValueError, match="`size_bytes > 0` must hold, but got .*reference_bytes=0"
    ):
        hypervolume(points, points, reference_accuracy=0.1, reference_bytes=0)


def test_arguments_are_left_alone() -> None:
    accuracy, size = np.array([0.5, 0.9, 0.2]), np.array([3.0, 2.0, 1.0])
    hypervolume(accuracy, size, **REFERENCE)
    non_dominated(accuracy, size)
    assert accuracy.tolist() == [0.5, 0.9, 0.2]
    assert size.tolist() == [3.0, 2.0, 1.0]
