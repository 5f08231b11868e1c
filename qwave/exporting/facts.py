"""What is known about a model when it is handed over, its latency and provenance included."""

from __future__ import annotations

import datetime
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from qwave.config import TrialConfig
from qwave.exporting.calibration import Calibration, CrossFitted
from qwave.exporting.record import OutOfFold, Scores, Search
from qwave.exporting.verify import Agreement
from qwave.runtime import PackedClassifier, Prediction
from qwave.scores import FrontPoint, Interval
from qwave.sweep.searched import SearchedData

BATCHES = (1, 64)

_SECONDS = 0.25  # for each batch size
_LEAST_RUNS = 5


class Provenance(NamedTuple):
    """Where and when a model was made.

    Attributes:
        qwave_version: Version of qwave.
        git_commit: Commit of the working copy that qwave runs from; None if there is none.
        processor: Name of the processor.
        system: Operating system and version of Python.
        date: The day, in UTC: 2026-02-28.
    """

    qwave_version: str
    git_commit: str | None
    processor: str
    system: str
    date: str


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything that a card says about a model.

    Attributes:
        search: The sweep that the model comes from.
        point: The trial, as the search saw it.
        config: Canonical configuration of the trial.
        data: All rows of the file, and those that the trials were given.
        out_of_fold: Out-of-fold predictions of the trial.
        scores: Scores of the out-of-fold predictions, with intervals.
        is_refitted: Whether the model was trained again on all rows; else it is the model of the
            first fold.
        calibration: Calibration fitted on `out_of_fold` and folded into the model.
        cross_fitted: Out-of-fold predictions, calibrated by what was fitted on the other folds.
        model: The model, as read back from its file.
        seen: Predictions of the model for all rows of the file.
        agreement: Agreement of the file before calibration with the trained mixture; for a model
            of the first fold, with the predictions that the trial recorded.
        calibrated_agreement: Agreement of the calibrated file with the file before calibration,
            at the temperature of the calibration.
        onnx_agreement: Agreement of the ONNX file with the packed model; None without an ONNX
            file.
        latency_us: Median microseconds of a prediction, by batch size.
        provenance: Where and when the model was made.
    """

    search: Search
    point: FrontPoint
    config: TrialConfig
    data: SearchedData
    out_of_fold: OutOfFold
    scores: Scores
    is_refitted: bool
    calibration: Calibration
    cross_fitted: CrossFitted
    model: PackedClassifier
    seen: Prediction
    agreement: Agreement
    calibrated_agreement: Agreement
    onnx_agreement: Agreement | None
    latency_us: Mapping[int, float]
    provenance: Provenance

    @property
    def accuracy(self) -> Interval:
        """Out-of-fold accuracy, with its 95 % interval over recordings."""
        return self.scores.intervals["accuracy"]


def measure_latency(model: PackedClassifier, x: np.ndarray) -> dict[int, float]:
    """Median time of `predict_proba` by batch size, in microseconds.

    From raw embeddings to probabilities, with as many of the clips x [n, d], n >= 1, as the batch
    has, repeated where there are fewer.
    """
    with threadpool_limits(1):
        return {size: _median_us(model, x[np.arange(size) % len(x)]) for size in BATCHES}


def _median_us(model: PackedClassifier, batch: np.ndarray) -> float:
    model.predict_proba(batch)  # the first run of anything is slow
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        model.predict_proba(batch)
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times))


def processor_name() -> str:
    """The processor's model where the system says it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def present_provenance() -> Provenance:
    """The provenance of a model that is made here and now."""
    return Provenance(
        metadata.version("qwave"),
        git_commit(Path(__file__).resolve().parents[2]),
        processor_name(),
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def git_commit(folder: Path) -> str | None:
    """Commit of a working copy, with a note if files differ from it.

    None if the folder itself is no working copy (an installed package may lie inside somebody
    else's), or if git is not installed or refuses.
    """
    if not (folder / ".git").exists():
        return None
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain"])
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}, with changes that are not committed" if changes else commit
