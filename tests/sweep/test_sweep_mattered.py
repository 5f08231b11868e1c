"""What mattered: planted effects are found, noise is not, and choices are counted by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from qwave.scores import Interval
from qwave.sweep.mattered import (
    MAX_TRIALS,
    MIN_TRIALS,
    choice_tables,
    parameter_importances,
)

DISTRIBUTIONS: dict[str, Any] = {
    "experts": IntDistribution(1, 4),
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "drop": FloatDistribution(0.0, 0.5),
    "norm": CategoricalDistribution(("none", "standard", "sqrt")),
    "router": CategoricalDistribution(("linear", "small")),
    "fixed": CategoricalDistribution(("only",)),
}


def make_trials(n_trials: int, seed: int) -> list[FrozenTrial]:
    """Random draws; only several experts have a router."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(n_trials):
        params: dict[str, Any] = {
            "experts": int(rng.integers(1, 5)),
            "rate": float(10 ** rng.uniform(-5, -1)),
            "drop": float(rng.uniform(0, 0.5)),
            "norm": str(rng.choice(["none", "standard", "sqrt"])),
            "fixed": "only",
        }
        if params["experts"] > 1:
            params["router"] = str(rng.choice(["linear", "small"]))
        trial = optuna.trial.create_trial(
            params=params, distributions={key: DISTRIBUTIONS[key] for key in params}, value=0.0
        )
        trial.number = number
        trials.append(trial)
    return trials


def found_by(
    effect: Callable[[dict[str, Any]], float], n_trials: int, seed: int, noise: float = 0.3
) -> dict[str, Interval]:
    rng = np.random.default_rng(1000 + seed)
    trials = make_trials(n_trials, seed)
    scores = [effect(trial.params) + noise * rng.normal() for trial in trials]
    return parameter_importances(trials, scores, seed=seed)


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("rate", lambda p: np.log10(p["rate"])),
        pytest.param(
            *("norm", lambda p: {"none": 0.0, "standard": 2.0, "sqrt": -1.0}[p["norm"]]),
            marks=pytest.mark.slow,
        ),
        pytest.param("experts", lambda p: -float(p["experts"]), marks=pytest.mark.slow),
        # Only some trials have it, and only among them it can be seen.
        ("router", lambda p: 2.0 * (p.get("router") == "small")),
    ],
)
def test_what_was_planted_is_found_and_nothing_else(
    name: str, effect: Callable[[dict[str, Any]], float]
) -> None:
    found = found_by(effect, 80, 0)
    assert set(found) == {"experts", "rate", "drop", "norm", "router"}
    assert max(found, key=lambda key: found[key].estimate) == name, found
    assert found[name].low > 0, found
    assert found["drop"].low <= 0, found
    for estimate in found.values():
        assert estimate.low <= estimate.estimate <= estimate.high


@pytest.mark.slow
def test_of_two_effects_the_larger_is_larger() -> None:
    found = found_by(lambda p: np.log10(p["rate"]) + 4 * p["drop"], 150, 0)
    assert found["rate"].estimate > found["drop"].estimate > 0.05
    # Their shares of the variance are 1.33 and 0.33 of 1.76.
    assert found["rate"].estimate == pytest.approx(1.33 / 1.76, abs=0.25)


@pytest.mark.slow
def test_noise_matters_to_nothing() -> None:
    for seed in range(4):
        found = found_by(lambda p: 0.0, 60, seed)
        assert [name for name, estimate in found.items() if estimate.low > 0] == [], seed


@pytest.mark.slow
def test_one_lost_trial_does_not_hide_the_rest() -> None:
    trials = make_trials(80, 3)
    scores = [np.log10(trial.params["rate"]) for trial in trials]
    scores[17] = -1e6
    assert parameter_importances(trials, scores, seed=0)["rate"].low > 0.3


def test_few_trials_or_equal_scores_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwave.sweep.mattered._N_SPLITS", 5)
    trials = make_trials(MIN_TRIALS, 0)
    scores = [trial.params["drop"] for trial in trials]
    assert parameter_importances(trials[:-1], scores[:-1], seed=0) == {}
    assert parameter_importances(trials, scores, seed=0) != {}
    # Sums in another order.
    equal = [0.1 + 0.2 if number % 2 else 0.3 for number in range(MIN_TRIALS)]
    assert parameter_importances(trials, equal, seed=0) == {}
    assert parameter_importances([], [], seed=0) == {}


def test_equal_arguments_give_equal_results_and_ranks_are_all_that_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qwave.sweep.mattered._N_SPLITS", 5)
    trials = make_trials(MIN_TRIALS, 0)
    scores = [trial.params["rate"] for trial in trials]
    first = parameter_importances(trials, scores, seed=1)
    assert parameter_importances(trials, scores, seed=1) == first
    assert parameter_importances(trials, list(np.log10(scores)), seed=1) == first
    assert parameter_importances(trials, scores, seed=2) != first


@pytest.mark.slow
def test_of_very_many_trials_some_are_enough() -> None:
    trials = make_trials(MAX_TRIALS + 200, 0)
    found = parameter_importances(trials, [t.params["drop"] for t in trials], seed=0)
    assert found["drop"].low > 0.5


def scored(rows: Sequence[tuple[dict[str, Any], float, int]]) -> list[FrozenTrial]:
    trials = []
    for number, (params, accuracy, size) in enumerate(rows):
        trial = optuna.trial.create_trial(
            params=params,
            distributions={key: DISTRIBUTIONS[key] for key in params},
            value=accuracy,
            user_attrs={"scores": {"accuracy": accuracy, "size_bytes": float(size)}},
        )
        trial.number = number
        trials.append(trial)
    return trials


def test_choices_show_the_best_of_each_and_those_without_last() -> None:
    trials = scored(
        [
            ({"experts": 1, "norm": "sqrt", "rate": 1e-3}, 0.8, 500),
            ({"experts": 2, "norm": "sqrt", "rate": 1e-3, "router": "small"}, 0.9, 900),
            ({"experts": 2, "norm": "none", "rate": 1e-3, "router": "small"}, 0.9, 800),
            ({"experts": 4, "norm": "none", "rate": 1e-3, "router": "small"}, 0.7, 700),
        ]
    )
    tables = choice_tables(trials, ["norm", "experts", "router", "rate", "unheard of"])
    assert list(tables) == ["norm", "experts", "router"]
    # Of equal accuracies the smaller file; a choice that nobody drew is shown as such.
    assert tables["norm"].rows == (
        ("none", 2, 0.9, 800, 2),
        ("standard", 0, None, None, None),
        ("sqrt", 2, 0.9, 900, 1),
    )
    assert tables["experts"].rows == (
        ("1", 1, 0.8, 500, 0),
        ("2", 2, 0.9, 800, 2),
        ("3", 0, None, None, None),
        ("4", 1, 0.7, 700, 3),
    )
    assert tables["router"].rows == (
        ("linear", 0, None, None, None),
        ("small", 3, 0.9, 800, 2),
        ("(not in use)", 1, 0.8, 500, 0),
    )


def test_one_choice_is_none() -> None:
    assert choice_tables(scored([({"fixed": "only"}, 0.8, 500)]), ["fixed"]) == {}
    assert choice_tables([], ["norm"]) == {}
