"""What all pictures share: colours, axes of sizes and shares, the large figure of a report.

The hues are those of Okabe and Ito ("Color Universal Design", 2008,
https://jfly.uni-koeln.de/color/), which colour-blind readers tell apart. No picture leans on hue
alone: what is drawn together also differs in lightness, and in line style, hatch or marker, so
that it can be read on grey print.

Figures are made without pyplot, which keeps every figure in a global list.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from qwave.report.table import size_text
from qwave.text import for_terminal

ORANGE = "#e69f00"
SKY_BLUE = "#56b4e9"
GREEN = "#009e73"
BLUE = "#0072b2"
VERMILION = "#d55e00"
PURPLE = "#cc79a7"

INK = "#1f2428"
"""Text and the data that matters most; not pure black, which glares on a white page."""

MUTED = "#6b7379"
"""Secondary text; contrast 4.9:1 on white, so that it stays readable in small sizes."""

SOFT = "#b4bcc2"
"""Data that is context only, and the frame of the axes."""

GRID = "#e6e9eb"
"""Grid lines: visible when looked for."""

_WIDTH_INCHES, _HEIGHT_INCHES, _DPI = 8.0, 5.0, 200


def tint(colour: str, share: float) -> str:
    """``colour`` laid over white with opacity ``share`` (0..1), written ``#rrggbb``."""
    red, green, blue = (1 - share * (1 - channel) for channel in to_rgb(colour))
    return to_hex((red, green, blue))


def short_name(name: str, limit: int) -> str:
    """A name on one line, control characters escaped, cut to ``limit`` characters."""
    line = for_terminal(" ".join(name.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def report_figure(
    title: str, subtitle: str, *, left: float = 0.082, right: float = 0.98
) -> tuple[Figure, Axes]:
    """A figure of 1600 x 1000 pixels with a title, a line below it, and room for a legend.

    Args:
        title: One line, bold.
        subtitle: One line in small letters below the title.
        left: Left edge of the axes as a share of the width.
        right: Right edge of the axes as a share of the width.
    """
    figure = Figure((_WIDTH_INCHES, _HEIGHT_INCHES), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((left, 0.115, right - left, 0.685))
    text: dict[str, Any] = {"va": "center", "parse_math": False}
    figure.text(0.02, 0.95, title, fontsize=13, fontweight="bold", color=INK, **text)
    figure.text(0.02, 0.9, subtitle, fontsize=8.5, color=MUTED, **text)
    axes.tick_params(labelsize=8.5, labelcolor=INK, color=SOFT, length=4)
    axes.tick_params(which="minor", color=GRID, length=3)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)
    return figure, axes


def add_legend(
    figure: Figure, handles: Sequence[Any], names: Sequence[str], **options: Any
) -> None:
    """One line of samples and names below the subtitle of a `report_figure`."""
    legend = figure.legend(
        handles,
        # Stand-ins: Matplotlib reads a name with `$` as mathematics and leaves out `_name`.
        ["name"] * len(names),
        loc="center left",
        bbox_to_anchor=(0.017, 0.843),
        ncols=len(names),
        fontsize=8,
        labelcolor=INK,
        frameon=False,
        borderpad=0.0,
        borderaxespad=0.0,
        handletextpad=0.45,
        columnspacing=1.5,
        **options,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG; equal figures give equal bytes."""
    stream = io.BytesIO()
    # Without metadata: Matplotlib would write its version, and an update would change the bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


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
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel(label, fontsize=9, color=INK)


PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g}")
"""Ticks of shares from 0 to 1, written in percent without the sign."""
