"""Whole sweeps on a made-up data set: real Optuna, MLflow, processes and files in tmp_path."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import qwave
from qwave.config import Budget, ConfigError, StoreError, SweepConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.space import load_sweep
from qwave.sweep import Outcome, plan_sweep, run_sweep
from qwave.sweep.report import trial_config

pytestmark = pytest.mark.slow

SWEEP = """
name: small
data: {path: PATH, normalization: layer, n_folds: 3}
budget: {n_trials: 7, max_size_bytes: 100000, workers: 1}
sampler: {name: tpe, seed: 3, in_flight: 3}
fixed:
  train: {epochs: 2, batch_size: 16}
  model: {curiosity: {mc_samples: 3}}
search:
  model.num_experts: {int: [1, 2]}
  model.schemes: {mix: [int1, int4]}
  model.hidden: {choice: {linear: [], tiny: [4]}}
  model.input_dropout: {float: [0.0, 0.5]}
"""


@pytest.fixture(scope="module")
def data_path(
    tmp_path_factory: pytest.TempPathFactory, gaussians: Callable[..., EmbeddingSet]
) -> Path:
    data = gaussians(5)
    assert data.fold is not None
    assert data.group is not None
    path = tmp_path_factory.mktemp("data") / "clouds.npz"
    np.savez(
        path, x=data.x, y=data.y, fold=data.fold, group=data.group, names=np.array(data.names)
    )
    return path


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory, data_path: Path) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "small.yaml"
    path.write_text(SWEEP.replace("PATH", str(data_path)))
    return path


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, sweep_file: Path
) -> tuple[SweepConfig, Path, Outcome]:
    store = tmp_path_factory.mktemp("finished") / "store"
    sweep = with_budget(load_sweep(sweep_file), workers=2)
    return sweep, store, run_sweep(plan_sweep(sweep), store)


def load_study(store: Path, name: str = "small") -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(store / "optuna.journal")))
    return optuna.load_study(study_name=name, storage=storage)


def client(store: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")


def trial_runs(store: Path, name: str = "small") -> list[Any]:
    mlflow = client(store)
    experiment = mlflow.get_experiment_by_name(name)
    assert experiment is not None
    return list(mlflow.search_runs([experiment.experiment_id], "tags.`qwave.kind` = 'trial'"))


def with_budget(sweep: SweepConfig, **changes: int) -> SweepConfig:
    return dataclasses.replace(sweep, budget=dataclasses.replace(sweep.budget, **changes))


def test_a_sweep_spends_its_budget_and_writes_its_files(
    finished: tuple[SweepConfig, Path, Outcome],
) -> None:
    sweep, store, outcome = finished
    assert outcome.counts == {"trials": 7, "complete": 7, "pruned": 0, "failed": 0}
    assert not outcome.is_interrupted
    assert outcome.first_failure is None
    assert [path.name for path in outcome.reports] == ["front.csv", "front.png", "report.html"]
    assert all(path.stat().st_size > 0 for path in outcome.reports)
    sizes = [point.size_bytes for point in outcome.front]
    assert sizes == sorted(sizes)
    assert outcome.hypervolume > 0
    names = {entry.name for entry in store.iterdir()}
    assert {"mlflow.db", "artifacts", "optuna.journal", "reports", "qwave.json"} <= names


def test_optuna_mlflow_and_the_file_agree_on_every_trial(
    finished: tuple[SweepConfig, Path, Outcome],
) -> None:
    sweep, store, _ = finished
    data = qwave.load_embeddings(sweep.data.path)
    mlflow = client(store)
    for trial in load_study(store).trials:
        run = mlflow.get_run(trial.user_attrs["mlflow_run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.tags["qwave.trial_number"] == str(trial.number)
        assert run.data.tags["qwave.config_digest"] == trial.user_attrs["digest"]
        assert trial.values is not None
        accuracy, size = trial.values
        assert run.data.metrics["accuracy"] == accuracy
        assert run.data.metrics["size_bytes"] == size
        assert np.mean(trial.user_attrs["fold_scores"]["accuracy"]) == pytest.approx(accuracy)
        config = trial_config(trial)
        assert config.digest == trial.user_attrs["digest"]
        assert qwave.packed_size_bytes(config, data) == size
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        for fold in make_folds(data, config.data):
            path = folder / f"fold_{fold.index}" / "model.qwave"
            assert path.stat().st_size == size
            proba = qwave.load_packed(path).predict_proba(data.x[fold.test])
            hits = proba.argmax(axis=1) == data.y[fold.test]
            assert hits.mean() == trial.user_attrs["fold_scores"]["accuracy"][fold.index]


def test_the_study_run_holds_front_hypervolume_and_report(
    finished: tuple[SweepConfig, Path, Outcome],
) -> None:
    _, store, outcome = finished
    mlflow = client(store)
    run_id = load_study(store).user_attrs["mlflow_run_id"]
    run = mlflow.get_run(run_id)
    assert run.data.tags["qwave.kind"] == "study"
    assert run.data.metrics["hypervolume"] == pytest.approx(outcome.hypervolume)
    assert run.data.metrics["front_size"] == len(outcome.front)
    history = mlflow.get_metric_history(run_id, "hypervolume_by_trial")
    values = [point.value for point in sorted(history, key=lambda point: point.step)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(outcome.hypervolume)
    listed = {Path(entry.path).name for entry in mlflow.list_artifacts(run_id, "report")}
    assert listed == {"front.csv", "front.png", "report.html"}


def test_the_same_seed_in_a_fresh_store_writes_the_same_front_with_one_worker_as_with_two(
    finished: tuple[SweepConfig, Path, Outcome], tmp_path: Path
) -> None:
    sweep, store, _ = finished
    run_sweep(plan_sweep(with_budget(sweep, workers=1)), tmp_path / "store")
    place = Path("reports") / "small" / "front.csv"
    assert (tmp_path / "store" / place).read_bytes() == (store / place).read_bytes()
    numbers = [trial.params for trial in load_study(store).trials]
    assert [trial.params for trial in load_study(tmp_path / "store").trials] == numbers


def test_a_finished_sweep_goes_on_only_when_it_is_given_more_trials(
    finished: tuple[SweepConfig, Path, Outcome], sweep_file: Path, tmp_path: Path
) -> None:
    sweep, original, _ = finished
    store = tmp_path / "store"
    shutil.copytree(original, store)
    before = [trial.values for trial in load_study(store).trials]
    # What a process that was killed between two writes leaves behind: a run that no trial names.
    mlflow = client(store)
    experiment = mlflow.get_experiment_by_name("small")
    assert experiment is not None
    orphan = mlflow.create_run(experiment.experiment_id, tags={"qwave.kind": "trial"})
    outcome = run_sweep(plan_sweep(with_budget(sweep, n_trials=len(before) + 1)), store)
    assert outcome.counts["complete"] == len(before) + 1
    assert [trial.values for trial in load_study(store).trials[:-1]] == before
    digests = {trial.user_attrs["digest"] for trial in load_study(store).trials}
    assert len(trial_runs(store)) == len(digests) + 1
    assert mlflow.get_run(orphan.info.run_id).info.status == "KILLED"
    other = plan_sweep(load_sweep(sweep_file, ["train.epochs=1", "budget.n_trials=2"]))
    with pytest.raises(StoreError, match="another sweep_digest .* search under another name"):
        run_sweep(other, store)
    fresh = run_sweep(other, store, is_fresh=True)
    assert fresh.counts["complete"] == 2
    assert len(trial_runs(store)) == 2


def test_equal_configurations_are_trained_once_and_told_every_time(
    sweep_file: Path, tmp_path: Path
) -> None:
    overrides = ["model.input_dropout=0.1", "search.model.num_experts={int: [1, 1]}"]
    sweep = load_sweep(sweep_file, [*overrides, "budget.n_trials=12"])
    outcome = run_sweep(plan_sweep(sweep), tmp_path)
    assert outcome.counts["complete"] == 12
    trials = load_study(tmp_path).trials
    by_digest: dict[str, list[optuna.trial.FrozenTrial]] = {}
    for trial in trials:
        by_digest.setdefault(trial.user_attrs["digest"], []).append(trial)
    assert len(by_digest) <= 4  # int1 or int4, linear or tiny
    assert len(trial_runs(tmp_path)) == len(by_digest)
    for first, *others in by_digest.values():
        for other in others:
            assert other.values == first.values
            assert other.user_attrs["duplicate_of"] == first.number
            assert other.user_attrs["mlflow_run_id"] == first.user_attrs["mlflow_run_id"]


def test_a_trial_over_the_size_budget_is_recorded_but_not_trained_and_costs_no_trial(
    sweep_file: Path, tmp_path: Path
) -> None:
    sweep = load_sweep(sweep_file)
    plan = plan_sweep(sweep)
    limit = plan.smallest_bytes + 20
    assert limit < plan.largest_bytes
    small = dataclasses.replace(sweep, budget=Budget(4, limit, 2))
    outcome = run_sweep(plan_sweep(small), tmp_path)
    assert outcome.counts["complete"] == 4
    assert outcome.counts["pruned"] > 0
    mlflow = client(tmp_path)
    for trial in load_study(tmp_path).trials:
        size = trial.user_attrs["size_bytes"]
        is_over = size > limit
        assert (trial.state == TrialState.PRUNED) == is_over
        run = mlflow.get_run(trial.user_attrs["mlflow_run_id"])
        assert run.info.status == ("KILLED" if is_over else "FINISHED")
        if is_over:
            assert run.data.tags["qwave.outcome"] == "over_budget"
            assert f"{size} bytes" in run.data.tags["qwave.reason"]
            assert "accuracy" not in run.data.metrics


def test_a_trial_that_diverges_fails_alone(sweep_file: Path, tmp_path: Path) -> None:
    # A choice would hide it: the rate that fails must be drawn in one of few trials.
    sweep = load_sweep(
        sweep_file,
        ["search.train.learning_rate={choice: [1.0e+38, 0.01]}", "budget.n_trials=4"],
    )
    outcome = run_sweep(plan_sweep(sweep), tmp_path)
    assert outcome.counts["failed"] > 0
    assert outcome.first_failure is not None
    assert "training diverged" in outcome.first_failure
    assert outcome.counts["complete"] + outcome.counts["failed"] == 4
    mlflow = client(tmp_path)
    for trial in load_study(tmp_path).trials:
        run = mlflow.get_run(trial.user_attrs["mlflow_run_id"])
        assert (trial.state == TrialState.FAIL) == (run.info.status == "FAILED")


def test_no_configuration_within_the_budget_is_refused_before_anything_is_written(
    sweep_file: Path,
) -> None:
    sweep = load_sweep(sweep_file, ["budget.max_size_bytes=100"])
    with pytest.raises(ConfigError, match=r"max_size_bytes=100: the smallest .* takes \d+ bytes"):
        plan_sweep(sweep)
