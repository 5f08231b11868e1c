"""All that is known about a model when it is handed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwave.config import TrialConfig
from qwave.export.calibration import Calibration, CrossFitted
from qwave.export.provenance import Provenance
from qwave.export.record import OutOfFold, Scores, Search, SearchedData
from qwave.export.verify import Agreement
from qwave.runtime import PackedClassifier, Prediction
from qwave.scores import FrontPoint, Interval


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything that a card says.

    Attributes:
        search: The sweep.
        point: The trial, as the search saw it.
        config: Its canonical configuration.
        data: All rows of the file, and those that the search had.
        said: Out-of-fold predictions of the trial.
        scores: Of them.
        is_refitted: Trained again on all rows; else it is the model of the first fold.
        calibration: Fitted on `said`, and folded into the model.
        cross_fitted: What such a calibration makes of clips that it was not fitted on.
        model: As read back from the file.
        seen: What it says of all rows of the file.
        agreement: Before the calibration, with the trained mixture; of a first fold's model, with
            what the trial recorded.
        calibrated_agreement: With what the model said before, at the calibration's temperature.
        onnx_agreement: Of the ONNX file with the packed model; None without one.
        latency_us: Batch size to microseconds.
        provenance: Where it was made.
    """

    search: Search
    point: FrontPoint
    config: TrialConfig
    data: SearchedData
    said: OutOfFold
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
        """Out-of-fold, with its interval over recordings."""
        return self.scores.intervals["accuracy"]
