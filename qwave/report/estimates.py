"""Pictures of studies: estimates with their intervals, against file size or in rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke

from qwave.report.drawing import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PERCENT,
    PURPLE,
    SOFT,
    VERMILION,
    add_legend,
    png_bytes,
    report_figure,
    scale_shares,
    scale_sizes,
    tint,
)
from qwave.scores import Interval

# Series differ in marker and dash as well as in colour, for grey print.
_STYLES: tuple[tuple[str, str, Any], ...] = (
    (BLUE, "o", "-"),
    (VERMILION, "D", (0, (5, 2))),
    (GREEN, "s", (0, (1, 1.5))),
    (PURPLE, "^", (0, (4, 1, 1, 1))),
    (ORANGE, "v", (0, (6, 1, 1, 1, 1, 1))),
    (SOFT, "P", "-"),
)
MAX_SERIES = len(_STYLES)


@dataclass(frozen=True)
class SizedEstimate:
    """An estimate at a file size: one mark of a picture.

    Attributes:
        size_bytes: Bytes of the model file.
        accuracy: The estimate, 0 to 1, with its interval.
        label: Short text beside the mark; may be empty.
    """

    size_bytes: int
    accuracy: Interval
    label: str = ""


def estimates_png(
    series: Mapping[str, Sequence[SizedEstimate]],
    *,
    title: str,
    subtitle: str = "",
    staircases: Collection[str] = (),
) -> bytes:
    """Draw estimates against file size, a PNG of 1600 x 1000 pixels.

    Args:
        series: Name to marks, at most `MAX_SERIES`; those without marks are left out.
        title: One line, bold.
        subtitle: One line below it.
        staircases: Names of the series whose marks are joined by steps: the best up to each size.

    Raises:
        ValueError: There are no marks, or too many series.
    """
    drawn = {name: marks for name, marks in series.items() if marks}
    _check_series(drawn)
    figure, axes = report_figure(title, subtitle)
    sizes = [mark.size_bytes for marks in drawn.values() for mark in marks]
    scale_sizes(axes, min(sizes), max(sizes))
    scale_shares(axes, "accuracy (%), with 95 % interval")
    n_series = len(drawn)
    handles: list[Any] = []
    for number, (name, marks) in enumerate(drawn.items()):
        colour, marker, dash = _STYLES[number]
        ordered = sorted(marks, key=lambda mark: mark.size_bytes)
        # Series are moved apart by two per cent of their sizes, or their bars would hide others.
        shift = 1.02 ** (number - (n_series - 1) / 2)
        x = [mark.size_bytes * shift for mark in ordered]
        y = [mark.accuracy.estimate for mark in ordered]
        below = [mark.accuracy.estimate - mark.accuracy.low for mark in ordered]
        above = [mark.accuracy.high - mark.accuracy.estimate for mark in ordered]
        bars = axes.errorbar(
            x,
            y,
            yerr=np.maximum([below, above], 0),
            capsize=2.5,
            **_mark_style(colour, marker, 6.5),
        )
        handles.append(bars)
        if name in staircases:
            # The last step holds for every larger file.
            best = np.maximum.accumulate([*y, y[-1]])
            right = axes.get_xlim()[1]
            axes.step([*x, right], best, where="post", color=colour, linestyle=dash, linewidth=1)
        for mark, left in zip(ordered, x, strict=True):
            if mark.label:
                axes.annotate(
                    mark.label,
                    (left, mark.accuracy.estimate),
                    xytext=(5, 5),
                    textcoords="offset points",
                    fontsize=7.5,
                    color=INK,
                    zorder=5,
                    parse_math=False,
                    path_effects=[withStroke(linewidth=2.5, foreground="white")],
                )
    add_legend(figure, handles, list(drawn))
    return png_bytes(figure)


def forest_png(
    series: Mapping[str, Mapping[str, Interval]], *, title: str, subtitle: str = "", label: str
) -> bytes:
    """Draw shares (0 to 1, in percent) with intervals, a row a name, a PNG of 1600 x 1000 pixels.

    Args:
        series: Name to estimates by the name of their row, at most `MAX_SERIES`; rows stand in
            the order of their first mention, from the top.
        title: One line, bold.
        subtitle: One line below it.
        label: Name of the axis of the estimates, with its unit.

    Raises:
        ValueError: There are no estimates, or too many series.
    """
    drawn = {name: marks for name, marks in series.items() if marks}
    _check_series(drawn)
    rows = list(dict.fromkeys(row for marks in drawn.values() for row in marks))
    left = min(0.04 + 0.0073 * max(map(len, rows)), 0.5)
    figure, axes = report_figure(title, subtitle, left=left)
    handles = []
    for number, marks in enumerate(drawn.values()):
        colour, marker, _ = _STYLES[number]
        values = np.array(
            [(mark.estimate, mark.low, mark.high) for mark in map(marks.get, rows) if mark]
        )
        shift = 0.7 * ((number + 0.5) / len(drawn) - 0.5)
        bars = axes.errorbar(
            values[:, 0],
            [rows.index(row) + shift for row in rows if row in marks],
            xerr=np.maximum([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]], 0),
            **_mark_style(colour, marker, 5.5),
        )
        handles.append(bars)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.tick_params(axis="y", grid_alpha=0)  # rows are divided between their names
    for border in range(1, len(rows)):
        axes.axhline(border - 0.5, color=GRID, linewidth=0.7)
    add_legend(figure, handles, list(drawn))
    return png_bytes(figure)


def _check_series(series: Mapping[str, Any]) -> None:
    if not 0 < len(series) <= MAX_SERIES:
        raise ValueError(f"1 to {MAX_SERIES} series can be told apart, but got {len(series)}")


def _mark_style(colour: str, marker: str, size: float) -> dict[str, Any]:
    """Keywords of `Axes.errorbar` for estimates with their intervals."""
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": size,
        "color": colour,
        "markeredgecolor": "white",
        "markeredgewidth": 0.8,
        "elinewidth": 1.1,
        "ecolor": tint(colour, 0.6),
        "zorder": 3,
    }
