"""A picture whose background is written once: put the data into it as a small SVG.

The twin of `qwave.report.plate` for pictures made of lines, cells and words: no pixels to draw,
quantize and deflate, so that the confusion matrix of ten classes takes 0.24 ms instead of 3.5. The
pictures of curiosity stay PNG.

Coordinates of data are pixels of the 640 x 400 picture, from the left and from the **top** edge.
Widths of lines and sizes of markers are points, as in Matplotlib, so that a line and its sample
in the key, which Matplotlib draws into the background, share their numbers.

Notation:
    n: points.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.transforms import Transform
from numpy.typing import ArrayLike, NDArray

from qwave.report.plate import DPI, HEIGHT_PX, WIDTH_PX, Words, legal_text

Floats = NDArray[np.float64]

_PX_PER_POINT = DPI / 72
_FONTS = "'DejaVu Sans', Verdana, sans-serif"
"""Matplotlib measures in the first; the second is the widespread one of the same widths."""

_TEXT_ANCHORS = {"l": "start", "m": "middle", "r": "end"}
# From Pillow's vertical anchor down to the baseline in shares of the font size: DejaVu Sans rises
# 0.928 above it and falls 0.236 below. SVG's `dominant-baseline` is not everywhere the same.
_BASELINES = {"a": 0.928, "m": 0.346, "s": 0.0}

_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


class SvgPlate:
    """The background of one picture as text and the way from its data to pixels.

    No call changes it, and it is about 7 kB: the axes are not kept.

    Args:
        axes: The axes, from `new_axes`, with their limits, ticks and labels set; written here,
            once, and not to be used again.
    """

    def __init__(self, axes: Axes) -> None:
        figure = axes.get_figure(root=True)
        assert isinstance(figure, Figure), "an axes made by `new_axes` belongs to a figure"
        background = _background(figure, axes)
        # Only now: drawing settles the limits, and it leaves the figure at 72 dpi.
        figure.set_dpi(DPI)
        to_pixels = axes.transData.frozen()
        assert isinstance(to_pixels, Transform)
        self._to_pixels = to_pixels
        box = axes.bbox.frozen()
        left, top = f"{box.x0:.1f}", f"{HEIGHT_PX - box.y1:.1f}"
        size = f'width="{box.width:.1f}" height="{box.height:.1f}"'
        # Two pictures may stand in one page, where equal ids must mean equal rectangles.
        clip = f"axes-{left}-{top}-{box.width:.1f}-{box.height:.1f}"
        self._head = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'role="img" width="{WIDTH_PX}" height="{HEIGHT_PX}" '
            f'viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" font-family="{_FONTS}">'
            f"<title>{_escape(figure.get_suptitle())}</title>"
            f'<rect width="{WIDTH_PX}" height="{HEIGHT_PX}" fill="#ffffff"/>'
            f"{background}"
            f'<clipPath id="{clip}"><rect x="{left}" y="{top}" {size}/></clipPath>'
            f'<g clip-path="url(#{clip})" stroke-linejoin="round">'
        )

    def pixel(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Data coordinates ``(n,)`` each, on linear or log axes, as pixels ``(n, 2)``.

        NaN stays NaN, and with it the gap in a line. On a log axis a value <= 0 has no place; it
        comes out far below the picture.
        """
        points = np.column_stack((np.asarray(x, np.float64), np.asarray(y, np.float64)))
        pixels = np.asarray(self._to_pixels.transform(points))
        pixels[:, 1] = HEIGHT_PX - pixels[:, 1]
        return pixels

    def svg(self, elements: Sequence[str], words: Sequence[Words] = ()) -> bytes:
        """Write data and words onto the background.

        Args:
            elements: SVG elements in pixels, drawn in order and cut off at the edges of the axes.
            words: Drawn over the elements and not cut off; those that look alike are put into one
                group, so where words of different looks overlap their order is not kept.

        Returns:
            An SVG of 640 x 400 pixels in UTF-8; equal input gives equal bytes.
        """
        return f"{self._head}{''.join(elements)}</g>{_texts(words)}</svg>\n".encode()


def polyline(
    points: Floats, colour: str, width: float, dash: Sequence[float] | None = None
) -> str:
    """A line through ``points`` ``(n, 2)`` in pixels, with a gap at each that is not finite.

    A lone point between two gaps has no line; `dots` or `circles` keep it visible.

    Args:
        points: Pixels.
        colour: ``#rrggbb``.
        width: Points.
        dash: Lengths of strokes and gaps in line widths, as Matplotlib's; a solid line without.
    """
    width_px = width * _PX_PER_POINT
    strokes = ""
    if dash is not None:
        lengths = " ".join(f"{length * width_px:.1f}" for length in dash)
        strokes = f' stroke-dasharray="{lengths}"'
    pieces = []
    command = "M"
    for (x, y), is_drawn in zip(points.tolist(), _is_finite(points).tolist(), strict=True):
        if is_drawn:
            pieces.append(f"{command}{x:.1f} {y:.1f}")
            command = "L"
        else:
            command = "M"
    return (
        f'<path d="{"".join(pieces)}" fill="none" '
        f'stroke="{colour}" stroke-width="{width_px:.1f}"{strokes}/>'
    )


