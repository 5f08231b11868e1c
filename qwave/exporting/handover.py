"""From a trial of a search to a folder that can be handed over, and to a registered model.

| in the folder | what it is |
|---|---|
| `model.qwave` | the packed model |
| `model_card.md` | what is known about it |
| `model.onnx` | the same model for other runtimes, where it was asked for |

The trained model is packed and compared with torch first. Then it is calibrated on the trial's
out-of-fold predictions, and compared with itself at that temperature. Everything is written into a
temporary folder, and moved only if all of that succeeded.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qwave.config import StoreError, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.exporting.calibration import (
    CALIBRATED_TOLERANCE,
    Calibration,
    apply_calibration,
    cross_fit,
    fit_calibration,
    tempered,
)
from qwave.exporting.card import model_card
from qwave.exporting.facts import Facts, measure_latency, present_provenance
from qwave.exporting.onnx_file import write_onnx
from qwave.exporting.record import (
    OutOfFold,
    Search,
    cross_validated_scores,
    read_out_of_fold,
)
from qwave.exporting.verify import (
    TOLERANCE,
    Agreement,
    VerificationError,
    require_agreement,
    torch_probabilities,
)
from qwave.packing import packed_size_bytes, to_bytes
from qwave.report import size_text
from qwave.runtime import PackedClassifier, load_packed
from qwave.scores import FrontPoint
from qwave.store import RegisteredModel, Tracker, register_model
from qwave.sweep.searched import load_searched

MODEL_FILE, CARD_FILE, ONNX_FILE = "model.qwave", "model_card.md", "model.onnx"

_N_EXAMPLES = 2  # rows of the input example: 1280 features take 37 kB a row


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trial that may become a model.

    Attributes:
        search: The sweep.
        point: The trial's accuracy and size, as the search saw them.
        config: The configuration of the trial.
    """

    search: Search
    point: FrontPoint
    config: TrialConfig


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A model that was proven and written.

    Attributes:
        folder: The folder that holds the files.
        facts: Everything that the card says.
    """

    folder: Path
    facts: Facts = field(repr=False)

    @property
    def file(self) -> Path:
        """The packed file."""
        return self.folder / MODEL_FILE

    @property
    def card(self) -> Path:
        """The model card."""
        return self.folder / CARD_FILE


def export_model(
    candidate: Candidate,
    tracker: Tracker,
    out: Path,
    *,
    is_refitted: bool = True,
    with_onnx: bool = False,
    device: str = "cpu",
) -> ExportedModel:
    """Train a trial's configuration on all rows, calibrate it, and write it into its own folder.

    Files that an earlier export left in that folder are replaced, or removed where this one does
    not write them; others stay. If anything fails, the folder is as it was.

    Args:
        candidate: The trial.
        tracker: The tracker of the store, which finds the artifacts of the trial's MLflow run.
        out: The folder in which the folder ``trial_0012`` is made.
        is_refitted: Train again on all rows; False: take the model of the first fold.
        with_onnx: Write ``model.onnx`` too.
        device: The device to train on.

    Raises:
        ConfigError: Training diverged.
        DataError: The data are gone or have changed.
        DeviceError: The device is not there.
        StoreError: The trial's artifacts are not there, or `out` cannot be written.
        VerificationError: The file does not predict what was trained, or has another length.
    """
    point, config = candidate.point, candidate.config.canonical()
    data = load_searched(config, candidate.search.name, candidate.search.data_digest)
    artifacts = tracker.find_artifacts(point.mlflow_run_id)
    if artifacts is None:
        raise StoreError(
            f"trial {point.number}: its artifacts are not in {tracker.artifact_root} any more "
            f"(was its MLflow run {point.mlflow_run_id} deleted for good?): put them back, export "
            "another trial, or search again under another name (name=OTHER)"
        )
    out_of_fold = read_out_of_fold(artifacts / "predictions.csv", data.searched)
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = tempfile.TemporaryDirectory(prefix=".unfinished_", dir=out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}; choose another --out") from error
    with unfinished as name:
        made = Path(name)
        file = made / MODEL_FILE
        if is_refitted:
            x, expected = _write_refitted(file, config, data.full, device)
        else:
            x, expected = _copy_first_fold(file, artifacts, data.searched, out_of_fold)
        trained = load_packed(file)
        agreement = require_agreement(
            expected,
            trained.predict_proba(x),
            tolerance=TOLERANCE,
            claim=f"trial {point.number}: {MODEL_FILE}, read back, does not predict what was "
            f"{'trained' if is_refitted else 'recorded of its fold'}",
        )
        calibration = fit_calibration(trained.packed, out_of_fold.probabilities, data.searched.y)
        model, calibrated_agreement = _write_calibrated(
            file, trained, calibration, data.full.x, point
        )
        _require_size(file, point, packed_size_bytes(config, data.full))
        facts = Facts(
            search=candidate.search,
            point=point,
            config=config,
            data=data,
            out_of_fold=out_of_fold,
            scores=cross_validated_scores(data.searched, out_of_fold),
            is_refitted=is_refitted,
            calibration=calibration,
            cross_fitted=cross_fit(out_of_fold.probabilities, data.searched.y, out_of_fold.fold),
            model=model,
            seen=model.examine(data.full.x),
            agreement=agreement,
            calibrated_agreement=calibrated_agreement,
            onnx_agreement=write_onnx(model, data.full.x, made / ONNX_FILE) if with_onnx else None,
            latency_us=measure_latency(model, data.full.x),
            provenance=present_provenance(),
        )
        (made / CARD_FILE).write_text(model_card(facts), encoding="utf-8")
        folder = out / f"trial_{point.number:04d}"
        _move_files(made, folder)
    return ExportedModel(folder, facts)


def _write_refitted(
    file: Path, config: TrialConfig, data: EmbeddingSet, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Train on all rows and write the model; returns the clips and the mixture's predictions."""
    fitted = fit_model(config, data, device=device)
    file.write_bytes(to_bytes(fitted.packed))
    return data.x, torch_probabilities(fitted, data.x)


