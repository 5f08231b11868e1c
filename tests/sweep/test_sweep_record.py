"""The record of a trial: trained for real, written to a real store, read back to the last byte."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

import qwave
from qwave.config import (
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, make_folds
from qwave.packing import packed_size_bytes, packed_size_parts
from qwave.report import FoldFigures
from qwave.space import parse_config
from qwave.store import Store, Tracker
from qwave.sweep.launcher import FinishedTrial
from qwave.sweep.pictures import PICTURES, draw_front
from qwave.sweep.pool import SharedData, run_trial
from qwave.sweep.record import Recorder, config_label
from tests.report.samples import make_point

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

MODELS = {
    "linear": ModelConfig(schemes=("int1",), hidden=(), input_dropout=0.25),
    "mixture": ModelConfig(
        schemes=("int1", "int4", "int8"),
        hidden=(4,),
        top_k=2,
        router=RouterConfig(dropout=0.25),
        curiosity=CuriosityConfig(alpha=0.5, mc_samples=4),
    ),
}
EPOCHS = {"linear": 1, "mixture": 35}
PNGS = ("curiosity_histogram.png", "curiosity_per_class.png")
N_FOLDS = 5


class Recorded(NamedTuple):
    """A trial, and what the store says about it."""

    data: EmbeddingSet
    config: TrialConfig
    finished: FinishedTrial
    run: Run
    client: MlflowClient
    folder: Path

    def fold_rows(self, fold: int) -> np.ndarray:
        assert self.data.fold is not None
        return np.flatnonzero(self.data.fold == sorted(set(self.data.fold))[fold])

    def history(self, key: str) -> list[tuple[int, float]]:
        found = self.client.get_metric_history(self.run.info.run_id, key)
        return sorted((metric.step, metric.value) for metric in found)


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    found = gaussians(4, n_per_class=10, num_classes=4, n_folds=N_FOLDS, distance=0.8)
    assert len(found.y) == 40
    return found


@pytest.fixture(scope="module")
def tracker(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    store = tmp_path_factory.mktemp("store")
    shutil.copy(empty_database, store)
    return Tracker(Store(store))


@pytest.fixture(scope="module")
def recorder(tracker: Tracker, data: EmbeddingSet) -> Recorder:
    return Recorder(tracker, tracker.experiment("tiny"), data, "some/where/clouds.npz")


def _config(name: str, n_folds: int = N_FOLDS) -> TrialConfig:
    return TrialConfig(
        data=DataConfig("some/where/clouds.npz", "layer", n_folds),
        model=MODELS[name],
        train=TrainConfig(epochs=EPOCHS[name], batch_size=16),
    )


@pytest.fixture(scope="module", params=list(MODELS))
def recorded(
    request: pytest.FixtureRequest,
    tracker: Tracker,
    recorder: Recorder,
    data: EmbeddingSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Recorded:
    config = _config(request.param)
    shared = SharedData.write(data, tmp_path_factory.mktemp("shared"))
    finished = run_trial(config, shared, "cpu")
    run_id = recorder.start(7, config, packed_size_bytes(config, data))
    recorder.finish(run_id, finished)
    client = MlflowClient(tracking_uri=tracker.uri)
    folder = tracker.artifact_root / "tiny" / run_id / "artifacts"
    return Recorded(data, config, finished, client.get_run(run_id), client, folder)


def test_a_worker_sends_files_instead_of_models(recorded: Recorded) -> None:
    again = pickle.loads(pickle.dumps(recorded.finished))
    assert again.result.models == ()
    assert again.packed == recorded.finished.packed
    assert len(again.packed) == N_FOLDS
    assert again.result.scores == recorded.finished.result.scores


def test_the_run_is_closed_and_named_after_its_trial(recorded: Recorded) -> None:
    assert recorded.run.info.status == "FINISHED"
    assert recorded.run.info.run_name == f"trial 0007: {config_label(recorded.config)}"


def test_params_are_the_flat_configuration(recorded: Recorded) -> None:
    expected = {key: str(value) for key, value in recorded.config.flat().items()}
    assert recorded.run.data.params == expected
    assert expected["model.num_experts"] == str(len(recorded.config.model.schemes))


def test_tags_lead_to_the_trial_its_data_and_its_configuration(recorded: Recorded) -> None:
    tags = recorded.run.data.tags
    assert tags["qwave.kind"] == "trial"
    assert tags["qwave.trial_number"] == "7"
    assert tags["qwave.config_digest"] == recorded.config.digest
    assert tags["qwave.data_digest"] == recorded.data.digest
    assert tags["qwave.label"] == config_label(recorded.config)
    assert tags["qwave.outcome"] == "complete"


def test_the_data_are_the_runs_dataset(recorded: Recorded) -> None:
    assert recorded.run.inputs is not None
    (given,) = recorded.run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("clouds", recorded.data.digest)
    assert json.loads(given.dataset.source) == {"uri": "some/where/clouds.npz"}
    assert given.dataset.profile is not None
    assert json.loads(given.dataset.profile) == {
        "num_rows": 40,
        "num_features": 12,
        "num_classes": 4,
        "num_official_folds": N_FOLDS,
    }


def _same(found: float, expected: float) -> bool:
    return found == expected or (math.isnan(found) and math.isnan(expected))


def test_metrics_are_the_scores(recorded: Recorded) -> None:
    metrics, result = recorded.run.data.metrics, recorded.finished.result
    for name, value in result.scores.items():
        assert _same(metrics[name], value), name
    for name, value in result.pooled_scores.items():
        assert _same(metrics[f"pooled_{name}"], value), name
    assert any(name.startswith("curiosity_") for name in result.pooled_scores)
    for expert, load in enumerate(result.expert_load):
        assert metrics[f"expert_load_{expert}"] == load
    assert metrics["seconds"] >= metrics["train_seconds"] > 0
    assert metrics["peak_memory_bytes"] > 1e6


def test_metrics_are_the_size_and_its_parts(recorded: Recorded) -> None:
    metrics = recorded.run.data.metrics
    parts = packed_size_parts(recorded.config, recorded.data)
    for part, size in parts.items():
        assert metrics[f"size_{part}_bytes"] == size
    assert metrics["size_bytes"] == sum(parts.values())
    assert ("size_router_bytes" in metrics) == (len(recorded.config.model.schemes) > 1)


def test_fold_scores_are_steps(recorded: Recorded) -> None:
    scores = recorded.finished.result.fold_scores
    assert "accuracy" in scores
    for name, values in scores.items():
        history = recorded.history(f"fold_{name}")
        assert [step for step, _ in history] == list(range(N_FOLDS)), name
        assert all(_same(a, b) for (_, a), b in zip(history, values, strict=True)), name
    predicted = recorded.finished.result.predictions.predicted
    for fold, accuracy in recorded.history("fold_accuracy"):
        rows = recorded.fold_rows(fold)
        assert accuracy == pytest.approx((predicted[rows] == recorded.data.y[rows]).mean())


def test_losses_are_steps_of_epochs_from_one(recorded: Recorded) -> None:
    result = recorded.finished.result
    losses = recorded.history("train_loss")
    epochs = [epoch for epoch, _ in losses]
    assert epochs == sorted(set(epochs))
    assert (epochs[0], epochs[-1]) == (1, recorded.config.train.epochs)
    assert len(epochs) == min(30, recorded.config.train.epochs), "a long curve is thinned"
    by_epoch = result.train_loss.mean(axis=1)
    for epoch, loss in losses:
        assert loss == pytest.approx(by_epoch[epoch - 1]), epoch
    for name in ("loss", "accuracy"):
        history = recorded.history(f"held_out_{name}")
        expected = [(c.epoch, float(np.mean(getattr(c, name)))) for c in result.checkpoints]
        assert history == expected
        assert history[-1][0] == recorded.config.train.epochs


def test_artifacts_are_these_files(recorded: Recorded) -> None:
    fold = {"curiosity_values.json", "model.qwave", *PNGS}
    expected = {"config.json", "losses.csv", "predictions.csv"}
    expected |= {f"fold_{i}/{name}" for i in range(N_FOLDS) for name in fold}
    files = [path for path in recorded.folder.rglob("*") if path.is_file()]
    assert {str(path.relative_to(recorded.folder)) for path in files} == expected
    listed = recorded.client.list_artifacts(recorded.run.info.run_id)
    assert {entry.path for entry in listed} == {name.split("/")[0] for name in expected}


def test_the_configuration_parses_back(recorded: Recorded) -> None:
    tree = json.loads((recorded.folder / "config.json").read_text(encoding="utf-8"))
    assert parse_config(tree) == recorded.config
    assert parse_config(tree).digest == recorded.config.digest


def _predictions(recorded: Recorded) -> list[dict[str, str]]:
    text = (recorded.folder / "predictions.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_are_one_row_a_clip_in_the_datas_order(recorded: Recorded) -> None:
    rows, data = _predictions(recorded), recorded.data
    predictions = recorded.finished.result.predictions
    columns = ["name", "fold", "true_label", "predicted_label", *data.class_names]
    assert list(rows[0]) == columns
    assert [row["name"] for row in rows] == list(data.names)
    assert [row["true_label"] for row in rows] == [data.class_names[y] for y in data.y]
    expected = [data.class_names[p] for p in predictions.predicted]
    assert [row["predicted_label"] for row in rows] == expected
    assert data.fold is not None
    assert [int(row["fold"]) for row in rows] == data.fold.tolist()
    found = np.array([[float(row[name]) for name in data.class_names] for row in rows])
    assert found == pytest.approx(predictions.probabilities, rel=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)
    likeliest = [data.class_names[row] for row in found.argmax(axis=1)]
    assert likeliest == [row["predicted_label"] for row in rows]


def test_every_model_predicts_what_the_table_says(recorded: Recorded) -> None:
    rows, data = _predictions(recorded), recorded.data
    result = recorded.finished.result
    for fold in range(N_FOLDS):
        path = recorded.folder / f"fold_{fold}" / "model.qwave"
        assert path.stat().st_size == recorded.run.data.metrics["size_bytes"] == result.size_bytes
        model = qwave.load_packed(path)
        assert model.class_names == data.class_names
        assert model.packed.header.config_digest == recorded.config.digest
        assert model.packed.header.data_digest == data.digest
        test = recorded.fold_rows(fold)
        probabilities = model.predict_proba(data.x[test])
        assert np.array_equal(probabilities, result.predictions.probabilities[test])
        labels = [rows[row]["predicted_label"] for row in test]
        assert model.predict(data.x[test]).tolist() == labels
        for row, values in zip(test, probabilities, strict=True):
            cells = [rows[row][name] for name in data.class_names]
            assert cells == [f"{value:.7g}" for value in values], f"fold {fold}, clip {row}"
        one = model.examine(data.x[test])
        assert np.array_equal(one.gates, result.predictions.gates[test])
        information = result.predictions.mutual_information[test]
        assert np.array_equal(one.mutual_information, information)


def test_curiosity_values_are_those_of_the_folds_clips(recorded: Recorded) -> None:
    data, predictions = recorded.data, recorded.finished.result.predictions
    top_k = recorded.config.model.top_k
    for fold in range(N_FOLDS):
        text = (recorded.folder / f"fold_{fold}" / "curiosity_values.json").read_text()
        values: list[dict[str, Any]] = json.loads(text, parse_constant=_refuse_constant)
        rows = recorded.fold_rows(fold)
        for value, row in zip(values, rows, strict=True):
            assert list(value)[:6] == [
                "name",
                "true_label",
                "predicted_label",
                "mutual_information",
                "variance",
                "route",
            ]
            assert value["name"] == data.names[row]
            assert value["true_label"] == data.class_names[data.y[row]]
            assert value["predicted_label"] == data.class_names[predictions.predicted[row]]
            assert value["mutual_information"] == float(predictions.mutual_information[row])
            assert value["variance"] == float(predictions.variance[row])
            assert value["variance"] >= 0
            gates = predictions.gates[row]
            assert value["route"] == [e for e in range(len(gates)) if gates[e] > 0]
            assert len(value["route"]) == top_k
            assert value["gates"] == pytest.approx(gates.tolist(), abs=1e-6)
        assert any(value["mutual_information"] > 0 for value in values), f"fold {fold}"


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("picture", PNGS)
def test_pictures_are_of_their_fold(recorded: Recorded, picture: str) -> None:
    contents = []
    for fold in range(N_FOLDS):
        path = recorded.folder / f"fold_{fold}" / picture
        contents.append(path.read_bytes())
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", (640, 400))
    assert len(set(contents)) > 1, "all folds have one picture"


def test_losses_are_those_of_every_fold_and_epoch(recorded: Recorded) -> None:
    with (recorded.folder / "losses.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    result = recorded.finished.result
    epochs = recorded.config.train.epochs
    assert [(int(row["fold"]), int(row["epoch"])) for row in rows] == [
        (fold, epoch) for fold in range(N_FOLDS) for epoch in range(1, epochs + 1)
    ]
    found = np.array([float(row["train_loss"]) for row in rows]).reshape(N_FOLDS, epochs)
    assert found == pytest.approx(result.train_loss.T, rel=1e-6)
    held_out = {int(row["epoch"]) for row in rows if row["held_out_loss"]}
    assert held_out == {checkpoint.epoch for checkpoint in result.checkpoints}


@pytest.mark.slow
def test_the_front_gets_the_pictures_that_it_lacks_and_no_other_trial(
    recorded: Recorded, tracker: Tracker
) -> None:
    def run(function: Callable[..., None], *arguments: Any) -> Future[None]:
        function(*arguments)
        return Future()

    run_id = recorded.run.info.run_id
    member = make_point(0, mlflow_run_id=run_id)
    others = [make_point(1, mlflow_run_id=run_id, is_front=False), make_point(2)]
    assert draw_front(others, tracker, run) == [], "not on the front, or gone from MLflow"
    assert len(draw_front([member, *others], tracker, run)) == 1
    assert draw_front([member], tracker, run) == [], "they are there"
    folders = [recorded.folder / f"fold_{fold}" for fold in range(N_FOLDS)]
    for picture in PICTURES:
        contents = [(folder / picture).read_bytes() for folder in folders]
        assert len(set(contents)) > 1, "all folds have one picture"
        for content in contents:
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
    y, predictions = recorded.data.y, recorded.finished.result.predictions
    drawn = FoldFigures(recorded.data.class_names)
    for fold, folder in enumerate(folders):
        rows = recorded.fold_rows(fold)
        expected = drawn.confusion_matrix(y[rows], predictions.predicted[rows])
        assert (folder / "confusion_matrix.svg").read_bytes() == expected
    (folders[1] / "roc.svg").unlink()
    assert len(draw_front([member], tracker, run)) == 1
    assert (folders[1] / "roc.svg").exists()
    for folder in folders:
        for picture in PICTURES:
            (folder / picture).unlink()


def test_sizes_are_known_before_training(
    recorder: Recorder, tracker: Tracker, data: EmbeddingSet
) -> None:
    config = _config("mixture")
    size = packed_size_bytes(config, data)
    run_id = recorder.start(3, config, size)
    assert tracker.status(run_id) == "RUNNING"
    metrics = MlflowClient(tracking_uri=tracker.uri).get_run(run_id).data.metrics
    assert metrics["size_bytes"] == size
    assert sum(v for k, v in metrics.items() if k != "size_bytes") == size


def test_a_trial_over_the_budget_is_closed_with_its_reason(
    recorder: Recorder, tracker: Tracker
) -> None:
    run_id = recorder.start(4, _config("linear"), 5000)
    recorder.refuse(run_id, 5000, 4000)
    run = MlflowClient(tracking_uri=tracker.uri).get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["qwave.outcome"] == "over_budget"
    expected = "5000 bytes are more than budget.max_size_bytes=4000"
    assert run.data.tags["qwave.reason"] == expected


@pytest.mark.parametrize(("outcome", "status"), [("failed", "FAILED"), ("interrupted", "KILLED")])
def test_a_trial_without_a_result_is_closed_with_its_reason(
    recorder: Recorder, tracker: Tracker, outcome: str, status: str
) -> None:
    run_id = recorder.start(5, _config("linear"), 900)
    recorder.fail(run_id, outcome, "because of rain")
    run = MlflowClient(tracking_uri=tracker.uri).get_run(run_id)
    assert run.info.status == status
    assert run.data.tags["qwave.outcome"] == outcome
    assert run.data.tags["qwave.reason"] == "because of rain"


def test_data_without_folds_are_trained_and_recorded_without_repeating_the_warning(
    tracker: Tracker, data: EmbeddingSet, tmp_path: Path
) -> None:
    loose = dataclasses.replace(data, fold=None, group=None, digest="fedcba9876543210")
    config = _config("linear", n_folds=3)
    finished = run_trial(config, SharedData.write(loose, tmp_path), "cpu")
    with pytest.warns(UserWarning, match="clips of one recording"):
        folds = make_folds(loose, config.data)
    recorder = Recorder(tracker, tracker.experiment("loose"), loose, "loose.csv")
    run_id = recorder.start(0, config, packed_size_bytes(config, loose))
    recorder.finish(run_id, finished)
    run = MlflowClient(tracking_uri=tracker.uri).get_run(run_id)
    assert run.inputs is not None
    profile = run.inputs.dataset_inputs[0].dataset.profile
    assert profile is not None
    assert "num_official_folds" not in json.loads(profile)
    place = tracker.artifact_root / "loose" / run_id / "artifacts"
    for fold in folds:
        values = json.loads((place / f"fold_{fold.index}" / "curiosity_values.json").read_text())
        assert [value["name"] for value in values] == [data.names[row] for row in fold.test]


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (ModelConfig(schemes=("int1",), hidden=()), "int1, linear"),
        (ModelConfig(schemes=("int8",), hidden=(640, 320)), "int8, 640-320"),
        (ModelConfig(schemes=("int1", "int1", "int4")), "2 x int1 + int4, 64, top-1"),
        (
            ModelConfig(schemes=("int1", "ternary", "fp32"), hidden=(), top_k=3),
            "int1 + ternary + fp32, linear, top-3",
        ),
        (ModelConfig(schemes=("popcount",) * 4, top_k=2), "4 x popcount, 64, top-2"),
    ],
)
def test_labels_name_a_configuration(model: ModelConfig, label: str) -> None:
    assert config_label(TrialConfig(model=model)) == label
