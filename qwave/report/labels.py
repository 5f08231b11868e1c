"""Where to write the labels of marked points so that they cover as little as possible.

All coordinates are pixels. A box is ``(left, bottom, right, top)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]

_ANGLES = (135, 90, 180, 45, 112, 158, 68, 315, 0, 270, 225)
"""Directions from the point, degrees; earlier ones win ties. A front rises to the right, so the
room is above and to the left of it."""

_GAPS = (9.0, 20.0, 36.0, 56.0, 80.0, 110.0)
"""Distances from the point to the nearest edge of the label; a far label costs a leader line."""

_DISTANCE_WEIGHT = 7.0

_MAX_COVERED = 900.0
"""Weighted pixels a label may cover. A label that cannot do better is worse than none."""


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[tuple[Box, float]],
    bounds: Box,
) -> list[Box | None]:
    """Choose a box for each label, greedily, in the order given.

    Simulated annealing over all labels together was not tried: a front has 5 to 20 members, and
    its points rarely crowd on both axes at once.

    Args:
        anchors: Point of each label.
        sizes: Width and height of each label.
        obstacles: Boxes a label should not cover, each with the cost per covered pixel.
        bounds: The area all labels have to stay in.

    Returns:
        The box of each label, or None for a label that no candidate keeps inside ``bounds``,
        clear of the labels before it and mostly clear of the obstacles. No two boxes returned
        overlap.
    """
    placed: list[Box | None] = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        best, best_cost = None, math.inf
        for gap in _GAPS:
            for rank, angle in enumerate(_ANGLES):
                box = _candidate(x, y, width, height, gap, math.radians(angle))
                if not _is_inside(box, bounds):
                    continue
                if any(other is not None and overlap(box, other) > 0.0 for other in placed):
                    continue
                covered = sum(weight * overlap(box, other) for other, weight in obstacles)
                cost = covered + _DISTANCE_WEIGHT * gap + rank
                if covered <= _MAX_COVERED and cost < best_cost:
                    best, best_cost = box, cost
        placed.append(best)
    return placed


def overlap(box: Box, other: Box) -> float:
    """Area two boxes share, 0 where they only touch."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _candidate(x: float, y: float, width: float, height: float, gap: float, angle: float) -> Box:
    """The box whose nearest edge is ``gap`` away from the point in the direction ``angle``."""
    across, up = math.cos(angle), math.sin(angle)
    # A label to the side grows away from the point; straight above it is centred.
    center_x = x + across * gap + across * width / 2
    center_y = y + up * gap + up * height / 2
    return (
        center_x - width / 2,
        center_y - height / 2,
        center_x + width / 2,
        center_y + height / 2,
    )


def _is_inside(box: Box, bounds: Box) -> bool:
    return (
        box[0] >= bounds[0] and box[1] >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
    )
