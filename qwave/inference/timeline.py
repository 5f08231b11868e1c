"""A timeline: what is heard when, from the predictions of overlapping windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qwave.inference.prediction import SoundPrediction

# Starts are rounded to samples: windows that follow each other may miss one by one.
_TOUCHING_SECONDS = 0.001


class Segment(NamedTuple):
    """A stretch of a recording in which every window has the same label, as surely.

    Attributes:
        start_seconds, end_seconds: Its place.
        label: The class.
        is_unsure: Whether the windows are unsure.
        probability: Mean over its windows.
    """

    start_seconds: float
    end_seconds: float
    label: str
    is_unsure: bool
    probability: float


def window_parts(predictions: Sequence[SoundPrediction]) -> list[tuple[float, float]]:
    """Start and end in seconds of what each window stands for: parts do not overlap.

    Where two windows do, the border is the middle of what they share, which is the middle between
    the centres of windows of one length. Gaps between windows are in no part.

    Args:
        predictions: Of one recording, in order of time; may be empty.
    """
    borders = [_border(*pair) for pair in itertools.pairwise(predictions)]
    starts = [window.start_seconds for window in predictions[:1]] + [later for _, later in borders]
    ends = [earlier for earlier, _ in borders] + [w.end_seconds for w in predictions[-1:]]
    return list(zip(starts, ends, strict=True))


def find_segments(predictions: Sequence[SoundPrediction]) -> list[Segment]:
    """Merge neighbouring windows of one label, sure ones and unsure ones apart.

    They begin and end with the parts of their windows, and do not overlap. Windows with a gap
    between them are never merged, since nothing was heard there.

    Args:
        predictions: Of one recording, in order of time; may be empty.
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
    """A label track for Audacity (File > Import > Labels): start, end and label, a line each.

    Seconds with six decimals and a point whatever the locale; an unsure segment says so.

    References:
        https://manual.audacityteam.org/man/importing_and_exporting_labels.html
    """
    return "".join(
        f"{segment.start_seconds:.6f}\t{segment.end_seconds:.6f}\t{_label_text(segment)}\n"
        for segment in segments
    )


def _border(earlier: SoundPrediction, later: SoundPrediction) -> tuple[float, float]:
    """Where one window's part ends and the next one's begins; the same but for a gap."""
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
