"""The two pictures of curiosity in a fold: right against wrong clips, and class by class.

Curiosity is the router's epistemic uncertainty about a clip, a mutual information in nats, >= 0.
Rounding a little below 0 is shown at 0; values that are not finite are left out and counted.

These two are drawn for every fold of every trial, so their cost counts. Matplotlib needs 30 ms
for a new figure and a tenth of that to draw data over a copy of a frame that it drew before
(axes, ticks, names), which is therefore kept for each range of the axes. The ranges end at few
numbers (1, 2, 3, 5, 10, ...), so that frames recur.

Notation: n clips, 0 allowed; c classes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from qwave.report.drawing import BLUE, INK, MUTED, SKY_BLUE, SOFT, VERMILION, short_name, tint

N_BINS = 30
"""Bins of equal width from 0 to the limit of the axis, the same for right and wrong clips."""

MAX_NAMES = 25
"""With more classes than this, names of only some of them are written."""

_SMALLEST_LIMIT_NATS = 0.001  # below it the router has no doubt worth an axis
_MOST_FRAMES = 32  # a megabyte each
_COUNTS = [step * 10**power for power in range(7) for step in (1, 2, 5)]
_LIGHT_BLUE = tint(SKY_BLUE, 0.55)


class CuriosityFigures:
    """Draws the curiosity pictures of folds whose classes are always the same.

    Every picture is a PNG of 640 x 400 pixels; equal input gives equal bytes. An instance keeps
    the frames it has drawn and must not be used by two threads at a time.

    Args:
        class_names: ``c`` names in the order of the class indices.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._histogram = _Histogram()
        self._per_class = _PerClass(class_names)

    def histogram(self, curiosity: ArrayLike, is_correct: ArrayLike) -> bytes:
        """Counts of right and of wrong clips over curiosity, overlaid, with their medians.

        Counts, not shares: a fold often has five wrong clips, and a share would hide that. They
        stand on a square-root axis, since on a linear one five wrong clips beside 75 right ones
        are a line.

        Args:
            curiosity: ``(n,)`` nats.
            is_correct: ``(n,)`` booleans.
        """
        return self._histogram.png(np.asarray(curiosity, float), np.asarray(is_correct, bool))

    def per_class(self, curiosity: ArrayLike, y_true: ArrayLike) -> bytes:
        """Every clip's curiosity in the row of its class, with median and middle half.

        The clips themselves, not whiskers: a class has about eight clips in a fold, and the ends
        of a box plot of eight are the clips anyway.

        Args:
            curiosity: ``(n,)`` nats.
            y_true: ``(n,)`` integers in 0..c-1. A class without a clip has an empty row.
        """
        return self._per_class.png(np.asarray(curiosity, float), np.asarray(y_true, int))


class _Frames:
    """A figure of 640 x 400 pixels whose frame is drawn once for each range of its axes."""

    def __init__(self, title: str, left: float) -> None:
        self.figure = Figure((6.4, 4.0), dpi=100, facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)
        self.axes: Axes = self.figure.add_axes((left, 0.135, 0.965 - left, 0.675))
        self.figure.text(0.02, 0.945, title, fontsize=11, fontweight="bold", color=INK)
        self.axes.set_xlabel("curiosity: mutual information (nats)", fontsize=9, color=INK)
        self.axes.tick_params(labelsize=8, labelcolor=INK, color=SOFT)
        for side, spine in self.axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(SOFT)
        self._note = self.figure.text(
            0.98, 0.945, "", fontsize=8, color=MUTED, ha="right", animated=True
        )
        self._kept: dict[Hashable, Any] = {}

    def png(
        self,
        frame: Hashable,
        set_up: Callable[[], object],
        artists: Sequence[Any],
        n_left_out: int,
    ) -> bytes:
        """Draw artists, made with ``animated=True``, over a frame.

        Args:
            frame: A value that identifies the frame; a frame is drawn once for each value.
            set_up: Sets limits, ticks and names of the axes; called if the frame is a new one.
            artists: Artists to draw over the frame, in this order.
            n_left_out: Clips left out because their curiosity is not finite.
        """
        if frame not in self._kept:
            if len(self._kept) == _MOST_FRAMES:
                del self._kept[next(iter(self._kept))]
            set_up()
            self._canvas.draw()
            self._kept[frame] = self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._kept[frame])
        if n_left_out:
            self._note.set_text(f"{n_left_out} not finite, left out")
            artists = [*artists, self._note]
        for artist in artists:
            self.axes.draw_artist(artist)
        stream = io.BytesIO()
        # Not `savefig`, which draws all anew. The highest level of compression takes four times
        # as long and saves a fifth of 20 kB.
        image = Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB")
        image.save(stream, "PNG", compress_level=1)
        return stream.getvalue()


