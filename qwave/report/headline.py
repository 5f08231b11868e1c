"""The sentence at the top of a report: how accurate, in how many bytes, and where it ends.

The standard errors of two trials are all that is known of the noise between them, so the rule is a
careful one: a trial counts as better than another beyond chance if it is ahead by more than
1.96 x sqrt(2) times the larger of their standard errors. That is the two-sided 5 % level for two
models that were scored on different recordings. All trials are scored on the same ones, which
makes their true difference less noisy than that: the rule misses small gains and rarely
announces one that is none. A paired bootstrap (`qwave.scores.bootstrap_difference`) sees
more; it needs the predictions of every clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qwave.report.table import size_text
from qwave.scores import FrontPoint, front_members

Z = 1.96
"""Standard errors on each side of a 95 % interval."""

_MOST_STEPS = 3


def is_better(point: FrontPoint, other: FrontPoint) -> bool:
    """Whether ``point`` is more accurate than ``other`` beyond chance, by the rule above."""
    noise = math.sqrt(2) * max(point.standard_error, other.standard_error)
    # Equal accuracies written by other sums differ in the last bit.
    return point.accuracy - other.accuracy > Z * noise + 1e-9


def accuracy_interval(point: FrontPoint) -> tuple[float, float]:
    """The 95 % interval of a trial's accuracy, 1.96 standard errors to each side, within 0..1."""
    half = Z * point.standard_error
    return max(0.0, point.accuracy - half), min(1.0, point.accuracy + half)


def leading_steps(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The trials worth naming, largest first; each is the smallest of those that are as good.

    The first is the smallest member of the front that no larger trial beats beyond chance. The
    next is the same among all trials smaller than the first, and so on: every further one is
    beaten beyond chance by something larger, and by nothing that is smaller than the one named
    before it.

    Args:
        points: Complete trials in any order; may be empty.
    """
    members = front_members(points)
    steps: list[FrontPoint] = []
    rest = list(points)
    while rest and members:
        settled = (
            member
            for member in members
            if not any(is_better(p, member) for p in rest if p.size_bytes > member.size_bytes)
        )
        first = next(settled, members[-1])
        # Of equal sizes the most accurate; of equal ones in both the trial found first.
        alike = [member for member in members if member.size_bytes == first.size_bytes]
        steps.append(min(alike, key=lambda p: (-p.accuracy, p.number)))
        rest = [point for point in rest if point.size_bytes < first.size_bytes]
        members = [member for member in members if member.size_bytes < first.size_bytes]
    return steps


def headline(points: Sequence[FrontPoint], reference_accuracy: float) -> str:
    """One sentence: the accuracies that lead, in what sizes, and the size beyond which none gains.

    Args:
        points: Complete trials in any order; may be empty.
        reference_accuracy: Accuracy of guessing, 0..1.
    """
    if not points:
        return "No trial is complete yet."
    best = max(points, key=lambda p: (p.accuracy, -p.size_bytes, -p.number))
    if best.accuracy - reference_accuracy <= Z * best.standard_error:
        return (
            f"No trial is better than the reference accuracy of "
            f"{percent_text(reference_accuracy)} beyond chance: the highest has "
            f"{percent_text(best.accuracy)} in {size_text(best.size_bytes)}."
        )
    steps = leading_steps(points)[:_MOST_STEPS]
    sizes = [size_text(step.size_bytes) for step in steps]
    if len(set(sizes)) < len(sizes):
        sizes = [f"{step.size_bytes:,} B" for step in steps]
    named = ", ".join(
        f"{percent_text(step.accuracy)} in {size}" for step, size in zip(steps, sizes, strict=True)
    )
    return f"{named}; {_end(points, steps[0], best, sizes[0])}."


def _end(points: Sequence[FrontPoint], first: FrontPoint, best: FrontPoint, size: str) -> str:
    if len(points) == 1:
        return "this is the only trial so far"
    if not any(point.size_bytes > first.size_bytes for point in points):
        return f"nothing larger than {size} was tried"
    if best.accuracy <= first.accuracy:
        return f"beyond {size} nothing here is better"
    return (
        f"beyond {size} nothing here is better by more than chance "
        f"({percent_text(best.accuracy)} in {size_text(best.size_bytes)} is within the noise)"
    )


def percent_text(share: float) -> str:
    """A share 0..1 in percent with one decimal, or with two where one would make it 0 or 100."""
    text = f"{100 * share:.1f}"
    if text in ("0.0", "100.0") and share not in (0.0, 1.0):
        text = f"{100 * share:.2f}"
    return f"{text} %"
