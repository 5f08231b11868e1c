"""What a study leaves in its store and in MLflow, and how the study of a sweep is found again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from qwave.config import StoreError
from qwave.data import EmbeddingSet
from qwave.report import Column, Section, Table, study_html
from qwave.scores import Interval
from qwave.store import Store, Tracker
from qwave.store.folder import opened_store
from qwave.sweep import Bench, load_study, opened_bench, repeats, write_study
from tests.sweep.launchers import InProcess

TABLE = Table((Column("model"), Column("a", "share")), (("int1", Interval(0.5, 0.4, 0.6)),))
SECTIONS = (
    Section("both", "Table and picture", "One.", TABLE, b"\x89PNG one"),
    Section("words", "Words", "Two."),
    Section("picture", "Picture", "", None, b"\x89PNG two"),
    Section("table", "Table", "", TABLE),
)
NAMES = ["report.html", "both.csv", "both.png", "picture.png", "table.csv"]


@pytest.fixture(autouse=True)
def nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no workers started: these studies only write."""
    monkeypatch.setattr(repeats, "TrainingPool", lambda _, data, device: InProcess(data))


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(0)


def write(bench: Bench, **changes: Any) -> list[Path]:
    values: dict[str, Any] = {
        "title": "A title",
        "summary": {"points": "3"},
        "sections": SECTIONS,
        "params": {"seeds": (1, 2), "study": "moe"},
        "metrics": {"optimism": 0.25},
    }
    return write_study(bench, "study", **{**values, **changes})


def study_runs(store: Path, name: str = "study") -> list[Any]:
    mlflow = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiment = mlflow.get_experiment_by_name(name)
    assert experiment is not None
    return list(mlflow.search_runs([experiment.experiment_id], "tags.`qwave.kind` = 'study'"))


def test_a_study_leaves_its_page_tables_and_pictures(store: Path, data: EmbeddingSet) -> None:
    with opened_bench("study", data, "some.npz", store) as bench:
        files = write(bench)
    folder = store / "reports" / "study"
    assert files == [folder / name for name in NAMES]
    assert sorted(file.name for file in folder.iterdir()) == sorted(NAMES)
    page = study_html(
        title="A title",
        summary={"points": "3"},
        sections=SECTIONS,
        commands={"browse the trials": Store(store).ui_command},
    )
    assert files[0].read_text(encoding="utf-8") == page
    assert files[1].read_text(encoding="utf-8") == TABLE.csv()
    assert [files[2].read_bytes(), files[3].read_bytes()] == [b"\x89PNG one", b"\x89PNG two"]


def test_a_study_has_one_run_with_params_metrics_and_files(
    store: Path, data: EmbeddingSet
) -> None:
    with opened_bench("study", data, "some.npz", store) as bench:
        files = write(bench)
    (run,) = study_runs(store)
    assert (run.info.run_name, run.info.status) == ("study", "FINISHED")
    assert run.data.params == {"seeds": "(1, 2)", "study": "moe"}
    assert run.data.metrics == {"optimism": 0.25}
    assert run.data.tags["qwave.data_digest"] == data.digest
    report = Path(run.info.artifact_uri.removeprefix("file://")) / "report"
    assert sorted(file.name for file in report.iterdir()) == sorted(NAMES)
    for file in files:
        assert (report / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_second_start_writes_into_the_same_run(store: Path, data: EmbeddingSet) -> None:
    for optimism in (0.25, 0.5):
        with opened_bench("study", data, "some.npz", store) as bench:
            files = write(bench, metrics={"optimism": optimism}, title=f"{optimism}")
    (run,) = study_runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"optimism": 0.5}
    copy = Path(run.info.artifact_uri.removeprefix("file://")) / "report" / "report.html"
    assert "<h1>0.5</h1>" in copy.read_text(encoding="utf-8")
    assert copy.read_bytes() == files[0].read_bytes()