class _Histogram:
    """Right clips as light bars with a solid median, wrong ones hatched with a dashed one."""

    def __init__(self) -> None:
        self._frames = _Frames("Curiosity of right and wrong clips", left=0.1)
        axes = self._frames.axes
        axes.set_ylabel("clips (square-root scale)", fontsize=9, color=INK)
        axes.set_yscale("function", functions=(lambda n: np.sqrt(np.maximum(n, 0)), np.square))
        self._bars = [
            axes.stairs(
                np.zeros(N_BINS), fill=True, facecolor=_LIGHT_BLUE, edgecolor=BLUE, animated=True
            ),
            axes.stairs(
                np.zeros(N_BINS),
                edgecolor=VERMILION,
                hatch="/////",
                linewidth=1.3,
                animated=True,
            ),
        ]
        self._medians = [
            axes.plot([], [], color=BLUE, linewidth=1.6, animated=True)[0],
            axes.plot([], [], color=VERMILION, linewidth=1.6, dashes=(4, 2), animated=True)[0],
        ]
        # Bar and median in one sample, which Matplotlib's types do not know.
        handles: list[Any] = list(zip(self._bars, self._medians, strict=True))
        for x, handle in zip((0.1, 0.53), handles, strict=True):
            for sample in handle:
                sample.set_animated(False)
            self._frames.figure.legend(
                [handle],
                [""],
                loc="center left",
                bbox_to_anchor=(x, 0.87),
                frameon=False,
                borderpad=0,
                borderaxespad=0,
            )
            for sample in handle:
                sample.set_animated(True)
        self._words = [
            self._frames.figure.text(
                x, 0.87, "", fontsize=8.5, color=INK, va="center", animated=True
            )
            for x in (0.165, 0.595)
        ]

    def png(self, curiosity: NDArray[np.float64], is_correct: NDArray[np.bool_]) -> bytes:
        is_finite = np.isfinite(curiosity)
        values = np.maximum(curiosity[is_finite], 0.0)
        is_right = is_correct[is_finite]
        limit = nice_limit(values.max(initial=0.0), _SMALLEST_LIMIT_NATS, (1, 2, 3, 5))
        edges = np.linspace(0.0, limit, N_BINS + 1)
        groups = {"right": values[is_right], "wrong": values[~is_right]}
        counts = [np.histogram(group, edges)[0] for group in groups.values()]
        height = nice_limit(1.04 * float(np.max(counts)), 5.0, (1, 2, 5))
        axes = self._frames.axes
        axes.set_xlim(0.0, limit)
        axes.set_ylim(0.0, height)
        for number, (name, group) in enumerate(groups.items()):
            self._bars[number].set_data(counts[number], edges)
            median = float(np.median(group)) if group.size else math.nan
            self._medians[number].set_data([median, median], [0.0, height])
            # Few letters: text takes half of the time.
            words = f"{group.size} {name}, median {median:#.2g}"
            self._words[number].set_text(words if group.size else f"0 {name}")
        # Of the round counts those that stand clear of each other near 0.
        ticks = [0, *(count for count in _COUNTS if height / 100 <= count <= height)]
        return self._frames.png(
            (limit, height),
            lambda: axes.set_yticks(ticks, [str(tick) for tick in ticks]),
            [*self._bars, *self._medians, *self._words],
            curiosity.size - values.size,
        )


