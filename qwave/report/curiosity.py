"""The two pictures of the router's curiosity: right against wrong clips, and class by class.

Curiosity is the router's epistemic uncertainty of a clip, a mutual information in nats, >= 0.
Rounding a little below 0 is shown at 0. Values that are not finite are left out and counted in
the picture.

Notation:
    n: clips, 0 allowed.
    c: classes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from qwave.report.colours import BLUE, INK, MUTED, SKY_BLUE, VERMILION, tint
from qwave.report.plate import (
    HEIGHT_PX,
    WIDTH_PX,
    Plate,
    PlateCache,
    Words,
    add_key,
    encode,
    leave_fifths,
    new_axes,
    nice_limit,
    palette_index,
    short_name,
)

Floats = NDArray[np.float64]

N_BINS = 30
"""Of equal width from 0 to the limit of the axis, so that both groups share their bins."""

SMALLEST_LIMIT_NATS = 0.001
"""Below this the router has no doubt worth an axis; all-zero curiosity is shown on it."""

LIMIT_STEPS = (1.0, 2.0, 3.0, 5.0)
COUNT_STEPS = (1.0, 2.0, 5.0)

MAX_ROWS_WITH_COUNTS = 25
"""Above this many classes a row is too low for a count beside it, and names are thinned."""

_KEY_Y = 0.862
_LIGHT_BLUE = tint(SKY_BLUE, 0.55)
_DASH_PX = 8
_DASH_GAP_PX = 4
# Of the samples in the key; the bars are drawn with whole pixels and look much like them.
_RIGHT_STYLE: dict[str, Any] = {
    "facecolor": _LIGHT_BLUE,
    "edgecolor": BLUE,
    "linewidth": 1.0,
}
_WRONG_STYLE: dict[str, Any] = {
    "facecolor": "none",
    "edgecolor": VERMILION,
    "linewidth": 1.3,
    "hatch": "/////",
}


def histogram_png(
    plates: PlateCache[Plate], curiosity: Floats, is_correct: NDArray[np.bool_]
) -> bytes:
    """Counts of right and of wrong clips over curiosity, overlaid, with their medians.

    Counts, not shares: a fold often has five wrong clips, and a share would hide that. They stand
    on a square-root axis, since on a linear one five wrong clips beside 75 right ones are a line.

    Args:
        plates: Backgrounds kept between calls.
        curiosity: ``(n,)`` nats.
        is_correct: ``(n,)``.
    """
    is_finite = np.isfinite(curiosity)
    values = np.maximum(curiosity[is_finite], 0.0)
    right, wrong = values[is_correct[is_finite]], values[~is_correct[is_finite]]
    limit = nice_limit(values.max(initial=0.0), SMALLEST_LIMIT_NATS, LIMIT_STEPS)
    right_counts, wrong_counts = bin_counts(right, limit), bin_counts(wrong, limit)
    most = max(right_counts.max(), wrong_counts.max())
    height = nice_limit(1.04 * float(most), 5.0, COUNT_STEPS)
    plate = plates.get(("histogram", height), lambda: _histogram_axes(height))

    image = plate.new_image()
    draw = ImageDraw.Draw(image)
    bottom = plate.row(0.0)
    columns = [plate.column(k / N_BINS) for k in range(N_BINS + 1)]
    texts = {}
    for name, group, counts in (("right", right, right_counts), ("wrong", wrong, wrong_counts)):
        if not group.size:
            texts[name] = f"{name}: no clips"
            continue
        median = float(np.median(group))
        noun = "clip" if group.size == 1 else "clips"
        texts[name] = f"{name}: {group.size} {noun}, median {median:#.2g} nats"
        tops = [plate.row(root) for root in np.sqrt(counts).tolist()]
        line_x, line_top = plate.column(median / limit), plate.row(math.sqrt(height))
        if name == "right":
            _draw_right_bars(draw, columns, tops, bottom)
            draw.rectangle((line_x - 1, line_top, line_x, bottom - 1), palette_index(BLUE))
        else:
            _draw_wrong_bars(image, draw, columns, tops, bottom)
            for low in range(bottom - 1, line_top - 1, -_DASH_PX - _DASH_GAP_PX):
                dash = (line_x - 1, max(low - _DASH_PX + 1, line_top), line_x, low)
                draw.rectangle(dash, palette_index(VERMILION))
    key_y = (1.0 - _KEY_Y) * HEIGHT_PX
    words = [
        *plate.fifths(limit),
        Words(102, key_y, texts["right"]),
        Words(372, key_y, texts["wrong"]),
        *_left_out(n_left_out=curiosity.size - values.size),
    ]
    return encode(image, words)


def bin_counts(values: Floats, limit: float) -> NDArray[np.int_]:
    """Counts ``(N_BINS,)`` of ``values`` ``(n,)`` in equal bins over 0..limit, both ends in."""
    # `np.histogram` searches a sorted copy of its edges; equal bins need a division only.
    index = np.minimum((values * (N_BINS / limit)).astype(np.int_), N_BINS - 1)
    return np.bincount(index, minlength=N_BINS)


def _draw_right_bars(
    draw: ImageDraw.ImageDraw, columns: Sequence[int], tops: Sequence[int], bottom: int
) -> None:
    """Tinted bars with an outline of one pixel.

    Args:
        draw: Of the image.
        columns: ``(N_BINS + 1,)`` pixel columns of the edges of the bins.
        tops: ``(N_BINS,)`` pixel rows of the bars; that of an empty bin is ``bottom``.
        bottom: Pixel row of the axis, which the bars leave free.
    """
    fill, edge = palette_index(_LIGHT_BLUE), palette_index(BLUE)
    for left, right, top in zip(columns, columns[1:], tops, strict=False):
        if top < bottom:
            draw.rectangle((left, top, right, bottom - 1), fill)
    for outline in bar_outlines(columns, tops, bottom):
        draw.line(outline, edge)


def _draw_wrong_bars(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    columns: Sequence[int],
    tops: Sequence[int],
    bottom: int,
) -> None:
    """Hatched bars with an outline of two pixels, through which what is below stays visible.

    Args:
        image: Drawn on.
        draw: Of ``image``.
        columns: See `_draw_right_bars`; likewise the two others.
        tops: See ``columns``.
        bottom: See ``columns``.
    """
    edge = palette_index(VERMILION)
    for left, right, top in zip(columns, columns[1:], tops, strict=False):
        if top < bottom:
            # Cut from the hatch of the whole picture, so that neighbours continue each other.
            box = (left, top, right + 1, bottom)
            image.paste(edge, box, _hatch().crop(box))
    for outline in bar_outlines(columns, tops, bottom):
        # Not `width=2`, which Pillow draws as one polygon a stretch, with holes at the corners.
        for right_by, down_by in ((0, 0), (-1, 0), (0, 1), (-1, 1)):
            draw.line([(x + right_by, min(y + down_by, bottom - 1)) for x, y in outline], edge)


def bar_outlines(
    columns: Sequence[int], tops: Sequence[int], bottom: int
) -> list[list[tuple[int, int]]]:
    """The steps over each run of bars without an empty bin between them, in pixels.

    An empty bin is a gap: a line over it would run along the axis like a bar of height 0.

    Args:
        columns: ``(k + 1,)`` of the edges of the bins.
        tops: ``(k,)``; that of an empty bin is ``bottom``.
        bottom: Row of the axis; the lines end above it.
    """
    outlines: list[list[tuple[int, int]]] = []
    is_open = False
    for left, right, top in zip(columns, columns[1:], tops, strict=False):
        if top < bottom:
            if not is_open:
                outlines.append([(left, bottom - 1)])
            outlines[-1] += [(left, top), (right, top)]
        elif is_open:
            outlines[-1].append((left, bottom - 1))
        is_open = top < bottom
    if is_open:
        outlines[-1].append((columns[-1], bottom - 1))
    return outlines


@functools.cache
def _hatch() -> Image.Image:
    """A mask of rising lines all over the picture, as dense as Matplotlib's ``/////``."""
    rows, columns = np.ogrid[:HEIGHT_PX, :WIDTH_PX]
    return Image.fromarray((rows + columns) % 7 < 2)


