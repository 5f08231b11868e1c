"""A picture whose background is drawn once: restore it, draw the data, encode a small PNG.

A sweep writes 25 pictures per trial, so their cost is counted; the 15 of them that need no pixels
are SVG (`qwave.figures.svg`). The histogram of curiosity, 640 x 400 pixels, one core, medians
(Matplotlib 3.11, Pillow 13):

    =====================================================  ========
    a new figure, drawn and saved by ``Figure.savefig``    77 ms
    background restored, data drawn                        0.7 ms
    + its changing words, drawn by Pillow                  0.4 ms
    + encoded as RGB, compression level 1 (27 kB)          3.9 ms
    or encoded through one fixed palette (13 kB)           0.8 ms
    =====================================================  ========

Two findings shaped the module. Encoding cost more than drawing: a true-colour PNG tries five
filters per row, a palette PNG none, and one byte a pixel is also a third of the bytes to deflate.
And text is the slowest artist of Matplotlib, 1.0 ms for 16 letters, also when drawn again
unchanged; Pillow takes 0.06 ms. So the words that change are drawn by Pillow, with the font that
Matplotlib ships and uses for the words that stay.
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
from PIL import Image, ImageDraw, ImageFont

from qwave.figures.colours import GRID, INK, MUTED, OKABE_ITO, SOFT, blend

WIDTH_PX = 640
HEIGHT_PX = 400
DPI = 100
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FIFTHS = tuple(k / 5 for k in range(6))

AnyPlate = TypeVar("AnyPlate")
"""A kind of plate: `Plate`, or the `SvgPlate` of `qwave.figures.svg`."""


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
    """The drawn background of one picture and the axes the data are drawn on.

    It holds a canvas that each call overwrites, so that one plate must not be used by two threads
    at the same time. About 2.5 MB each.

    Args:
        axes: The axes with their limits, ticks, labels and title set; drawn here, once.
    """

    def __init__(self, axes: Axes) -> None:
        figure = axes.get_figure(root=True)
        assert figure is not None, "an axes made by `new_axes` belongs to a figure"
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        self._axes = axes
        # Asked for once a word: composing Matplotlib's transforms each time takes 0.03 ms.
        self._to_pixels = axes.transData.get_affine().get_matrix()

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Data coordinates on linear axes as pixels from the left and from the **top** edge."""
        (x_scale, _, left), (_, y_scale, bottom), _ = self._to_pixels
        return float(x_scale * x + left), HEIGHT_PX - float(y_scale * y + bottom)

    def fifths(self, limit: float) -> list[Words]:
        """Labels of an axis made by `leave_fifths`, on which 1 stands for ``limit``.

        Words, not ticks of Matplotlib: one background so serves every limit. When each limit had
        its own, the 59 backgrounds of the histograms cost half of all pictures of a 60-trial
        study.

        Args:
            limit: Value at 1; on the rungs of `nice_limit` a fifth of it is a short number.
        """
        bottom = HEIGHT_PX - self._axes.bbox.y0
        return [
            Words(self.pixel(share, 0.0)[0], bottom + 7, f"{limit * share:.6g}", 11, INK, "ma")
            for share in _FIFTHS
        ]

    def png(self, artists: Sequence[Artist], words: Sequence[Words] = ()) -> bytes:
        """Draw on the background and encode.

        Args:
            artists: Drawn in order, in data coordinates. They are new in each call and are taken
                off the axes again, so that nothing of one picture can reach the next.
            words: Drawn over the artists, in order.

        Returns:
            A PNG of 640 x 400 pixels with a palette; equal input gives equal bytes.
        """
        self._canvas.restore_region(self._background)
        for artist in artists:
            self._axes.add_artist(artist)
            self._axes.draw_artist(artist)
            artist.remove()
        buffer = np.asarray(self._canvas.buffer_rgba())
        image = Image.fromarray(buffer).convert("RGB")
        for word in words:
            stamp, left, top = _stamp(word.text, word.size_px, word.anchor, word.is_bold)
            image.paste(word.colour, (round(word.x) + left, round(word.y) + top), stamp)
        # No dither: it would speckle flat areas and double the file.
        indexed = image.quantize(palette=_palette(), dither=Image.Dither.NONE)
        stream = io.BytesIO()
        indexed.save(stream, "PNG", compress_level=1)
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
        """The plate of ``key``; made from ``make_axes`` where it is not at hand (40 to 90 ms)."""
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


# Axis labels and small counts come again in every picture, and laying out a text is most of its
# cost: 0.06 ms, where pasting its mask takes 0.005.
@functools.lru_cache(maxsize=1024)
def _stamp(text: str, size_px: float, anchor: str, is_bold: bool) -> tuple[Image.Image, int, int]:
    """The mask of a text, and its left and top edge as seen from the anchor, in pixels."""
    font = _font(size_px, is_bold)
    left, top, right, bottom = (math.floor(edge) for edge in font.getbbox(text, anchor=anchor))
    mask = Image.new("L", (max(right - left, 1) + 1, max(bottom - top, 1) + 1))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font, anchor=anchor)
    return mask, left, top


@functools.cache
def _font(size_px: float, is_bold: bool) -> ImageFont.FreeTypeFont:
    weight = "bold" if is_bold else "normal"
    path = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    # Basic layout: Raqm, where Pillow has it, kerns differently and would change the bytes.
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def _palette() -> Image.Image:
    """The 256 colours a fold picture may use, as the 1 x 1 image Pillow wants.

    Greys for text and frame; each Okabe-Ito hue in tints to white (translucent areas, smoothed
    edges) and in shades to black (edges on dark lines). A palette fitted to each picture would be
    a little closer and cost 2 ms more.
    """
    colours = [(level, level, level) for level in range(0, 241, 5)]
    for name in (INK, MUTED, SOFT):
        colours += [blend(name, "#ffffff", share) for share in np.linspace(0.0, 0.8, 6)]
    for hue in OKABE_ITO[1:]:
        colours += [blend(hue, "#ffffff", share) for share in np.linspace(0.0, 0.9, 19)]
        colours += [blend(hue, "#000000", share) for share in np.linspace(0.12, 0.84, 7)]
    # Pillow matches in cells of 4 x 4 x 4 levels: with any neighbour near it, white turns grey.
    colours = [colour for colour in colours if min(colour) < 240] + [(255, 255, 255)]
    assert len(colours) <= 256, f"a palette has 256 entries, but {len(colours)} were made"
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in colours for channel in colour])
    return image
