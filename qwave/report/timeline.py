"""The picture of a timeline: how probable each class is over a recording, a row a class.

A row each, not a line each in one frame: the lines of a busy hour would hide each other, and rows
need no colours to be told apart.

Shapes: w windows, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import ArrayLike, NDArray

from qwave.report.drawing import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    SKY_BLUE,
    add_legend,
    png_bytes,
    report_figure,
    short_name,
    tint,
)

MAX_ROWS = 10
_ROW_HEIGHT = 0.84  # of a row, for 100 %
_LONGEST_NAME = 24
_SURE: dict[str, Any] = {"facecolor": BLUE, "edgecolor": BLUE, "linewidth": 0.4}
_UNSURE: dict[str, Any] = {
    **{"facecolor": "white", "edgecolor": ORANGE, "linewidth": 0.7},
    **{"hatch": "/////", "hatch_linewidth": 0.6},
}
_OTHER: dict[str, Any] = {"facecolor": tint(SKY_BLUE, 0.4), "edgecolor": "none", "linewidth": 0}
_THRESHOLD: dict[str, Any] = {"color": MUTED, "linewidth": 0.7, "linestyle": (0, (2, 2))}
_TIME_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)


def timeline_png(
    parts: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    *,
    sure_probability: float = 0.0,
    title: str,
    subtitle: str = "",
) -> bytes:
    """Draw the probability of each class over time.

    A row is filled where its class is the likeliest, hatched where that is unsure, and light
    elsewhere. Of more than `MAX_ROWS` classes those are shown that are the likeliest most often,
    then those with the highest peak; the picture says how many are not shown.

    Args:
        parts: Start and end in seconds of what each window stands for, [w, 2], at least one
            window: in order of time, without overlaps. Gaps stay empty.
        probabilities: [w, c], 0 to 1. Among equals the first class is the likeliest.
        class_names: c names.
        sure_probability: Below it a window is unsure; drawn as a line, unless it is 0.
        title: One line, bold.
        subtitle: One line below it.

    Returns:
        A PNG of 1600 x 1000 pixels; equal input gives equal bytes.

    Raises:
        ValueError: There are no windows, or the shapes do not match.
    """
    spans, shares = np.asarray(parts, dtype=float), np.asarray(probabilities, dtype=float)
    if not len(spans) or spans.shape != (len(spans), 2):
        raise ValueError(f"parts must have shape [w, 2], w at least 1, but have {spans.shape}")
    if shares.shape != (len(spans), len(class_names)):
        raise ValueError(
            f"probabilities must have shape [{len(spans)}, {len(class_names)}], "
            f"but have {shares.shape}"
        )
    shown = _most_heard(shares)
    names = [short_name(class_names[label], _LONGEST_NAME) for label in shown]
    left = 0.045 + 0.0089 * max(map(len, names))
    figure, axes = report_figure(title, subtitle, left=left, right=0.96)
    _draw_rows(axes, spans, shares, shown, sure_probability)
    _name_rows(axes, names)
    _scale_time(axes, spans[0, 0], spans[-1, 1])
    _draw_key(figure, sure_probability, has_unsure=bool((shares.max(1) < sure_probability).any()))
    n_hidden = len(class_names) - len(shown)
    if n_hidden:
        words = f"{n_hidden} of {len(class_names)} classes are not shown"
        figure.text(0.02, 0.034, words, fontsize=7.5, color=MUTED, va="center")
    return png_bytes(figure)


def _most_heard(shares: NDArray[np.float64]) -> list[int]:
    """Numbers of the classes that get a row, in class order: the same in every picture."""
    wins = np.bincount(shares.argmax(axis=1), minlength=shares.shape[1])
    order = np.lexsort((-shares.max(axis=0), -wins))[:MAX_ROWS]
    return sorted(int(label) for label in order)


def _draw_rows(
    axes: Axes,
    spans: NDArray[np.float64],
    shares: NDArray[np.float64],
    shown: Sequence[int],
    sure_probability: float,
) -> None:
    likeliest, is_unsure = shares.argmax(axis=1), shares.max(axis=1) < sure_probability
    # Where a part begins after the end of the one before, a cell of nothing is put between.
    gaps = np.flatnonzero(spans[1:, 0] > spans[:-1, 1]) + 1
    edges = np.append(np.insert(spans[:, 0], gaps, spans[gaps - 1, 1]), spans[-1, 1])
    axes.set_ylim(-0.08, len(shown))
    for row, label in enumerate(reversed(shown)):
        is_likeliest = likeliest == label
        axes.axhline(row, color=GRID, linewidth=0.8)
        for style, is_drawn in (
            (_OTHER, ~is_likeliest),
            (_SURE, is_likeliest & ~is_unsure),
            (_UNSURE, is_likeliest & is_unsure),
        ):
            if is_drawn.any():
                heights = np.where(is_drawn, row + _ROW_HEIGHT * shares[:, label], np.nan)
                cells = np.insert(heights, gaps, np.nan)
                axes.stairs(cells, edges, baseline=row, fill=True, **style)
        if sure_probability > 0:
            axes.axhline(row + _ROW_HEIGHT * sure_probability, **_THRESHOLD)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    middles = [row + _ROW_HEIGHT / 2 for row in range(len(names))]
    axes.set_yticks(middles, list(reversed(names)), parse_math=False)
    axes.tick_params(axis="y", length=0, grid_alpha=0)


def _scale_time(axes: Axes, start: float, end: float) -> None:
    axes.set_xlim(start, end)
    step = next((step for step in _TIME_STEPS if (end - start) / step <= 12), 86400.0)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: time_text(seconds, end)))
    unit = "s" if end < 180 else "min:s" if end < 3600 else "h:min:s"
    axes.set_xlabel(f"time ({unit})", fontsize=9, color=INK)


def time_text(seconds: float, end: float) -> str:
    """A time in a recording that ends at `end`: s, from three minutes min:s, an hour h:min:s."""
    if end < 180:
        return f"{seconds:g}"
    minutes, rest = divmod(round(seconds), 60)
    if end < 3600:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _draw_key(figure: Figure, sure_probability: float, *, has_unsure: bool) -> None:
    keys: list[tuple[Any, str]] = [(Patch(**_SURE), "the likeliest class")]
    if has_unsure:
        keys.append((Patch(**_UNSURE), "the likeliest, but unsure"))
    keys.append((Patch(**_OTHER), "not the likeliest"))
    if sure_probability > 0:
        keys.append((Line2D([], [], **_THRESHOLD), f"sure from {100 * sure_probability:.3g} %"))
    handles, names = zip(*keys, strict=True)
    add_legend(figure, handles, names)
    words = "each row: probability, 0 to 100 %"
    figure.text(0.96, 0.843, words, fontsize=8, color=MUTED, ha="right", va="center")