def dots(points: Floats, colour: str, diameter: float) -> str:
    """A filled dot at each finite one of ``points`` ``(n, 2)`` in pixels; ``diameter`` in points.

    Strokes of no length with round ends: 13 bytes a dot, where a ``<circle>`` takes 35.
    """
    d = "".join([f"M{x:.1f} {y:.1f}h0" for x, y in points[_is_finite(points)].tolist()])
    return (
        f'<path d="{d}" stroke="{colour}" stroke-width="{diameter * _PX_PER_POINT:.1f}" '
        'stroke-linecap="round"/>'
    )


def circles(points: Floats, colour: str, diameter: float, width: float) -> str:
    """A white circle with a line around it at each finite one of ``points`` ``(n, 2)`` in pixels.

    Args:
        points: Pixels of the centres.
        colour: Of the line, ``#rrggbb``.
        diameter: Points, to the middle of the line.
        width: Points, of the line.
    """
    radius = f"{diameter / 2 * _PX_PER_POINT:.1f}"
    marks = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'
        for x, y in points[_is_finite(points)].tolist()
    ]
    return (
        f'<g fill="#ffffff" stroke="{colour}" stroke-width="{width * _PX_PER_POINT:.1f}">'
        f"{''.join(marks)}</g>"
    )


def squares(corners: Sequence[tuple[float, float]], side: float, colour: str) -> str:
    """Filled squares of one colour, parted by a fine white line.

    Args:
        corners: Upper left corners in pixels.
        side: Pixels.
        colour: ``#rrggbb``.
    """
    d = "".join([f"M{x:.1f} {y:.1f}h{side:.1f}v{side:.1f}h-{side:.1f}z" for x, y in corners])
    return f'<path d="{d}" fill="{colour}" stroke="#ffffff" stroke-width="0.6"/>'


def _is_finite(points: Floats) -> NDArray[np.bool_]:
    """Which of ``points`` ``(n, 2)`` can be drawn, ``(n,)``."""
    return np.asarray(np.isfinite(points).all(axis=1))


def _texts(words: Sequence[Words]) -> str:
    """The words as SVG, what they share written once a group: half the bytes of a matrix."""
    groups: dict[str, list[str]] = {}
    for x, y, text, size, colour, anchor, is_bold in words:
        horizontal, vertical = anchor[0], anchor[1]
        weight = ' font-weight="bold"' if is_bold else ""
        look = f'font-size="{size:.1f}" fill="{colour}"{weight}'
        if horizontal != "l":
            look += f' text-anchor="{_TEXT_ANCHORS[horizontal]}"'
        baseline = y + size * _BASELINES[vertical]
        groups.setdefault(look, []).append(
            f'<text x="{x:.1f}" y="{baseline:.1f}">{_escape(text)}</text>'
        )
    return "".join([f"<g {look}>{''.join(texts)}</g>" for look, texts in groups.items()])


def _escape(text: str) -> str:
    return html.escape(legal_text(text), quote=False)


def _background(figure: Figure, axes: Axes) -> str:
    """Everything on ``figure`` as one SVG group, a third of the bytes that Matplotlib writes."""
    # One white rectangle is there already; these would lie on it.
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    stream = io.StringIO()
    # Text stays text. The salt: ids come from a random number without.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "qwave"}):
        # Not `savefig`, which a person's settings may make crop the picture.
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    root = ElementTree.fromstring(stream.getvalue())
    group = ElementTree.Element("g", transform=f"scale({_PX_PER_POINT:.6g})")
    # Matplotlib says this by a style sheet, which would also rule all other elements of a page.
    group.set("stroke-linejoin", "round")
    for child in root:
        group.extend(_compact(child))
    return ElementTree.tostring(group, encoding="unicode")


def _compact(node: ElementTree.Element) -> list[ElementTree.Element]:
    """``node`` without what a reader does not see; its children alone where only they remain."""
    tag = node.tag.rpartition("}")[2]
    if tag in ("metadata", "style"):
        return []
    children = [small for child in node for small in _compact(child)]
    attributes = {name: _short(value) for name, value in node.attrib.items()}
    # Markers and clipping paths are used by their id; those of groups are names only.
    if tag == "g":
        attributes.pop("id", None)
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    if _XLINK_HREF in attributes:
        attributes["xlink:href"] = attributes.pop(_XLINK_HREF)
    if tag == "g" and not attributes:
        return children
    if tag in ("g", "defs") and not children:
        return []
    small = ElementTree.Element(tag, attributes)
    small.extend(children)
    if tag == "text":
        small.text = node.text
    return [small]


def _short(value: str) -> str:
    value = re.sub(r"font-family:[^;]*; ", "", value)
    value = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", value)
    return re.sub(r"([;:]) ", r"\1", " ".join(value.split()))
