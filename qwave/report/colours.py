"""The colours of every picture, told apart by colour-blind readers and on grey print.

The hues are the eight of Okabe and Ito. No picture leans on hue alone: each pair drawn together
also differs in lightness and in line style, hatch or marker.

References:
    M. Okabe, K. Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

BLACK = "#000000"
ORANGE = "#e69f00"
SKY_BLUE = "#56b4e9"
GREEN = "#009e73"
YELLOW = "#f0e442"
BLUE = "#0072b2"
VERMILION = "#d55e00"
PURPLE = "#cc79a7"

OKABE_ITO = (BLACK, ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILION, PURPLE)

INK = "#1f2428"
"""Text and the data that matters most; not pure black, which glares on a white page."""

MUTED = "#6b7379"
"""Secondary text; contrast 4.9:1 on white, so that it stays readable in small sizes."""

SOFT = "#b4bcc2"
"""Data that is context only, and the frame of the axes."""

GRID = "#e6e9eb"
"""Grid lines: visible when looked for."""


def rgb(colour: str) -> tuple[int, int, int]:
    """The three 8-bit channels of a ``#rrggbb`` colour.

    Raises:
        ValueError: If ``colour`` is not written as ``#rrggbb``.
    """
    if len(colour) != 7 or not colour.startswith("#"):
        raise ValueError(f"a colour must be written #rrggbb, but got {colour!r}")
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def blend(colour: str, other: str, share: float) -> tuple[int, int, int]:
    """The colour that lies ``share`` (0..1) of the way from ``colour`` to ``other`` in sRGB."""
    start, end = rgb(colour), rgb(other)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def tint(colour: str, share: float) -> str:
    """``colour`` laid over white with opacity ``share`` (0..1), written ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*blend("#ffffff", colour, share))
