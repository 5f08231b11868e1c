"""What people delete comes back at the next start, or one line says what is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import optuna
import pytest
from mlflow.entities import ViewType

from qwave.store import Store, Tracker
from qwave.sweep import load_study
from tests.store.stores import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


def delete_runs(place: Place, kind: str, *, for_good: bool) -> None:
    """As in MLflow's UI; for good, as `mlflow gc` does after that."""
    client = place.client()
    for run in place.runs(kind):
        client.delete_run(run.info.run_id)
        if for_good:
            shutil.rmtree(Tracker(Store(place.store)).artifact_folder(run.info.run_id))
            client._tracking_client.store._hard_delete_run(run.info.run_id)


def delete_experiment(place: Place, *, for_good: bool) -> None:
    client = place.client()
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    if for_good:
        client._tracking_client.store._hard_delete_experiment(experiment.experiment_id)
        shutil.rmtree(place.store / "artifacts" / "small")


def delete_study(place: Place) -> None:
    """As in optuna-dashboard."""
    storage = Store(place.store).optuna_storage()
    optuna.delete_study(study_name="small", storage=storage)


def went_on(place: Place, capsys: pytest.CaptureFixture[str]) -> str:
    """Start the sweep for one trial more; what it says on stderr besides its bar."""
    capsys.readouterr()
    assert place.search("--trials", "3") == 0
    lines = capsys.readouterr().err.splitlines()
    return "\n".join(line[line.index("note: ") :] for line in lines if "note: " in line)


