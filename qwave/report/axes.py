"""Axes that pictures share: sizes on a logarithmic scale, shares in percent."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from qwave.report.colours import GRID, INK, SOFT
from qwave.report.points import size_text


def scale_sizes(axes: Axes, smallest: float, largest: float) -> None:
    """Make x a logarithmic axis of bytes that holds both sizes with a margin."""
    left, right = math.log10(smallest), math.log10(largest)
    margin = max(0.06 * (right - left), 0.5 * (1.0 - (right - left)), 0.12)
    axes.set_xscale("log")
    axes.set_xlim(10 ** (left - margin), 10 ** (right + margin))
    steps = (1, 2, 5) if right - left + 2 * margin < 2.2 else (1,)
    decades = range(math.floor(left - margin), math.ceil(right + margin) + 1)
    axes.xaxis.set_major_locator(FixedLocator([s * 10.0**d for d in decades for s in steps]))
    axes.xaxis.set_minor_locator(
        FixedLocator([s * 10.0**d for d in decades for s in range(2, 10)])
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: size_text(size)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("file size (log scale; 1 kB = 1000 bytes)", fontsize=9, color=INK)


def scale_shares(axes: Axes, label: str) -> None:
    """Write y, a share from 0 to 1, in percent."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}"))
    axes.set_ylabel(label, fontsize=9, color=INK)


def quiet(axes: Axes) -> None:
    """Leave the frame and the grid in the background."""
    axes.tick_params(labelsize=8.5, labelcolor=INK, color=SOFT, length=4)
    axes.tick_params(which="minor", color=GRID, length=3)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)
