"""Stopping and killing the real command, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from qwave.store import Store, Tracker
from qwave.sweep import collect_points, front_of
from qwave.sweep.pictures import PICTURES
from qwave.sweep.stop import stop_requests

REPOSITORY = Path(__file__).resolve().parents[2]
N_TRIALS = 3


def command(store: Path) -> list[str]:
    # Without a teacher, whose training would take most of the time.
    overrides = ["train.epochs=20", "train.distillation=0.0", "sampler.in_flight=2"]
    return [
        *(sys.executable, "-m", "studies.moe_pareto", *overrides, "model.hidden=[16]"),
        *("budget.workers=1", "--trials", str(N_TRIALS), "--store", str(store), "--json"),
    ]


def load_study(store: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(store / "optuna.journal")))
    return optuna.load_study(study_name="moe_pareto", storage=storage)


def stop_in_the_middle(store: Path, number: int) -> subprocess.CompletedProcess[str]:
    """Start the command, send a signal once a trial is complete, and wait for its end."""
    process = subprocess.Popen(
        command(store),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and not is_in_the_middle(store):
        assert time.monotonic() < deadline, "no trial was complete within a minute"
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=90)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def is_in_the_middle(store: Path) -> bool:
    """Whether a trial is complete while another one runs."""
    journal = store / "optuna.journal"
    if not journal.exists():
        return False
    names = optuna.get_all_study_names(JournalStorage(JournalFileBackend(str(journal))))
    if not names:
        return False
    states = [trial.state for trial in load_study(store).get_trials(deepcopy=False)]
    return TrialState.COMPLETE in states and TrialState.RUNNING in states


def pictures_of_front(store: Path) -> list[Path]:
    """Where the pictures of each fold of the front's members lie, drawn or not."""
    tracker = Tracker(Store(store))
    front = front_of(collect_points(load_study(store)))
    return [
        fold / picture
        for point in front
        for fold in (tracker.artifact_folder(point.mlflow_run_id) / f"fold_{n}" for n in range(5))
        for picture in PICTURES
    ]


def running_trials(store: Path) -> int:
    return len(load_study(store).get_trials(states=(TrialState.RUNNING,)))


def check_nothing_is_lost(store: Path, before: list[list[float]]) -> None:
    """Go on, and see that every complete trial was kept and every configuration ran once."""
    done = subprocess.run(
        command(store), cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["complete"] == N_TRIALS
    assert found["failed"] == 0
    assert running_trials(store) == 0
    complete = load_study(store).get_trials(states=(TrialState.COMPLETE,))
    assert [trial.values for trial in complete][: len(before)] == before
    digests = [trial.user_attrs["digest"] for trial in complete]
    assert len(set(digests)) == len(digests)
    mlflow = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiment = mlflow.get_experiment_by_name("moe_pareto")
    assert experiment is not None
    runs = mlflow.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    finished = [r.data.tags["qwave.config_digest"] for r in runs if "accuracy" in r.data.metrics]
    assert sorted(finished) == sorted(digests)
    pictures = pictures_of_front(store)
    assert pictures
    assert all(path.is_file() for path in pictures), "the start that goes on draws what is missing"


@pytest.mark.slow
def test_a_stopped_sweep_reports_what_there_is_and_goes_on(tmp_path: Path) -> None:
    stopped = stop_in_the_middle(tmp_path, signal.SIGINT)
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "the same command goes on from here" in stopped.stderr
    found = json.loads(stopped.stdout.splitlines()[-1])
    assert 0 < found["complete"] < N_TRIALS
    assert found["failed"] == 0
    assert (tmp_path / "reports" / "moe_pareto" / "report.html").exists()
    assert not any(path.exists() for path in pictures_of_front(tmp_path)), "the next start's work"
    assert running_trials(tmp_path) == 0
    complete = load_study(tmp_path).get_trials(states=(TrialState.COMPLETE,))
    check_nothing_is_lost(tmp_path, [trial.values for trial in complete])


@pytest.mark.slow
def test_a_killed_sweep_is_repaired_and_goes_on(tmp_path: Path) -> None:
    killed = stop_in_the_middle(tmp_path, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert running_trials(tmp_path) > 0
    complete = load_study(tmp_path).get_trials(states=(TrialState.COMPLETE,))
    check_nothing_is_lost(tmp_path, [trial.values for trial in complete])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_a_second_one_stops_at_once(number: int) -> None:
    before = signal.getsignal(number)
    with stop_requests() as is_stopped:
        assert not is_stopped()
        signal.raise_signal(number)
        assert is_stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
