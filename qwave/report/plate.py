"""A picture whose background is drawn once: copy it, draw the data, encode a small PNG.

A sweep writes 25 pictures per trial, so their cost is counted; the 15 of them that need no pixels
are SVG (`qwave.report.svg`). The histogram of curiosity, 640 x 400 pixels, one core, medians
(Matplotlib 3.11, Pillow 13):

    =====================================================  ========
    a new figure, drawn and saved by ``Figure.savefig``    77 ms
    background copied, data drawn on the palette           0.26 ms
    + its changing words, pasted                           0.07 ms
    + encoded, compression level 1 (12 kB)                 0.40 ms
    =====================================================  ========

Three findings shaped the module. Encoding cost more than drawing: a true-colour PNG tries five
filters per row, a palette PNG none, and one byte a pixel is also a third of the bytes to deflate.
Drawn by Matplotlib in true colour, and only then brought to the palette, the picture took 3.1 ms;
upright bars and strokes need no smoothed edges, so Pillow draws them on the palette image itself.
And text is the slowest artist of Matplotlib, 1.0 ms for 16 letters; Pillow takes 0.06 ms. So the
words that change are drawn by Pillow, with the font that Matplotlib ships and uses for the words
that stay.
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from qwave.report.colours import (
    BLUE,
    GRID,
    INK,
    MUTED,
    SKY_BLUE,
    SOFT,
    VERMILION,
    blend,
    rgb,
    tint,
)

WIDTH_PX = 640
HEIGHT_PX = 400
DPI = 100
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FIFTHS = tuple(k / 5 for k in range(6))

AnyPlate = TypeVar("AnyPlate")
"""A kind of plate: `Plate`, or the `SvgPlate` of `qwave.report.svg`."""


class Words(NamedTuple):
    """A text that changes from picture to picture.

    Attributes:
        x: Pixels from the left edge.
        y: Pixels from the **top** edge, as in Pillow.
        text: One line.
        size_px: Font size in pixels.
        colour: ``#rrggbb``.
        anchor: Pillow's two letters, horizontal ``l m r`` and vertical ``a m s``.
        is_bold: Whether the bold font is used.
    """

    x: float
    y: float
    text: str
    size_px: float = 12.0
    colour: str = INK
    anchor: str = "lm"
    is_bold: bool = False


class Plate:
    """The background of one picture on the palette, and the way from its data to pixels.

    No call changes it. 0.26 MB: the axes are not kept.

    Args:
        axes: Linear axes with their limits, ticks, labels and title set; drawn here, once.
    """

    def __init__(self, axes: Axes) -> None:
        figure = axes.get_figure(root=True)
        assert figure is not None, "an axes made by `new_axes` belongs to a figure"
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        # No dither: it would speckle flat areas and double the file.
        self._background = drawn.quantize(palette=_palette(), dither=Image.Dither.NONE)
        self._bottom = HEIGHT_PX - float(axes.bbox.y0)
        # Composing Matplotlib's transforms for each point would take 0.03 ms.
        matrix = axes.transData.get_affine().get_matrix()
        (self._x_scale, _, self._left), (_, self._y_scale, self._zero), _ = matrix.tolist()

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Data coordinates as pixels from the left and from the **top** edge."""
        return self._x_scale * x + self._left, HEIGHT_PX - (self._y_scale * y + self._zero)

    def column(self, x: float) -> int:
        """Pixel column of a line one pixel wide at ``x``, where Matplotlib puts that of a tick."""
        return math.floor(self._x_scale * x + self._left + 0.5)

    def row(self, y: float) -> int:
        """Pixel row of a line one pixel high at ``y``, where Matplotlib puts that of a tick."""
        return math.floor(HEIGHT_PX - (self._y_scale * y + self._zero) + 0.5)

    def new_image(self) -> Image.Image:
        """A copy of the background to draw on, in mode P; colours are `palette_index`."""
        return self._background.copy()

    def fifths(self, limit: float) -> list[Words]:
        """Labels of an axis made by `leave_fifths`, on which 1 stands for ``limit``.

        Words, not ticks of Matplotlib: one background so serves every limit. When each limit had
        its own, the 59 backgrounds of the histograms cost half of all pictures of a 60-trial
        study.

        Args:
            limit: Value at 1; on the rungs of `nice_limit` a fifth of it is a short number.
        """
        return [
            Words(
                self.pixel(share, 0.0)[0], self._bottom + 7, f"{limit * share:.6g}", 11, INK, "ma"
            )
            for share in _FIFTHS
        ]


