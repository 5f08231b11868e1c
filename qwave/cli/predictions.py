"""Predictions as rows for people and as values for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwave.inference import Segment, SoundPrediction, route_of, top_classes
from qwave.runtime import PackedClassifier
from qwave.text import for_terminal


class Column(NamedTuple):
    """A column whose width is known before the first row, so that rows are shown one by one.

    Attributes:
        heading: Text above the column.
        width: Least number of characters of a cell.
        cell: Makes a cell of the path of the clip (None for live sound) and its prediction.
    """

    heading: str
    width: int
    cell: Callable[[Path | None, SoundPrediction], str]


def make_columns(
    model: PackedClassifier, clips: Sequence[Path], n_top: int, *, has_windows: bool
) -> list[Column]:
    """The columns of a table of predictions.

    Args:
        model: The model that predicts.
        clips: Paths of all clips; empty for live sound, which has no column of paths.
        n_top: Number of classes shown, the predicted one among them.
        has_windows: Whether rows begin with the start and end of a window.
    """
    header = model.packed.header
    columns = []
    if clips:
        width = max(len(for_terminal(clip)) for clip in clips)
        columns.append(Column("clip", width, lambda clip, _: for_terminal(clip)))
    if has_windows:
        columns += [
            Column("start (s)", 9, lambda _, one: f"{one.start_seconds:9.2f}"),
            Column("  end (s)", 9, lambda _, one: f"{one.end_seconds:9.2f}"),
        ]
    width = max(len(for_terminal(name)) for name in model.class_names)
    columns += [
        Column("label", width, lambda _, one: for_terminal(one.label)),
        Column("probability (%)", 15, lambda _, one: f"{100 * one.probability:15.1f}"),
    ]
    if header.sure_probability > 0:
        columns.append(Column("unsure", 6, lambda _, one: "unsure" if one.is_unsure else ""))
    columns.append(
        Column("curiosity (nats)", 16, lambda _, one: f"{one.mutual_information:16.4f}")
    )
    if header.model.num_experts > 1:
        top_k = header.model.top_k
        longest = sorted(map(len, header.model.schemes))[-top_k:]
        width = sum(longest) + len(" 0.00") * top_k + len(" + ") * (top_k - 1)
        columns.append(Column("route", width, lambda _, one: _route_text(model, one)))
    if n_top > 1:
        columns.append(Column("also (%)", 0, lambda _, one: _others_text(model, one, n_top)))
    return columns


def show_heading(columns: Sequence[Column]) -> str:
    """The first line of a table of predictions."""
    return _line(columns, [column.heading for column in columns])


def show_row(columns: Sequence[Column], clip: Path | None, prediction: SoundPrediction) -> str:
    """The line of one prediction; `clip` is None for live sound."""
    return _line(columns, [column.cell(clip, prediction) for column in columns])


def prediction_values(
    model: PackedClassifier, prediction: SoundPrediction, n_top: int
) -> dict[str, Any]:
    """The keys that clips and windows share, for JSON."""
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
    """A window for JSON: its start and end in seconds, and the keys of a prediction."""
    times = {"start": prediction.start_seconds, "end": prediction.end_seconds}
    return {**times, **prediction_values(model, prediction, n_top)}


def segment_values(segment: Segment) -> dict[str, Any]:
    """A segment for JSON: start and end in seconds, label, probability, whether it is unsure."""
    return {
        "start": segment.start_seconds,
        "end": segment.end_seconds,
        "label": segment.label,
        "is_unsure": segment.is_unsure,
        "probability": segment.probability,
    }


def _route_text(model: PackedClassifier, prediction: SoundPrediction) -> str:
    route = route_of(model, prediction)
    return " + ".join(f"{scheme} {gate:.2f}" for _, scheme, gate in route)


def _others_text(model: PackedClassifier, prediction: SoundPrediction, n_top: int) -> str:
    others = top_classes(model, prediction, n_top)[1:]
    return ", ".join(f"{for_terminal(name)} {100 * share:.1f}" for name, share in others)


def _line(columns: Sequence[Column], cells: Sequence[str]) -> str:
    padded = [
        cell.ljust(max(column.width, len(column.heading)))
        for column, cell in zip(columns, cells, strict=True)
    ]
    return "  ".join(padded).rstrip()
