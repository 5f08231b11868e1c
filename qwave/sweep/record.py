"""The record of one trial in MLflow: values, files of every fold, packed models.

It is written by the process that asks and tells, while others train: no trial waits for a figure.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.crossval import TrialResult
from qwave.packing import packed_size_parts
from qwave.report import CuriosityFigures
from qwave.store import DatasetInput, Tracker
from qwave.sweep.launcher import FinishedTrial

# A point of a curve is a row of MLflow's database, at a tenth of a millisecond.
_MAX_CURVE_POINTS = 30


class Recorder:
    """Writes trials of one sweep into one MLflow experiment; keeps frames of the pictures."""

    def __init__(
        self, tracker: Tracker, experiment_id: str, data: EmbeddingSet, source: str
    ) -> None:
        self.tracker = tracker
        self.experiment_id = experiment_id
        self._data = data
        self._figures = CuriosityFigures(data.class_names)
        n_folds = {} if data.fold is None else {"num_official_folds": len(np.unique(data.fold))}
        self._dataset = DatasetInput(
            Path(source).stem,
            data.digest,
            source,
            {
                "num_rows": len(data.y),
                "num_features": data.x.shape[1],
                "num_classes": data.num_classes,
                **n_folds,
            },
        )

    def start(
        self, number: int, config: TrialConfig, size_bytes: int, *, name: str | None = None
    ) -> str:
        """Start a trial's run; returns its id. What is known before training is written now.

        Its name is made of the number and the configuration, unless another is given.
        """
        parts = packed_size_parts(config, self._data)
        sizes = {f"size_{part}_bytes": float(value) for part, value in parts.items()}
        return self.tracker.start_run(
            self.experiment_id,
            name or f"trial {number:04d}: {config_label(config)}",
            params=config.flat(),
            metrics={"size_bytes": float(size_bytes), **sizes},
            tags={
                "qwave.kind": "trial",
                "qwave.trial_number": str(number),
                "qwave.config_digest": config.digest,
                "qwave.data_digest": self._data.digest,
                "qwave.label": config_label(config),
            },
            dataset=self._dataset,
        )

    def refuse(self, run_id: str, size_bytes: int, max_size_bytes: int) -> None:
        """Close the run of a trial that is over the size budget."""
        reason = f"{size_bytes} bytes are more than budget.max_size_bytes={max_size_bytes}"
        self.tracker.log(run_id, tags={"qwave.outcome": "over_budget", "qwave.reason": reason})
        self.tracker.end_run(run_id, "KILLED")

    def fail(self, run_id: str, outcome: str, reason: str) -> None:
        """Close the run of a trial that has no result."""
        self.tracker.log(run_id, tags={"qwave.outcome": outcome, "qwave.reason": reason})
        self.tracker.end_run(run_id, "FAILED" if outcome == "failed" else "KILLED")

    def finish(self, run_id: str, finished: FinishedTrial) -> None:
        """Write a trial's results and close its run."""
        result = finished.result
        metrics = {k: v for k, v in result.scores.items() if k != "size_bytes"}
        metrics |= {f"pooled_{name}": value for name, value in result.pooled_scores.items()}
        metrics |= {f"expert_load_{e}": load for e, load in enumerate(result.expert_load)}
        metrics |= {
            "seconds": result.seconds,
            "train_seconds": result.train_seconds,
            "peak_memory_bytes": float(result.peak_memory_bytes),
        }
        folder = self.tracker.artifact_folder(run_id)
        config = json.dumps(dataclasses.asdict(result.config), indent=1)
        (folder / "config.json").write_text(f"{config}\n", encoding="utf-8")
        _write_predictions(folder / "predictions.csv", result, self._data)
        tested = [
            np.flatnonzero(result.predictions.fold == fold) for fold in range(len(finished.packed))
        ]
        for fold, (rows, packed) in enumerate(zip(tested, finished.packed, strict=True)):
            target = folder / f"fold_{fold}"
            target.mkdir(exist_ok=True)
            (target / "model.qwave").write_bytes(packed)
            self._write_curiosity(target, result, rows)
        _write_losses(folder / "losses.csv", result)
        tags = {"qwave.outcome": "complete"}
        # MLflow waits for its database most of the time, and the pictures need none of it.
        with ThreadPoolExecutor(max_workers=1) as background:
            drawn = background.submit(self._draw_curiosity, folder, result, tested)
            self.tracker.log(run_id, metrics=metrics, series=_series(result), tags=tags)
            drawn.result()
        self.tracker.end_run(run_id)

    def _write_curiosity(self, target: Path, result: TrialResult, rows: np.ndarray) -> None:
        predictions, names = result.predictions, self._data.class_names
        # Lists first: picking single values out of arrays took half of this function's time.
        columns = zip(
            rows.tolist(),
            self._data.y[rows].tolist(),
            predictions.predicted[rows].tolist(),
            predictions.mutual_information[rows].tolist(),
            predictions.variance[rows].tolist(),
            predictions.gates[rows].tolist(),
            strict=True,
        )
        values = [
            {
                "name": self._data.names[row],
                "true_label": names[true],
                "predicted_label": names[predicted],
                "mutual_information": information,
                "variance": variance,
                "route": [expert for expert, gate in enumerate(gates) if gate],
                "gates": [round(gate, 6) for gate in gates],
            }
            for row, true, predicted, information, variance, gates in columns
        ]
        # One clip a line: `indent` would leave json's fast encoder.
        lines = ",\n ".join(json.dumps(value) for value in values)
        (target / "curiosity_values.json").write_text(f"[{lines}]\n", encoding="utf-8")

    def _draw_curiosity(
        self, folder: Path, result: TrialResult, tested: Sequence[np.ndarray]
    ) -> None:
        """Draw the pictures of every trial; `qwave.sweep.pictures` draws those of the front."""
        draw, y, predictions = self._figures, self._data.y, result.predictions
        is_right = predictions.predicted == y
        for fold, rows in enumerate(tested):
            target = folder / f"fold_{fold}"
            curiosity = predictions.mutual_information[rows]
            (target / "curiosity_histogram.png").write_bytes(
                draw.histogram(curiosity, is_right[rows])
            )
            (target / "curiosity_per_class.png").write_bytes(draw.per_class(curiosity, y[rows]))


