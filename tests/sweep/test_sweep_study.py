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
from qwave.store import Store
from qwave.sweep.ask import Asker, make_sampler
from qwave.sweep.progress import Progress
from qwave.sweep.study import give_back, open_study, repair

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
    asker = Asker(study, sweep)
    for _ in range(number):
        trial = asker.ask().trial
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
    assert Asker(study, sweep).ask().trial.params == trial.params, f"{seed=}"
    sizes = [t.values[1] for t in study.trials if t.values]
    assert min(sizes) >= 2000, "the study itself records bytes"


@pytest.mark.parametrize(("name", "n_trials"), [("tpe", 40), ("gp", 14)])
def test_an_asker_that_follows_a_study_draws_what_one_that_reads_it_anew_draws(
    name: str, n_trials: int
) -> None:
    sweep = load(f"sampler.name={name}", "sampler.baselines=false")
    drawn = []
    for is_kept in (True, False):
        study = optuna.create_study(directions=["maximize", "minimize"])
        asker, running = Asker(study, sweep), []
        for number in range(n_trials):
            trial = (asker if is_kept else Asker(study, sweep)).ask().trial
            trial.set_constraint("size_bytes", 1.0 if number % 7 == 6 else -1.0)
            if number % 7 == 6:  # refused at once, before those that are under way
                study.tell(trial, state=TrialState.PRUNED)
            else:
                running.append(trial)
            if len(running) == 3:
                told = running.pop(0)
                if told.number % 11 == 3:
                    study.tell(told, state=TrialState.FAIL)
                else:
                    study.tell(told, made_up_scores(told.params))
        drawn.append([trial.params for trial in study.trials])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "name", ["tpe", "nsga2", "random", pytest.param("gp", marks=pytest.mark.slow)]
)
def test_every_sampler_draws_valid_trials_and_never_the_same_after_a_restart(name: str) -> None:
    sweep = load(f"sampler.name={name}", "sampler.baselines=false")
    study = optuna.create_study(directions=["maximize", "minimize"])
    run_made_up(study, sweep, 14)
    params = [trial.params for trial in study.trials]
    # `make_sampler` is called anew for each trial, as a restart would; seeds follow the number.
    assert all(first != second for i, first in enumerate(params) for second in params[:i])


def test_queued_trials_come_before_drawn_ones(tmp_path: Path) -> None:
    sweep = load()
    study = open_study(sweep, Store(tmp_path), {}, is_fresh=False)
    wanted = baseline_params(sweep)
    for params in wanted:
        config = Asker(study, sweep).ask().config
        assert config == suggest(sweep, optuna.trial.FixedTrial(params))
        assert config.model.num_experts == 1
    schemes = [params["model.schemes"] for params in wanted]
    assert len(set(schemes)) == 8
    assert len(wanted) == 8 + 4 + 1
    drawn = Asker(study, sweep).ask().trial
    assert drawn.params["model.schemes"] not in schemes


def test_what_was_cut_off_is_queued_again_and_counts_nowhere(tmp_path: Path) -> None:
    sweep = load("budget.n_trials=3", "sampler.baselines=false")
    study = open_study(sweep, Store(tmp_path), {}, is_fresh=False)
    done, lost = (Asker(study, sweep).ask() for _ in range(2))
    done.trial.set_user_attr("scores", {"accuracy": 0.9, "size_bytes": 3000.0})
    study.tell(done.trial, (0.9, 3000))
    assert Progress(study).n_left(sweep.budget.n_trials) == 2
    assert [trial.number for trial in repair(study, sweep, never)] == [lost.trial.number]
    assert Progress(study).counts == {"complete": 1, "pruned": 0, "failed": 0}
    again = Asker(study, sweep).ask()
    assert again.digest == lost.digest
    assert again.trial.number != lost.trial.number
    give_back(study, again.trial.number)
    assert Progress(study).n_left(sweep.budget.n_trials) == 2
    assert not repair(study, sweep, never)


def test_a_trial_that_was_recorded_but_not_told_is_told_and_not_trained_again(
    tmp_path: Path,
) -> None:
    sweep = load("sampler.baselines=false")
    study = open_study(sweep, Store(tmp_path), {}, is_fresh=False)
    drawn = [Asker(study, sweep).ask().trial for _ in range(3)]
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
    study = open_study(sweep, Store(tmp_path), {}, is_fresh=False)
    study.tell(Asker(study, sweep).ask().trial, state=TrialState.FAIL)
    study.tell(Asker(study, sweep).ask().trial, state=TrialState.PRUNED)
    assert Progress(study).counts == {"complete": 0, "pruned": 1, "failed": 1}
    assert Progress(study).n_left(sweep.budget.n_trials) == 1
    tiny = dataclasses.replace(sweep, budget=dataclasses.replace(sweep.budget, n_trials=1))
    assert Progress(study).n_left(tiny.budget.n_trials) == 0
