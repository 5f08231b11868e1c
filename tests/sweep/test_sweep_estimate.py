"""How long a sweep takes: the arithmetic, with plain values."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from qwave.config import TrainConfig, TrialConfig
from qwave.space import load_sweep
from qwave.sweep import plan_sweep
from qwave.sweep.estimate import (
    evenly,
    expected_configs,
    remaining_seconds,
    scaled_seconds,
    shortened,
    total_seconds,
)

MAIN = Path(__file__).resolve().parents[2] / "sweeps" / "moe_pareto.yaml"
PARTS = {"prepare": 2.0, "steps": 1.0, "evaluate": 0.5, "pack": 3.0, "score": 4.0}


@pytest.mark.parametrize(
    ("short", "full", "seconds"),
    [
        # Steps by epochs, looks by their number (ten at most), the rest once.
        (TrainConfig(epochs=5), TrainConfig(epochs=120), 2 + 24 + 1.0 + 3 + 4),
        (TrainConfig(epochs=5), TrainConfig(epochs=8), 2 + 1.6 + 0.8 + 3 + 4),
        (TrainConfig(epochs=5), TrainConfig(epochs=5), sum(PARTS.values())),
    ],
)
def test_only_what_grows_with_epochs_is_scaled(
    short: TrainConfig, full: TrainConfig, seconds: float
) -> None:
    assert scaled_seconds(PARTS, short, full) == pytest.approx(seconds)


def test_what_is_done_once_is_counted_once() -> None:
    def total(**changes: float) -> float:
        values = {
            **{"trial_seconds": 3.0, "n_trials": 60, "n_parallel": 2},
            **{"startup_seconds": 5.0, "teacher_seconds": 7.0, "n_teachers": 1},
        }
        return total_seconds(**{**values, **changes})  # type: ignore[arg-type]

    assert total() == 5 + 7 + 90
    assert total(n_teachers=0) == 5 + 90
    # All workers wait for the first teacher; many are trained side by side.
    assert total(n_teachers=2) == total()
    assert total(n_teachers=10) == 5 + 35 + 90
    # A trial is not trained in halves.
    assert total(n_trials=1, n_teachers=0) == 5 + 3
    assert total(n_parallel=1, n_teachers=0) == 5 + 180


@pytest.mark.slow
def test_what_would_be_trained_is_drawn_with_its_baselines_and_within_the_budget() -> None:
    plan = plan_sweep(load_sweep(MAIN, ["budget.max_size_bytes=50000"]))
    configs = expected_configs(plan)
    assert len(configs) == 13 + 10, "baselines, and draws before the sampler learns"
    assert [config.model.num_experts for config in configs[:8]] == [1] * 8
    assert any(config.model.num_experts > 1 for config in configs)
    narrow = [
        "search={}",
        "data.normalization=layer",
        "model.schemes=[int1]",
        "model.hidden=[]",
        "budget.n_trials=7",
    ]
    same = expected_configs(plan_sweep(load_sweep(MAIN, narrow)))
    assert len(same) == 7
    assert len({config.digest for config in same}) == 1, "repeats are trained once"
    budget = dataclasses.replace(plan.sweep.budget, n_trials=10**9)
    sampler = dataclasses.replace(plan.sweep.sampler, name="random")
    many = dataclasses.replace(plan.sweep, budget=budget, sampler=sampler)
    assert len(expected_configs(dataclasses.replace(plan, sweep=many))) == 500


def test_samples_are_spread_over_all_configurations() -> None:
    configs = [TrialConfig(seed=seed) for seed in range(10)]
    assert evenly(configs, 12) == configs
    assert [config.seed for config in evenly(configs, 5)] == [0, 2, 4, 6, 8]
    assert [config.seed for config in evenly(configs, 3)] == [0, 3, 6]
    assert shortened(configs[0], 5).train.epochs == 5
    assert shortened(shortened(configs[0], 3), 5).train.epochs == 3


def test_time_left_follows_from_the_trials_that_were_trained() -> None:
    assert remaining_seconds([], 60, 2, 0.0) is None
    assert remaining_seconds([4.0], 59, 2, 0.1) == 118
    assert remaining_seconds([4.0, 2.0], 10, 2, 0.2) == 15
    assert remaining_seconds([4.0], 0, 2, 0.1) == 0
    # Recording is not done side by side: it can be what takes the time.
    seconds = remaining_seconds([0.01] * 10, 20, 8, 1.0)
    assert seconds is not None
    assert math.isclose(seconds, 2.0)
