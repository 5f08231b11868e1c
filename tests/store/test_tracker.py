"""The record, written to a real MLflow store and read back through MLflow's own client."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from qwave.config import StoreError
from qwave.store import DatasetInput, Store, Tracker

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def new_store(tmp_path: Path, empty_database: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        store = tmp_path / name
        store.mkdir()
        shutil.copy(empty_database, store / "mlflow.db")
        return store

    return make


@pytest.fixture
def store(new_store: Callable[[str], Path]) -> Path:
    return new_store("store")


@pytest.fixture
def tracker(store: Path) -> Tracker:
    return Tracker(Store(store))


@pytest.fixture
def client(tracker: Tracker) -> MlflowClient:
    return MlflowClient(tracking_uri=tracker.uri)


def test_an_experiment_is_made_once(tracker: Tracker, store: Path, client: MlflowClient) -> None:
    first = tracker.experiment("sweep")
    assert tracker.experiment("sweep") == first
    assert Tracker(Store(store)).experiment("sweep") == first
    assert tracker.experiment("other") != first
    names = sorted(experiment.name for experiment in client.search_experiments())
    assert names == ["Default", "other", "sweep"]
    location = client.get_experiment(first).artifact_location
    assert location == (store / "artifacts" / "sweep").resolve().as_uri()


def test_everything_of_a_run_can_be_read_back(tracker: Tracker, client: MlflowClient) -> None:
    experiment = tracker.experiment("sweep")
    run_id = tracker.start_run(
        experiment,
        "trial 0007",
        params={"model.hidden": [64, 32], "model.head_scheme": None, "train.epochs": 60},
        tags={"qwave.kind": "trial", "a tag": "with a blank"},
        dataset=DatasetInput("esc10", "abc123", "esc10", {"num_rows": 400, "num_classes": 10}),
    )
    tracker.log(
        run_id,
        params={"late": 1.5},
        metrics={"accuracy": 0.925, "size_bytes": 1647.0},
        series={"fold_accuracy": [(0, 0.9), (1, 0.95), (4, 0.875)], "nothing": []},
        tags={"qwave.outcome": "complete"},
    )
    run = client.get_run(run_id)
    assert run.info.run_id == run_id
    assert run.info.run_name == "trial 0007"
    assert run.info.experiment_id == experiment
    assert run.info.status == "RUNNING"
    assert run.data.params == {
        "model.hidden": "[64, 32]",
        "model.head_scheme": "None",
        "train.epochs": "60",
        "late": "1.5",
    }
    assert run.data.metrics == {"accuracy": 0.925, "size_bytes": 1647.0, "fold_accuracy": 0.875}
    history = client.get_metric_history(run_id, "fold_accuracy")
    assert [(m.step, m.value) for m in history] == [(0, 0.9), (1, 0.95), (4, 0.875)]
    assert run.data.tags["qwave.kind"] == "trial"
    assert run.data.tags["a tag"] == "with a blank"
    assert run.data.tags["qwave.outcome"] == "complete"
    assert {"mlflow.user", "mlflow.source.name", "mlflow.runName"} <= set(run.data.tags)
    assert run.inputs is not None
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("esc10", "abc123")
    assert given.dataset.source_type == "local"
    assert given.dataset.profile is not None
    assert json.loads(given.dataset.source) == {"uri": "esc10"}
    assert json.loads(given.dataset.profile) == {"num_rows": 400, "num_classes": 10}
    context = {tag.key: tag.value for tag in given.tags}
    assert context == {"mlflow.data.context": "cross-validation"}


def test_a_run_needs_no_more_than_a_name(tracker: Tracker, client: MlflowClient) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "bare")
    tracker.log(run_id)
    run = client.get_run(run_id)
    assert (run.data.params, run.data.metrics) == ({}, {})
    assert run.inputs is not None
    assert run.inputs.dataset_inputs == []


def test_what_is_more_than_a_batch_is_written_in_several(
    tracker: Tracker, client: MlflowClient
) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "long")
    params = {f"p{i}": i for i in range(251)}
    metrics = {f"m{i}": i / 7 for i in range(30)}
    tags = {f"t{i}": str(i) for i in range(205)}
    steps = [(i, math.sqrt(i)) for i in range(2100)]
    tracker.log(run_id, params=params, metrics=metrics, tags=tags, series={"loss": steps})
    run = client.get_run(run_id)
    assert run.data.params == {key: str(value) for key, value in params.items()}
    assert {k: v for k, v in run.data.tags.items() if k[0] == "t"} == tags
    assert run.data.metrics == {**metrics, "loss": math.sqrt(2099)}
    history = client.get_metric_history(run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == steps


@pytest.mark.parametrize("n_points", [999, 1000, 1001])
def test_no_value_is_lost_at_the_edge_of_a_batch(
    tracker: Tracker, client: MlflowClient, n_points: int
) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "edge")
    tracker.log(run_id, series={"x": ((i, float(i)) for i in range(n_points))})
    history = client.get_metric_history(run_id, "x")
    assert sorted(m.step for m in history) == list(range(n_points))


def test_a_long_param_is_cut_instead_of_refused(tracker: Tracker, client: MlflowClient) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "x", params={"long": "ab" * 5000})
    assert client.get_run(run_id).data.params["long"] == "ab" * 3000


def test_a_metric_may_be_undefined(tracker: Tracker, client: MlflowClient) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "x")
    tracker.log(run_id, metrics={"auroc": math.nan, "after": 1.0})
    metrics = client.get_run(run_id).data.metrics
    assert math.isnan(metrics["auroc"])
    assert metrics["after"] == 1.0


def test_a_param_cannot_be_changed_and_a_tag_can(tracker: Tracker, client: MlflowClient) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "x", params={"p": 1})
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        tracker.log(run_id, params={"p": 2})
    tracker.log(run_id, tags={"t": "1"})
    tracker.log(run_id, tags={"t": "2"})
    run = client.get_run(run_id)
    assert (run.data.params["p"], run.data.tags["t"]) == ("1", "2")


def test_the_folder_of_a_run_that_is_gone_is_refused_with_its_id(tracker: Tracker) -> None:
    with pytest.raises(StoreError, match=r"MLflow has no run 0123abcd in sqlite:.*mlflow\.db"):
        tracker.artifact_folder("0123abcd")


def test_what_is_written_into_the_folder_becomes_artifacts(
    tracker: Tracker, client: MlflowClient, store: Path
) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "x")
    folder = tracker.artifact_folder(run_id)
    assert folder == store / "artifacts" / "sweep" / run_id / "artifacts"
    (folder / "config.json").write_text("{}")
    (folder / "fold_0").mkdir()
    (folder / "fold_0" / "model.qwave").write_bytes(bytes(range(256)))
    found = {entry.path: entry.is_dir for entry in client.list_artifacts(run_id)}
    assert found == {"config.json": False, "fold_0": True}
    got = Path(client.download_artifacts(run_id, "fold_0/model.qwave"))
    assert got.read_bytes() == bytes(range(256))
    # Of a run that is closed, or was started by another process, MLflow is asked.
    tracker.end_run(run_id)
    assert tracker.artifact_folder(run_id) == folder
    assert Tracker(Store(store)).artifact_folder(run_id) == folder


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_as_told_and_can_be_resumed(
    tracker: Tracker, client: MlflowClient, status: str
) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "x")
    assert tracker.status(run_id) == "RUNNING"
    tracker.end_run(run_id, status)
    assert tracker.status(run_id) != "RUNNING"
    info = client.get_run(run_id).info
    assert info.status == status
    assert info.end_time >= info.start_time
    tracker.resume_run(run_id)
    assert tracker.status(run_id) == "RUNNING"
    assert client.get_run(run_id).info.run_name == "x"
    tracker.end_run(run_id)
    assert client.get_run(run_id).info.status == "FINISHED"


def test_nothing_global_of_mlflow_is_touched(
    new_store: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours, theirs, here = new_store("ours"), new_store("theirs"), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    their_uri = f"sqlite:///{theirs / 'mlflow.db'}"
    their_client = MlflowClient(tracking_uri=their_uri)
    location = (theirs / "files").as_uri()
    experiment = their_client.create_experiment("theirs", artifact_location=location)
    # What a program around qwave may have set; the environment is put back after the test.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", their_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    assert mlflow.get_tracking_uri() == their_uri
    run = mlflow.start_run()
    try:
        environment = {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")}
        tracker = Tracker(Store(ours))
        run_id = tracker.start_run(tracker.experiment("sweep"), "x", params={"p": 1})
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        tracker.log(run_id, metrics={"m": 1.0}, tags={"t": "1"})
        shutil.copytree(folder, tracker.artifact_folder(run_id), dirs_exist_ok=True)
        tracker.end_run(run_id)
        tracker.retire_experiment("sweep")
        assert mlflow.get_tracking_uri() == their_uri
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == run.info.run_id
        assert active.info.experiment_id == experiment
        assert {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")} == environment
    finally:
        mlflow.end_run()
    (only,) = their_client.search_runs([experiment])
    assert (only.data.params, only.data.metrics) == ({}, {})
    assert [e.name for e in their_client.search_experiments()] == ["theirs", "Default"]
    assert list(here.iterdir()) == []


def test_a_retired_experiment_leaves_its_name_free_and_keeps_its_runs(
    tracker: Tracker, client: MlflowClient
) -> None:
    first = tracker.experiment("sweep")
    run_id = tracker.start_run(first, "kept", params={"p": 1})
    tracker.retire_experiment("sweep")
    second = tracker.experiment("sweep")
    assert second != first
    assert client.search_runs([second]) == []
    old = client.get_experiment(first)
    assert old.lifecycle_stage == "deleted"
    assert re.fullmatch(r"sweep \(until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)", old.name)
    client.restore_experiment(first)
    assert client.get_run(run_id).data.params == {"p": "1"}


def test_retiring_what_is_not_there_does_nothing(tracker: Tracker, client: MlflowClient) -> None:
    tracker.retire_experiment("sweep")
    assert [experiment.name for experiment in client.search_experiments()] == ["Default"]


def test_an_experiment_deleted_in_the_ui_is_restored_with_its_runs(
    tracker: Tracker, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tracker.experiment("sweep")
    run_id = tracker.start_run(experiment, "kept")
    client.delete_experiment(experiment)
    assert tracker.experiment("sweep") == experiment
    assert capsys.readouterr().err == (
        "note: the MLflow experiment 'sweep' was deleted (in the UI?): it is restored\n"
    )
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    assert tracker.experiment("sweep") == experiment
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_what_is_deleted_while_a_study_runs_is_restored_and_written(
    tracker: Tracker, client: MlflowClient, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tracker.experiment("sweep")
    writes: list[Callable[[str], object]] = [
        lambda run_id: tracker.log(run_id, metrics={"accuracy": 0.5}, tags={"a": "b"}),
        lambda run_id: tracker.end_run(run_id, "KILLED"),
        lambda run_id: tracker.resume_run(run_id),
    ]
    if what == "experiment":
        writes.append(lambda _: tracker.start_run(experiment, "next"))
    run_id = tracker.start_run(experiment, "first")
    for write in writes:
        if what == "run":
            client.delete_run(run_id)
        else:
            client.delete_experiment(experiment)
        write(run_id)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("was deleted (in the UI?): it is restored")
    run = client.get_run(run_id)
    assert (run.info.lifecycle_stage, run.info.status) == ("active", "RUNNING")
    assert (run.data.metrics, run.data.tags["a"]) == ({"accuracy": 0.5}, "b")


def test_a_run_that_is_gone_for_good_is_said_to_be_gone(
    tracker: Tracker, client: MlflowClient
) -> None:
    run_id = tracker.start_run(tracker.experiment("sweep"), "gone")
    folder = tracker.artifact_folder(run_id)
    tracker.end_run(run_id)
    client.delete_run(run_id)
    client._tracking_client.store._hard_delete_run(run_id)
    assert tracker.status(run_id) is None
    assert not tracker.resume_run(run_id)
    with pytest.raises(StoreError, match=f"^MLflow has no run {run_id} in .* any more"):
        tracker.log(run_id, metrics={"accuracy": 1.0})
    assert tracker.artifact_folder(run_id) == folder  # which is still there
    assert tracker.find_artifacts(run_id) == folder
    folder.rmdir()
    assert tracker.find_artifacts(run_id) is None
    with pytest.raises(StoreError, match=f"^MLflow has no run {run_id} .* no artifacts of it"):
        tracker.artifact_folder(run_id)


@pytest.mark.parametrize("name", ["sweep", "s" * 500])
def test_experiments_retired_in_the_same_second_have_names_of_their_own(
    tracker: Tracker, client: MlflowClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "until 2026-10-25 02:30:00")
    retired: list[str | None] = []
    for _ in range(3):
        experiment = tracker.experiment(name)
        retired.append(tracker.retire_experiment(name, is_kept=len(retired) == 1))
        found = client.get_experiment(experiment)
        assert found.name == retired[-1]
        assert len(found.name) <= 500
        assert found.lifecycle_stage == ("active" if len(retired) == 2 else "deleted")
    assert len(set(retired)) == 3
    assert client.get_experiment_by_name(name) is None
    assert tracker.retire_experiment(name) is None


def test_an_experiment_deleted_in_the_ui_can_be_retired(
    tracker: Tracker, client: MlflowClient
) -> None:
    experiment = tracker.experiment("sweep")
    client.delete_experiment(experiment)
    tracker.retire_experiment("sweep")
    assert tracker.experiment("sweep") != experiment


def _damage_version(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("update alembic_version set version_num = 'ffffffffffff'")
    connection.close()


def _damage_tables(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("drop table experiments")
    connection.close()


@pytest.mark.parametrize("damage", [_damage_version, _damage_tables])
def test_a_database_that_is_not_this_mlflows_is_refused(
    store: Path, damage: Callable[[Path], None]
) -> None:
    database = store / "mlflow.db"
    damage(database)
    match = "^" + re.escape(f"{database} cannot be opened by this MLflow: ")
    with pytest.raises(StoreError, match=match):
        Tracker(Store(store))


@pytest.mark.parametrize(
    "content", [b"these are no tables" * 100, pytest.param(b"\0\1" * 3000, marks=pytest.mark.slow)]
)
def test_a_damaged_database_can_be_set_aside_as_the_message_says(
    store: Path, content: bytes
) -> None:
    database = store / "mlflow.db"
    database.write_bytes(content)
    match = re.escape(f"{database} is damaged (file is not a database); ")
    with pytest.raises(StoreError, match=match) as caught:
        Tracker(Store(store))
    command = str(caught.value).partition("set it aside with ")[2].partition(": the same")[0]
    subprocess.run(command, shell=True, check=True)
    assert Tracker(Store(store)).experiment("s")
    assert (store / "mlflow.damaged").read_bytes() == content


def test_a_relative_folder_gives_absolute_addresses(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)
    tracker = Tracker(Store(Path("store")))
    assert tracker.uri == f"sqlite:///{store / 'mlflow.db'}"
    assert tracker.artifact_root == store / "artifacts"
    assert Store(Path("store")).ui_command == Store(store).ui_command


def test_the_ui_command_names_the_database(store: Path) -> None:
    expected = f"mlflow ui --backend-store-uri sqlite:///{store / 'mlflow.db'}"
    assert Store(store).ui_command == expected