class _PerClass:
    """One row for each class: a stroke for each clip, a bar for the middle half, the median."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = [short_name(name, 18) for name in class_names]
        self._frames = _Frames("Curiosity class by class", left=0.22)
        axes, n_rows = self._frames.axes, len(class_names)
        row_points = 0.675 * 4.0 * 72 / n_rows
        line: dict[str, Any] = {"linestyle": "none", "animated": True}
        self._boxes = axes.plot(
            [],
            [],
            color=_LIGHT_BLUE,
            linewidth=0.5 * row_points,
            solid_capstyle="butt",
            animated=True,
        )[0]
        self._clips = axes.plot(
            [], [], marker="|", color=BLUE, markersize=min(0.5 * row_points, 9.0), **line
        )[0]
        self._medians = axes.plot(
            [],
            [],
            marker="D",
            color=INK,
            markeredgecolor="white",
            markersize=max(min(0.28 * row_points, 6.0), 2.0),
            **line,
        )[0]
        axes.set_ylim(n_rows - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        samples = [
            axes.plot([], [], marker="|", color=BLUE, markersize=8, linestyle="none")[0],
            axes.plot([], [], color=_LIGHT_BLUE, linewidth=7, solid_capstyle="butt")[0],
            axes.plot([], [], marker="D", color=INK, markersize=5, linestyle="none")[0],
        ]
        self._frames.figure.legend(
            samples,
            ["one clip", "middle half", "median"],
            loc="center left",
            bbox_to_anchor=(0.22, 0.87),
            ncols=3,
            fontsize=8.5,
            frameon=False,
            borderaxespad=0,
        )
        self._frames.figure.text(
            0.02, 0.87, "class (clips)", fontsize=8.5, color=MUTED, va="center"
        )

    def png(self, curiosity: NDArray[np.float64], y_true: NDArray[np.int_]) -> bytes:
        is_finite = np.isfinite(curiosity)
        values, rows = np.maximum(curiosity[is_finite], 0.0), y_true[is_finite]
        limit = nice_limit(values.max(initial=0.0), _SMALLEST_LIMIT_NATS, (1, 2, 3, 5))
        present = np.unique(rows)
        quartiles = np.array(
            [np.quantile(values[rows == row], (0.25, 0.5, 0.75)) for row in present]
        ).reshape(-1, 3)
        # One line with a gap after each box.
        ends = np.insert(quartiles[:, [0, 2]], 2, np.nan, axis=1)
        self._boxes.set_data(ends.ravel(), np.repeat(present, 3))
        self._clips.set_data(values, rows)
        self._medians.set_data(quartiles[:, 1], present)
        # Room at both ends: a sure router has most clips at 0, and the largest may be the limit.
        self._frames.axes.set_xlim(-0.012 * limit, 1.012 * limit)
        counts = tuple(np.bincount(rows, minlength=len(self._names)).tolist())
        return self._frames.png(
            (limit, counts),
            lambda: self._name_rows(counts),
            [self._boxes, self._clips, self._medians],
            curiosity.size - values.size,
        )

    def _name_rows(self, counts: Sequence[int]) -> None:
        shown = range(0, len(counts), math.ceil(len(counts) / MAX_NAMES))
        self._frames.axes.set_yticks(
            list(shown),
            [f"{self._names[row]} ({counts[row]})" for row in shown],
            fontsize=min(8.0, 170.0 / len(shown)),
            # A class called `$x$` is a name, not a formula.
            parse_math=False,
        )


def nice_limit(value: float, smallest: float, steps: Sequence[float]) -> float:
    """The least of ``steps`` times a power of ten that is at least ``value`` and ``smallest``."""
    wanted = max(value, smallest) * (1 - 1e-9)
    power = math.floor(math.log10(wanted))
    rungs = (step * 10.0**p for p in (power, power + 1) for step in steps)
    return float(f"{next(rung for rung in rungs if rung >= wanted):.6g}")