def encode(image: Image.Image, words: Sequence[Words] = ()) -> bytes:
    """Paste ``words``, in order, onto an image from `Plate.new_image`, and encode it.

    Words stand on white, with which their smoothed edges are blended; the edges of the picture cut
    them off.

    Returns:
        A PNG of 640 x 400 pixels with a palette; equal input gives equal bytes.
    """
    for word in words:
        stamp = _stamp(word.text, word.size_px, word.colour, word.anchor, word.is_bold)
        place = (round(word.x) + stamp.left, round(word.y) + stamp.top)
        image.paste(stamp.letters, place, stamp.mask)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


class PlateCache(Generic[AnyPlate]):
    """The plates of one kind used last, by kind of picture and axis limits.

    Bounded, because the limits come from the data: a loss that once exploded must not keep its
    plate for the rest of a sweep. A sweep uses 10 to 20 of both kinds together.

    Args:
        make_plate: The class of the plates; it draws the background.
        max_plates: Plates kept; see their class for the size of one.
    """

    def __init__(self, make_plate: Callable[[Axes], AnyPlate], max_plates: int = 32) -> None:
        if max_plates < 1:
            raise ValueError(f"`max_plates` must be at least 1, but got {max_plates}")
        self._make_plate = make_plate
        self._max_plates = max_plates
        self._plates: OrderedDict[Hashable, AnyPlate] = OrderedDict()

    def get(self, key: Hashable, make_axes: Callable[[], Axes]) -> AnyPlate:
        """The plate of ``key``; made from ``make_axes`` where it is not at hand (25 to 90 ms)."""
        plate = self._plates.get(key)
        if plate is None:
            plate = self._make_plate(make_axes())
            self._plates[key] = plate
            if len(self._plates) > self._max_plates:
                self._plates.popitem(last=False)
        self._plates.move_to_end(key)
        return plate


def new_axes(
    title: str,
    x_label: str,
    y_label: str,
    *,
    left: float = 0.1,
    right: float = 0.965,
    bottom: float = 0.135,
    top: float = 0.865,
) -> Axes:
    """Axes on a new white figure of 640 x 400 pixels, in the look the fold pictures share.

    Args:
        title: Set in bold at the left edge of the figure.
        x_label: With its unit.
        y_label: With its unit.
        left: Edges of the axes as shares of the figure; likewise the three others.
        right: See ``left``.
        bottom: See ``left``.
        top: See ``left``.
    """
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((left, bottom, right - left, top - bottom))
    figure.suptitle(
        title,
        x=0.018,
        y=0.945,
        fontsize=10.5,
        fontweight="bold",
        color=INK,
        ha="left",
        va="center",
    )
    axes.set_xlabel(x_label, fontsize=8.5, color=INK)
    axes.set_ylabel(y_label, fontsize=8.5, color=INK)
    axes.tick_params(labelsize=8, labelcolor=INK, color=SOFT, length=3)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)
    return axes


def leave_fifths(axes: Axes) -> None:
    """Put the ticks of an x axis from 0 to 1 at its fifths and leave room for `Plate.fifths`."""
    axes.set_xticks(_FIFTHS, [""] * len(_FIFTHS))
    # Without labels of its own the axis would pull its name up to the ticks.
    axes.xaxis.set_label_coords(0.5, -0.1)


def add_key(axes: Axes, samples: Sequence[Artist]) -> None:
    """Draw the samples of a legend on the figure of ``axes``, in shares of the figure.

    Not ``Axes.legend``: it is the costliest artist there is, and its box would cover data. The
    samples are part of the background and stand above the axes; only counts are written anew.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None, "an axes made by `new_axes` belongs to a figure"
    for sample in samples:
        sample.set_transform(figure.transFigure)
        figure.add_artist(sample)


def short_name(name: str, max_letters: int = 16) -> str:
    """A class name on one line, cut with an ellipsis where it is too long for a tick label."""
    line = legal_text(" ".join(name.split()))
    return line if len(line) <= max_letters else line[: max_letters - 1].rstrip() + "…"


def legal_text(text: str) -> str:
    """``text`` with U+FFFD for each character that no XML may hold, not even escaped.

    Those are the control characters and lone surrogates. A class name may hold one, and an SVG
    with one anywhere is not drawn at all.
    """
    return _ILLEGAL.sub("\ufffd", text)


def nice_limit(value: float, smallest: float, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> float:
    """The least rung of a ladder that is at least ``value``.

    The limits of an axis move on such a ladder so that few backgrounds serve a whole sweep and
    pictures of neighbouring folds share their axes.

    Args:
        value: Largest value to show; NaN and infinity count as nothing to show.
        smallest: The lowest rung, for empty and all-zero data.
        steps: The rungs of one decade, ascending, from 1 up to below 10.
    """
    if not math.isfinite(value) or value <= smallest:
        return smallest
    exponent = math.floor(math.log10(value))
    rungs = (_rung(step, exponent + up) for up in (0, 1) for step in steps)
    return next(rung for rung in rungs if rung >= value)


def _rung(step: float, exponent: int) -> float:
    # Read from text: 5 * 10.0**-3 is not the float 0.005, and limits are keys of a cache.
    return float(f"{step}e{exponent}")


@functools.lru_cache(maxsize=64)
def palette_index(colour: str) -> int:
    """Where the palette holds the entry nearest to ``colour``, written ``#rrggbb``."""
    return int(_nearest([rgb(colour)])[0])


