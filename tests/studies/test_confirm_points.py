"""Which points of a search are trained again, with which seeds, and on which data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from optuna.study import Study

from qwave.config import ConfigError, DataConfig, TrialConfig
from qwave.data import EmbeddingSet, leave_out, load_embeddings
from qwave.scores import FrontPoint
from studies.confirm import ConfirmationConfig, near_front, refuse_stale, searched_data
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
        config = ConfirmationConfig("moe", near_standard_errors=near, max_points=max_points)
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
        got = near_front(points, config)
        assert [p.number for p in got] == numbers, f"{seed=} {near=} {max_points=}"


def test_a_study_without_a_trial_has_no_front() -> None:
    message = "^the study 'moe' has no complete trial yet$"
    with pytest.raises(ConfigError, match=message):
        near_front([], ConfirmationConfig("moe"))


def test_seeds_of_the_search_are_refused() -> None:
    configs = {"a": TrialConfig(seed=4), "b": TrialConfig(seed=2)}
    message = "^`seeds` must be fresh, but the search itself trained with 2; choose others$"
    with pytest.raises(ConfigError, match=message):
        refuse_stale(configs, (1, 4, 2))
    refuse_stale(configs, (1, 3))


def test_the_data_are_those_of_the_search_or_refused(tmp_path: Path, gaussians: MakeSet) -> None:
    data = gaussians(0)
    path = tmp_path / "clouds.npz"

    def write(x: np.ndarray) -> None:
        assert data.fold is not None
        assert data.group is not None
        np.savez(path, x=x, y=data.y, fold=data.fold, group=data.group)

    write(data.x)
    for fold in (None, 1):
        config = TrialConfig(data=DataConfig(str(path), holdout_fold=fold))
        wanted = leave_out(load_embeddings(path), fold)
        study = cast(Study, SimpleNamespace(user_attrs={"data_digest": wanted.digest}))
        full, left = searched_data(config, study)
        assert (full.digest, left.digest) == (load_embeddings(path).digest, wanted.digest)
        write(data.x + 1)
        now = leave_out(load_embeddings(path), fold).digest
        message = (
            f"{path} has changed since the search: its digest was {wanted.digest} and is {now}; "
            "search again"
        )
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            searched_data(config, study)
        write(data.x)
