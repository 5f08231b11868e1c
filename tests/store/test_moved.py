"""A store that was moved, copied or mounted elsewhere goes on from where it lies."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient, artifacts, pyfunc

from qwave.store import Store, Tracker
from qwave.sweep import load_study
from tests.store.stores import Place, kept_texts, make_place, times

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

NOTE = re.compile(r"^note: --store (.*) was moved or copied: MLflow looked for its artifacts in")


def notes(text: str) -> list[str]:
    return [line for line in text.splitlines() if NOTE.match(line)]


@pytest.mark.slow
@pytest.mark.usefixtures("commands_here")
@pytest.mark.parametrize(
    ("is_copy", "name"), [(False, "elsewhere"), (True, "a b/ü #1? 100%25 'x'")], ids=["mv", "cp"]
)
def test_every_command_works_on_the_new_place_and_leaves_the_old_one_alone(
    searched: Place,
    tmp_path: Path,
    is_copy: bool,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = tmp_path / "old" / "store", tmp_path / name
    shutil.copytree(searched.store, old)
    Tracker(Store(old))  # the store lies here, and knows it
    new.parent.mkdir(exist_ok=True)
    if is_copy:
        shutil.copytree(old, new)
    else:
        shutil.move(old, new)
    before = times(old.parent)
    moved = searched._replace(store=new)
    capsys.readouterr()
    assert moved.export() == 0
    (said,) = notes(capsys.readouterr().err)
    assert said == (
        f"note: --store {new} was moved or copied: MLflow looked for its artifacts in "
        f"{old}/artifacts, and does so in {new}/artifacts now"
    )
    # No second version of the same bytes: the folder of the first was found.
    assert len(moved.client().search_model_versions("name = 'small'")) == 1
    assert moved.search("--trials", "3") == 0
    assert moved.confirm() == 0
    assert moved.export("0") == 0
    assert notes(capsys.readouterr().err) == []
    assert times(old.parent) == before
    stale = [kept for kept in kept_texts(new) if str(old) in kept[2] or old.as_uri() in kept[2]]
    assert stale == []

    # What MLflow itself finds: files of every run, and the registered model.
    client = moved.client()
    for run in [*moved.runs("study"), *moved.runs("trial"), *moved.runs("export")]:
        assert run.info.artifact_uri.startswith(f"{new.as_uri()}/artifacts/")
        assert client.list_artifacts(run.info.run_id), run.info.run_name
    (trial, *_) = moved.runs("trial")
    picture = client.download_artifacts(trial.info.run_id, "fold_0/curiosity_histogram.png")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    version = client.get_model_version("small", "1")
    assert version.source is not None
    assert version.source.startswith(new.as_uri())
    assert artifacts.list_artifacts(version.source)


def test_a_registered_model_is_loaded_from_the_new_place(
    searched: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "my stores" / "1"
    new.parent.mkdir()
    shutil.copytree(searched.store, new)
    Tracker(Store(new))
    hidden = searched.store.with_name("hidden")
    searched.store.rename(hidden)  # whoever looks there finds nothing
    try:
        client = MlflowClient(Store(new).tracking_uri, Store(new).tracking_uri)
        uri = client.get_model_version_download_uri("small", "1")
        model = pyfunc.load_model(uri)
        x = np.load(searched.sweep.with_name("clouds.npz"))["x"]
        assert len(model.predict(x)) == len(x)
    finally:
        hidden.rename(searched.store)


def test_two_copies_in_turn_keep_to_themselves(
    searched: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(searched.store, one)
    shutil.copytree(searched.store, two)
    for store in (one, two, one, two):
        assert searched._replace(store=store).export("--front", "--no-register") == 0
    assert len(notes(capsys.readouterr().err)) == 2
    for store, other in ((one, two), (two, one)):
        assert not [kept for kept in kept_texts(store) if f"{other}/" in kept[2]]


def test_a_link_and_a_relative_path_lead_to_the_same_store(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert place.export() == 0
    (tmp_path / "link").symlink_to("store")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    capsys.readouterr()
    for way in (
        tmp_path / "link",
        Path("../store"),
        Path("../link"),
        Path("..") / "below/../link",
    ):
        assert place._replace(store=way).export() == 0
        out, err = capsys.readouterr()
        assert notes(err) == []
        assert Store(tmp_path / "store").ui_command in out


def test_artifacts_on_another_disk_stay_there(place: Place, tmp_path: Path) -> None:
    """The folder of artifacts may be a link."""
    (place.store / "artifacts").rename(tmp_path / "large disk")
    (place.store / "artifacts").symlink_to(tmp_path / "large disk")
    assert place.search("--trials", "3") == 0
    assert place.export() == 0
    assert not (tmp_path / "large disk" / "artifacts").exists()
    for run in place.runs("trial"):
        assert place.client().list_artifacts(run.info.run_id)


def test_a_moved_store_without_a_trial_writes_into_the_new_place(tmp_path: Path) -> None:
    """The process was killed before its first run."""
    (tmp_path / "old").mkdir()
    Tracker(Store(tmp_path / "old")).experiment("sweep")
    (tmp_path / "old").rename(tmp_path / "new")
    tracker = Tracker(Store(tmp_path / "new"))
    run_id = tracker.start_run(tracker.experiment("sweep"), "first")
    assert tracker.artifact_folder(run_id).is_relative_to(tmp_path / "new")
    assert not (tmp_path / "old").exists()


def test_mlflows_global_state_stays_the_callers(place: Place) -> None:
    before = mlflow.get_tracking_uri()
    Tracker(Store(place.store))
    assert mlflow.get_tracking_uri() == before


def test_data_that_moved_are_found_by_the_place_that_the_search_was_given_last(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    searched: Place,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrays = np.load(searched.sweep.with_name("clouds.npz"))
    place = make_place(tmp_path, arrays["x"], arrays["y"])
    place.sweep.write_text(place.sweep.read_text().replace(str(tmp_path / "clouds.npz"), "c.npz"))
    (tmp_path / "clouds.npz").rename(tmp_path / "c.npz")
    monkeypatch.chdir(tmp_path)
    assert place.search() == 0
    # From another working directory, where the relative path leads nowhere.
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert place.export() == 0
    assert place.confirm() == 0
    # The file itself moves: each command says how to give its new place, and that works.
    (tmp_path / "c.npz").rename(tmp_path / "far.npz")
    capsys.readouterr()
    for command in (place.export, place.confirm):
        assert command() == 2
        assert "give the search their place, by its command with data.path=PLACE" in (
            capsys.readouterr().err
        )
    n_trials = len(load_study(place.store, "small").trials)
    assert place.search(f"data.path={tmp_path / 'far.npz'}") == 0
    assert len(load_study(place.store, "small").trials) == n_trials
    assert place.export() == 0
    assert place.confirm() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_copy_that_cannot_be_written_is_one_clear_line(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in [place.store, *place.store.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert place.export("--front", "--no-register") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.match(rf"error: --store {place.store} cannot be written: ", line)
    finally:
        for path in [place.store, *place.store.rglob("*")]:
            path.chmod(0o755)
