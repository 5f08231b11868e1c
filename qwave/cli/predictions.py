"""Predictions as rows for people and as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwave.inference import Segment, SoundPrediction, route_of, top_classes
from qwave.runtime import PackedClassifier
from qwave.text import for_terminal


class RowLayout(NamedTuple):
    """Columns whose widths are known before the first row, so that rows can be shown one by one.

    Attributes:
        model: Whose predictions they are.
        clips: Paths, the longest of which is as wide as the first column; empty: no such column.
        has_windows: Whether rows begin with start and end.
        n_top: Classes shown, the likeliest among them.
    """

    model: PackedClassifier
    clips: Sequence[Path]
    has_windows: bool
    n_top: int

    def heading(self) -> str:
        """The first line."""
        cells = []
        if self.clips:
            cells.append("clip".ljust(self._clip_width()))
        if self.has_windows:
            cells += [f"{'start (s)':>9}", f"{'end (s)':>9}"]
        cells += ["label".ljust(self._label_width()), "probability (%)"]
        if self._has_threshold():
            cells.append("unsure")
        cells.append("curiosity (nats)")
        if self._route_width():
            cells.append("route".ljust(self._route_width()))
        if self.n_top > 1:
            cells.append("also (%)")
        return _joined(cells)

    def row(self, clip: Path | None, prediction: SoundPrediction) -> str:
        """The line of one prediction."""
        top = top_classes(self.model, prediction, self.n_top)
        cells = []
        if self.clips:
            cells.append(for_terminal(clip).ljust(self._clip_width()))
        if self.has_windows:
            cells += [f"{prediction.start_seconds:9.2f}", f"{prediction.end_seconds:9.2f}"]
        cells += [
            for_terminal(prediction.label).ljust(self._label_width()),
            f"{100 * prediction.probability:15.1f}",
        ]
        if self._has_threshold():
            cells.append("unsure" if prediction.is_unsure else "      ")
        cells.append(f"{prediction.mutual_information:16.4f}")
        if self._route_width():
            route = route_of(self.model, prediction)
            text = " + ".join(f"{scheme} {gate:.2f}" for _, scheme, gate in route)
            cells.append(text.ljust(self._route_width()))
        cells.append(
            ", ".join(f"{for_terminal(name)} {100 * share:.1f}" for name, share in top[1:])
        )
        return _joined(cells)

    def _clip_width(self) -> int:
        return max(len("clip"), *(len(for_terminal(clip)) for clip in self.clips))

    def _label_width(self) -> int:
        return max(len("label"), *(len(for_terminal(name)) for name in self.model.class_names))

    def _route_width(self) -> int:
        """Characters of the longest route; 0 for a plain network, which has none."""
        config = self.model.packed.header.model
        if config.num_experts == 1:
            return 0
        longest = sorted(map(len, config.schemes))[-config.top_k :]
        return sum(longest) + len(" 0.00") * config.top_k + len(" + ") * (config.top_k - 1)

    def _has_threshold(self) -> bool:
        return self.model.packed.header.sure_probability > 0


def prediction_values(
    model: PackedClassifier, prediction: SoundPrediction, n_top: int
) -> dict[str, Any]:
    """The keys that clips and windows share."""
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "is_unsure": prediction.is_unsure,
        "curiosity": prediction.mutual_information,
        "top": [
            {"label": name, "probability": share}
            for name, share in top_classes(model, prediction, n_top)
        ],
        "route": [
            {"expert": expert, "scheme": scheme, "gate": gate}
            for expert, scheme, gate in route_of(model, prediction)
        ],
    }


def window_values(
    model: PackedClassifier, prediction: SoundPrediction, n_top: int
) -> dict[str, Any]:
    """A window: its place, and the keys of a prediction."""
    place = {"start": prediction.start_seconds, "end": prediction.end_seconds}
    return {**place, **prediction_values(model, prediction, n_top)}


def segment_values(segment: Segment) -> dict[str, Any]:
    """A segment."""
    return {
        "start": segment.start_seconds,
        "end": segment.end_seconds,
        "label": segment.label,
        "is_unsure": segment.is_unsure,
        "probability": segment.probability,
    }


def _joined(cells: Sequence[str]) -> str:
    return "  ".join(cells).rstrip()