def test_a_run_that_a_killed_process_left_open_is_finished(
    store: Path, data: EmbeddingSet
) -> None:
    with opened_bench("study", data, "some.npz", store) as bench:
        open_run = bench.recorder.tracker.start_run(
            bench.recorder.experiment_id, "study", tags={"qwave.kind": "study"}
        )
        write(bench)
    (run,) = study_runs(store)
    assert (run.info.run_id, run.info.status) == (open_run, "FINISHED")


def test_a_fresh_start_has_a_run_of_its_own(store: Path, data: EmbeddingSet) -> None:
    for is_fresh in (False, True):
        with opened_bench("study", data, "some.npz", store, is_fresh=is_fresh) as bench:
            write(bench, params={"is_fresh": is_fresh})
    (run,) = study_runs(store)
    assert run.data.params == {"is_fresh": "True"}


def test_two_studies_have_two_runs(store: Path, data: EmbeddingSet) -> None:
    for name in ("study", "other"):
        with opened_bench(name, data, "some.npz", store) as bench:
            write_study(
                bench, name, title=name, summary={}, sections=(), params={}, metrics={"a": 1.0}
            )
    ids = {study_runs(store, name)[0].info.run_id for name in ("study", "other")}
    assert len(ids) == 2
    assert [len(study_runs(store, name)) for name in ("study", "other")] == [1, 1]


# --- finding a run ---


def test_the_newest_run_of_a_kind_is_found(store: Path) -> None:
    tracker = Tracker(Store(store))
    experiment = tracker.experiment("some")
    assert tracker.find_run(experiment, kind="study") is None
    started = []
    for kind in ("study", "trial", "study", "trial"):
        started.append(tracker.start_run(experiment, kind, tags={"qwave.kind": kind}))
        time.sleep(0.002)  # MLflow counts milliseconds
    tracker.start_run(experiment, "of no kind")
    tracker.start_run(tracker.experiment("other"), "a", tags={"qwave.kind": "study"})
    assert tracker.find_run(experiment, kind="study") == started[2]
    assert tracker.find_run(experiment, kind="trial") == started[3]
    tracker.end_run(started[2], "KILLED")
    assert tracker.find_run(experiment, kind="study") == started[2]
    assert tracker.find_run(experiment, kind="stu") is None


# --- finding the study of a sweep ---


def make_study(store: Path, *names: str) -> None:
    with opened_store(Store(store)):
        storage = JournalStorage(JournalFileBackend(str(store / "optuna.journal")))
        for name in names:
            study = optuna.create_study(study_name=name, storage=storage)
            study.set_user_attr("called", name)


def test_a_study_is_loaded_by_its_name(tmp_path: Path) -> None:
    make_study(tmp_path, "one", "two")
    for name in ("one", "two"):
        assert load_study(tmp_path, name).user_attrs == {"called": name}


def test_a_study_that_the_store_does_not_hold_is_said_with_those_that_it_holds(
    tmp_path: Path,
) -> None:
    make_study(tmp_path, "two", "one")
    message = (
        rf"^--store {tmp_path} holds no study 'three' \(it holds one, two\); search first, for "
        rf"example with qwave search --store {tmp_path}$"
    )
    with pytest.raises(StoreError, match=message):
        load_study(tmp_path, "three")


@pytest.mark.parametrize("exists", [False, True])
def test_a_store_without_a_study_is_said_and_nothing_is_written(
    tmp_path: Path, exists: bool
) -> None:
    store = tmp_path / "store"
    if exists:
        with opened_store(Store(store)):
            pass
    before = sorted(tmp_path.rglob("*"))
    message = rf"^--store {store} holds no study 'moe' \(it holds no study\); search first"
    with pytest.raises(StoreError, match=message):
        load_study(store, "moe")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_store_has_no_studies(tmp_path: Path) -> None:
    (tmp_path / "something").mkdir()
    with pytest.raises(StoreError, match=r"is not a qwave store: it holds something but no qwave"):
        load_study(tmp_path, "moe")
