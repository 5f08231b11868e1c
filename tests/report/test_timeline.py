"""The picture of a timeline: what is drawn, and that it can be told apart without colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qwave.report.timeline import MAX_ROWS, time_text, timeline_png
from tests.report.samples import CLASS_NAMES, open_png


def sample(n_windows: int = 12, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Parts of a second each, and probabilities of ten classes."""
    rng = np.random.default_rng(seed)
    starts = np.arange(n_windows, dtype=float)
    parts = np.stack([starts, starts + 1], axis=1)
    probabilities = rng.dirichlet(np.full(10, 0.3), size=n_windows)
    return parts, probabilities


def draw(parts: Any = None, probabilities: Any = None, **changes: Any) -> bytes:
    sample_parts, sample_probabilities = sample()
    settings = {"class_names": CLASS_NAMES, "title": "What is heard in a.wav", **changes}
    return timeline_png(
        sample_parts if parts is None else parts,
        sample_probabilities if probabilities is None else probabilities,
        **settings,
    )


class Drawn:
    """The areas of each style, and the texts of a picture."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.areas: list[tuple[np.ndarray, np.ndarray, float, dict[str, Any]]] = []
        self.texts: list[str] = []
        self.rows: list[str] = []
        self.lines: list[float] = []
        plain_stairs, plain_text = Axes.stairs, Figure.text
        plain_ticks, plain_line = Axes.set_yticks, Axes.axhline

        def stairs(axes: Axes, values: Any, edges: Any, *, baseline: float, **style: Any) -> Any:
            self.areas.append((np.asarray(values), np.asarray(edges), baseline, style))
            return plain_stairs(axes, values, edges, baseline=baseline, **style)

        def text(figure: Figure, x: float, y: float, words: str, **style: Any) -> Any:
            self.texts.append(words)
            return plain_text(figure, x, y, words, **style)

        def ticks(axes: Axes, places: Any, labels: Any = None, **options: Any) -> Any:
            self.rows = list(labels)
            return plain_ticks(axes, places, labels, **options)

        def line(axes: Axes, y: float, **style: Any) -> Any:
            if "linestyle" in style:
                self.lines.append(y)
            return plain_line(axes, y, **style)

        monkeypatch.setattr(Axes, "stairs", stairs)
        monkeypatch.setattr(Figure, "text", text)
        monkeypatch.setattr(Axes, "set_yticks", ticks)
        monkeypatch.setattr(Axes, "axhline", line)

    def heights(self, kind: str) -> dict[int, dict[int, float]]:
        """Row (from the bottom) to place to height, of ``sure``, ``unsure`` or ``other`` areas."""
        found: dict[int, dict[int, float]] = {}
        for values, _, baseline, style in self.areas:
            is_unsure = "hatch" in style
            is_other = style["edgecolor"] == "none"
            if kind == ("unsure" if is_unsure else "other" if is_other else "sure"):
                drawn = {i: v - baseline for i, v in enumerate(values) if np.isfinite(v)}
                found[int(baseline)] = drawn
        return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


def test_the_picture_is_a_png_and_equal_input_gives_equal_bytes() -> None:
    png = draw(subtitle="model.qwave", sure_probability=0.5)
    assert open_png(png).size == (1600, 1000)
    assert draw(subtitle="model.qwave", sure_probability=0.5) == png


@pytest.mark.slow
def test_everything_that_is_said_is_in_the_picture() -> None:
    parts, probabilities = sample()
    pictures = [
        draw(),
        draw(2 * parts),
        draw(probabilities=sample(seed=1)[1]),
        draw(sure_probability=0.6),
        draw(title="other"),
        draw(subtitle="other"),
        draw(class_names=("other", *CLASS_NAMES[1:])),
    ]
    assert len(set(pictures)) == len(pictures)


def test_each_window_is_drawn_once_in_every_row_in_the_style_of_what_it_is(drawn: Drawn) -> None:
    threshold = 0.55
    parts, probabilities = sample(30)
    draw(parts, probabilities, sure_probability=threshold)
    assert drawn.rows == list(reversed(CLASS_NAMES))
    kinds = {kind: drawn.heights(kind) for kind in ("sure", "unsure", "other")}
    seen = set()
    for window, said in enumerate(probabilities):
        is_sure = said.max() >= threshold
        for label, probability in enumerate(said):
            row = len(CLASS_NAMES) - 1 - label
            is_likeliest = label == said.argmax()
            expected = "other" if not is_likeliest else "sure" if is_sure else "unsure"
            seen.add(expected)
            for kind, by_row in kinds.items():
                height = by_row.get(row, {}).get(window)
                if kind == expected:
                    assert height == pytest.approx(0.84 * probability), (window, label)
                else:
                    assert height is None, (window, label, kind)
    assert seen == {"sure", "unsure", "other"}
    assert drawn.lines == pytest.approx([row + 0.84 * threshold for row in range(10)])


def test_without_a_threshold_nothing_is_unsure_and_no_line_is_drawn(drawn: Drawn) -> None:
    draw(sure_probability=0.0)
    assert drawn.heights("unsure") == {}
    assert drawn.lines == []


def test_gaps_between_windows_stay_empty(drawn: Drawn) -> None:
    _, probabilities = sample(3)
    draw([[0.0, 1.0], [1.0, 2.0], [10.0, 11.0]], probabilities)
    for values, edges, _, _ in drawn.areas:
        np.testing.assert_array_equal(edges, [0.0, 1.0, 2.0, 10.0, 11.0])
        assert np.isnan(values[2])
    third = {row: cells for row, cells in drawn.heights("sure").items() if 3 in cells}
    assert list(third) == [9 - probabilities[2].argmax()]


def test_of_many_classes_those_that_are_heard_have_rows(drawn: Drawn) -> None:
    rng = np.random.default_rng(1)
    n_classes = MAX_ROWS + 5
    names = [f"class {label}" for label in range(n_classes)]
    probabilities = rng.dirichlet(np.full(n_classes, 5.0), size=40) * 0.5
    heard = [3, 7, 12]
    probabilities[np.arange(40), np.resize(heard, 40)] += 0.5
    probabilities[0, 14] = 0.3  # the highest peak among those that never win
    parts, _ = sample(40)
    draw(parts, probabilities, class_names=names)
    assert len(drawn.rows) == MAX_ROWS
    assert {"class 3", "class 7", "class 12", "class 14"} <= set(drawn.rows)
    numbers = [int(name.split()[1]) for name in drawn.rows]
    assert numbers == sorted(numbers, reverse=True)
    assert f"5 of {n_classes} classes are not shown" in drawn.texts


def test_a_class_that_is_once_the_likeliest_goes_before_higher_peaks(drawn: Drawn) -> None:
    n_classes = MAX_ROWS + 2
    probabilities = np.full((n_classes, n_classes), 0.01)
    probabilities[:, 0] = 0.5
    probabilities[np.arange(n_classes), np.arange(n_classes)] = 0.4
    probabilities[-1] = 0.05
    probabilities[-1, -1] = 0.15
    names = [f"class {label}" for label in range(n_classes)]
    draw(sample(n_classes)[0], probabilities, class_names=names)
    assert drawn.rows[0] == names[-1]
    assert drawn.rows[-1] == names[0]


def test_names_of_any_kind_are_drawn_as_they_are() -> None:
    names = ("$a_1$", "_b", "a long name " * 12, "tab\tand\nnewline", *CLASS_NAMES[4:])
    assert open_png(draw(class_names=names, title="$x$_y.wav")).size == (1600, 1000)


def test_one_window_and_an_hour_of_them() -> None:
    assert open_png(draw([[0.0, 3.64]], sample(1)[1])).size == (1600, 1000)
    parts, probabilities = sample(1439)
    assert open_png(draw(2.5 * parts, probabilities)).size == (1600, 1000)


@pytest.mark.parametrize(
    ("seconds", "end", "text"),
    [
        (0.0, 60.0, "0"),
        (2.5, 60.0, "2.5"),
        (150.0, 179.0, "150"),
        (150.0, 180.0, "2:30"),
        (3599.0, 3599.5, "59:59"),
        (5.0, 4000.0, "0:00:05"),
        (90061.0, 100000.0, "25:01:01"),
    ],
)
def test_times_are_written_for_the_length_of_the_recording(
    seconds: float, end: float, text: str
) -> None:
    assert time_text(seconds, end) == text


@pytest.mark.parametrize(
    ("parts", "probabilities", "message"),
    [
        (np.zeros((0, 2)), np.zeros((0, 10)), r"parts must have shape \[w, 2\].* have \(0, 2\)"),
        (np.zeros((2, 3)), np.zeros((2, 10)), r"parts must have shape \[w, 2\].* have \(2, 3\)"),
        (np.zeros((2, 2)), np.zeros((3, 10)), r"must have shape \[2, 10\], but have \(3, 10\)"),
        (np.zeros((2, 2)), np.zeros((2, 9)), r"must have shape \[2, 10\], but have \(2, 9\)"),
    ],
)
def test_shapes_that_do_not_match_are_refused(
    parts: np.ndarray, probabilities: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw(parts, probabilities)
