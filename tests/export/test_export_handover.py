"""Whole exports: what is written, that it is what was trained, and that nothing else is."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from qwave.config import ConfigError, DataConfig, DataError, DeviceError, StoreError, TrialConfig
from qwave.data import load_embeddings
from qwave.engine.refit import fit_model
from qwave.exporting import Candidate, ExportedModel, VerificationError, export_model, handover
from qwave.exporting.calibration import (
    Calibration,
    apply_calibration,
    fit_sure_probability,
    fit_temperature,
    tempered,
)
from qwave.exporting.handover import register_export
from qwave.packing import PackedModel, to_bytes
from qwave.runtime import PackedClassifier, load_packed
from qwave.store import Tracker

from .examples import CURIOUS, DATA, LINEAR, config_of

# MLflow keeps it from people by itself, which does not help where warnings are errors.
pytestmark = pytest.mark.slow  # whole exports

Ran = Callable[[TrialConfig, int], Candidate]

CONFIGS = {"linear": config_of(LINEAR), "curious": config_of(CURIOUS)}
HELD_OUT = config_of(LINEAR, data=dataclasses.replace(DATA, n_folds=2, holdout_fold=1))


@pytest.fixture
def export(ran: Ran, tracker: Tracker, tmp_path: Path) -> Callable[..., ExportedModel]:
    def run(config: TrialConfig, number: int = 12, **options: Any) -> ExportedModel:
        return export_model(ran(config, number), tracker, tmp_path, **options)

    return run


@pytest.fixture
def copied(ran: Ran, tracker: Tracker) -> Candidate:
    """A trial whose artifacts a test may damage: they are those of a run of its own."""
    candidate = ran(CONFIGS["linear"], 12)
    run_id = tracker.start_run(tracker.experiment("copies"), "a copy")
    source = tracker.artifact_folder(candidate.point.mlflow_run_id)
    shutil.copytree(source, tracker.artifact_folder(run_id), dirs_exist_ok=True)
    point = dataclasses.replace(candidate.point, mlflow_run_id=run_id)
    return dataclasses.replace(candidate, point=point)


def files_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


@pytest.mark.parametrize("name", CONFIGS)
def test_an_export_is_the_model_fitted_on_all_rows_with_its_card(
    name: str, export: Callable[..., ExportedModel], clouds: Path, tmp_path: Path
) -> None:
    exported = export(CONFIGS[name])
    assert exported.folder == tmp_path / "trial_0012"
    assert files_in(tmp_path) == [
        *("trial_0012", "trial_0012/model.qwave", "trial_0012/model_card.md")
    ]
    data = load_embeddings(clouds)
    trained = fit_model(exported.facts.config, data).packed
    expected = apply_calibration(trained, exported.facts.calibration)
    assert exported.file.read_bytes() == to_bytes(expected)
    assert exported.file.stat().st_size == exported.facts.point.size_bytes
    header = load_packed(exported.file).packed.header
    assert header.data_digest == data.digest
    assert header.config_digest == exported.facts.point.digest
    assert exported.facts.agreement.n_clips == len(data.y)
    assert exported.facts.agreement.largest_difference < 1e-5
    assert exported.facts.calibrated_agreement.n_clips == len(data.y)
    assert exported.facts.calibrated_agreement.largest_difference < 0.005
    assert set(exported.facts.latency_us) == {1, 64}
    assert min(exported.facts.latency_us.values()) > 0


def test_exporting_twice_writes_the_same_bytes(export: Callable[..., ExportedModel]) -> None:
    first = export(CONFIGS["curious"]).file.read_bytes()
    assert export(CONFIGS["curious"]).file.read_bytes() == first


def test_cards_differ_by_day_and_latency_only(
    export: Callable[..., ExportedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "measure_latency", lambda model, x: {1: 0.5, 64: 2.0})
    cards = []
    for _ in range(2):
        exported = export(CONFIGS["curious"])
        cards.append((exported.folder / "model_card.md").read_text(encoding="utf-8"))
    assert cards[0] == cards[1]


@pytest.mark.parametrize("is_refitted", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_shipped_is_calibrated_on_the_out_of_fold_predictions(
    name: str, is_refitted: bool, export: Callable[..., ExportedModel]
) -> None:
    exported = export(CONFIGS[name], is_refitted=is_refitted)
    facts, y = exported.facts, exported.facts.data.searched.y
    temperature, sure_probability = facts.calibration
    assert temperature == pytest.approx(fit_temperature(facts.out_of_fold.probabilities, y))
    assert abs(math.log(temperature)) > 0.02, "else this test says nothing"
    calibrated = tempered(facts.out_of_fold.probabilities, temperature)
    assert sure_probability == fit_sure_probability(calibrated, y)
    header = load_packed(exported.file).packed.header
    assert header.sure_probability == facts.model.packed.header.sure_probability
    assert header.sure_probability == sure_probability > 0


def test_without_a_refit_the_first_folds_model_is_shipped_as_it_was_recorded_but_calibrated(
    export: Callable[..., ExportedModel], tracker: Tracker
) -> None:
    exported = export(CONFIGS["curious"], is_refitted=False)
    artifacts = tracker.artifact_folder(exported.facts.point.mlflow_run_id)
    recorded = load_packed(artifacts / "fold_0" / "model.qwave").packed
    expected = apply_calibration(recorded, exported.facts.calibration)
    assert exported.file.read_bytes() == to_bytes(expected)
    data = exported.facts.data.full
    assert data.fold is not None
    assert exported.facts.agreement.n_clips == int((data.fold == 0).sum())
    assert exported.facts.agreement.largest_difference < 1e-6


def test_files_of_an_earlier_export_are_replaced_or_removed_and_others_stay(
    export: Callable[..., ExportedModel], tmp_path: Path
) -> None:
    folder = export(CONFIGS["linear"], with_onnx=True).folder
    (folder / "notes.txt").write_text("mine")
    (folder / "model.qwave").write_text("damaged")
    assert (folder / "model.onnx").exists()
    export(CONFIGS["linear"])
    assert files_in(folder) == ["model.qwave", "model_card.md", "notes.txt"]
    assert load_packed(folder / "model.qwave").class_names == ("dog", "rain|", "sea")


# --- what is refused, with nothing left behind ---


def corrupted(path: Path) -> PackedClassifier:
    """The file read back with the outputs of a layer in another order."""
    packed = load_packed(path).packed
    layer = packed.layers["e0.0"]
    turned = dataclasses.replace(layer, codes=layer.codes[::-1].copy(), bias=layer.bias[::-1])
    return PackedClassifier(dataclasses.replace(packed, layers={**packed.layers, "e0.0": turned}))


@pytest.mark.parametrize("is_refitted", [True, False])
def test_a_file_that_says_something_else_is_refused(
    is_refitted: bool,
    export: Callable[..., ExportedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "load_packed", corrupted)
    what = "what was trained" if is_refitted else "what was recorded of its fold"
    message = (
        rf"^trial 12: model\.qwave, read back, does not predict {what}: of \d+ clips, \d+ have "
        r"another class, and the largest difference of a probability is 0\.\d+ \(0\.01 is allowed"
    )
    with pytest.raises(VerificationError, match=message):
        export(CONFIGS["linear"], is_refitted=is_refitted)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("part", ["one expert", "all experts", "upside down"])
def test_a_calibration_that_changes_anything_else_is_refused(
    part: str,
    export: Callable[..., ExportedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(packed: PackedModel, calibration: Calibration) -> PackedModel:
        if part == "upside down":
            other = calibration._replace(temperature=1 / calibration.temperature)
            return apply_calibration(packed, other)
        right = apply_calibration(packed, calibration)
        kept = ["e0.1"] if part == "one expert" else [f"e{i}.1" for i in range(3)]
        layers = {**right.layers, **{name: packed.layers[name] for name in kept}}
        return dataclasses.replace(right, layers=layers)

    monkeypatch.setattr(handover, "apply_calibration", wrong)
    message = (
        r"^trial 12: model\.qwave, calibrated and read back, does not predict what was proven, at "
        r"temperature [0-9.]+: of 60 clips, .* \(0\.02 is allowed"
    )
    with pytest.raises(VerificationError, match=message):
        export(CONFIGS["curious"])
    assert files_in(tmp_path) == []


def test_an_earlier_export_outlives_one_that_fails(
    export: Callable[..., ExportedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = export(CONFIGS["linear"]).file
    content, before = file.read_bytes(), files_in(tmp_path)
    monkeypatch.setattr(handover, "load_packed", corrupted)
    with pytest.raises(VerificationError, match="does not predict what was trained"):
        export(CONFIGS["linear"])
    assert (file.read_bytes(), files_in(tmp_path)) == (content, before)


def test_a_file_of_another_length_than_was_searched_is_refused(
    ran: Ran, tracker: Tracker, tmp_path: Path
) -> None:
    candidate = ran(CONFIGS["linear"], 12)
    right = candidate.point.size_bytes
    wrong = dataclasses.replace(candidate.point, size_bytes=right + 8)
    message = (
        rf"^trial 12: the file has {right} bytes, its configuration leads to {right}, and the "
        rf"search saw {right + 8}; nothing was exported"
    )
    with pytest.raises(VerificationError, match=message):
        export_model(dataclasses.replace(candidate, point=wrong), tracker, tmp_path)
    assert files_in(tmp_path) == []


def test_data_that_are_not_those_of_the_search_are_refused_before_training(
    ran: Ran, tracker: Tracker, tmp_path: Path
) -> None:
    candidate = ran(CONFIGS["linear"], 12)
    search = dataclasses.replace(candidate.search, data_digest="f" * 16)
    other = dataclasses.replace(candidate, search=search)
    with pytest.raises(DataError, match=rf"its rows was {'f' * 16} and is [0-9a-f]{{16}}"):
        export_model(other, tracker, tmp_path)
    gone = dataclasses.replace(candidate.config, data=DataConfig(path="gone.npz", n_folds=3))
    with pytest.raises(DataError, match=r"no such file: gone\.npz .* digest is [0-9a-f]{16}: put"):
        export_model(dataclasses.replace(candidate, config=gone), tracker, tmp_path)
    assert files_in(tmp_path) == []


def test_lost_artifacts_are_named(copied: Candidate, tracker: Tracker, tmp_path: Path) -> None:
    artifacts = tracker.artifact_folder(copied.point.mlflow_run_id)
    (artifacts / "fold_0" / "model.qwave").unlink()
    with pytest.raises(
        StoreError, match=r"no such file: .*fold_0/model\.qwave; .* export with --refit$"
    ):
        export_model(copied, tracker, tmp_path, is_refitted=False)
    assert export_model(copied, tracker, tmp_path).file.exists()
    (artifacts / "predictions.csv").unlink()
    with pytest.raises(StoreError, match=r"no such file: .*predictions\.csv; the run's artifacts"):
        export_model(copied, tracker, tmp_path)


def test_a_place_that_cannot_be_written_is_named(
    ran: Ran, tracker: Tracker, tmp_path: Path
) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(StoreError, match=rf"^{place} cannot be written: .*; choose another --out"):
        export_model(ran(CONFIGS["linear"], 12), tracker, place)


def test_ctrl_c_leaves_nothing_behind(
    export: Callable[..., ExportedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(handover, "model_card", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(CONFIGS["linear"])
    assert files_in(tmp_path) == []


def test_a_device_that_is_not_there_is_refused(export: Callable[..., ExportedModel]) -> None:
    with pytest.raises(DeviceError, match="device 'cuda:99' is not there"):
        export(CONFIGS["linear"], device="cuda:99")


# --- MLflow ---


def client(tracker: Tracker) -> MlflowClient:
    return MlflowClient(tracking_uri=tracker.uri, registry_uri=tracker.uri)


def test_a_registered_export_is_a_run_with_its_card_and_a_version_with_aliases(
    export: Callable[..., ExportedModel], tracker: Tracker
) -> None:
    exported = export(CONFIGS["curious"], 21, with_onnx=True)
    registered = register_export(exported, tracker, ["best-at-2kB", "trial-21"])
    assert registered.name == "clouds"
    for alias in ("best-at-2kB", "trial-21"):
        version = client(tracker).get_model_version_by_alias("clouds", alias)
        assert int(version.version) == registered.version
    point, facts = exported.facts.point, exported.facts
    assert version.tags["qwave.trial_number"] == "21"
    assert version.tags["qwave.is_refitted"] == "true"
    accuracy = facts.accuracy
    assert version.description == (
        f"int1 + int4 + int8, 6, top-1: {point.size_bytes} B, cross-validated accuracy "
        f"{accuracy.estimate:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}); refitted on all 60 "
        "clips. `model_card.md` is among the artifacts of its run."
    )
    assert version.run_id is not None
    run = client(tracker).get_run(version.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"export 0021: {point.label}")
    assert run.data.tags["qwave.kind"] == "export"
    assert run.data.tags["qwave.config_digest"] == point.digest
    assert run.data.tags["qwave.data_digest"] == facts.data.full.digest
    assert run.data.tags["qwave.sweep_digest"] == facts.search.sweep_digest
    assert run.data.params["model.top_k"] == "1"
    assert run.data.metrics == {
        "size_bytes": point.size_bytes,
        "largest_difference": facts.agreement.largest_difference,
        "temperature": facts.calibration.temperature,
        "sure_probability": facts.calibration.sure_probability,
        "latency_batch_1_us": facts.latency_us[1],
        "latency_batch_64_us": facts.latency_us[64],
    }
    artifacts = tracker.artifact_folder(version.run_id)
    for name in ("model_card.md", "model.onnx"):
        assert (artifacts / name).read_bytes() == (exported.folder / name).read_bytes()


def test_an_encoder_is_a_tag_of_the_registered_model_where_it_is_known(
    export: Callable[..., ExportedModel], tracker: Tracker
) -> None:
    exported = export(CONFIGS["linear"], 24)
    known = dataclasses.replace(exported.facts.data.full, encoder="mel@01234567")
    data = exported.facts.data._replace(full=known)
    facts = dataclasses.replace(exported.facts, data=data)
    for model, tag in (
        (exported, None),
        (dataclasses.replace(exported, facts=facts), "mel@01234567"),
    ):
        registered = register_export(model, tracker, ["trial-24"])
        version = client(tracker).get_model_version("clouds", str(registered.version))
        assert version.tags.get("qwave.encoder") == tag


def test_the_same_model_registered_again_is_the_same_version(
    export: Callable[..., ExportedModel], tracker: Tracker
) -> None:
    exported = export(CONFIGS["linear"], 22)
    first = register_export(exported, tracker, ["trial-22"])
    assert register_export(exported, tracker, ["trial-22"]) == first
    other = register_export(
        export(CONFIGS["linear"], 22, is_refitted=False), tracker, ["trial-22"]
    )
    assert other.version > first.version


def test_a_run_whose_registration_fails_is_closed_as_failed(
    export: Callable[..., ExportedModel], tracker: Tracker
) -> None:
    exported = export(CONFIGS["linear"], 23)
    with pytest.raises(ConfigError, match="'latest' is reserved"):
        register_export(exported, tracker, ["latest"])
    experiment = tracker.experiment("clouds")
    runs = client(tracker).search_runs([experiment], "tags.`qwave.trial_number` = '23'")
    assert [run.info.status for run in runs if run.data.tags["qwave.kind"] == "export"] == [
        "FAILED"
    ]
