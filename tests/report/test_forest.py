"""Estimates in rows: size, determinism, what is drawn where, and what cannot be drawn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from qwave.report import forest_png
from qwave.report.estimates import MAX_SERIES
from qwave.scores import Interval

from .samples import open_png

Series = dict[str, dict[str, Interval]]


def make_series(n_series: int = 2) -> Series:
    return {
        f"series {s}": {
            f"row {r}": Interval(0.5 + 0.1 * r + 0.02 * s, 0.4 + 0.1 * r, 0.6 + 0.1 * r)
            for r in range(3)
        }
        for s in range(n_series)
    }


def draw(series: Series, **options: Any) -> bytes:
    return forest_png(series, **{"title": "a title", "label": "AUROC (%)", **options})


@pytest.mark.parametrize("n_series", [1, MAX_SERIES])
def test_it_is_a_png_of_the_promised_size_and_always_the_same(n_series: int) -> None:
    png = draw(make_series(n_series))
    assert open_png(png).size == (1600, 1000)
    assert draw(make_series(n_series)) == png
    assert not {"Software", "Creation Time"} & set(open_png(png).info)


def test_changed_data_change_the_picture() -> None:
    series = make_series()
    moved = {**series, "series 1": {**series["series 1"], "row 0": Interval(0.55, 0.4, 0.6)}}
    wider = {**series, "series 1": {**series["series 1"], "row 0": Interval(0.52, 0.3, 0.6)}}
    pictures = [
        draw(series),
        draw(moved),
        draw(wider),
        draw(series, title="other"),
        draw(series, subtitle="other"),
        draw(series, label="other"),
        draw({"other": series["series 0"], "series 1": series["series 1"]}),
        draw(dict(reversed(series.items()))),
    ]
    assert len(set(pictures)) == len(pictures)


def test_rows_stand_from_the_top_in_the_order_of_their_first_mention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[list[float], list[float], np.ndarray]] = []
    plain = Axes.errorbar

    def watched(axes: Axes, x: Any, y: Any, *, xerr: Any, **options: Any) -> Any:
        drawn.append((list(x), list(y), np.asarray(xerr)))
        return plain(axes, x, y, xerr=xerr, **options)

    inverted: list[bool] = []
    finish = Axes.tick_params

    def at_the_end(axes: Axes, *arguments: Any, **options: Any) -> None:
        inverted.append(bool(axes.yaxis_inverted()))
        finish(axes, *arguments, **options)

    monkeypatch.setattr(Axes, "errorbar", watched)
    monkeypatch.setattr(Axes, "tick_params", at_the_end)
    first, second = Interval(0.5, 0.4, 0.7), Interval(0.6, 0.55, 0.65)
    draw({"a": {"x": first}, "b": {"y": second, "x": first}})
    (x_a, y_a, error), (x_b, y_b, _) = drawn
    assert x_a == [0.5]
    assert sorted(x_b) == [0.5, 0.6]
    assert error[:, 0] == pytest.approx([0.1, 0.2])
    # Row x is the first and y the second; a stands above b.
    rows = dict(zip(x_b, y_b, strict=True))
    assert round(y_a[0]) == round(rows[0.5]) == 0
    assert round(rows[0.6]) == 1
    assert y_a[0] < rows[0.5]
    assert inverted[-1]


def test_names_of_any_kind_are_drawn_as_they_are() -> None:
    marks = {"$a_1$ + $": Interval(0.5, 0.4, 0.6), "a long name " * 12: Interval(0.5, 0.4, 0.6)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_png(draw({"$x": marks, "_y": marks})).size == (1600, 1000)


def test_series_without_estimates_are_left_out() -> None:
    empty: Series = {f"empty {i}": {} for i in range(MAX_SERIES)}
    assert draw({**empty, **make_series()}) == draw(make_series())


@pytest.mark.parametrize("n_series", [0, MAX_SERIES + 1])
def test_too_few_or_too_many_series_are_refused(n_series: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {MAX_SERIES} series .*, but got {n_series}"):
        draw(make_series(n_series))
