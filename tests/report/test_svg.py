"""The parts of an SVG picture against Matplotlib's own transforms, and its text against XML."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from qwave.report.plate import Plate, Words, legal_text, new_axes, short_name
from qwave.report.svg import SvgPlate, circles, dots, polyline, squares

from .samples import open_svg, path_points, svg_texts


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_pixels_are_those_of_matplotlib(scale: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = new_axes("title", "x", "y", left=rng.uniform(0.1, 0.4), top=rng.uniform(0.6, 0.9))
    axes.set_yscale(scale)
    limits = np.sort(10.0 ** rng.uniform(-6, 3, size=(2, 2)), axis=1)
    axes.set_xlim(*limits[0])
    # An axis may run downwards, as that of the confusion matrix does.
    axes.set_ylim(*limits[1][:: rng.choice([-1, 1])])
    plate = SvgPlate(axes)
    points = 10.0 ** rng.uniform(-6, 3, size=(20, 2))
    points[3, 1] = np.nan
    ours = plate.pixel(points[:, 0], points[:, 1])
    # The dumb twin: one point at a time through the whole chain of Matplotlib's transforms, whose
    # pixels count from the bottom.
    for point, (x, y) in zip(points, ours, strict=True):
        their_x, their_y = axes.transData.transform(point)
        np.testing.assert_allclose((x, y), (their_x, 400 - their_y), err_msg=f"{seed=}, {point=}")
    np.testing.assert_array_equal(np.isnan(ours[:, 1]), np.isnan(points[:, 1]))


def test_pixels_are_those_of_the_png_plate() -> None:
    def make_plates() -> tuple[Plate, SvgPlate]:
        both = [new_axes("title", "x", "y") for _ in range(2)]
        for axes in both:
            axes.set_xlim(-1.0, 7.0)
            axes.set_ylim(3.0, -2.0)
        return Plate(both[0]), SvgPlate(both[1])

    plate, svg_plate = make_plates()
    x, y = np.array([-1.0, 0.0, 7.5]), np.array([3.0, -2.0, 0.25])
    expected = [plate.pixel(*point) for point in zip(x.tolist(), y.tolist(), strict=True)]
    np.testing.assert_allclose(svg_plate.pixel(x, y), expected)


def test_a_value_without_place_on_a_log_axis_is_below_the_picture() -> None:
    axes = new_axes("title", "x", "y")
    axes.set_yscale("log")
    axes.set_ylim(0.1, 1.0)
    ((_, zero), (_, negative)) = SvgPlate(axes).pixel([0.5, 0.5], [0.0, -1.0]).tolist()
    assert 400 < zero < np.inf
    assert 400 < negative < np.inf


def test_the_axes_cut_off_the_data_but_not_the_words() -> None:
    axes = new_axes("a & b", "x", "y", left=0.25, right=0.75, bottom=0.25, top=0.75)
    line = polyline(np.array([(0.0, 0.0), (640.0, 400.0)]), "#123456", 1.0)
    root = open_svg(SvgPlate(axes).svg([line], [Words(5, 5, "word")]))
    clips = {clip.get("id"): clip[0].attrib for clip in root.iter("clipPath")}
    groups = [group for group in root if group.get("clip-path")]
    assert len(groups) == 1
    assert [path.get("stroke") for path in groups[0]] == ["#123456"]
    clip = clips[str(groups[0].get("clip-path"))[5:-1]]
    assert clip == {"x": "160.0", "y": "100.0", "width": "320.0", "height": "200.0"}
    assert root[0].tag == "title"
    assert root[0].text == "a & b"
    # White all over, below everything else.
    assert root[1].tag == "rect"
    assert root[1].attrib == {"width": "640", "height": "400", "fill": "#ffffff"}
    assert any(group[0].text == "word" for group in root if group.tag == "g" and len(group))


def test_nothing_is_used_that_is_not_there_and_nothing_is_left_of_a_style_sheet() -> None:
    axes = new_axes("title", "x", "y")
    svg = SvgPlate(axes).svg([])
    root = open_svg(svg)
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    links = [node.get("{http://www.w3.org/1999/xlink}href") for node in root.iter("use")]
    clips = [node.get("clip-path") for node in root.iter()]
    used = {str(link)[1:] for link in links} | {clip[5:-1] for clip in clips if clip}
    assert len(used) >= 3, "ticks of two axes and a clipping path"
    assert used == set(ids)
    # A marker outside <defs> would itself be drawn, at the upper left corner.
    markers = {str(path.get("id")) for defs in root.iter("defs") for path in defs.iter("path")}
    assert {node.get("id") for node in root.iter("path") if node.get("id")} == markers
    assert not list(root.iter("style"))
    assert b"<!" not in svg
    assert b"metadata" not in svg


def random_line(seed: int) -> tuple[NDArray[np.float64], list[list[list[float]]]]:
    """Points with gaps, and the runs between the gaps, found the slow way."""
    rng = np.random.default_rng(seed)
    points = np.round(rng.uniform(-50, 700, size=(rng.integers(0, 30), 2)), 1)
    for index in np.flatnonzero(rng.random(len(points)) < 0.3):
        points[index, rng.integers(2)] = rng.choice([np.nan, np.inf, -np.inf])
    runs: list[list[list[float]]] = [[]]
    for point in points:
        if np.isfinite(point).all():
            runs[-1].append(point.tolist())
        else:
            runs.append([])
    return points, [run for run in runs if run]


@pytest.mark.parametrize("seed", range(30))
def test_a_line_has_a_gap_where_a_point_is_not_finite(seed: int) -> None:
    points, runs = random_line(seed)
    path = open_svg(polyline(points, "#123456", 2.0))
    assert path_points(str(path.get("d"))) == runs, f"{seed=}"
    assert path.get("fill") == "none"
    finite = [point for run in runs for point in run]
    dotted = open_svg(dots(points, "#123456", 2.0))
    assert path_points(str(dotted.get("d"))) == [[point] for point in finite], f"{seed=}"
    assert dotted.get("stroke-linecap") == "round"
    marks = open_svg(circles(points, "#123456", 2.0, 1.0)).findall("circle")
    centres = [[float(str(mark.get(key))) for key in ("cx", "cy")] for mark in marks]
    assert centres == finite, f"{seed=}"


def test_widths_are_points_and_dashes_line_widths() -> None:
    points = np.array([(0.0, 0.0), (9.0, 9.0)])
    path = open_svg(polyline(points, "#123456", 7.2, (4.0, 2.0)))
    assert path.get("stroke-width") == "10.0"
    assert path.get("stroke-dasharray") == "40.0 20.0"
    assert open_svg(polyline(points, "#123456", 7.2)).get("stroke-dasharray") is None
    assert open_svg(dots(points, "#123456", 7.2)).get("stroke-width") == "10.0"
    group = open_svg(circles(points, "#123456", 7.2, 0.72))
    assert group.get("stroke-width") == "1.0"
    assert group[0].get("r") == "5.0"


def test_squares_start_at_their_corners() -> None:
    path = open_svg(squares([(10.0, 20.0), (31.04, 0.0)], 12.5, "#123456"))
    assert path.get("d") == "M10.0 20.0h12.5v12.5h-12.5zM31.0 0.0h12.5v12.5h-12.5z"
    assert path.get("fill") == "#123456"


@pytest.mark.parametrize(
    ("anchor", "text_anchor", "baseline"),
    [("lm", None, 206.92), ("rm", "end", 206.92), ("mm", "middle", 206.92), ("ls", None, 200.0)],
)
def test_words_stand_at_their_anchor(
    anchor: str, text_anchor: str | None, baseline: float
) -> None:
    plate = SvgPlate(new_axes("", "", ""))
    word = Words(320, 200, "a word", 20, "#123456", anchor, is_bold=True)
    root = open_svg(plate.svg([], [word, word._replace(text="plain", is_bold=False)]))
    bold, plain = root.findall("g")[-2:]
    assert (bold.get("text-anchor"), bold.get("font-size")) == (text_anchor, "20.0")
    assert (bold.get("fill"), bold.get("font-weight")) == ("#123456", "bold")
    assert plain.get("font-weight") is None
    ours = svg_texts(root)[-2:]
    assert ours == [("a word", 320.0, round(baseline, 1)), ("plain", 320.0, round(baseline, 1))]


def test_every_character_of_a_name_makes_good_xml() -> None:
    plate = SvgPlate(new_axes("", "", ""))
    # The control characters, lone surrogates, one that is none, and one beyond 16 bits.
    for text in (f"{chr(code)}x" for code in [*range(0x300), 0xD800, 0xDFFF, 0xFFFE, 0x1F600]):
        root = open_svg(plate.svg([], [Words(9, 9, text)]))
        shown = svg_texts(root)[-1][0]
        # An XML reader makes each line end a \n.
        assert shown == legal_text(text).replace("\r", "\n"), f"{text!r}"
        assert short_name(text).isprintable() or ord(text[0]) > 0x7E, f"{text!r}"
    assert legal_text("a\x00\x1b\ud800\uffff") == "a\ufffd\ufffd\ufffd\ufffd"
    assert legal_text("Ärger, <b> & 'c' \U0001f600\n") == "Ärger, <b> & 'c' \U0001f600\n"