def _left_out(n_left_out: int) -> list[Words]:
    if not n_left_out:
        return []
    text = f"{n_left_out} not finite, left out"
    return [Words(WIDTH_PX - 22, 22, text, 11, MUTED, "rm")]


def _histogram_axes(height: float) -> Axes:
    axes = new_axes(
        "Curiosity of right and wrong clips",
        "curiosity: mutual information (nats)",
        "clips (square-root scale)",
        top=0.81,
    )
    axes.set_xlim(0.0, 1.0)
    leave_fifths(axes)
    axes.set_ylim(0.0, math.sqrt(height))
    ticks = count_ticks(height)
    axes.set_yticks([math.sqrt(tick) for tick in ticks], [f"{tick}" for tick in ticks])
    y = _KEY_Y - 0.018
    samples = [
        Rectangle((0.1, y), 0.045, 0.036, **_RIGHT_STYLE),
        Line2D([0.1225] * 2, [y, y + 0.036], color=BLUE, linewidth=1.4),
        Rectangle((0.522, y), 0.045, 0.036, **_WRONG_STYLE),
        Line2D([0.5445] * 2, [y, y + 0.036], color=VERMILION, linewidth=1.4),
    ]
    add_key(axes, samples)
    return axes


def count_ticks(height: float) -> list[int]:
    """Round counts from 0 up to ``height``, at least 7 % of a square-root axis apart."""
    ticks = [0]
    for tick in (step * 10**power for power in range(7) for step in (1, 2, 5)):
        gap = math.sqrt(tick) - math.sqrt(ticks[-1])
        if tick <= height and gap >= 0.07 * math.sqrt(height):
            ticks.append(tick)
    return ticks


