"""Trials that fail and can be tried again, and a stop before the first trial has ended."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from qwave.config import ConfigError, TrialConfig
from qwave.space import load_sweep
from qwave.store import Store
from qwave.store.folder import opened_store
from qwave.sweep import Outcome, Plan, load_study, plan_sweep, run, run_sweep
from qwave.sweep.launcher import FinishedTrial
from studies.moe_pareto import main
from tests.sweep.launchers import InProcess

SWEEP = """
name: some
data: {path: "PATH", n_folds: 2}
budget: {n_trials: 3, workers: 1}
sampler: {name: random, in_flight: 1, baselines: false}
fixed: {train: {epochs: 1, distillation: 0.0}, model.hidden: []}
search: {train.learning_rate: {float: [0.001, 0.01]}}
"""


Fails = Callable[[Callable[[int], object]], None]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Fails:
    """Have the trials of all later sweeps trained here, and some of them fail."""

    def set_up(which: Callable[[int], object]) -> None:
        def fault(number: int, config: TrialConfig) -> Exception | None:
            text = f"rows of {number} do not lie in order"
            return AssertionError(text) if which(number) else None

        monkeypatch.setattr(run, "TrainingPool", lambda _, data, *rest: InProcess(data, fault))

    return set_up


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sweep")
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(2), 10)
    np.savez(folder / "data.npz", x=rng.normal(size=(20, 4)), y=y, group=np.arange(20))
    path = folder / "some.yaml"
    path.write_text(SWEEP.replace("PATH", str(folder / "data.npz")))
    return str(path)


def states(store: Path) -> list[TrialState]:
    study = load_study(store, "some")
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_where_all_trials_fail_there_is_no_model_and_the_first_reason_is_said(
    file: str, store: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(lambda _: True)
    for is_first in (True, False):  # the second start trains nothing, and says the same
        assert main([file, "--store", str(store), "--json"]) == 1
        captured = capsys.readouterr()
        found = json.loads(captured.out)
        assert (found["failed"], found["complete"], found["front"]) == (3, 0, [])
        reason = "trial 0: AssertionError: rows of 0 do not lie in order"
        assert found["first_failure"] == reason
        assert f"error: all 3 trials failed; the first, {reason}\n" in captured.err
        assert "--retry-failed trains them again" in captured.err
        for word in ("export", "hand over", "report.html", "hypervolume 0.0000", "digest"):
            assert word not in captured.err.split("error: ")[1], is_first
    assert not list((store / "reports").rglob("*.*"))


@pytest.mark.slow
def test_failed_trials_are_tried_again_and_count_no_more(
    file: str, store: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(lambda number: number < 2)
    assert main([file, "--store", str(store)]) == 0
    said = capsys.readouterr().out
    assert "1 trials complete, 0 over the size budget, 2 failed" in said
    assert "first failure: trial 0: AssertionError" in said
    assert "--retry-failed trains again what failed" in said
    assert "hand over a model:  qwave export" in said
    fails(lambda number: number == 1)
    assert main([file, "--store", str(store), "--retry-failed"]) == 0
    captured = capsys.readouterr()
    assert "2 failed trials run again" in captured.err
    assert "2 trials complete, 0 over the size budget, 1 failed" in captured.out
    assert "first failure: trial 4: " in captured.out
    assert main([file, "--store", str(store), "--retry-failed"]) == 0
    said = capsys.readouterr().out
    assert "3 trials complete, 0 over the size budget, 0 failed" in said
    assert "retry" not in said
    assert "first failure" not in said
    trials = load_study(store, "some").trials
    assert [trial.number for trial in trials] == list(range(6))
    # The parameters of what failed, tried again, and each with its own run in MLflow.
    assert [trials[place].params for place in (3, 4, 5)] == [
        trials[place].params for place in (0, 1, 4 if trials[4].state.name == "FAIL" else 3)
    ]
    mlflow = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    runs = {trial.user_attrs["mlflow_run_id"] for trial in trials}
    assert len(runs) == 6
    status = [mlflow.get_run(run_id).info.status for run_id in runs]
    assert sorted(status) == ["FAILED"] * 3 + ["FINISHED"] * 3


@pytest.mark.slow
def test_trying_again_where_nothing_failed_changes_nothing(
    file: str, store: Path, fails: Fails
) -> None:
    fails(lambda _: False)
    plan = plan_sweep(load_sweep(file))
    before = run_sweep(plan, store)
    after = run_sweep(plan, store, is_retry=True)
    assert before.counts == after.counts == {"trials": 3, "complete": 3, "pruned": 0, "failed": 0}
    assert before.first_failure is after.first_failure is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_before_the_first_trial_has_ended_says_just_that(
    file: str,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    class Endless(InProcess):
        def submit(self, config: TrialConfig) -> Future[FinishedTrial]:
            signal.raise_signal(number)
            return Future()

    monkeypatch.setattr(run, "TrainingPool", lambda _, data, *rest: Endless(data))
    assert main([file, "--store", str(store)]) == 130
    said = capsys.readouterr().out
    assert said == "stopped before the first trial had ended: the same command starts again\n"
    assert not list((store / "reports").rglob("*.*"))
    assert states(store) == [TrialState.FAIL, TrialState.WAITING]


def test_the_commands_of_a_sweep_can_be_pasted_from_anywhere(
    file: str, tmp_path: Path, empty_database: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "it's a $HOME & ünï"
    with opened_store(Store(tmp_path / name)) as opened:
        shutil.copy(empty_database, opened.folder)
    fails(lambda _: False)
    monkeypatch.chdir(tmp_path)
    outcome = run_sweep(plan_sweep(load_sweep(file, ["budget.n_trials=1"])), Path(name))
    words = {purpose: shlex.split(command) for purpose, command in outcome.commands.items()}
    place = tmp_path.resolve() / name
    assert words == {
        "browse the trials": [
            "mlflow",
            "ui",
            "--backend-store-uri",
            f"sqlite:///{place}/mlflow.db",
        ],
        "inspect the study": ["optuna-dashboard", str(tmp_path / name / "optuna.journal")],
        "hand over a model": [
            *("qwave", "export", "--budget", "50kB", "--sweep", "some"),
            *("--store", str(tmp_path / name)),
        ],
    }
    for path in (words["inspect the study"][1], words["hand over a model"][-1]):
        assert Path(path).exists()


def test_the_model_that_is_offered_is_there(
    file: str, store: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(lambda _: False)
    monkeypatch.setattr(run, "_OFFERED_BYTES", 10)
    outcome = run_sweep(plan_sweep(load_sweep(file, ["budget.n_trials=1"])), store)
    assert shlex.split(outcome.commands["hand over a model"])[:3] == ["qwave", "export", "--front"]


def test_the_data_of_a_trial_are_found_from_other_directories(
    file: str, store: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(file).parent / "data.npz"
    monkeypatch.chdir(data.parent)
    fails(lambda _: False)
    plan: Plan = plan_sweep(load_sweep(file, ["data.path=data.npz", "budget.n_trials=1"]))
    assert plan.sweep.data.path == str(data)
    outcome: Outcome = run_sweep(plan, store)
    assert outcome.front[0].configuration["data.path"] == str(data)
    bundled = load_sweep(file, ["data.path=esc10", "data.n_folds=5"])
    assert plan_sweep(bundled).sweep.data.path == "esc10"
    with pytest.raises(ConfigError, match=re.escape("override 'data.path=': data.path is empty")):
        load_sweep(file, ["data.path="])
