"""Sizes as people write them, and the member of a front that a size budget leads to.

kB and MB are powers of 1000, KiB and MiB of 1024.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from qwave.config import ConfigError
from qwave.scores import FrontPoint

# Budgets that every front answers: microcontrollers have 2 kB to 1 MB to spare.
BUDGETS_BYTES = (2_000, 4_000, 10_000, 20_000, 50_000, 100_000, 250_000, 1_000_000)

_UNITS = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2}


def parse_size(text: str) -> int:
    """Bytes of a size such as ``2000``, ``50kB``, ``1.5 MB`` or ``20KiB``; case does not matter.

    A part of a byte is dropped.

    Raises:
        ConfigError: The text is no size, or the size is below one byte.
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ?([a-z]*)", text.strip().lower())
    unit = _UNITS.get((match[2] or "b") if match else "")
    size_bytes = int(Fraction(match[1]) * unit) if match and unit else 0
    if size_bytes < 1:
        raise ConfigError(
            f"--budget must be a size such as 2000, 50kB, 1.5MB or 20KiB, but got {text!r} "
            "(B, kB, MB, GB: powers of 1000; KiB, MiB: powers of 1024)"
        )
    return size_bytes


def best_within(front: Sequence[FrontPoint], budget_bytes: int) -> FrontPoint | None:
    """The most accurate member that fits, of equals the smallest; None if none does."""
    fitting = [point for point in front if point.size_bytes <= budget_bytes]
    return max(fitting, key=lambda point: (point.accuracy, -point.size_bytes), default=None)


def budget_alias(budget_bytes: int) -> str:
    """``best-at-50kB``: the largest decimal unit that needs no point, which MLflow refuses."""
    for unit, scale in (("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if budget_bytes % scale == 0:
            return f"best-at-{budget_bytes // scale}{unit}"
    return f"best-at-{budget_bytes}B"


def budget_aliases(front: Sequence[FrontPoint]) -> dict[int, list[str]]:
    """Trial number to the budgets of `BUDGETS_BYTES` that its model is the best for.

    Members that are the best for none are left out, and budgets that nothing fits go to nobody.
    """
    aliases: dict[int, list[str]] = {}
    for budget_bytes in BUDGETS_BYTES:
        best = best_within(front, budget_bytes)
        if best is not None:
            aliases.setdefault(best.number, []).append(budget_alias(budget_bytes))
    return aliases


def aliases_of(
    point: FrontPoint, front: Sequence[FrontPoint], budget_bytes: int | None = None
) -> list[str]:
    """Aliases of a model: the budgets that it is the best for, and its trial.

    Args:
        point: The point of the model.
        front: Members of the front; a point that is not among them gets ``trial-12`` alone.
        budget_bytes: A further budget, which the model was chosen for.
    """
    aliases = budget_aliases(front).get(point.number, [])
    if budget_bytes is not None:
        aliases.append(budget_alias(budget_bytes))
    return [*dict.fromkeys(aliases), f"trial-{point.number}"]
