"""The picture of a search: accuracy against file size, with the front drawn as a staircase.

Members of the front bear numbers, which a list beside the picture explains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from qwave.report.drawing import (
    BLUE,
    INK,
    MUTED,
    SKY_BLUE,
    SOFT,
    VERMILION,
    add_legend,
    png_bytes,
    report_figure,
    scale_shares,
    scale_sizes,
    short_name,
    tint,
)
from qwave.report.table import size_text
from qwave.scores import FrontPoint, attainment_staircase, front_members

SMALLEST_SPAN = 0.02
"""Accuracy range shown at least: below it, differences are noise and should look like it."""

_MOST_LISTED = 26

SHAPES = {False: "o", True: "D"}
"""Marker of a point by ``is_mixture``."""


def front_png(
    points: Sequence[FrontPoint],
    *,
    reference_accuracy: float,
    size_budget_bytes: int,
    title: str,
    subtitle: str = "",
) -> bytes:
    """Draw all complete trials and the front among them.

    The accuracy axis frames the front and its error bars. Trials far below it are shown as
    arrowheads on the lower edge and counted, since one untrained model at chance would otherwise
    squeeze the front into a line.

    Args:
        points: Complete trials in any order; may be empty.
        reference_accuracy: Accuracy drawn as a horizontal line, 0..1. Where it lies far outside
            the axis it is stated in words.
        size_budget_bytes: Size drawn as a vertical line.
        title: One line, bold.
        subtitle: One line below it; where the data come from.

    Returns:
        A PNG of 1600 x 1000 pixels; equal input gives equal bytes.

    Raises:
        ValueError: If ``reference_accuracy`` is not in 0..1 or the budget is not positive.
    """
    check_frame(reference_accuracy, size_budget_bytes)
    figure, axes = report_figure(title, subtitle, right=0.735 if points else 0.98)
    lower, upper = accuracy_limits(points, reference_accuracy)
    _frame(axes, points, lower, upper, size_budget_bytes)
    _staircase(axes, points)
    _marks(axes, points, lower)
    _rules(axes, lower, upper, reference_accuracy, size_budget_bytes)
    handles, names = _legend()
    columns = {tuple: HandlerTuple(ndivide=None, pad=0.3)}
    add_legend(figure, handles, names, handlelength=1.6, handler_map=columns)
    if not points:
        axes.text(0.25, 0.3, "no complete trials yet", transform=axes.transAxes, color=MUTED)
        axes.texts[-1].set(ha="center", fontsize=13)
    _list_members(figure, front_members(points))
    notes = _notes(points, lower, upper, reference_accuracy)
    figure.text(0.98, 0.034, notes, fontsize=7.5, color=MUTED, ha="right", va="center")
    return png_bytes(figure)


def _list_members(figure: Figure, members: Sequence[FrontPoint]) -> None:
    """What the numbers at the marks stand for, smallest file first."""
    lines = [f"{n:2}  {short_name(p.label, 30)}" for n, p in enumerate(members, 1)]
    if len(lines) > _MOST_LISTED:
        n_more = len(lines) - _MOST_LISTED + 1
        lines[_MOST_LISTED - 1 :] = [f"and {n_more} more, in front.csv"]
    figure.text(
        0.755,
        0.8,
        "\n".join(lines),
        fontsize=7.5 if len(members) <= 20 else 6.5,
        color=INK,
        va="top",
        linespacing=1.45,
        parse_math=False,
    )


def _frame(
    axes: Axes, points: Sequence[FrontPoint], lower: float, upper: float, budget: int
) -> None:
    sizes = [point.size_bytes for point in points] + [budget]
    scale_sizes(axes, min(sizes), max(sizes))
    axes.set_ylim(lower, upper)
    scale_shares(axes, "cross-validated accuracy (%)")
    # At fixed places: to the left, so that the notes have the right half of the line, and away
    # from the edge of the picture however long the tick labels are.
    axes.xaxis.set_label_coords(0.0, -0.118)
    axes.xaxis.label.set_horizontalalignment("left")
    axes.xaxis.label.set_verticalalignment("center")
    axes.yaxis.set_label_coords(-0.064, 0.5)


def _staircase(axes: Axes, points: Sequence[FrontPoint]) -> None:
    sizes, accuracies = attainment_staircase(points)
    if not sizes:
        return
    # The last step holds for every larger file: it runs out of the picture.
    right = axes.get_xlim()[1]
    x, y = [*sizes, right], [*accuracies, accuracies[-1]]
    axes.fill_between(x, y, -1.0, step="post", color=tint(SKY_BLUE, 0.09), linewidth=0, zorder=0.5)
    axes.step(x, y, where="post", color=BLUE, linewidth=1.3, alpha=0.75, zorder=3)


def _marks(axes: Axes, points: Sequence[FrontPoint], lower: float) -> None:
    for is_mixture, shape in SHAPES.items():
        rest = [p for p in points if not p.is_front and p.is_mixture == is_mixture]
        axes.plot(
            [point.size_bytes for point in rest if point.accuracy >= lower],
            [point.accuracy for point in rest if point.accuracy >= lower],
            linestyle="none",
            marker=shape,
            markersize=4.2 if is_mixture else 4.8,
            color=SOFT,
            markeredgecolor="white",
            markeredgewidth=0.4,
            alpha=0.8,
            zorder=2,
        )
        front = [p for p in front_members(points) if p.is_mixture == is_mixture]
        axes.errorbar(
            [point.size_bytes for point in front],
            [point.accuracy for point in front],
            yerr=[point.standard_error for point in front],
            **_front_style(is_mixture),
            zorder=4,
        )
    for number, point in enumerate(front_members(points), 1):
        axes.annotate(
            str(number),
            (point.size_bytes, point.accuracy),
            fontsize=5.5,
            fontweight="bold",
            color="white",
            ha="center",
            va="center_baseline",
            zorder=5,
        )
    below = [point.size_bytes for point in points if point.accuracy < lower]
    axes.plot(
        below,
        [0.012] * len(below),
        transform=axes.get_xaxis_transform(),
        linestyle="none",
        marker="v",
        markersize=3.5,
        color=SOFT,
        markeredgewidth=0,
    )


def _front_style(is_mixture: bool) -> dict[str, Any]:
    # Mixtures are vermilion diamonds, plain networks blue discs: told apart by shape in grey.
    return {
        "linestyle": "none",
        "marker": SHAPES[is_mixture],
        "markersize": 9.0 if is_mixture else 10.0,
        "color": VERMILION if is_mixture else BLUE,
        "markeredgecolor": "white",
        "markeredgewidth": 0.9,
        "elinewidth": 1.1,
        "ecolor": tint(VERMILION if is_mixture else BLUE, 0.7),
        "capsize": 2.6,
    }


def _rules(axes: Axes, lower: float, upper: float, reference_accuracy: float, budget: int) -> None:
    """The lines of the budget and of the reference accuracy."""
    left, right = axes.get_xlim()
    axes.axvline(budget, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.5)
    axes.axvspan(budget, right, color="#f4f5f6", linewidth=0, zorder=0.6)
    # To the side of the line that has more room.
    is_late = math.log(budget / left) > 0.5 * math.log(right / left)
    small: dict[str, Any] = {"fontsize": 8, "color": INK, "zorder": 5}
    axes.annotate(
        f"size budget {size_text(budget)}",
        (budget, 0.985),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4 if is_late else 4, 0),
        textcoords="offset points",
        ha="right" if is_late else "left",
        va="top",
        **small,
    )
    if lower <= reference_accuracy <= upper:
        axes.axhline(
            reference_accuracy, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.5
        )
        axes.annotate(
            f"reference accuracy {100 * reference_accuracy:.1f} %",
            (0.008, reference_accuracy),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            va="bottom",
            **small,
        )


def _notes(
    points: Sequence[FrontPoint],
    lower: float,
    upper: float,
    reference_accuracy: float,
) -> str:
    notes = []
    n_below = sum(point.accuracy < lower for point in points)
    if n_below:
        trials = "trial" if n_below == 1 else "trials"
        notes.append(f"{n_below} {trials} below the axis (▾)")
    if not lower <= reference_accuracy <= upper:
        where = "below" if reference_accuracy < lower else "above"
        notes.append(f"reference accuracy {100 * reference_accuracy:.1f} % {where} the axis")
    return "; ".join(notes)


def _legend() -> tuple[list[Any], list[str]]:
    plain: dict[str, Any] = {"linestyle": "none"}
    one, many = (
        Line2D([], [], **{k: v for k, v in _front_style(m).items() if not _is_bar(k)})
        for m in (False, True)
    )
    bar = Line2D([], [], marker="|", color=MUTED, markersize=9, **plain)
    step = Line2D([], [], color=BLUE, linewidth=1.3, alpha=0.75)
    rest = tuple(
        Line2D([], [], marker=shape, color=SOFT, markersize=4.5, markeredgewidth=0, **plain)
        for shape in SHAPES.values()
    )
    # The tuple is drawn side by side by `HandlerTuple`, which Matplotlib's types do not know.
    handles: list[Any] = [one, many, bar, step, rest]
    return handles, [
        "front, one expert",
        "front, mixture of experts",
        "± 1 standard error",
        "best accuracy up to a size",
        "other complete trials",
    ]


def _is_bar(key: str) -> bool:
    return key in ("elinewidth", "ecolor", "capsize")


def accuracy_limits(
    points: Sequence[FrontPoint], reference_accuracy: float
) -> tuple[float, float]:
    """Limits of the accuracy axis, 0..1, that frame the front.

    Args:
        points: All points; without a front they frame themselves, without any the reference does.
        reference_accuracy: Taken into the frame if it is at most one height of the front away.

    Returns:
        Lower and upper limit; the lower one may be below 0 and the upper one above 1 by the
        margin, so that points at the ends are drawn whole.
    """
    framed = front_members(points) or list(points)
    if not framed:
        return reference_accuracy - 0.05, min(reference_accuracy + 0.05, 1.0)
    lower = min(point.accuracy - point.standard_error for point in framed)
    upper = max(point.accuracy + point.standard_error for point in framed)
    span = max(upper - lower, SMALLEST_SPAN)
    if lower - span <= reference_accuracy <= upper + span:
        lower, upper = min(lower, reference_accuracy), max(upper, reference_accuracy)
    near = [point.accuracy for point in points if point.accuracy >= lower - 0.5 * span]
    lower = min([lower, *near])
    # Above the front stand the words of the budget.
    return lower - 0.08 * span, upper + 0.22 * span


def check_frame(reference_accuracy: float, size_budget_bytes: int) -> None:
    """Refuse a reference accuracy or a size budget that no axis can show.

    Raises:
        ValueError: If ``reference_accuracy`` is not in 0..1 or the budget is not positive.
    """
    if not 0.0 <= reference_accuracy <= 1.0:
        raise ValueError(f"`reference_accuracy` must lie in 0..1, but got {reference_accuracy}")
    if size_budget_bytes < 1:
        raise ValueError(f"`size_budget_bytes` must be at least 1, but got {size_budget_bytes}")
