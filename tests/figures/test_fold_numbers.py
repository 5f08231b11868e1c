"""The numbers behind the fold pictures against NumPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont
from sklearn import metrics

from qwave.figures.colours import rgb
from qwave.figures.confusion import confusion_counts
from qwave.figures.curiosity import N_BINS, bin_counts, class_quartiles, count_ticks
from qwave.figures.curves import (
    EPOCH_STEPS,
    SMALLEST_LOSS,
    _losses_axes,
    _roc_axes,
    loss_limits,
)
from qwave.figures.fold import FoldFigures
from qwave.figures.plate import Plate, PlateCache, Words, new_axes, nice_limit, short_name
from qwave.figures.roc import macro_average, one_vs_rest, roc_curve
from qwave.figures.svg import SvgPlate

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


@pytest.mark.parametrize("anchor", ["lm", "rm", "mm", "ma"])
@pytest.mark.parametrize("text", ["0.05", "j, right", "→ Ärger", " "])
def test_words_stand_where_pillow_would_draw_them(text: str, anchor: str) -> None:
    plate = Plate(new_axes("", "", ""))
    drawn = open_png(plate.png([], [Words(320, 200, text, 13, "#000000", anchor)])).convert("L")
    dumb = open_png(plate.png([])).convert("L")
    font = ImageFont.truetype(
        findfont(FontProperties(family="DejaVu Sans")), 13, layout_engine=ImageFont.Layout.BASIC
    )
    ImageDraw.Draw(dumb).text((320, 200), text, fill=0, font=font, anchor=anchor)
    # The palette has a grey every five levels and is matched in cells of four; a word one pixel
    # off differs by 100 and more.
    difference = np.abs(np.asarray(drawn, np.int_) - np.asarray(dumb, np.int_))
    assert difference.max() <= 8


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