def _copy_first_fold(
    file: Path, artifacts: Path, searched: EmbeddingSet, out_of_fold: OutOfFold
) -> tuple[np.ndarray, np.ndarray]:
    """Copy the first fold's model; returns the clips it did not see and their predictions."""
    source = artifacts / "fold_0" / MODEL_FILE
    if not source.is_file():
        raise StoreError(
            f"no such file: {source}; the run's artifacts were removed: export with --refit"
        )
    shutil.copyfile(source, file)
    is_unseen = out_of_fold.fold == 0
    return searched.x[is_unseen], out_of_fold.probabilities[is_unseen]


def _write_calibrated(
    file: Path,
    trained: PackedClassifier,
    calibration: Calibration,
    x: np.ndarray,
    point: FrontPoint,
) -> tuple[PackedClassifier, Agreement]:
    """Write the calibrated model over the one that was proven.

    Returns the model as it is read back, and its agreement with the proven one on all clips x
    [n, d]; it does not matter here that the model was trained on them.
    """
    file.write_bytes(to_bytes(apply_calibration(trained.packed, calibration)))
    model = load_packed(file)
    agreement = require_agreement(
        tempered(trained.predict_proba(x), calibration.temperature),
        model.predict_proba(x),
        tolerance=CALIBRATED_TOLERANCE,
        claim=f"trial {point.number}: {MODEL_FILE}, calibrated and read back, does not predict "
        f"what was proven, at temperature {calibration.temperature:.4g}",
    )
    return model, agreement


def _require_size(file: Path, point: FrontPoint, computed_bytes: int) -> None:
    """Refuse a file unless its length is the computed one and the one that the search saw."""
    written_bytes = file.stat().st_size
    if not written_bytes == computed_bytes == point.size_bytes:
        raise VerificationError(
            f"trial {point.number}: the file has {written_bytes} bytes, its configuration leads "
            f"to {computed_bytes}, and the search saw {point.size_bytes}; nothing was exported "
            "(a store of an older qwave? search again)"
        )


def _move_files(made: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in (MODEL_FILE, CARD_FILE, ONNX_FILE):
        if (made / name).exists():
            (made / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def register_export(
    exported: ExportedModel, tracker: Tracker, aliases: Sequence[str]
) -> RegisteredModel:
    """Log an export as a run of the sweep's experiment, and register its model.

    The run, of the kind ``export``, holds the card, the ONNX file, and what was measured; the
    registered model is named after the sweep.
    """
    facts = exported.facts
    search, point = facts.search, facts.point
    tags = {
        "qwave.trial_number": str(point.number),
        "qwave.config_digest": point.digest,
        "qwave.data_digest": facts.data.full.digest,
        "qwave.sweep_digest": search.sweep_digest,
        "qwave.label": point.label,
        "qwave.is_refitted": str(facts.is_refitted).lower(),
    }
    if facts.data.full.encoder:
        tags["qwave.encoder"] = facts.data.full.encoder
    run_id = tracker.start_run(
        tracker.experiment(search.name),
        f"export {point.number:04d}: {point.label}",
        params=facts.config.flat(),
        metrics={
            "size_bytes": float(point.size_bytes),
            "largest_difference": facts.agreement.largest_difference,
            "temperature": facts.calibration.temperature,
            "sure_probability": facts.calibration.sure_probability,
            **{f"latency_batch_{size}_us": us for size, us in facts.latency_us.items()},
        },
        tags={"qwave.kind": "export", **tags},
    )
    status = "FAILED"
    try:
        folder = tracker.artifact_folder(run_id)
        for name in (CARD_FILE, ONNX_FILE):
            if (exported.folder / name).exists():
                shutil.copyfile(exported.folder / name, folder / name)
        registered = register_model(
            tracker,
            run_id=run_id,
            name=search.name,
            model_file=exported.file,
            input_example=facts.data.full.x[:_N_EXAMPLES],
            class_names=facts.model.class_names,
            aliases=aliases,
            tags=tags,
            description=_description(facts),
        )
        status = "FINISHED"
    finally:
        tracker.end_run(run_id, status)
    return registered


def _description(facts: Facts) -> str:
    """One line that describes the model in the registry."""
    point = facts.point
    rows = (
        f"refitted on all {len(facts.data.full.y)} clips"
        if facts.is_refitted
        else "the model of the first fold"
    )
    return (
        f"{point.label}: {size_text(point.size_bytes)}, cross-validated accuracy "
        f"{facts.accuracy.estimate:.2%} ({facts.accuracy.low:.2%} to {facts.accuracy.high:.2%}); "
        f"{rows}. "
        f"`{CARD_FILE}` is among the artifacts of its run."
    )