def config_label(config: TrialConfig) -> str:
    """A few words that name a configuration: ``2 x int1 + int4, 64, top-1``."""
    schemes = config.model.schemes
    counts = {scheme: schemes.count(scheme) for scheme in schemes}
    mix = " + ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())
    shape = "-".join(map(str, config.model.hidden)) or "linear"
    top = f", top-{config.model.top_k}" if config.model.num_experts > 1 else ""
    return f"{mix}, {shape}{top}"


def _series(result: TrialResult) -> dict[str, list[tuple[int, float]]]:
    """Fold scores by fold, losses by epoch (thinned; losses.csv has every epoch)."""
    series: dict[str, list[tuple[int, float]]] = {
        f"fold_{name}": list(enumerate(values)) for name, values in result.fold_scores.items()
    }
    losses = result.train_loss.mean(axis=1)
    epochs = np.unique(np.linspace(1, len(losses), min(len(losses), _MAX_CURVE_POINTS), dtype=int))
    series["train_loss"] = [(int(epoch), float(losses[epoch - 1])) for epoch in epochs]
    for name in ("loss", "accuracy"):
        series[f"held_out_{name}"] = [
            (point.epoch, float(np.mean(getattr(point, name)))) for point in result.checkpoints
        ]
    return series


def _write_predictions(path: Path, result: TrialResult, data: EmbeddingSet) -> None:
    """Out-of-fold predictions of all clips, one row a clip."""
    predictions = result.predictions
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "fold", "true_label", "predicted_label", *data.class_names])
        columns = zip(
            data.names,
            predictions.fold.tolist(),
            data.y.tolist(),
            predictions.predicted.tolist(),
            predictions.probabilities.tolist(),
            strict=True,
        )
        for name, fold, true, predicted, probabilities in columns:
            labels = data.class_names[true], data.class_names[predicted]
            writer.writerow([name, fold, *labels, *[f"{p:.7g}" for p in probabilities]])


def _write_losses(path: Path, result: TrialResult) -> None:
    """Losses of every fold by epoch: of training, and held out, empty between checkpoints."""
    held_out = {checkpoint.epoch: checkpoint.loss for checkpoint in result.checkpoints}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["fold", "epoch", "train_loss", "held_out_loss"])
        for fold, losses in enumerate(result.train_loss.T.tolist()):
            for epoch, loss in enumerate(losses, 1):
                scored = f"{held_out[epoch][fold]:.7g}" if epoch in held_out else ""
                writer.writerow([fold, epoch, f"{loss:.7g}", scored])
