"""Models in a real registry: written, read back as the pages do, moved, and refused.

The registry does not open the packed file, so that any bytes will do here; `tests/test_pyfunc.py`
loads and serves.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.validation import (
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
)

from qwave.config import ConfigError, DataError, PackedFileError, QwaveError
from qwave.store import RegisteredModel, Store, Tracker, register_model

NAME = "moe.pareto"
FRONT = {"best-at-1kB": b"a small model", "best-at-50kB": b"a large model"}
SMALL, LARGE = FRONT.values()
X = np.random.default_rng(3).normal(size=(2, 5)).astype(np.float32)


class Example(NamedTuple):
    """A store with one run, and the ways to look into it."""

    tracker: Tracker
    client: MlflowClient
    run_id: str
    folder: Path

    def register(self, content: bytes, *aliases: str, **changes: Any) -> RegisteredModel:
        file = self.folder / "model.qwave"
        file.write_bytes(content)
        arguments: dict[str, Any] = {
            "run_id": self.run_id,
            "name": NAME,
            "model_file": file,
            "input_example": X,
            "class_names": ("dog", "rain"),
            "aliases": aliases,
            "tags": {"accuracy": "0.91"},
            "description": "small",
        }
        return register_model(self.tracker, **{**arguments, **changes})

    def models(self) -> list[Path]:
        """Folders of the logged models."""
        return sorted(self.folder.glob("artifacts/*/models/*/artifacts"))


@pytest.fixture(scope="module")
def new_store(empty_database: Path) -> Callable[[Path], Example]:
    def make(folder: Path) -> Example:
        folder.mkdir()
        shutil.copy(empty_database, folder)
        tracker = Tracker(Store(folder))
        run_id = tracker.start_run(
            tracker.experiment("sweep"), "trial 1", params={"model.top_k": 1}
        )
        client = MlflowClient(tracking_uri=tracker.uri, registry_uri=tracker.uri)
        return Example(tracker, client, run_id, folder.resolve())

    return make


@pytest.fixture
def store(new_store: Callable[[Path], Example], tmp_path: Path) -> Example:
    return new_store(tmp_path / "a store #1")


@pytest.fixture(scope="module")
def shared(
    new_store: Callable[[Path], Example], tmp_path_factory: pytest.TempPathFactory
) -> Example:
    """A store with every model, to be read only."""
    store = new_store(tmp_path_factory.mktemp("registry") / "store")
    for alias, content in FRONT.items():
        store.register(content, alias)
    return store


# --- what lies in the folder ---


def test_a_folder_is_small_pinned_and_holds_no_pickle(shared: Example) -> None:
    folder = shared.models()[0]
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    kinds = {".qwave", ".json", ".yaml", ".txt", ".py", ".c", ".h", ""}  # "": MLmodel
    assert {path.suffix for path in files} <= kinds
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]
    assert sum(path.stat().st_size for path in files) < 300_000
    pinned = ["mlflow", "numpy", "pandas"]
    lines = (folder / "requirements.txt").read_text().split()
    assert lines == [f"{name}=={metadata.version(name)}" for name in pinned]
    model = Model.load(str(folder))
    python = ".".join(map(str, sys.version_info[:3]))
    assert model.flavors["python_function"]["python_version"] == python
    assert f"python: {python}" in (folder / "python_env.yaml").read_text()
    np.testing.assert_array_equal(model.load_input_example(str(folder)), X)


def test_the_packed_file_is_the_one_that_was_given(store: Example) -> None:
    store.register(SMALL)
    (file,) = store.models()[0].glob("data/*")
    assert file.read_bytes() == SMALL


def test_the_lock_file_of_the_project_around_stays_out(
    store: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv.lock").write_text("version = 1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'theirs'\n")
    monkeypatch.chdir(tmp_path)
    store.register(SMALL)
    assert not {"uv.lock", "pyproject.toml"} & {path.name for path in store.models()[0].iterdir()}


# --- what the pages show ---


def test_versions_and_aliases_can_be_read_back(shared: Example) -> None:
    client = shared.client
    (registered,) = client.search_registered_models()
    aliases = dict(zip(FRONT, ("1", "2"), strict=True))
    assert {k: str(v) for k, v in registered.aliases.items()} == aliases
    for alias, content in FRONT.items():
        version = client.get_model_version_by_alias(NAME, alias)
        assert (version.status, version.run_id) == ("READY", shared.run_id)
        assert version.description == "small"
        digest = sha256(content).hexdigest()
        assert version.tags == {"accuracy": "0.91", "qwave.model_digest": digest}
        assert version.source in [folder.as_uri() for folder in shared.models()]


def test_the_run_and_the_logged_model_point_at_each_other_and_at_the_version(
    store: Example,
) -> None:
    metrics = {"accuracy": 0.91, "auroc": float("nan")}
    curve = [(0, 0.5), (1, 0.25)]
    store.tracker.log(store.run_id, metrics=metrics, series={"loss": curve})
    store.tracker.end_run(store.run_id)
    registered = store.register(LARGE, "best")
    assert registered == (NAME, 1, f"models:/{NAME}/1")
    run = store.client.get_run(store.run_id)
    assert run.outputs is not None
    (output,) = run.outputs.model_outputs
    logged = store.client.get_logged_model(output.model_id)
    assert logged.source_run_id == store.run_id
    assert (logged.name, logged.status, logged.model_type) == ("moe-pareto", "READY", "classifier")
    assert logged.params == {"model.top_k": "1"}
    tags = dict(logged.tags)
    assert json.loads(tags.pop("mlflow.modelVersions")) == [{"name": NAME, "version": "1"}]
    assert tags["accuracy"] == "0.91"
    assert tags["mlflow.source.name"] == run.data.tags["mlflow.source.name"]
    # Neither the curve nor NaN, and nothing a second time.
    assert logged.metrics is not None
    assert [(metric.key, metric.value) for metric in logged.metrics] == [("accuracy", 0.91)]
    for key, count in {"accuracy": 1, "auroc": 1, "loss": 2}.items():
        assert len(store.client.get_metric_history(store.run_id, key)) == count
    (version,) = store.client.search_model_versions(f"run_id = '{store.run_id}'")
    assert version.source == logged.artifact_location == store.models()[0].as_uri()
    assert Model.load(str(store.models()[0])).model_id == logged.model_id


def test_a_store_given_by_a_relative_path_has_absolute_sources(
    new_store: Callable[[Path], Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = new_store(Path("store"))
    store.register(LARGE, "best")
    source = store.client.get_model_version_by_alias(NAME, "best").source
    assert source == (store.models()[0]).as_uri()
    assert source.startswith(tmp_path.resolve().as_uri())


# --- one version a file, and aliases that move ---


def test_the_alias_moves_to_a_better_model_and_the_others_stay(store: Example) -> None:
    store.register(SMALL, "best-at-50kB", "small")
    registered = store.register(LARGE, "best-at-50kB")
    assert registered.version == 2
    aliases = store.client.get_registered_model(NAME).aliases
    assert {k: int(v) for k, v in aliases.items()} == {"best-at-50kB": 2, "small": 1}


def test_the_same_bytes_are_one_version_with_what_was_said_last(store: Example) -> None:
    store.register(SMALL, "a", "b")
    store.register(LARGE, "a")
    again = store.register(SMALL, "a", tags={"accuracy": "1"}, description="new")
    assert again == (NAME, 1, f"models:/{NAME}/1")
    assert len(store.client.search_model_versions(f"name = '{NAME}'")) == 2
    assert len(store.models()) == 2
    version = store.client.get_model_version(NAME, "1")
    assert (version.tags["accuracy"], version.description) == ("1", "new")
    assert sorted(version.aliases) == ["a", "b"]


def test_another_registered_model_has_versions_of_its_own(store: Example) -> None:
    store.register(SMALL, "a")
    other = store.register(SMALL, "a", name="other")
    assert other == ("other", 1, "models:/other/1")
    names = [model.name for model in store.client.search_registered_models()]
    assert sorted(names) == [NAME, "other"]


def test_a_version_whose_folder_is_gone_is_made_again(store: Example) -> None:
    store.register(SMALL, "a")
    (first,) = store.models()
    first.rename(store.folder / "elsewhere")
    assert store.register(SMALL, "a").version == 2
    assert store.client.get_model_version_by_alias(NAME, "a").source == store.models()[0].as_uri()
    # Where both are there, the newer one counts.
    (store.folder / "elsewhere").rename(first)
    assert store.register(SMALL, "a").version == 2


# --- what is left alone, and what is refused ---


def test_nothing_global_of_mlflow_is_touched(
    new_store: Callable[[Path], Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = new_store(tmp_path / "ours"), new_store(tmp_path / "theirs")
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, theirs.tracker.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", theirs.tracker.experiment("sweep"))
    run = mlflow.start_run()
    try:
        environment = {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")}
        path = list(sys.path)
        assert ours.register(LARGE, "best").version == 1
        assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == theirs.tracker.uri
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == run.info.run_id
        assert mlflow.get_active_model_id() is None
        assert mlflow.last_logged_model() is None
        assert {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")} == environment
        assert sys.path == path
    finally:
        mlflow.end_run()
    assert theirs.client.search_registered_models() == []
    assert theirs.client.search_logged_models([run.info.experiment_id]) == []
    assert list(here.iterdir()) == []
    assert len(ours.models()) == 1


def _assert_untouched(store: Example) -> None:
    assert store.client.search_registered_models() == []
    assert store.client.search_logged_models([store.tracker.experiment("sweep")]) == []
    assert store.models() == []


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("best at 50kB", "an alias must be 1 to 255 letters, digits, '_' or '-'"),
        ("best<50kB", "an alias must be 1 to 255 letters, digits, '_' or '-'"),
        ("", "an alias must be 1 to 255 letters, digits, '_' or '-'"),
        ("best\n", "an alias must be 1 to 255 letters, digits, '_' or '-'"),
        ("a" * 256, "an alias must be 1 to 255 letters, digits, '_' or '-'"),
        ("latest", "the alias 'latest' is reserved"),
        ("Latest", "the alias 'Latest' is reserved"),
        ("v9", "the alias 'v9' is reserved"),
        ("V10", "the alias 'V10' is reserved"),
    ],
)
def test_an_alias_that_mlflow_cannot_have_is_refused_before_anything_is_written(
    store: Example, alias: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}") as raised:
        store.register(SMALL, "fine", alias)
    assert repr(alias) in str(raised.value)
    _assert_untouched(store)


def _mlflow_takes(alias: str) -> bool:
    try:
        _validate_model_alias_name(alias)
        _validate_model_alias_name_reserved(alias)
    except MlflowException:
        return False
    return True


def test_the_aliases_that_are_refused_are_those_that_mlflow_refuses(store: Example) -> None:
    rng = np.random.default_rng(5)
    letters = list("vVlatestLATEST019-_.@ /:é犬")
    drawn = ["".join(rng.choice(letters, rng.integers(0, 7))) for _ in range(500)]
    some = ["v", "v1a", "va1", "latest1", "a" * 255, "a" * 256]
    outcomes = set()
    for alias in [*some, *drawn]:
        # Aliases are looked at before the file, which is not there.
        expected = PackedFileError if _mlflow_takes(alias) else ConfigError
        with pytest.raises(QwaveError) as raised:
            store.register(SMALL, alias, model_file=Path("nowhere.qwave"))
        assert type(raised.value) is expected, f"seed 5, alias {alias!r}"
        outcomes.add(expected)
    assert len(outcomes) == 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": "moe/pareto"}, ConfigError, "`name` must be 1 to 100 letters, digits, "),
        (
            {"model_file": Path("nowhere.qwave")},
            PackedFileError,
            "no such file: nowhere.qwave",
        ),
        (
            {"input_example": X[0]},
            DataError,
            "the input example must be rows, [clips, features], but has shape (5,)",
        ),
        (
            {"input_example": X[:0]},
            DataError,
            "the input example must be rows, [clips, features], but has shape (0, 5)",
        ),
        (
            {"input_example": np.where(np.arange(5) == 3, np.inf, X)},
            DataError,
            "the input example must be finite, but x[0, 3] is inf",
        ),
        (
            {"class_names": ("dog", "rain", "dog")},
            DataError,
            "each class must have a name of its own to be a column of the answers, but 'dog' "
            "stands for several",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused_before_anything_is_written(
    store: Example, changes: dict[str, Any], error: type[QwaveError], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        store.register(SMALL, "best", **changes)
    _assert_untouched(store)


def test_a_folder_that_cannot_be_written_leaves_a_failed_model_and_no_version(
    store: Example,
) -> None:
    (store.folder / "artifacts" / "sweep").mkdir(parents=True)
    (store.folder / "artifacts" / "sweep" / "models").write_text("a file in the way")
    with pytest.raises(OSError, match="models"):
        store.register(SMALL, "best")
    (logged,) = store.client.search_logged_models([store.tracker.experiment("sweep")])
    assert logged.status == "FAILED"
    assert store.client.search_registered_models() == []
    outputs = store.client.get_run(store.run_id).outputs
    assert outputs is not None
    assert outputs.model_outputs == []
