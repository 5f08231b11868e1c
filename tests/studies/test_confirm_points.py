"""Which points of a search are trained again, with which seeds, and on which data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qwave.config import ConfigError, TrialConfig
from qwave.data import EmbeddingSet
from qwave.scores import FrontPoint
from qwave.sweep.confirm import near_front, refuse_stale
from tests.studies.front_points import dominates, front_points

MakeSet = Callable[..., EmbeddingSet]


def _random_points(seed: int) -> list[FrontPoint]:
    """Few accuracies and sizes, so that ties and equal points are many."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    values = [
        (float(a) / 10, int(s) * 100)
        for a, s in zip(rng.integers(3, 10, n), rng.integers(1, 8, n), strict=True)
    ]
    return front_points(values, rng.choice([0.0, 0.05, 0.1, 0.3], size=n).tolist())


@pytest.mark.parametrize("seed", range(8))
def test_points_near_the_front_are_those_of_a_plain_loop(seed: int) -> None:
    points = _random_points(seed)
    for near, max_points in ((0.0, 100), (0.7, 100), (2.0, 7), (2.0, 1), (float("inf"), 100)):
        front: list[FrontPoint] = []
        rest: list[tuple[float, int, int]] = []
        for point in points:
            pair = point.accuracy, point.size_bytes
            if any((p.accuracy, p.size_bytes) == pair for p in front):
                rest.append((0.0, point.size_bytes, point.number))
                continue
            if not any(dominates((p.accuracy, p.size_bytes), pair) for p in points):
                front.append(point)
                continue
            best = max(p.accuracy for p in points if p.size_bytes <= point.size_bytes)
            gap = best - point.accuracy
            if gap == 0:
                errors = 0.0
            else:
                errors = gap / point.standard_error if point.standard_error else float("inf")
            if errors <= near:
                rest.append((errors, point.size_bytes, point.number))
        numbers = [p.number for p in front]
        for _, _, number in sorted(rest):
            if len(numbers) < max_points:
                numbers.append(number)
        numbers.sort(key=lambda number: (points[number].size_bytes, number))
        got = near_front(points, near, max_points)
        assert [p.number for p in got] == numbers, f"{seed=} {near=} {max_points=}"


def test_without_a_trial_there_is_nothing_to_train_again() -> None:
    assert near_front([], 0.5, 16) == []


def test_seeds_of_the_search_are_refused() -> None:
    configs = {"a": TrialConfig(seed=4), "b": TrialConfig(seed=2)}
    message = "^`seeds` must be fresh, but the search itself trained with 2; choose others$"
    with pytest.raises(ConfigError, match=message):
        refuse_stale(configs, (1, 4, 2))
    refuse_stale(configs, (1, 3))
