"""Text and limits of the axes on which the points of a front are drawn.

Sizes are in bytes and are written with decimal prefixes: 1 kB is 1000 bytes, 1 MB is 1000 kB.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwave.scores.front import FrontPoint, front_members

SMALLEST_SPAN = 0.02
"""Accuracy range shown at least: below it, differences are noise and should look like it."""


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
    # Above the front is where its labels go.
    return lower - 0.08 * span, upper + 0.22 * span


def size_text(size_bytes: float) -> str:
    """A size for a reader, three significant digits: ``812 B``, ``2.05 kB``, ``1.5 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # 999.5 rounds to 1000 at three digits, so the next unit starts just below its scale.
        if size_bytes >= 0.9995 * scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes:.3g} B"


def check_frame(reference_accuracy: float, size_budget_bytes: int) -> None:
    """Refuse a reference accuracy or a size budget that no axis can show.

    Raises:
        ValueError: If ``reference_accuracy`` is not in 0..1 or the budget is not positive.
    """
    if not 0.0 <= reference_accuracy <= 1.0:
        raise ValueError(f"`reference_accuracy` must lie in 0..1, but got {reference_accuracy}")
    if size_budget_bytes < 1:
        raise ValueError(f"`size_budget_bytes` must be at least 1, but got {size_budget_bytes}")
