"""The numbers behind the fold pictures against NumPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont
from sklearn import metrics

from qwave.report.colours import BLUE, INK, MUTED, SKY_BLUE, VERMILION, rgb, tint
from qwave.report.confusion import confusion_counts
from qwave.report.curiosity import (
    COUNT_STEPS,
    LIMIT_STEPS,
    N_BINS,
    SMALLEST_LIMIT_NATS,
    _histogram_axes,
    _per_class_axes,
    bar_outlines,
    bin_counts,
    class_quartiles,
    count_ticks,
)
from qwave.report.curves import (
    EPOCH_STEPS,
    SMALLEST_LOSS,
    _losses_axes,
    _roc_axes,
    loss_limits,
)
from qwave.report.fold import FoldFigures
from qwave.report.plate import (
    Plate,
    PlateCache,
    Words,
    encode,
    new_axes,
    nice_limit,
    palette_index,
    short_name,
)
from qwave.report.roc import macro_average, one_vs_rest, roc_curve
from qwave.report.svg import SvgPlate

from .samples import make_fold, open_png, open_svg, path_points, svg_texts


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n_scores", [2, 5, 1000])
def test_roc_curve_is_that_of_sklearn(seed: int, n_scores: int) -> None:
    rng = np.random.default_rng(seed)
    is_positive = rng.random(60) < 0.2
    is_positive[:2] = [True, False]
    # Few distinct scores make many ties.
    scores = rng.integers(n_scores, size=60) / n_scores
    curve = roc_curve(is_positive, scores)
    assert curve is not None, f"{seed=}"
    x, y, _ = metrics.roc_curve(is_positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.area, metrics.auc(x, y), atol=1e-12, err_msg=f"{seed=}")
    # The same line: each drawn corner is one of sklearn's, each of sklearn's points is on it.
    theirs = {(round(a, 12), round(b, 12)) for a, b in zip(x, y, strict=True)}
    ours = {(round(a, 12), round(b, 12)) for a, b in zip(*curve, strict=True)}
    assert ours <= theirs, f"{seed=}"
    slanted = np.interp(x, *curve)
    is_vertical = np.isin(np.round(x, 12), [a for a, _ in ours])
    np.testing.assert_allclose(y[~is_vertical], slanted[~is_vertical], err_msg=f"{seed=}")


@pytest.mark.parametrize("seed", range(10))
def test_macro_average_is_the_mean_of_sklearns_curves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y_true = rng.integers(5, size=50)
    probabilities = np.round(rng.dirichlet(np.ones(6), size=50), 1)
    curves = one_vs_rest(y_true, probabilities)
    assert list(curves) == sorted(set(y_true.tolist())), f"{seed=}: class 5 has no clip"
    macro = macro_average(curves)
    assert macro is not None
    areas = []
    for index in curves:
        x, y, _ = metrics.roc_curve(y_true == index, probabilities[:, index])
        areas.append(metrics.auc(x, y))
    np.testing.assert_allclose(macro.area, np.mean(areas), atol=1e-12, err_msg=f"{seed=}")
    # Between two corners of the average no class has a corner, so there it is a plain mean.
    rate = (macro.false_positive_rate[1:-1:2] + macro.false_positive_rate[2::2]) / 2
    mean = np.mean([np.interp(rate, *curve) for curve in curves.values()], axis=0)
    np.testing.assert_allclose(np.interp(rate, *macro), mean, atol=1e-12, err_msg=f"{seed=}")
    assert (np.diff(macro.true_positive_rate) >= -1e-12).all(), f"{seed=}"
    assert (macro.true_positive_rate[0], macro.true_positive_rate[-1]) == (0.0, pytest.approx(1.0))


def test_roc_without_both_kinds_of_clips_is_no_curve() -> None:
    scores = np.array([0.1, 0.9])
    assert roc_curve(np.array([True, True]), scores) is None
    assert roc_curve(np.array([False, False]), scores) is None
    assert roc_curve(np.array([], dtype=bool), np.array([])) is None
    assert one_vs_rest(np.array([], dtype=int), np.zeros((0, 3))) == {}
    assert macro_average({}) is None


def test_roc_of_all_scores_equal_is_the_diagonal() -> None:
    curve = roc_curve(np.array([True, False, False]), np.full(3, 0.5))
    assert curve is not None
    assert curve.area == 0.5
    assert curve.false_positive_rate.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_bin_counts_are_those_of_numpy(seed: int) -> None:
    values = np.random.default_rng(seed).random(200) * 0.5
    expected, _ = np.histogram(values, bins=N_BINS, range=(0.0, 0.5))
    assert bin_counts(values, 0.5).tolist() == expected.tolist(), f"{seed=}"


def test_bin_counts_keep_both_ends_and_no_values() -> None:
    counts = bin_counts(np.array([0.0, 0.0, 0.5]), 0.5)
    assert (counts[0], counts[-1], counts.sum()) == (2, 1, 3)
    assert bin_counts(np.array([]), 0.5).tolist() == [0] * N_BINS


@pytest.mark.parametrize("seed", range(5))
def test_class_quartiles_are_those_of_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(7, size=30)
    values = rng.random(30)
    present, counts = np.unique(rows, return_counts=True)
    quartiles = np.stack(class_quartiles(values, rows, counts))
    expected = [np.quantile(values[rows == row], [0.25, 0.5, 0.75]) for row in present]
    np.testing.assert_allclose(quartiles.T, expected, err_msg=f"{seed=}")


@pytest.mark.parametrize("seed", range(5))
def test_confusion_counts_are_those_of_sklearn(seed: int) -> None:
    y_true, y_pred = np.random.default_rng(seed).integers(6, size=(2, 40))
    expected = metrics.confusion_matrix(y_true, y_pred, labels=range(6))
    assert confusion_counts(y_true, y_pred, 6).tolist() == expected.tolist(), f"{seed=}"


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (0.0, 0.01),
        (0.01, 0.01),
        (0.011, 0.02),
        (0.05, 0.05),
        (0.9, 1.0),
        (1.0, 1.0),
        (51.0, 100.0),
    ],
)
def test_nice_limit_is_the_least_rung_above(value: float, limit: float) -> None:
    assert nice_limit(value, 0.01) == limit


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_nice_limit_without_a_value_is_the_smallest(value: float) -> None:
    assert nice_limit(value, 0.01) == 0.01


def test_loss_limits_hold_all_losses_and_a_decade() -> None:
    assert loss_limits(np.array([])) == (0.1, 1.0)
    assert loss_limits(np.array([0.5, 0.5])) == (0.1, 1.0)
    assert loss_limits(np.array([0.02, 2.3])) == (0.01, 3.0)
    lower, upper = loss_limits(np.array([SMALLEST_LOSS, 1e30]))
    assert lower <= SMALLEST_LOSS
    assert upper >= 1e30


def test_count_ticks_start_at_zero_and_one() -> None:
    assert count_ticks(5.0) == [0, 1, 2, 5]
    assert count_ticks(50.0) == [0, 1, 5, 10, 20, 50]


def test_short_name_is_one_line_of_limited_length() -> None:
    assert short_name("a\n b") == "a b"
    assert short_name("Person sneezing loudly", 12) == "Person snee…"


def test_plate_cache_forgets_the_plate_unused_longest() -> None:
    made: list[str] = []
    cache = PlateCache(SvgPlate, max_plates=2)

    def use(key: str) -> None:
        def make() -> Axes:
            made.append(key)
            return new_axes(key, "", "")

        cache.get(key, make)

    for key in ("a", "b", "a", "c", "a", "b"):
        use(key)
    assert made == ["a", "b", "c", "b"]
    with pytest.raises(ValueError, match=r"`max_plates` must be at least 1, but got 0"):
        PlateCache(Plate, max_plates=0)


@pytest.mark.parametrize("limit", [0.001, 0.03, 0.2, 5.0, 1e9])
def test_an_axis_of_fifths_reads_as_the_values_drawn_on_it(limit: float) -> None:
    axes = new_axes("title", "x", "y")
    axes.set_xlim(0.0, 1.0)
    plate = Plate(axes)
    labels = plate.fifths(limit)
    assert [float(word.text) for word in labels] == pytest.approx(
        [limit * k / 5 for k in range(6)]
    )
    assert [word.x for word in labels] == [plate.pixel(k / 5, 0.0)[0] for k in range(6)]
    assert [word.y for word in labels] == pytest.approx([400 - 0.135 * 400 + 7] * 6)


@pytest.mark.parametrize("colour", ["#000000", INK, MUTED])
@pytest.mark.parametrize("anchor", ["lm", "rm", "mm", "ma"])
@pytest.mark.parametrize("text", ["0.05", "j, right", "→ Ärger", " "])
def test_words_stand_where_pillow_would_draw_them(text: str, anchor: str, colour: str) -> None:
    plate = Plate(new_axes("", "", "", left=0.02, right=0.05))
    word = Words(320, 206, text, 13, colour, anchor)
    drawn = open_png(encode(plate.new_image(), [word])).convert("RGB")
    dumb = plate.new_image().convert("RGB")
    font = ImageFont.truetype(
        findfont(FontProperties(family="DejaVu Sans")), 13, layout_engine=ImageFont.Layout.BASIC
    )
    ImageDraw.Draw(dumb).text((320, 206), text, fill=colour, font=font, anchor=anchor)
    # The palette has a blend with white about every eight levels, and none just below white; a
    # word one pixel off differs by 100 and more.
    difference = np.abs(np.asarray(drawn, np.int_) - np.asarray(dumb, np.int_))
    assert difference.max() <= 12


def test_words_are_cut_off_at_the_edges_of_the_picture() -> None:
    plate = Plate(new_axes("", "", ""))
    for x, y in ((-9, 200), (635, 200), (320, 0), (320, 399), (900, 900)):
        assert open_png(encode(plate.new_image(), [Words(x, y, "word")])).size == (640, 400)


def test_colours_of_data_are_on_the_palette() -> None:
    image = Plate(new_axes("", "", "")).new_image()
    for colour in (BLUE, VERMILION, INK, MUTED, tint(SKY_BLUE, 0.55), "#ffffff"):
        image.putpixel((0, 0), palette_index(colour))
        shown = np.asarray(image.crop((0, 0, 1, 1)).convert("RGB"), np.int_)[0, 0]
        np.testing.assert_allclose(shown, rgb(colour), atol=1, err_msg=colour)


def test_lines_of_data_stand_on_the_grid_lines_of_their_values() -> None:
    axes = _histogram_axes(50.0)
    plate = Plate(axes)
    pixels = np.asarray(plate.new_image().convert("L"), np.int_)
    # A grid line is darkest in the one row or column it fills; no other line is within 4 pixels.
    for count in count_ticks(50.0)[1:]:
        row = plate.row(np.sqrt(count))
        assert pixels[row - 4 : row + 5, 130].argmin() == 4, f"{count=}"
    for share in (0.2, 0.4, 0.6, 0.8):
        column = plate.column(share)
        assert pixels[90, column - 4 : column + 5].argmin() == 4, f"{share=}"


def is_colour(png: bytes, colour: str) -> NDArray[np.bool_]:
    """Where a picture has nearly that colour, ``(400, 640)``."""
    pixels = np.asarray(open_png(png).convert("RGB"), np.int_)
    return np.asarray(np.abs(pixels - rgb(colour)).max(axis=2) <= 1)


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_bars_are_as_high_as_their_counts(seed: int, is_right: bool) -> None:
    curiosity = np.random.default_rng(seed).gamma(0.6, 0.05, size=80)
    limit = nice_limit(curiosity.max(), SMALLEST_LIMIT_NATS, LIMIT_STEPS)
    counts = bin_counts(curiosity, limit)
    height = nice_limit(1.04 * counts.max(), 5.0, COUNT_STEPS)
    plate = Plate(_histogram_axes(height))
    median_x = plate.pixel(np.median(curiosity) / limit, 0.0)[0]
    edge = BLUE if is_right else VERMILION
    png = FoldFigures(["a"]).curiosity_histogram(curiosity, np.full(80, is_right))
    is_edge, is_fill = is_colour(png, edge), is_colour(png, tint(SKY_BLUE, 0.55))
    n_bars = 0
    for k, count in enumerate(counts.tolist()):
        left, right = (plate.pixel(share / N_BINS, 0.0)[0] for share in (k, k + 1))
        # Well inside of the bar, and not where the line of the median stands.
        inside = np.arange(int(left) + 4, int(right) - 3)
        inside = inside[np.abs(inside - median_x) > 4]
        rows = np.flatnonzero(is_edge[70:346, inside].all(axis=1)) + 70
        what = f"{seed=}, bin {k} of {count}: rows {rows}"
        if count == 0:
            assert rows.size == 0, what
            assert not is_fill[70:346, inside].any(), what
            continue
        n_bars += 1
        top = plate.pixel(0.0, np.sqrt(count))[1]
        assert abs(rows[0] - top) <= 0.5 + 1e-6, f"{what}, not {top}"
        assert rows.size == (1 if is_right else 2), what
        below = slice(rows[-1] + 1, 346)
        if is_right:
            assert is_fill[below, inside].all(), what
        else:
            share = is_edge[below, inside].mean()
            assert 0.2 < share < 0.4, f"{what}: hatched {share}"
        # Nothing of the bar or its hatch above it.
        assert not (is_edge | is_fill)[70 : rows[0], inside].any(), what
    assert n_bars >= 5, f"{seed=}"


def test_outlines_leave_out_empty_bins() -> None:
    outlines = bar_outlines([0, 10, 20, 30, 40], [9, 5, 9, 7], 9)
    assert outlines == [[(10, 8), (10, 5), (20, 5), (20, 8)], [(30, 8), (30, 7), (40, 7), (40, 8)]]
    assert bar_outlines([0, 1, 2], [3, 2], 9) == [[(0, 8), (0, 3), (1, 3), (1, 2), (2, 2), (2, 8)]]
    assert bar_outlines([0, 1], [9], 9) == []


@pytest.mark.parametrize("is_right", [True, False])
def test_median_lines_stand_at_the_median(is_right: bool) -> None:
    curiosity = np.array([0.0, 0.0, 0.07, 0.1, 0.1])
    png = FoldFigures(["a"]).curiosity_histogram(curiosity, np.full(5, is_right))
    plate = Plate(_histogram_axes(5.0))
    # Above the highest bar, of two, the line is alone.
    alone = is_colour(png, BLUE if is_right else VERMILION)[76:170]
    columns = np.flatnonzero(alone.any(axis=0))
    np.testing.assert_allclose(columns.mean() + 0.5, plate.pixel(0.7, 0.0)[0], atol=0.51)
    assert columns.size == 2
    assert alone[:, columns].all() == is_right, "solid for right, dashed for wrong clips"


@pytest.mark.parametrize("n_classes", [1, 10, 30])
@pytest.mark.parametrize("seed", range(5))
def test_clips_boxes_and_medians_stand_at_the_pixel_of_their_value(
    seed: int, n_classes: int
) -> None:
    fold = make_fold(seed, n_clips=8 * n_classes, num_classes=n_classes)
    names = [f"class {index}" for index in range(n_classes)]
    png = FoldFigures(names).curiosity_per_class(fold.curiosity, fold.y_true)
    plate = Plate(_per_class_axes(names))
    limit = nice_limit(fold.curiosity.max(), SMALLEST_LIMIT_NATS, LIMIT_STEPS)
    is_clip, is_box, is_ink = (is_colour(png, c) for c in (BLUE, tint(SKY_BLUE, 0.55), INK))
    is_rim = is_colour(png, "#ffffff")
    axes = slice(130, 570)
    for row in range(n_classes):
        x, middle = np.array(
            [plate.pixel(value / limit, row) for value in fold.curiosity[fold.y_true == row]]
        ).T
        y = int(np.floor(middle[0] + 0.5))
        what = f"{seed=}, class {row}"
        low, median_x, high = np.quantile(x, [0.25, 0.5, 0.75])
        assert is_ink[y, int(np.floor(median_x + 0.5))], what
        covered = is_ink[y] | is_rim[y] | is_clip[y]
        # Every stroke where a clip is, and every clip under a stroke or the diamond.
        expected = {int(column) for column in np.floor(x + 0.5)}
        drawn = set((np.flatnonzero(is_clip[y, axes]) + 130).tolist())
        assert drawn <= expected, what
        assert all(abs(c - median_x) <= 6.5 for c in expected - drawn), f"{what}: {expected}"
        boxed = np.flatnonzero((is_box | is_clip)[y, axes]) + 130
        inside = np.arange(int(low) + 1, int(high))
        assert (covered | is_box[y])[inside].all(), what
        lone = [c for c in boxed.tolist() if not low - 0.51 <= c <= high + 0.51]
        assert set(lone) <= expected, f"{what}: box from {low} to {high}, but {lone}"


@pytest.mark.parametrize("seed", range(10))
def test_cells_show_the_counts_of_sklearn_at_their_places(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(1, 21))
    y_true, y_pred = rng.integers(n_classes, size=(2, 150))
    figures = FoldFigures([f"class {index}" for index in range(n_classes)])
    root = open_svg(figures.confusion_matrix(y_true, y_pred))
    counts = metrics.confusion_matrix(y_true, y_pred, labels=range(n_classes))
    # The square of the matrix, as `_confusion_axes` places it: rows from the top.
    left, top, side = 128.0, 400 - 86 - 266, 266 / n_classes
    expected = {(i, j): str(counts[i, j]) for i, j in zip(*np.nonzero(counts), strict=True)}
    shown = {}
    for text, x, y in svg_texts(root):
        # Words stand left of x = 128 or right of 394; digits 5 pixels above their baseline.
        if text.isdecimal() and left < x < left + 266:
            row, column = int((y - 4 - top) // side), int((x - left) // side)
            np.testing.assert_allclose(x, left + (column + 0.5) * side, atol=0.051)
            shown[row, column] = text
    assert shown == expected, f"{seed=}, {n_classes=}"
    cells = [
        (round((y - top) / side), round((x - left) / side), path.get("fill"))
        for path in root.iter("path")
        if "h" in str(path.get("d"))
        for x, y in [
            map(float, corner.split("h")[0].split()) for corner in path.attrib["d"].split("M")[1:]
        ]
    ]
    assert sorted((row, column) for row, column, _ in cells) == sorted(expected), f"{seed=}"
    for row, column, fill in cells:
        red, _, blue = rgb(str(fill))
        assert (blue > red) == (row == column), f"{seed=}: {row}, {column} is {fill}"


@pytest.mark.parametrize("seed", range(10))
def test_roc_lines_pass_through_the_corners_of_the_curves(seed: int) -> None:
    fold = make_fold(seed, n_clips=40, num_classes=7)
    figures = FoldFigures([f"class {index}" for index in range(7)])
    root = open_svg(figures.roc(fold.y_true, fold.probabilities))
    curves = one_vs_rest(fold.y_true, fold.probabilities)
    macro = macro_average(curves)
    assert macro is not None
    axes = _roc_axes()
    thin, bold = (path for group in root if group.get("clip-path") for path in group)
    for name, path, expected in (
        ("one class", thin, [*curves.values()]),
        ("macro", bold, [macro]),
    ):
        runs = path_points(str(path.get("d")))
        assert len(runs) == len(expected), f"{seed=}, {name}"
        for run, curve in zip(runs, expected, strict=True):
            pixels = axes.transData.transform(np.stack(curve, axis=1))
            pixels[:, 1] = 400 - pixels[:, 1]
            np.testing.assert_allclose(run, pixels, atol=0.051, err_msg=f"{seed=}, {name}")
    areas = {text for text, x, _ in svg_texts(root) if x == 618}
    assert areas == {f"{area:.3f}" for area in sorted(c.area for c in curves.values())[:6]}
    assert f"macro area {macro.area:.3f}" in [text for text, _, _ in svg_texts(root)]


@pytest.mark.parametrize("seed", range(20))
def test_losses_stand_at_the_pixel_of_their_data(seed: int) -> None:
    rng = np.random.default_rng(seed)
    epochs = np.arange(1, rng.integers(2, 100))
    train = 10.0 ** rng.uniform(-4, 2, size=epochs.size)
    train[rng.random(epochs.size) < 0.3] = rng.choice([np.nan, np.inf])
    held_out_epochs = epochs[:: rng.integers(1, 8)]
    held_out = 10.0 ** rng.uniform(-3, 1, size=held_out_epochs.size)
    held_out[rng.random(held_out.size) < 0.3] = np.nan
    finite = np.concatenate((train, held_out))
    finite = finite[np.isfinite(finite)]
    svg = FoldFigures(["a"]).losses(epochs, train, held_out_epochs, held_out)
    axes = _losses_axes(nice_limit(float(epochs[-1]), 5.0, EPOCH_STEPS), *loss_limits(finite))

    def runs(x: NDArray[np.int_], y: NDArray[np.float64]) -> list[list[list[float]]]:
        found: list[list[list[float]]] = [[]]
        for point in zip(x.tolist(), y.tolist(), strict=True):
            if np.isfinite(point[1]):
                left, bottom = axes.transData.transform(point)
                found[-1].append([left, 400 - bottom])
            else:
                found.append([])
        return [run for run in found if run]

    (group,) = (group for group in open_svg(svg) if group.get("clip-path"))
    curve, dotted, checks, circled = group
    expected, expected_checks = runs(epochs, train), runs(held_out_epochs, held_out)
    for path, expected_runs in (
        (curve, expected),
        (dotted, [[point] for run in expected for point in run]),
        (checks, expected_checks),
    ):
        drawn = path_points(str(path.get("d")))
        assert [len(run) for run in drawn] == [len(run) for run in expected_runs], f"{seed=}"
        for ours, theirs in zip(drawn, expected_runs, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=0.051, err_msg=f"{seed=}")
    centres = [[float(mark.attrib[key]) for key in ("cx", "cy")] for mark in circled]
    whole = [point for run in expected_checks for point in run]
    np.testing.assert_allclose(
        np.reshape(centres, (-1, 2)), np.reshape(whole, (-1, 2)), atol=0.051, err_msg=f"{seed=}"
    )


@pytest.mark.parametrize(("lower", "upper"), [(0.01, 3.0), (1e-6, 1.0), (0.1, 1.0)])
def test_ticks_stand_at_the_pixel_of_their_value_on_a_log_axis(lower: float, upper: float) -> None:
    root = open_svg(FoldFigures(["a"]).losses([1, 50], [upper, lower], [], []))
    (background,) = (group for group in root if "scale" in str(group.get("transform")))
    scale = float(background.attrib["transform"][len("scale(") : -1])
    texts = [(text, scale * x, scale * y) for text, x, y in svg_texts(background)]
    top, bottom, left, right = 76.0, 346.0, 70.4, 617.6
    # The baseline of a label is 4 pixels below its tick.
    losses = {float(text): y - 4.0 for text, x, y in texts if x < left - 5 and text[0].isdigit()}
    epochs = {float(text): x for text, x, y in texts if y > bottom and text.isdigit()}
    assert set(losses) >= {lower, upper} - {3.0}, f"{texts}"
    for loss, y in losses.items():
        share = np.log(loss / lower) / np.log(upper / lower)
        assert y == pytest.approx(bottom + share * (top - bottom), abs=0.7), f"{loss}: {texts}"
    assert set(epochs) == {0.0, 10.0, 20.0, 30.0, 40.0, 50.0}
    for epoch, x in epochs.items():
        assert x == pytest.approx(left + epoch / (1.015 * 50) * (right - left), abs=0.1)
