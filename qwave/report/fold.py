"""Three pictures of a fold, as SVG: who is taken for whom, ROC curves, losses by epoch.

Notation: n clips, 0 allowed; c classes; t epochs; m checkpoints at which the fold was scored.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from qwave.report.drawing import (
    BLUE,
    GRID,
    INK,
    MUTED,
    SKY_BLUE,
    SOFT,
    VERMILION,
    short_name,
    tint,
)

MAX_CLASSES_WITH_NUMBERS = 20
"""With more classes than this a cell of the confusion matrix is too small for two digits."""

_MAX_NAMES = 25
_N_LISTED = 6  # confused pairs, or smallest areas, named beside the picture
_SMALLEST_LOSS = 1e-6  # a logarithmic axis has no zero
_TRAIN: dict[str, Any] = {"marker": ".", "color": BLUE, "linewidth": 1.6, "markersize": 3.5}
_HELD_OUT: dict[str, Any] = {
    "marker": "o",
    "color": VERMILION,
    "linestyle": (0, (4, 2)),
    "linewidth": 1,
    "markersize": 5.5,
    "markerfacecolor": "white",
}
_CHANCE: dict[str, Any] = {"color": SOFT, "linewidth": 1, "linestyle": (0, (4, 3))}
_CLASS: dict[str, Any] = {"color": SKY_BLUE, "linewidth": 1}
_MEAN: dict[str, Any] = {"color": BLUE, "linewidth": 2.4}


class FoldFigures:
    """Draws the pictures of folds whose classes are always the same.

    Every picture is an SVG in UTF-8, its text kept as text; equal input gives equal bytes. Most
    of Matplotlib's time goes into axes and their ticks, which an instance makes once; it must not
    be used by two threads at a time.

    Args:
        class_names: ``c`` names in the order of the class indices.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = [short_name(name, 18) for name in class_names]
        self._confusion = _confusion_axes([short_name(name, 14) for name in class_names])
        self._roc = _roc_axes()
        self._losses = _losses_axes()

    def confusion_matrix(self, y_true: ArrayLike, y_pred: ArrayLike) -> bytes:
        """Counts of true (rows) against predicted (columns) classes.

        Cells are shaded by their share of the true class, because classes differ in size: blue
        if right, vermilion if wrong. Beside the matrix stand the accuracy and the pairs that are
        confused most often.

        Args:
            y_true: ``(n,)``, each in 0..c-1.
            y_pred: ``(n,)``, each in 0..c-1.
        """
        n_classes = len(self._names)
        counts = np.zeros((n_classes, n_classes), int)
        np.add.at(counts, (np.asarray(y_true, int), np.asarray(y_pred, int)), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = np.argwhere(counts).tolist()

        def draw(axes: Axes) -> None:
            squares = [Rectangle((j - 0.5, i - 0.5), 1, 1) for i, j in cells]
            colours = [
                tint(BLUE if i == j else VERMILION, 0.16 + 0.84 * shares[i, j]) for i, j in cells
            ]
            axes.add_collection(
                PatchCollection(squares, facecolor=colours, edgecolor="white", linewidth=0.4)
            )
            if n_classes <= MAX_CLASSES_WITH_NUMBERS:
                size = min(9.5, 110 / n_classes + 1)
                for i, j in cells:
                    colour = "white" if shares[i, j] > 0.5 else INK
                    style: dict[str, Any] = {"color": colour, "ha": "center", "va": "center"}
                    axes.text(j, i, str(counts[i, j]), fontsize=size, **style)
            _add_words(axes, *self._confused(counts))

        return _svg(self._confusion, draw)

    def _confused(self, counts: np.ndarray) -> tuple[str, str]:
        """A heading, and the accuracy and the pairs of classes confused most often."""
        n_clips, n_right = int(counts.sum()), int(np.trace(counts))
        if not n_clips:
            return "no clips", ""
        wrong = counts - np.diag(np.diag(counts))
        # A stable sort keeps the order of the classes among equal counts.
        order = np.argsort(-wrong, axis=None, kind="stable")[:_N_LISTED].tolist()
        pairs = [divmod(cell, len(self._names)) for cell in order if wrong.flat[cell]]
        lines = [f"accuracy {100 * n_right / n_clips:.1f} %"]
        if pairs:
            lines += ["", "true → taken for: clips"]
        for i, j in pairs:
            lines += [self._names[i], f"  → {self._names[j]}: {wrong[i, j]}"]
        return f"{n_right} of {n_clips} right", "\n".join(lines)

    def roc(self, y_true: ArrayLike, probabilities: ArrayLike) -> bytes:
        """ROC curve of each class against the rest, thin, and the mean curve, bold.

        Args:
            y_true: ``(n,)``, each in 0..c-1. A class without a clip in the fold, or without one
                of another class, has no curve.
            probabilities: ``(n, c)`` scores, higher means more likely. Clips with a score that is
                not finite are left out and counted.
        """
        n_classes = len(self._names)
        scores = np.reshape(np.asarray(probabilities, float), (-1, n_classes))
        is_finite = np.isfinite(scores).all(axis=1)
        classes, scores = np.asarray(y_true, int)[is_finite], scores[is_finite]
        counts = np.bincount(classes, minlength=n_classes)
        has_curve = np.flatnonzero((counts > 0) & (counts < len(classes))).tolist()
        curves = [roc_curve(classes == index, scores[:, index]) for index in has_curve]
        areas = sorted(
            (float(np.trapezoid(y, x)), index)
            for (x, y), index in zip(curves, has_curve, strict=True)
        )
        n_left_out = int((~is_finite).sum())
        left_out = f"\n{n_left_out} clips not finite, left out" * bool(n_left_out)

        def draw(axes: Axes) -> None:
            if not curves:
                _add_words(axes, "no curve", f"needs clips of two classes{left_out}")
                return
            for x, y in curves:
                axes.plot(x, y, **_CLASS)
            grid = np.unique(np.concatenate([x for x, _ in curves]))
            mean = np.mean([np.interp(grid, x, y) for x, y in curves], axis=0)
            axes.plot([0, *grid], [0, *mean], **_MEAN)
            lines = [f"{len(areas)} of {n_classes} classes{left_out}", "", "smallest areas"]
            lines += [f"{area:.3f}  {self._names[index]}" for area, index in areas[:_N_LISTED]]
            mean_area = np.mean([area for area, _ in areas])
            _add_words(axes, f"mean area {mean_area:.3f}", "\n".join(lines))

        return _svg(self._roc, draw)

    def losses(
        self,
        epochs: ArrayLike,
        train_loss: ArrayLike,
        checkpoint_epochs: ArrayLike,
        held_out_loss: ArrayLike,
    ) -> bytes:
        """Training loss by epoch and the loss of the held-out fold at a few checkpoints.

        On a logarithmic axis, because a loss falls over decades and its tail is where
        over-training shows. Losses below 1e-6, 0 among them, are drawn there; those that are not
        finite are gaps.

        Args:
            epochs: ``(t,)``, >= 0.
            train_loss: ``(t,)`` nats.
            checkpoint_epochs: ``(m,)``, >= 0.
            held_out_loss: ``(m,)`` nats, recorded only: it never chooses anything.
        """
        train, held_out = _drawable(train_loss), _drawable(held_out_loss)
        finite = np.concatenate((train, held_out))
        finite = finite[np.isfinite(finite)]

        def draw(axes: Axes) -> None:
            axes.plot(epochs, train, **_TRAIN)
            axes.plot(checkpoint_epochs, held_out, **_HELD_OUT)
            last = np.concatenate((epochs, checkpoint_epochs)).max(initial=1.0)
            axes.set_xlim(0, 1.015 * float(last))
            low, high = (finite.min(), finite.max()) if finite.size else (0.1, 1.0)
            if not finite.size:
                style: dict[str, Any] = {"ha": "center", "color": MUTED, "fontsize": 12}
                axes.text(0.5, 0.5, "no losses", transform=axes.transAxes, **style)
            # At least a factor of ten, so that noise does not look like a fall.
            half = max(1.1 * math.sqrt(high / low), math.sqrt(10))
            middle = math.sqrt(low) * math.sqrt(high)
            axes.set_ylim(middle / half, middle * half)
            # Over more than three decades labels between the powers of ten would touch.
            steps = (1, 2, 5) if half**2 < 1001 else (1,)
            axes.yaxis.set_major_locator(LogLocator(subs=steps))

        return _svg(self._losses, draw)


def _drawable(losses: ArrayLike) -> np.ndarray:
    values = np.asarray(losses, float)
    return np.where(np.isfinite(values), np.maximum(values, _SMALLEST_LOSS), np.nan)


def _confusion_axes(names: Sequence[str]) -> Axes:
    axes = _new_axes("Confusion matrix", (0.23, 0.22, 0.4, 0.64))
    axes.set_xlabel("predicted class", fontsize=9, color=INK)
    axes.set_ylabel("true class", fontsize=9, color=INK)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    shown = range(0, len(names), math.ceil(len(names) / _MAX_NAMES))
    style: dict[str, Any] = {"fontsize": min(8.0, 150.0 / len(shown)), "parse_math": False}
    axes.set_yticks(list(shown), [names[index] for index in shown], **style)
    axes.set_xticks(list(shown), [names[index] for index in shown], rotation=90, **style)
    axes.tick_params(length=0)
    return axes


def _roc_axes() -> Axes:
    axes = _new_axes("ROC, one class against the rest", (0.1, 0.14, 0.46, 0.736))
    axes.set_xlabel("false positive rate", fontsize=9, color=INK)
    axes.set_ylabel("true positive rate", fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    # A little room outside 0..1: a perfect curve runs along the frame.
    axes.set_xlim(-0.015, 1.015)
    axes.set_ylim(-0.015, 1.015)
    axes.plot([0, 1], [0, 1], **_CHANCE)
    samples = {"chance": _CHANCE, "one class": _CLASS, "mean of the classes": _MEAN}
    handles = [Line2D([], [], **style) for style in samples.values()]
    style: dict[str, Any] = {"fontsize": 8, "labelcolor": INK, "frameon": False}
    axes.legend(handles, list(samples), loc="lower right", **style)
    return axes


def _losses_axes() -> Axes:
    axes = _new_axes("Losses", (0.11, 0.135, 0.855, 0.675))
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.set_ylabel("loss (nats, log scale)", fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True))
    names = ["training", "held-out fold (recorded only: never used to choose anything)"]
    axes.legend(
        [Line2D([], [], **style) for style in (_TRAIN, _HELD_OUT)],
        names,
        loc="lower left",
        bbox_to_anchor=(0, 1.02),
        ncols=2,
        fontsize=8.5,
        labelcolor=INK,
        frameon=False,
        borderaxespad=0,
    )
    return axes


def _new_axes(title: str, box: tuple[float, float, float, float]) -> Axes:
    """Axes in a figure of their own; ``box`` is left, bottom, width, height as shares of it."""
    figure = Figure((6.4, 4.0), facecolor="white")
    figure.text(0.02, 0.945, title, fontsize=11, fontweight="bold", color=INK)
    axes: Axes = figure.add_axes(box)
    axes.tick_params(labelsize=8, labelcolor=INK, color=SOFT)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(SOFT)
    return axes


def _add_words(axes: Axes, heading: str, text: str) -> None:
    """A bold line and smaller lines below it, on the right of the figure."""
    axes.figure.text(0.66, 0.82, heading, fontsize=11, fontweight="bold", color=INK)
    axes.figure.text(0.66, 0.78, text, fontsize=8, color=INK, va="top", parse_math=False)


def _svg(axes: Axes, draw: Callable[[Axes], None]) -> bytes:
    """The figure of the axes with what ``draw`` adds to it, which is removed again."""
    figure = axes.figure
    assert isinstance(figure, Figure), "axes made by `_new_axes` belong to a figure"
    kept = {*figure.get_children(), *axes.get_children()}
    draw(axes)
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "qwave"}):
        # Without metadata: the date, and the version of Matplotlib, would change the bytes.
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    for artist in {*figure.get_children(), *axes.get_children()} - kept:
        artist.remove()
    return stream.getvalue().encode()


def roc_curve(is_positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of a ROC curve from (0, 0) to (1, 1): false and true positive rates, 0 to 1.

    scikit-learn's gives the same curve, but importing it takes two seconds of every command.

    Args:
        is_positive: Which of n clips are of the class, bool [n]; some are, and some are not.
        score: Scores of the clips, finite [n]; clips of equal score are one step of the curve.
    """
    order = np.argsort(-score, kind="stable")
    is_last = np.append(np.diff(score[order]) != 0, True)  # of its score
    hits = np.cumsum(is_positive[order])[is_last]
    claims = np.flatnonzero(is_last) + 1
    return np.append(0, (claims - hits) / (claims - hits)[-1]), np.append(0, hits / hits[-1])