def per_class_png(
    plates: PlateCache[Plate],
    class_names: Sequence[str],
    curiosity: Floats,
    y_true: NDArray[np.int_],
) -> bytes:
    """Every clip's curiosity in the row of its class, with median and quartiles.

    The clips themselves, not whiskers: a class has about eight clips in a fold, and the ends of a
    box plot of eight are the clips anyway.

    Args:
        plates: Backgrounds kept between calls.
        class_names: ``c`` names; the first is the top row.
        curiosity: ``(n,)`` nats.
        y_true: ``(n,)`` class of each clip. A class without one gets an empty row.
    """
    is_finite = np.isfinite(curiosity)
    values, rows = np.maximum(curiosity[is_finite], 0.0), y_true[is_finite]
    limit = nice_limit(values.max(initial=0.0), SMALLEST_LIMIT_NATS, LIMIT_STEPS)
    n_classes = len(class_names)
    plate = plates.get("per class", lambda: _per_class_axes(class_names))

    counts = np.bincount(rows, minlength=n_classes)
    present = np.flatnonzero(counts)
    shares = values / limit
    lower, median, upper = class_quartiles(shares, rows, counts[present])
    row_px = plate.pixel(0.0, 1.0)[1] - plate.pixel(0.0, 0.0)[1]
    image = plate.new_image()
    draw = ImageDraw.Draw(image)
    light, blue, ink, white = map(palette_index, (_LIGHT_BLUE, BLUE, INK, "#ffffff"))
    middles = [plate.row(row) for row in range(n_classes)]
    half_box = round(0.25 * row_px)
    quartiles = zip(lower.tolist(), upper.tolist(), present.tolist(), strict=True)
    for low, high, row in quartiles:
        left, right = plate.column(low), plate.column(high)
        draw.rectangle((left, middles[row] - half_box, right, middles[row] + half_box), light)
    half_stroke = round(min(0.236 * row_px, 6.25))
    for share, row in zip(shares.tolist(), rows.tolist(), strict=True):
        column = plate.column(share)
        stroke = (column, middles[row] - half_stroke, column, middles[row] + half_stroke)
        draw.rectangle(stroke, blue)
    radius = max(round(min(0.17 * row_px, 4.25)), 1)
    for share, row in zip(median.tolist(), present.tolist(), strict=True):
        column = plate.column(share)
        draw.polygon(_diamond(column, middles[row], radius + 1), white)
        draw.polygon(_diamond(column, middles[row], radius), ink)
    words = plate.fifths(limit) + _left_out(n_left_out=curiosity.size - values.size)
    if n_classes <= MAX_ROWS_WITH_COUNTS:
        for row in range(n_classes):
            y = plate.pixel(0.0, row)[1]
            text = f"{counts[row]}" if counts[row] else "no clip"
            words.append(Words(WIDTH_PX - 22, y, text, 10.5, MUTED, "rm"))
    return encode(image, words)