@pytest.mark.parametrize("kind", ["trial", "study"])
def test_runs_deleted_in_the_ui_are_restored(
    place: Place, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {run.info.run_id for run in place.runs(kind)}
    delete_runs(place, kind, for_good=False)
    assert place.export() == 0  # from what is left
    said = went_on(place, capsys)
    plural = "runs" if len(before) > 1 else "run"
    assert f"note: {len(before)} MLflow {plural} of experiment " in said
    assert said.count("note: ") == 1
    after = {run.info.run_id for run in place.runs(kind)}
    assert after >= before
    assert len(after) == (3 if kind == "trial" else 1)
    assert place.runs(kind, view=ViewType.DELETED_ONLY) == []
    assert {run.info.status for run in place.runs("study")} == {"FINISHED"}


def test_a_study_run_that_is_gone_for_good_is_made_anew(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    delete_runs(place, "study", for_good=True)
    assert "note: MLflow has no run of this study any more" in went_on(place, capsys)
    (run,) = place.runs("study")
    assert run.info.status == "FINISHED"
    files = place.client().list_artifacts(run.info.run_id, "report")
    assert "report/report.html" in {file.path for file in files}
    assert went_on(place, capsys) == ""


def test_trials_whose_runs_are_gone_for_good_are_refused_in_one_line(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    delete_runs(place, "trial", for_good=True)
    went_on(place, capsys)
    assert len(place.runs("trial")) == 1
    assert len(load_study(place.store, "small").trials) == 3
    assert place.export("0") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: trial 0: its artifacts are not in ")
    assert "deleted for good?" in line
    assert "export another trial" in line
    assert "--fresh" not in line
    assert place.export("2") == 0
    assert place.confirm() == 0


def test_an_experiment_deleted_in_the_ui_is_restored_by_whatever_needs_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "note: the MLflow experiment 'small' was deleted (in the UI?): it is restored"
    for command in (place.search, place.export):
        delete_experiment(place, for_good=False)
        capsys.readouterr()
        assert command() == 0
        assert note in capsys.readouterr().err
        assert len(place.runs("trial")) == 2


@pytest.mark.parametrize("what", ["experiment", "database", "artifacts"])
def test_what_is_gone_for_good_is_made_anew(
    place: Place, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if what == "experiment":
        delete_experiment(place, for_good=True)
    elif what == "database":
        (place.store / "mlflow.db").unlink()
    else:
        shutil.rmtree(place.store / "artifacts")
    said = went_on(place, capsys)
    assert ("MLflow has no run of this study any more" in said) == (what != "artifacts")
    assert len(load_study(place.store, "small").trials) == 3
    # Where the artifacts are left, they are found without the database.
    assert place.export("0") == (0 if what == "database" else 2)
    assert place.export("2") == 0
    assert place.confirm() == 0
    assert went_on(place, capsys) == ""


def test_a_study_deleted_in_the_dashboard_begins_anew_beside_its_earlier_runs(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = {run.info.run_id for run in place.runs("trial")}
    delete_study(place)
    capsys.readouterr()
    assert place.export() == 2
    assert "holds no study 'small'" in capsys.readouterr().err
    said = went_on(place, capsys)
    assert "note: the store holds MLflow runs of 'small', but not its study" in said
    assert len(place.runs("trial")) == 3
    assert not earlier & {run.info.run_id for run in place.runs("trial")}
    (kept,) = place.client().search_experiments(filter_string="name LIKE 'small (until %'")
    assert {run.info.run_id for run in place.runs("trial", kept.name)} == earlier
    assert went_on(place, capsys) == ""


def test_study_and_experiment_deleted_together_begin_anew(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    delete_study(place)
    delete_experiment(place, for_good=False)
    assert place.search() == 0
    assert len(load_study(place.store, "small").trials) == 2


@pytest.mark.parametrize("folder", ["reports", "models", "repeats"])
def test_a_folder_that_was_removed_is_made_anew(place: Place, folder: str) -> None:
    """A search that was stopped before its report leaves no folder of reports either."""
    shutil.rmtree(place.store / folder, ignore_errors=True)
    assert place.confirm() == 0
    shutil.rmtree(place.store / folder, ignore_errors=True)
    assert place.export() == 0
    assert place.search() == 0
    assert (place.store / "reports" / "small" / "report.html").is_file()


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_trained(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(place.store / "reports")
    (place.store / "reports").write_text("in the way")
    for command in (place.search, place.confirm):
        assert command() == 2
        assert f"error: --store {place.store} cannot be written: " in capsys.readouterr().err
    assert not list((place.store / "repeats").glob("*.npz"))


def delete_model(place: Place) -> None:
    place.client().delete_registered_model("small")


def delete_version(place: Place) -> None:
    place.client().delete_model_version("small", "1")


def delete_logged_model(place: Place) -> None:
    client = place.client()
    (version,) = client.search_model_versions("name = 'small'")
    assert version.source is not None
    client.delete_logged_model(version.source.split("/")[-2])


def delete_model_folder(place: Place) -> None:
    shutil.rmtree(place.store / "artifacts" / "small" / "models")


@pytest.mark.parametrize(
    "delete", [delete_model, delete_version, delete_logged_model, delete_model_folder]
)
def test_a_registered_model_that_was_deleted_is_registered_again(
    place: Place, delete: Callable[[Place], None]
) -> None:
    Tracker(Store(place.store))  # it lies here now
    delete(place)
    assert place.export() == 0
    client = place.client()
    version = client.get_model_version_by_alias("small", "best-at-1MB")
    assert version.source is not None
    assert version.source.startswith(place.store.as_uri())
    folder = place.store / version.source.removeprefix(f"{place.store.as_uri()}/")
    assert (folder / "MLmodel").is_file()


def test_artifacts_of_a_confirmation_that_were_removed_are_trained_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.confirm() == 0
    shutil.rmtree(place.store / "artifacts" / "again")
    capsys.readouterr()
    assert place.confirm() == 0
    assert "note: the MLflow artifacts of 1 trained configurations" in capsys.readouterr().err
    assert list((place.store / "artifacts" / "again").glob("*/artifacts/fold_0/model.qwave"))
    capsys.readouterr()
    assert place.confirm() == 0
    assert "trained again" not in capsys.readouterr().err
