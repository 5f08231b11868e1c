"""The two line pictures of one fold: ROC curves and losses.

Notation:
    n: clips, 0 allowed.
    c: classes.
    t: epochs trained.
    m: checkpoints at which the held-out fold was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from qwave.report.colours import BLUE, INK, MUTED, SKY_BLUE, SOFT, VERMILION, tint
from qwave.report.plate import (
    WIDTH_PX,
    PlateCache,
    Words,
    add_key,
    new_axes,
    nice_limit,
    short_name,
)
from qwave.report.roc import macro_average, one_vs_rest
from qwave.report.svg import SvgPlate, circles, dots, polyline

Floats = NDArray[np.float64]

N_LISTED = 6
"""Classes named beside the ROC curves, those with the smallest area."""

SMALLEST_LOSS = 1e-6
"""Losses below this, 0 among them, are drawn here: a log axis has no zero."""

EPOCH_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)

_PANEL_X = 424
_KEY_Y = 0.862
_CLASS_COLOUR = tint(SKY_BLUE, 0.75)
# Widths in points and dashes in line widths, for the data and for their samples in the key.
_CLASS_WIDTH, _MACRO_WIDTH = 1.0, 2.4
_TRAIN_WIDTH, _TRAIN_DOT = 1.6, 2.6
_CHECK_WIDTH, _CHECK_DASH = 1.0, (4.0, 2.0)
_CHECK_MARKER, _CHECK_EDGE = 5.5, 1.4


def roc_svg(
    plates: PlateCache[SvgPlate],
    class_names: Sequence[str],
    y_true: NDArray[np.int_],
    probabilities: Floats,
) -> bytes:
    """One-vs-rest curves, thin, and their macro average, bold.

    Args:
        plates: Backgrounds kept between calls.
        class_names: ``c`` names.
        y_true: ``(n,)``. A class without a clip in the fold has no curve.
        probabilities: ``(n, c)``. A clip with a value that is not finite is left out and counted.
    """
    is_finite = np.isfinite(probabilities).all(axis=1)
    curves = one_vs_rest(y_true[is_finite], probabilities[is_finite])
    macro = macro_average(curves)
    plate = plates.get("roc", _roc_axes)
    words = _left_out(int(np.count_nonzero(~is_finite)), "clips")
    if macro is None:
        words.append(Words(_PANEL_X, 70, "no curve", 17, MUTED))
        words.append(Words(_PANEL_X, 93, "needs clips of two classes", 12, MUTED))
        return plate.svg([], words)

    # All thin curves are one line with a gap after each: one conversion to pixels for all.
    corners = [np.append(rates, np.nan) for curve in curves.values() for rates in curve]
    thin = plate.pixel(np.concatenate(corners[0::2]), np.concatenate(corners[1::2]))
    elements = [
        polyline(thin, _CLASS_COLOUR, _CLASS_WIDTH),
        polyline(plate.pixel(*macro), BLUE, _MACRO_WIDTH),
    ]
    areas = sorted((curve.area, index) for index, curve in curves.items())
    words += [
        Words(_PANEL_X, 70, f"macro area {macro.area:.3f}", 17, INK, is_bold=True),
        Words(_PANEL_X, 93, f"{len(curves)} of {len(class_names)} classes", 12, MUTED),
        Words(_PANEL_X, 133, "smallest areas", 11, MUTED),
    ]
    for line, (area, index) in enumerate(areas[:N_LISTED]):
        y = 154 + 20 * line
        words.append(Words(_PANEL_X, y, short_name(class_names[index], 18), 12))
        words.append(Words(618, y, f"{area:.3f}", 12, INK, "rm"))
    return plate.svg(elements, words)


def _roc_axes() -> Axes:
    side_px = 292
    left, bottom = 0.125, 0.14
    axes = new_axes(
        "ROC, one class against the rest",
        "false positive rate",
        "true positive rate",
        left=left,
        right=left + side_px / 640,
        bottom=bottom,
        top=bottom + side_px / 400,
    )
    # A little room outside 0..1: a perfect curve runs along the frame.
    axes.set_xlim(-0.015, 1.015)
    axes.set_ylim(-0.015, 1.015)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.text(0.72, 0.665, "chance", color=MUTED, fontsize=8, rotation=45, ha="center")
    samples = [
        Line2D([0.6625, 0.7125], [0.232, 0.232], color=BLUE, linewidth=_MACRO_WIDTH),
        Line2D([0.6625, 0.7125], [0.172, 0.172], color=_CLASS_COLOUR, linewidth=_CLASS_WIDTH),
    ]
    add_key(axes, samples)
    figure = axes.get_figure(root=True)
    assert figure is not None, "an axes made by `new_axes` belongs to a figure"
    figure.text(0.727, 0.23, "macro average", fontsize=8.5, color=INK, va="center")
    figure.text(0.727, 0.17, "one class", fontsize=8.5, color=INK, va="center")
    return axes


def losses_svg(
    plates: PlateCache[SvgPlate],
    epochs: Floats,
    train_loss: Floats,
    checkpoint_epochs: Floats,
    held_out_loss: Floats,
) -> bytes:
    """Training loss by epoch and the held-out loss at a few checkpoints, on a log axis.

    Log, because a loss falls over decades and its tail is where over-training shows.

    Args:
        plates: Backgrounds kept between calls.
        epochs: ``(t,)`` epochs, >= 0.
        train_loss: ``(t,)``. Values that are not finite leave a gap and are counted.
        checkpoint_epochs: ``(m,)`` epochs, >= 0.
        held_out_loss: ``(m,)``; likewise.
    """
    train, held_out = _drawable(train_loss), _drawable(held_out_loss)
    both = np.concatenate((train, held_out))
    finite = both[np.isfinite(both)]
    last = float(np.concatenate((epochs, checkpoint_epochs)).max(initial=0.0))
    lower, upper = loss_limits(finite)
    n_epochs = nice_limit(last, 5.0, EPOCH_STEPS)
    plate = plates.get(
        ("losses", n_epochs, lower, upper), lambda: _losses_axes(n_epochs, lower, upper)
    )
    curve = plate.pixel(epochs, train)
    checks = plate.pixel(checkpoint_epochs, held_out)
    elements = [
        polyline(curve, BLUE, _TRAIN_WIDTH),
        # Dots and circles keep a value visible that stands alone between two gaps.
        dots(curve, BLUE, _TRAIN_DOT),
        polyline(checks, VERMILION, _CHECK_WIDTH, _CHECK_DASH),
        circles(checks, VERMILION, _CHECK_MARKER, _CHECK_EDGE),
    ]
    words = _left_out(both.size - finite.size, "values")
    if not finite.size:
        words.append(Words(340, 210, "no losses", 17, MUTED, "mm"))
    return plate.svg(elements, words)


def _drawable(losses: Floats) -> Floats:
    return np.where(np.isfinite(losses), np.maximum(losses, SMALLEST_LOSS), np.nan)


def loss_limits(finite: Floats) -> tuple[float, float]:
    """Limits of the loss axis: a power of ten below, 1 or 3 times one above, a decade or more.

    Args:
        finite: All losses to be shown, > 0; without any the axis runs from 0.1 to 1.
    """
    if not finite.size:
        return 0.1, 1.0
    upper = nice_limit(float(finite.max()), 10 * SMALLEST_LOSS, (1.0, 3.0))
    lower = 1.0 / nice_limit(1.0 / float(finite.min()), 1e-12, (1.0,))
    return min(lower, upper / 10), upper


def _left_out(n_left_out: int, noun: str) -> list[Words]:
    if not n_left_out:
        return []
    text = f"{n_left_out} {noun} not finite, left out"
    return [Words(WIDTH_PX - 22, 22, text, 11, MUTED, "rm")]


def _losses_axes(n_epochs: float, lower: float, upper: float) -> Axes:
    axes = new_axes("Losses", "epoch", "loss (log scale)", left=0.11, top=0.81)
    # Room for the marker of a checkpoint at the last epoch.
    axes.set_xlim(0.0, 1.015 * n_epochs)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True))
    axes.set_yscale("log")
    axes.set_ylim(lower, upper)
    # Over more than three decades labels between the powers of ten would touch.
    subs = (1.0, 2.0, 5.0) if upper / lower <= 1001 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=30))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}".replace("e-0", "e-"))
    )
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    samples = [
        Line2D([0.11, 0.155], [_KEY_Y] * 2, color=BLUE, linewidth=_TRAIN_WIDTH),
        Line2D(
            [0.265, 0.31],
            [_KEY_Y] * 2,
            color=VERMILION,
            linewidth=_CHECK_WIDTH,
            linestyle=(0, _CHECK_DASH),
        ),
        Line2D(
            [0.2875],
            [_KEY_Y],
            color=VERMILION,
            marker="o",
            markersize=_CHECK_MARKER,
            markerfacecolor="white",
            markeredgewidth=_CHECK_EDGE,
        ),
    ]
    add_key(axes, samples)
    figure = axes.get_figure(root=True)
    assert figure is not None, "an axes made by `new_axes` belongs to a figure"
    figure.text(0.165, _KEY_Y - 0.002, "training", fontsize=8.5, color=INK, va="center")
    figure.text(
        0.32,
        _KEY_Y - 0.002,
        "held-out fold (recorded only: never used to choose anything)",
        fontsize=8.5,
        color=INK,
        va="center",
    )
    return axes
