"""Pictures of studies: size, determinism, what changes them, and what cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from qwave.report import SizedEstimate, estimates_png
from qwave.report.estimates import MAX_SERIES
from qwave.scores import Interval

from .samples import open_png

Series = dict[str, list[SizedEstimate]]


def make_series(n_series: int = 2, n_marks: int = 4) -> Series:
    return {
        f"series {s}": [
            SizedEstimate(
                500 * 3**m,
                Interval(0.8 + 0.03 * m - 0.02 * s, 0.75 + 0.03 * m, 0.85 + 0.03 * m),
                f"int{m + 1}, 8" if s == 0 else "",
            )
            for m in range(n_marks)
        ]
        for s in range(n_series)
    }


def draw(series: Series, title: str = "a title", subtitle: str = "", **options: Any) -> bytes:
    return estimates_png(series, title=title, subtitle=subtitle, **options)


@pytest.mark.parametrize("n_series", [1, 2, MAX_SERIES])
@pytest.mark.parametrize("staircases", [(), ("series 0",)])
def test_estimates_are_a_png_of_the_promised_size(n_series: int, staircases: Any) -> None:
    series = make_series(n_series)
    png = draw(series, staircases=staircases)
    assert open_png(png).size == (1600, 1000)
    assert draw(series, staircases=staircases) == png


def test_a_picture_says_nothing_of_the_program_that_drew_it() -> None:
    png = draw(make_series())
    assert b"Matplotlib" not in png
    assert not {"Software", "Creation Time"} & set(open_png(png).info)


def _changed(series: Series, **changes: object) -> Series:
    values = {**vars(series["series 0"][1]), **changes}
    mark = SizedEstimate(**values)
    return {**series, "series 0": [series["series 0"][0], mark, *series["series 0"][2:]]}


@pytest.mark.slow
def test_changed_data_change_the_picture() -> None:
    series = make_series()
    pictures = {
        "base": draw(series),
        "value": draw(_changed(series, accuracy=Interval(0.84, 0.78, 0.88))),
        "interval": draw(_changed(series, accuracy=Interval(0.83, 0.7, 0.88))),
        "size": draw(_changed(series, size_bytes=2000)),
        "label": draw(_changed(series, label="other")),
        "staircase": draw(series, staircases=("series 0",)),
        "title": draw(series, title="other"),
        "subtitle": draw(series, subtitle="other"),
        "name": draw({"other": series["series 0"], "series 1": series["series 1"]}),
        "order": draw(dict(reversed(series.items()))),
    }
    assert len(set(pictures.values())) == len(pictures)


def test_the_order_of_marks_does_not_matter() -> None:
    series = make_series()
    turned = {name: marks[::-1] for name, marks in series.items()}
    for joined in ((), tuple(series)):
        assert draw(turned, staircases=joined) == draw(series, staircases=joined)


def test_series_without_marks_are_left_out() -> None:
    series = make_series()
    empty: Series = {f"empty {i}": [] for i in range(MAX_SERIES)}
    assert draw({**empty, **series}) == draw(series)


def test_a_staircase_is_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[list[float], list[float]]] = []
    plain = Axes.step

    def watched(axes: Axes, x: list[float], y: np.ndarray, **options: object) -> object:
        steps.append((list(x), list(y)))
        return plain(axes, x, y, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "step", watched)
    values = [(400, 0.7), (100, 0.6), (200, 0.8), (800, 0.75), (1600, 0.9)]
    marks = [SizedEstimate(size, Interval(value, value, value)) for size, value in values]
    draw({"one": marks}, staircases=["one"])
    ((x, y),) = steps
    assert x[:-1] == pytest.approx([100, 200, 400, 800, 1600])
    assert x[-1] > 1600
    assert y == [0.6, 0.8, 0.8, 0.8, 0.9, 0.9]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["$x^{$", "$\\bad{", "_hidden", "a\\b", "<b>&amp;</b>", "ä→∞"])
def test_hostile_names_labels_and_titles_are_drawn_as_they_are(text: str) -> None:
    mark = SizedEstimate(100, Interval(0.5, 0.4, 0.6), text)
    named = draw({text: [mark]}, title=text, subtitle=text)
    assert open_png(named).size == (1600, 1000)
    unnamed = SizedEstimate(100, mark.accuracy)
    pictures = {named, draw({text: [unnamed]}, title=text, subtitle=text)}
    pictures |= {draw({" ": [mark]}, title=text, subtitle=text)}
    assert len(pictures) == 3, "label and name are both visible"


def test_one_mark_and_an_estimate_outside_of_its_interval_are_drawn() -> None:
    alone = SizedEstimate(1, Interval(0.5, 0.5, 0.5))
    assert open_png(draw({"one": [alone]})).size == (1600, 1000)
    # An interval of few recordings need not hold the estimate.
    outside = SizedEstimate(900, Interval(0.5, 0.51, 0.6))
    assert open_png(draw({"one": [alone, outside]}, staircases=("one",))).size == (1600, 1000)


@pytest.mark.parametrize(
    ("call", "n_series"),
    [
        (lambda: draw({}), 0),
        (lambda: draw({"a": [], "b": []}), 0),
        (lambda: draw(make_series(MAX_SERIES + 1)), MAX_SERIES + 1),
    ],
)
def test_no_series_or_too_many_are_refused(call: Callable[[], bytes], n_series: int) -> None:
    message = rf"^1 to {MAX_SERIES} series can be told apart, but got {n_series}$"
    with pytest.raises(ValueError, match=message):
        call()
