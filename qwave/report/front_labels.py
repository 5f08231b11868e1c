"""The labels of the front's members in `front_png`, written where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from qwave.report.colours import INK, MUTED
from qwave.report.labels import Box, place_labels
from qwave.scores import FrontPoint, attainment_staircase, front_members

PADDING_PX = 5
"""Free pixels on both sides of a label, and in all above and below it."""


def label_front(
    canvas: FigureCanvasAgg,
    axes: Axes,
    points: Sequence[FrontPoint],
    rules: Sequence[tuple[Artist, float]],
) -> int:
    """Write the label of each front member beside it, with a thin leader where it is far.

    Args:
        canvas: Canvas of the figure; text has a width only where it is drawn.
        axes: Axes with their final limits and all marks.
        points: All points; those not on the front are no more than obstacles.
        rules: Lines and texts a label should not cover, with the cost per covered pixel.

    Returns:
        How many labels found no room.
    """
    members = front_members(points)
    renderer = canvas.get_renderer()
    halo = [withStroke(linewidth=2.2, foreground="white", alpha=0.85)]
    style: dict[str, Any] = {
        "fontsize": 8,
        "color": INK,
        "zorder": 6,
        "parse_math": False,
        "path_effects": halo,
    }
    labels = [axes.text(p.size_bytes, p.accuracy, p.label, **style) for p in members]
    boxes = [label.get_window_extent(renderer) for label in labels]
    anchors = [_pixels(axes, point.size_bytes, point.accuracy) for point in members]
    obstacles = _obstacles(axes, points)
    obstacles += [(_box(rule.get_window_extent(renderer), 3.0), cost) for rule, cost in rules]
    bounds = _box(axes.get_window_extent(renderer), 0.0)
    sizes = [(box.width + 2 * PADDING_PX, box.height + PADDING_PX) for box in boxes]
    places = place_labels(anchors, sizes, obstacles, bounds)
    to_data = axes.transData.inverted()
    for label, place, anchor in zip(labels, places, anchors, strict=True):
        if place is None:
            label.remove()
            continue
        x, y = to_data.transform(((place[0] + place[2]) / 2, place[1]))
        label.set_position((float(x), float(y)))
        label.set(ha="center", va="bottom")
        nearest = (_clamp(anchor[0], place[0], place[2]), _clamp(anchor[1], place[1], place[3]))
        if math.dist(nearest, anchor) > 26:
            ends = to_data.transform([anchor, nearest])
            axes.plot(*ends.T, color=MUTED, linewidth=0.6, zorder=2.5)
    return sum(place is None for place in places)


def _obstacles(axes: Axes, points: Sequence[FrontPoint]) -> list[tuple[Box, float]]:
    obstacles: list[tuple[Box, float]] = []
    for point in points:
        x, y = _pixels(axes, point.size_bytes, point.accuracy)
        reach, weight = (11.0, 4.0) if point.is_front else (6.0, 0.6)
        obstacles.append(((x - reach, y - reach, x + reach, y + reach), weight))
        if point.is_front:
            _, low = _pixels(axes, point.size_bytes, point.accuracy - point.standard_error)
            _, high = _pixels(axes, point.size_bytes, point.accuracy + point.standard_error)
            obstacles.append(((x - 6, low, x + 6, high), 2.0))
    sizes, accuracies = attainment_staircase(points)
    corners = [_pixels(axes, x, y) for x, y in zip(sizes, accuracies, strict=True)]
    for (x, y), (next_x, next_y) in zip(corners[:-1], corners[1:], strict=True):
        obstacles.append(((x, y - 2, next_x, y + 2), 2.0))
        obstacles.append(((next_x - 2, y, next_x + 2, next_y), 2.0))
    if corners:
        x, y = corners[-1]
        obstacles.append(((x, y - 2, axes.bbox.x1, y + 2), 2.0))
    return obstacles


def _pixels(axes: Axes, size_bytes: float, accuracy: float) -> tuple[float, float]:
    x, y = axes.transData.transform((size_bytes, accuracy))
    return float(x), float(y)


def _box(bbox: Bbox, padding: float) -> Box:
    return (bbox.x0 - padding, bbox.y0 - padding, bbox.x1 + padding, bbox.y1 + padding)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