class _Stamp(NamedTuple):
    """A text as it is pasted: indices, which pixels count, and its place from the anchor."""

    letters: Image.Image
    mask: Image.Image
    left: int
    top: int


# Axis labels and small counts come again in every picture, and laying out a text is most of its
# cost: 0.06 ms, where pasting its stamp takes 0.002.
@functools.lru_cache(maxsize=1024)
def _stamp(text: str, size_px: float, colour: str, anchor: str, is_bold: bool) -> _Stamp:
    """A text with smoothed letters, blended with white: Pillow's own mask would mix indices."""
    font = _font(size_px, is_bold)
    left, top, right, bottom = (math.floor(edge) for edge in font.getbbox(text, anchor=anchor))
    size = (max(right - left, 1) + 1, max(bottom - top, 1) + 1)
    coverage = Image.new("L", size)
    ImageDraw.Draw(coverage).text((-left, -top), text, fill=255, font=font, anchor=anchor)
    levels = np.asarray(coverage)
    letters = Image.frombytes("P", size, _blends_with_white(colour)[levels].tobytes())
    return _Stamp(letters, Image.fromarray(levels > 0), left, top)


@functools.lru_cache(maxsize=64)
def _blends_with_white(colour: str) -> NDArray[np.uint8]:
    """Palette indices ``(256,)`` of ``colour`` on white, by coverage 0..255."""
    return _nearest([blend("#ffffff", colour, level / 255) for level in range(256)])


def _nearest(colours: Sequence[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Indices ``(k,)`` of the palette entries nearest in sRGB to k colours; on ties the first."""
    offsets = np.asarray(colours)[:, np.newaxis] - np.asarray(_palette_colours())
    return (offsets**2).sum(axis=2).argmin(axis=1).astype(np.uint8)


@functools.cache
def _font(size_px: float, is_bold: bool) -> ImageFont.FreeTypeFont:
    weight = "bold" if is_bold else "normal"
    path = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    # Basic layout: Raqm, where Pillow has it, kerns differently and would change the bytes.
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def _palette_colours() -> list[tuple[int, int, int]]:
    """The at most 256 colours a fold picture may use.

    Greys; the colours of words and frame and each hue of the pictures in tints to white (smoothed
    edges, translucent areas); the hues also in shades to black (edges on dark lines). A palette
    fitted to each picture would be a little closer and cost 2 ms more.
    """
    colours = [(level, level, level) for level in range(0, 241, 5)]
    for name in (INK, MUTED, SOFT):
        colours += [blend(name, "#ffffff", share) for share in np.linspace(0.0, 0.96, 25)]
    for hue in (SKY_BLUE, BLUE, VERMILION):
        colours += [blend(hue, "#ffffff", share) for share in np.linspace(0.0, 0.95, 20)]
        colours += [blend(hue, "#000000", share) for share in np.linspace(0.12, 0.84, 7)]
    colours += [blend(BLUE, tint(SKY_BLUE, 0.55), share) for share in np.linspace(0.1, 0.9, 9)]
    # Pillow matches in cells of 4 x 4 x 4 levels: with any neighbour near it, white turns grey.
    colours = [colour for colour in colours if min(colour) < 240] + [(255, 255, 255)]
    assert len(colours) <= 256, f"a palette has 256 entries, but {len(colours)} were made"
    return colours


@functools.cache
def _palette() -> Image.Image:
    """The palette as the 1 x 1 image Pillow wants."""
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in _palette_colours() for channel in colour])
    return image
