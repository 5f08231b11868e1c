"""The course of a search as a drawing in the page: a staircase over the trials, without a script.

The drawing is stretched to the width of the page, and its numbers are text of the page beside it,
so that they stay readable on a telephone; colours follow the page's style, in the dark and on
paper as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_MOST_TICKS = 5
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def history_html(hypervolume_by_trial: Sequence[tuple[int, float]]) -> str:
    """The dominated hypervolume after each trial, drawn as a staircase.

    Args:
        hypervolume_by_trial: Trial number and hypervolume, in trial order; at least one.
    """
    numbers = [number for number, _ in hypervolume_by_trial]
    values = [value for _, value in hypervolume_by_trial]
    first, last = min(numbers), max(max(numbers), min(numbers) + 1)
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * max(abs(low), 1e-9), high + 0.5 * max(abs(high), 1e-9)
    ticks = nice_ticks(low, high)
    bottom, top = min(low, ticks[0]), max(high, ticks[-1])

    def right(number: float) -> float:
        return 100 * (number - first) / (last - first)

    def up(value: float) -> float:
        return 100 * (value - bottom) / (top - bottom)

    path = f"M{right(numbers[0]):.2f} {100 - up(values[0]):.2f}"
    for number, value in hypervolume_by_trial[1:]:
        path += f"H{right(number):.2f}V{100 - up(value):.2f}"
    path += "H100"
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) + 1
    rules, labels = [], []
    for tick in ticks:
        y = up(tick)
        rules.append(f'<line x1="0" x2="100" y1="{100 - y:.2f}" y2="{100 - y:.2f}"/>')
        shown = f"{tick:.{digits}f}".rstrip("0").rstrip(".")
        labels.append(f'<span class="y" style="bottom:{y:.2f}%">{shown}</span>')
    for tick in nice_ticks(first, last):
        if tick == int(tick) and first <= tick <= last:
            labels.append(f'<span class="x" style="left:{right(tick):.2f}%">{int(tick)}</span>')
    return (
        '<div class="steps" id="qwave-hypervolume" role="img" aria-label="hypervolume '
        f'{values[0]:.5g} after trial {numbers[0]}, {values[-1]:.5g} after trial {numbers[-1]}">'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(rules)}<path d="{path}"/></svg>{"".join(labels)}'
        '<span class="name">trial</span></div>'
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """Two to seven round numbers, 1, 2, 2.5 or 5 times a power of ten apart.

    ``low`` must be below ``high``. The first is at or below ``low``, the last at or above
    ``high``.
    """
    rough = (high - low) / _MOST_TICKS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * s for s in _STEPS if scale * s >= rough * (1 - 1e-9))
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * place, 12) for place in range(start, end + 1)]
