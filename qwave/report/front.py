"""The picture of a study: accuracy against file size, with the front drawn as a staircase."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from qwave.report.axes import quiet, scale_shares, scale_sizes
from qwave.report.colours import BLUE, INK, MUTED, SKY_BLUE, SOFT, VERMILION, tint
from qwave.report.front_labels import label_front
from qwave.report.points import accuracy_limits, check_frame, size_text
from qwave.scores import FrontPoint, attainment_staircase, front_members

WIDTH_PX = 1600
HEIGHT_PX = 1000
DPI = 200

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
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.082, 0.115, 0.898, 0.685))
    text: dict[str, Any] = {"color": INK, "va": "center", "parse_math": False}
    figure.text(0.02, 0.95, title, fontsize=13, fontweight="bold", **text)
    figure.text(0.02, 0.9, subtitle, fontsize=8.5, **{**text, "color": MUTED})

    lower, upper = accuracy_limits(points, reference_accuracy)
    _frame(axes, points, lower, upper, size_budget_bytes)
    _staircase(axes, points)
    _marks(axes, points, lower)
    rules = _rules(axes, lower, upper, reference_accuracy, size_budget_bytes)
    handles, names = _legend()
    figure.legend(
        handles,
        names,
        loc="center left",
        bbox_to_anchor=(0.017, 0.843),
        ncols=5,
        fontsize=8,
        labelcolor=INK,
        frameon=False,
        borderpad=0.0,
        borderaxespad=0.0,
        handlelength=1.6,
        handletextpad=0.45,
        columnspacing=1.5,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
    )
    if not points:
        axes.text(0.25, 0.3, "no complete trials yet", transform=axes.transAxes, color=MUTED)
        axes.texts[-1].set(ha="center", fontsize=13)
    n_unlabelled = label_front(canvas, axes, points, rules)
    notes = _notes(points, lower, upper, reference_accuracy, n_unlabelled)
    figure.text(0.98, 0.034, notes, fontsize=7.5, color=MUTED, ha="right", va="center")
    stream = io.BytesIO()
    # Without metadata: Matplotlib would write its version, and an update would change the bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


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
    quiet(axes)


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
        "markersize": 6.6 if is_mixture else 7.6,
        "color": VERMILION if is_mixture else BLUE,
        "markeredgecolor": "white",
        "markeredgewidth": 0.9,
        "elinewidth": 1.1,
        "ecolor": tint(VERMILION if is_mixture else BLUE, 0.7),
        "capsize": 2.6,
    }


def _rules(
    axes: Axes, lower: float, upper: float, reference_accuracy: float, budget: int
) -> list[tuple[Artist, float]]:
    """Draw the budget and the reference; return what a label should not cover, with weights."""
    left, right = axes.get_xlim()
    line = axes.axvline(budget, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.5)
    axes.axvspan(budget, right, color="#f4f5f6", linewidth=0, zorder=0.6)
    # To the side of the line that has more room.
    is_late = math.log(budget / left) > 0.5 * math.log(right / left)
    small: dict[str, Any] = {"fontsize": 8, "color": INK, "zorder": 5}
    text = axes.annotate(
        f"size budget {size_text(budget)}",
        (budget, 0.985),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4 if is_late else 4, 0),
        textcoords="offset points",
        ha="right" if is_late else "left",
        va="top",
        **small,
    )
    rules: list[tuple[Artist, float]] = [(line, 1.5), (text, 100.0)]
    if lower <= reference_accuracy <= upper:
        line = axes.axhline(
            reference_accuracy, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.5
        )
        text = axes.annotate(
            f"reference accuracy {100 * reference_accuracy:.1f} %",
            (0.008, reference_accuracy),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            va="bottom",
            **small,
        )
        rules += [(line, 1.5), (text, 100.0)]
    return rules


def _notes(
    points: Sequence[FrontPoint],
    lower: float,
    upper: float,
    reference_accuracy: float,
    n_unlabelled: int,
) -> str:
    notes = []
    if n_unlabelled:
        notes.append(f"{n_unlabelled} of {len(front_members(points))} labels left out")
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
