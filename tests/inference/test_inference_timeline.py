"""Timelines: each moment belongs to the window whose centre is nearest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qwave.audio.stream import stream_windows
from qwave.inference import (
    Segment,
    SoundPrediction,
    audacity_labels,
    find_segments,
    window_parts,
)
from tests.inference.examples import RATE


def window(
    start: float, end: float, label: str, *, is_unsure: bool = False, probability: float = 0.75
) -> SoundPrediction:
    nothing = np.zeros(0, dtype=np.float32)
    return SoundPrediction(start, end, label, probability, is_unsure, 0.0, nothing, nothing)


def test_neighbours_of_one_label_are_merged_and_borders_are_in_the_middle() -> None:
    found = find_segments(
        [
            window(0.0, 5.0, "rain", probability=0.5),
            window(2.5, 7.5, "rain", probability=1.0),
            window(5.0, 10.0, "dog"),
            window(7.5, 12.5, "rain"),
        ]
    )
    assert found == [
        Segment(0.0, 6.25, "rain", False, 0.75),
        Segment(6.25, 8.75, "dog", False, 0.75),
        Segment(8.75, 12.5, "rain", False, 0.75),
    ]


def test_a_gap_is_in_no_segment() -> None:
    found = find_segments([window(0, 1, "rain"), window(5, 6, "rain"), window(10, 11, "rain")])
    assert [segment[:2] for segment in found] == [(0, 1), (5, 6), (10, 11)]


def test_starts_rounded_to_a_sample_make_no_gap() -> None:
    found = find_segments([window(0, 0.3333, "rain"), window(0.3334, 0.6667, "rain")])
    assert [segment[:3] for segment in found] == [(0, 0.6667, "rain")]


def test_one_window_and_none() -> None:
    assert find_segments([window(0, 3.5, "rain")]) == [Segment(0, 3.5, "rain", False, 0.75)]
    assert find_segments([]) == []
    assert window_parts([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_each_moment_has_the_label_of_the_nearest_window(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length, hop = 1.0, float(rng.choice([0.1, 0.5, 0.75, 1.0]))
    labels = [str(rng.choice(["a", "b"])) for _ in range(int(rng.integers(1, 20)))]
    windows = [
        window(i * hop, i * hop + length, label, is_unsure=bool(rng.random() < 0.3))
        for i, label in enumerate(labels)
    ]
    segments = find_segments(windows)
    case = f"{seed=} {hop=}"
    assert segments[0].start_seconds == 0.0, case
    assert segments[-1].end_seconds == windows[-1].end_seconds, case
    for one, other in itertools.pairwise(segments):
        assert one.end_seconds == other.start_seconds, case
        assert (one.label, one.is_unsure) != (other.label, other.is_unsure), case
    centres = np.array([(w.start_seconds + w.end_seconds) / 2 for w in windows])
    for moment in rng.uniform(0, windows[-1].end_seconds, size=200):
        nearest = windows[int(np.abs(centres - moment).argmin())]
        (segment,) = [s for s in segments if s.start_seconds <= moment < s.end_seconds]
        assert (segment.label, segment.is_unsure) == (nearest.label, nearest.is_unsure), case


@pytest.mark.parametrize("seed", range(5))
def test_parts_cover_what_was_heard_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hop = float(rng.uniform(0.2, 3.0))
    sound = np.zeros(int(rng.integers(1, 12 * RATE)), dtype=np.float32)
    pieces = list(stream_windows([sound], RATE, 1.0, hop))
    windows = [window(piece.start_seconds, piece.end_seconds, "a") for piece in pieces]
    parts = window_parts(windows)
    case = f"{seed=} {hop=}"
    heard = np.zeros(len(sound), dtype=bool)
    for piece in pieces:
        heard[round(piece.start_seconds * RATE) : round(piece.end_seconds * RATE)] = True
    assert sum(end - start for start, end in parts) == pytest.approx(heard.sum() / RATE), case
    for (_, end), (start, _) in itertools.pairwise(parts):
        assert end <= start, case
    for (start, end), whole in zip(parts, windows, strict=True):
        assert whole.start_seconds <= start < end <= whole.end_seconds, case


def test_audacity_reads_tabs_and_points() -> None:
    text = audacity_labels(
        [
            Segment(0.0, 1.25, "Dog bark", False, 0.9),
            Segment(1.25, 3600.123456789, "tab\tand\nnewline", True, 0.3),
        ]
    )
    assert text == (
        "0.000000\t1.250000\tDog bark\n1.250000\t3600.123457\ttab and newline (unsure)\n"
    )
    assert audacity_labels([]) == ""