def _diamond(column: int, row: int, radius: int) -> list[tuple[int, int]]:
    """Corners of a square on its tip, in pixels."""
    return [
        (column, row - radius),
        (column + radius, row),
        (column, row + radius),
        (column - radius, row),
    ]


def class_quartiles(
    values: Floats, rows: NDArray[np.int_], counts: NDArray[np.int_]
) -> tuple[Floats, Floats, Floats]:
    """Quartiles of each class, interpolated as ``np.quantile`` does by default.

    All classes at once: one ``np.quantile`` per class is 0.02 ms, and 1 ms at 50 classes.

    Args:
        values: ``(n,)``.
        rows: ``(n,)`` class of each value.
        counts: ``(k,)`` values of each class that has one, in class order; they add up to n.

    Returns:
        Lower quartile, median and upper quartile, each ``(k,)``.
    """
    ordered = values[np.lexsort((values, rows))]
    start = np.cumsum(counts) - counts
    quartiles = []
    for share in (0.25, 0.5, 0.75):
        position = share * (counts - 1)
        below = np.floor(position).astype(np.int_)
        above = np.minimum(below + 1, counts - 1)
        low, high = ordered[start + below], ordered[start + above]
        quartiles.append(low + (high - low) * (position - below))
    return quartiles[0], quartiles[1], quartiles[2]


def _per_class_axes(class_names: Sequence[str]) -> Axes:
    axes = new_axes(
        "Curiosity class by class",
        "curiosity: mutual information (nats)",
        "",
        left=0.2,
        right=0.89,
        top=0.81,
    )
    n_classes = len(class_names)
    # Room at both ends: a sure router has most clips at 0, and the largest may be the limit.
    axes.set_xlim(-0.012, 1.012)
    leave_fifths(axes)
    axes.set_ylim(n_classes - 0.4, -0.6)
    step = math.ceil(n_classes / MAX_ROWS_WITH_COUNTS)
    shown = range(0, n_classes, step)
    size = min(8.0, 170.0 / len(shown))
    axes.set_yticks(
        list(shown),
        [short_name(class_names[row]) for row in shown],
        fontsize=size,
        # A class called `$x$` is a name, not a formula.
        parse_math=False,
    )
    axes.tick_params(axis="y", length=0)
    y = _KEY_Y
    samples = [
        Line2D([0.2], [y], marker="|", color=BLUE, markersize=8, linestyle="none"),
        Line2D([0.315, 0.36], [y, y], color=tint(SKY_BLUE, 0.55), linewidth=7),
        Line2D([0.515], [y], marker="D", color=INK, markersize=5, linestyle="none"),
    ]
    add_key(axes, samples)
    figure = axes.get_figure(root=True)
    assert figure is not None, "an axes made by `new_axes` belongs to a figure"
    key = [(0.215, "one clip"), (0.372, "middle half"), (0.53, "median")]
    for x, text in key:
        figure.text(x, y - 0.002, text, fontsize=8.5, color=INK, va="center")
    if n_classes <= MAX_ROWS_WITH_COUNTS:
        figure.text(0.966, y - 0.002, "clips", fontsize=8, color=MUTED, va="center", ha="right")
    return axes
