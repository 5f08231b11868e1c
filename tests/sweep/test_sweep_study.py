"""Asking: what the sampler sees, what it draws, and what counts."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from qwave.config import SweepConfig
from qwave.space import baseline_params, load_sweep, suggest
from qwave.sweep.study import (
    ask,
    count_trials,
    give_back,
    make_sampler,
    open_study,
    repair,
    trials_left,
)

REPOSITORY = Path(__file__).resolve().parents[2]
N_TOLD = 40


def load(*overrides: str) -> SweepConfig:
    return load_sweep(REPOSITORY / "sweeps" / "moe_pareto.yaml", overrides)


def never(run_id: str) -> bool:
    """No run was closed as finished."""
    return False


def made_up_scores(params: dict[str, object]) -> tuple[float, int]:
    """Something smooth to learn: more bits and more experts are larger and a little better."""
    position, experts = params["model.schemes"], params["model.num_experts"]
    assert isinstance(position, float)
    assert isinstance(experts, int)
    return 0.8 + 0.1 * position, int(2000 * 10 ** (2 * position) * experts)


def run_made_up(study: optuna.Study, sweep: SweepConfig, number: int) -> None:
    for _ in range(number):
        trial = ask(study, sweep, suggest).trial
        study.tell(trial, made_up_scores(trial.params))


@pytest.mark.parametrize("seed", range(3))
def test_tpe_draws_what_it_would_if_sizes_were_recorded_as_logarithms(seed: int) -> None:
    sweep = load(f"sampler.seed={seed}", "sampler.baselines=false")
    study = optuna.create_study(directions=["maximize", "minimize"])
    run_made_up(study, sweep, N_TOLD)
    # The same by hand: a study of logarithms from the start.
    logs = optuna.create_study(directions=["maximize", "minimize"])
    for number in range(N_TOLD + 1):
        logs.sampler = make_sampler(sweep, number)
        trial = logs.ask()
        suggest(sweep, trial)
        if number < N_TOLD:
            accuracy, size = made_up_scores(trial.params)
            logs.tell(trial, (accuracy, math.log10(size)))
    assert ask(study, sweep, suggest).trial.params == trial.params, f"{seed=}"
    sizes = [t.values[1] for t in study.trials if t.values]
    assert min(sizes) >= 2000, "the study itself records bytes"


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random", "gp"])
def test_every_sampler_draws_valid_trials_and_never_the_same_after_a_restart(name: str) -> None:
    sweep = load(f"sampler.name={name}", "sampler.baselines=false")
    study = optuna.create_study(directions=["maximize", "minimize"])
    run_made_up(study, sweep, 14)
    params = [trial.params for trial in study.trials]
    # `make_sampler` is called anew for each trial, as a restart would; seeds follow the number.
    assert all(first != second for i, first in enumerate(params) for second in params[:i])


def test_queued_trials_come_before_drawn_ones(tmp_path: Path) -> None:
    sweep = load()
    study = open_study(sweep, tmp_path, {}, is_fresh=False)
    wanted = baseline_params(sweep)
    for params in wanted:
        config = ask(study, sweep, suggest).config
        assert config == suggest(sweep, optuna.trial.FixedTrial(params))
        assert config.model.num_experts == 1
    schemes = [params["model.schemes"] for params in wanted]
    assert len(set(schemes)) == 8
    assert len(wanted) == 8 + 4 + 1
    drawn = ask(study, sweep, suggest).trial
    assert drawn.params["model.schemes"] not in schemes


def test_what_was_cut_off_is_queued_again_and_counts_nowhere(tmp_path: Path) -> None:
    sweep = load("budget.n_trials=3", "sampler.baselines=false")
    study = open_study(sweep, tmp_path, {}, is_fresh=False)
    done, lost = (ask(study, sweep, suggest) for _ in range(2))
    study.tell(done.trial, (0.9, 3000))
    assert trials_left(study, sweep) == 2
    assert [trial.number for trial in repair(study, sweep, never)] == [lost.trial.number]
    assert count_trials(study) == {"trials": 1, "complete": 1, "pruned": 0, "failed": 0}
    again = ask(study, sweep, suggest)
    assert again.digest == lost.digest
    assert again.trial.number != lost.trial.number
    give_back(study, again.trial.number)
    assert trials_left(study, sweep) == 2
    assert not repair(study, sweep, never)


def test_a_trial_that_was_recorded_but_not_told_is_told_and_not_trained_again(
    tmp_path: Path,
) -> None:
    sweep = load("sampler.baselines=false")
    study = open_study(sweep, tmp_path, {}, is_fresh=False)
    drawn = [ask(study, sweep, suggest).trial for _ in range(3)]
    for trial in drawn[:2]:
        trial.set_user_attr("scores", {"accuracy": 0.9, "size_bytes": 3000.0})
    for number, trial in enumerate(drawn):
        trial.set_user_attr("mlflow_run_id", f"run {number}")
    lost = repair(study, sweep, lambda run_id: run_id == "run 0")
    assert [trial.number for trial in lost] == [1, 2]
    states = [trial.state for trial in study.trials[:3]]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    assert study.trials[0].values == [0.9, 3000.0]


def test_failed_trials_spend_the_budget_and_refused_ones_do_not(tmp_path: Path) -> None:
    sweep = load("budget.n_trials=2", "sampler.baselines=false")
    study = open_study(sweep, tmp_path, {}, is_fresh=False)
    study.tell(ask(study, sweep, suggest).trial, state=TrialState.FAIL)
    study.tell(ask(study, sweep, suggest).trial, state=TrialState.PRUNED)
    assert count_trials(study) == {"trials": 2, "complete": 0, "pruned": 1, "failed": 1}
    assert trials_left(study, sweep) == 1
    tiny = dataclasses.replace(sweep, budget=dataclasses.replace(sweep.budget, n_trials=1))
    assert trials_left(study, tiny) == 0
