"""The numbers behind the fold pictures against NumPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont
from PIL import ImageDraw, ImageFont
from sklearn import metrics

from qwave.figures.confusion import confusion_counts
from qwave.figures.curiosity import N_BINS, bin_counts, class_quartiles, count_ticks
from qwave.figures.curves import SMALLEST_LOSS, loss_limits
from qwave.figures.plate import Plate, PlateCache, Words, new_axes, nice_limit, short_name
from qwave.figures.roc import macro_average, one_vs_rest, roc_curve

from .samples import open_png


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
    cache = PlateCache(max_plates=2)

    def use(key: str) -> None:
        def make() -> object:
            made.append(key)
            return new_axes(key, "", "")

        cache.get(key, make)  # type: ignore[arg-type]

    for key in ("a", "b", "a", "c", "a", "b"):
        use(key)
    assert made == ["a", "b", "c", "b"]
    with pytest.raises(ValueError, match=r"`max_plates` must be at least 1, but got 0"):
        PlateCache(max_plates=0)


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
