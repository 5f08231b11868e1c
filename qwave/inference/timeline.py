"""The timeline of a recording: segments of one class, from predictions of overlapping windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qwave.inference.prediction import SoundPrediction

# Starts are rounded to samples: windows that follow each other may have a gap of a sample.
_TOUCHING_SECONDS = 0.001


class Segment(NamedTuple):
    """A part of a recording whose windows all have one label and are all sure, or all unsure.

    Attributes:
        start_seconds: Start of the segment in the recording.
        end_seconds: End of the segment in the recording.
        label: Name of the class.
        is_unsure: Whether the windows are unsure.
        probability: Mean probability of the class over the windows.
    """

    start_seconds: float
    end_seconds: float
    label: str
    is_unsure: bool
    probability: float


def window_parts(predictions: Sequence[SoundPrediction]) -> list[tuple[float, float]]:
    """Start and end in seconds of the part of a recording that each window is shown for.

    Parts do not overlap: between two windows that do, the border is the middle of the time that
    they share. A gap between windows belongs to no part.

    Args:
        predictions: Predictions of one recording's windows, in order of time; may be empty.
    """
    borders = [_border(*pair) for pair in itertools.pairwise(predictions)]
    starts = [window.start_seconds for window in predictions[:1]] + [later for _, later in borders]
    ends = [earlier for earlier, _ in borders] + [w.end_seconds for w in predictions[-1:]]
    return list(zip(starts, ends, strict=True))


def find_segments(predictions: Sequence[SoundPrediction]) -> list[Segment]:
    """Merge neighbouring windows of one label; sure and unsure windows are not merged.

    Segments begin and end with the parts of their windows (`window_parts`), and do not overlap.
    Windows with a gap between them are never merged, since nothing was heard there.

    Args:
        predictions: Predictions of one recording's windows, in order of time; may be empty.
    """
    parts = window_parts(predictions)
    runs: list[list[int]] = []  # numbers of the windows that are merged
    for number, window in enumerate(predictions):
        touches = bool(runs) and parts[number - 1][1] == parts[number][0]
        if touches and _kind(window) == _kind(predictions[number - 1]):
            runs[-1].append(number)
        else:
            runs.append([number])
    return [
        Segment(
            parts[run[0]][0],
            parts[run[-1]][1],
            *_kind(predictions[run[0]]),
            sum(predictions[number].probability for number in run) / len(run),
        )
        for run in runs
    ]


def audacity_labels(segments: Iterable[Segment]) -> str:
    """A label track for Audacity (File > Import > Labels), one line a segment.

    A line holds start, end and label. Seconds have six decimals and a decimal point; the label of
    an unsure segment ends in ``(unsure)``.

    References:
        https://manual.audacityteam.org/man/importing_and_exporting_labels.html
    """
    return "".join(
        f"{segment.start_seconds:.6f}\t{segment.end_seconds:.6f}\t{_label_text(segment)}\n"
        for segment in segments
    )


def _border(earlier: SoundPrediction, later: SoundPrediction) -> tuple[float, float]:
    """End of one window's part and start of the next one's; they differ only at a gap."""
    if later.start_seconds - earlier.end_seconds > _TOUCHING_SECONDS:
        return earlier.end_seconds, later.start_seconds
    middle = (earlier.end_seconds + later.start_seconds) / 2
    return middle, middle


def _kind(prediction: SoundPrediction) -> tuple[str, bool]:
    return prediction.label, prediction.is_unsure


def _label_text(segment: Segment) -> str:
    # A tab or a line break within a class name would end its field.
    label = " ".join(segment.label.split())
    return f"{label} (unsure)" if segment.is_unsure else label
