from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qwave.report import FoldFigures

from .samples import CLASS_NAMES, FoldData, make_fold, open_png, open_svg, svg_texts

Draw = Callable[[FoldFigures, FoldData], bytes]

DRAW: dict[str, Draw] = {
    "histogram": lambda f, d: f.curiosity_histogram(d.curiosity, d.y_true == d.y_pred),
    "per_class": lambda f, d: f.curiosity_per_class(d.curiosity, d.y_true),
    "confusion": lambda f, d: f.confusion_matrix(d.y_true, d.y_pred),
    "roc": lambda f, d: f.roc(d.y_true, d.probabilities),
    "losses": lambda f, d: f.losses(d.epochs, d.train_loss, d.checkpoint_epochs, d.held_out_loss),
}


@pytest.fixture(scope="module")
def figures() -> FoldFigures:
    return FoldFigures(CLASS_NAMES)


PNG_KINDS = ("histogram", "per_class")
SVG_KINDS = ("confusion", "roc", "losses")


def assert_is_picture(kind: str, picture: bytes) -> None:
    if kind in PNG_KINDS:
        image = open_png(picture)
        assert image.size == (640, 400)
        assert image.mode == "P"
        return
    root = open_svg(picture)
    assert root.tag == "svg", f"not an SVG: {picture[:60]!r}"
    assert (root.get("width"), root.get("height")) == ("640", "400")
    assert root.get("viewBox") == "0 0 640 400"


@pytest.mark.parametrize("kind", PNG_KINDS)
def test_curiosity_is_a_png_of_the_promised_size(figures: FoldFigures, kind: str) -> None:
    png = DRAW[kind](figures, make_fold(0))
    image = open_png(png)
    assert image.size == (640, 400)
    assert image.mode == "P"
    assert len(png) < 40_000, f"{kind} takes {len(png)} bytes"
    assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("kind", SVG_KINDS)
def test_the_other_pictures_are_small_svgs(figures: FoldFigures, kind: str) -> None:
    svg = DRAW[kind](figures, make_fold(0))
    assert_is_picture(kind, svg)
    root = open_svg(svg)
    assert root.get("role") == "img"
    assert len(svg) < 12_000, f"{kind} takes {len(svg)} bytes"
    title = root[0]
    assert title.tag == "title"
    texts = [text for text, _, _ in svg_texts(root)]
    assert texts.count(str(title.text)) == 1, f"{title.text!r} not among {texts}"


@pytest.mark.parametrize("kind", DRAW)
def test_nothing_of_one_picture_reaches_the_next(figures: FoldFigures, kind: str) -> None:
    draw = DRAW[kind]
    before = draw(figures, make_fold(1))
    other = draw(figures, make_fold(2))
    assert other != before
    assert draw(figures, make_fold(1)) == before
    # The dumb twin of the kept backgrounds: new ones for each picture.
    assert draw(FoldFigures(CLASS_NAMES), make_fold(1)) == before


@pytest.mark.parametrize("num_classes", [1, 2, 21, 50])
@pytest.mark.parametrize("kind", DRAW)
def test_any_number_of_classes_is_drawn(kind: str, num_classes: int) -> None:
    figures = FoldFigures([f"class {index}" for index in range(num_classes)])
    fold = make_fold(3, n_clips=4 * num_classes, num_classes=num_classes)
    assert_is_picture(kind, DRAW[kind](figures, fold))


def test_empty_fold_is_drawn_and_differs_from_a_full_one(figures: FoldFigures) -> None:
    empty = {
        "histogram": figures.curiosity_histogram([], []),
        "per_class": figures.curiosity_per_class([], []),
        "confusion": figures.confusion_matrix([], []),
        "roc": figures.roc([], []),
        "losses": figures.losses([], [], [], []),
    }
    for kind, picture in empty.items():
        assert_is_picture(kind, picture)
        assert picture != DRAW[kind](figures, make_fold(0)), kind


@pytest.mark.parametrize("value", [0.0, 0.3, -1e-12, 1e9])
def test_equal_curiosity_is_drawn(figures: FoldFigures, value: float) -> None:
    curiosity = np.full(8, value)
    is_correct = np.arange(8) < 6
    assert open_png(figures.curiosity_histogram(curiosity, is_correct)).size == (640, 400)
    assert open_png(figures.curiosity_per_class(curiosity, np.arange(8))).size == (640, 400)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_left_out_but_counted(
    figures: FoldFigures, bad: float
) -> None:
    fold = make_fold(4)
    is_correct = fold.y_true == fold.y_pred
    holed = fold.curiosity.copy()
    holed[[0, 7]] = bad
    keep = np.isfinite(holed)
    without = figures.curiosity_histogram(holed[keep], is_correct[keep])
    # Only the note in the upper right corner tells the two apart.
    note = (380, 0, 640, 40)
    whole, left_out = (
        open_png(png).convert("RGB")
        for png in (without, figures.curiosity_histogram(holed, is_correct))
    )
    assert whole.crop(note).tobytes() != left_out.crop(note).tobytes()
    below = (0, 40, 640, 400)
    assert whole.crop(below).tobytes() == left_out.crop(below).tobytes()

    probabilities = fold.probabilities.copy()
    probabilities[3, 2] = bad
    train_loss = fold.train_loss.copy()
    train_loss[5] = bad
    assert_is_picture("per_class", figures.curiosity_per_class(holed, fold.y_true))
    roc = figures.roc(fold.y_true, probabilities)
    losses = figures.losses(
        fold.epochs, train_loss, fold.checkpoint_epochs, np.full(fold.checkpoint_epochs.size, bad)
    )
    for kind, svg, text in (
        ("roc", roc, "1 clips not finite, left out"),
        ("losses", losses, "6 values not finite, left out"),
    ):
        assert_is_picture(kind, svg)
        assert text in [shown for shown, _, _ in svg_texts(open_svg(svg))]


def test_losses_of_zero_and_of_huge_size_are_drawn(figures: FoldFigures) -> None:
    assert_is_picture("losses", figures.losses([1, 2, 3], [1e30, 0.0, 1e-30], [3], [0.5]))


def test_class_names_are_not_formulas() -> None:
    names = ["$\\frac{1}$", "a\nb", "x" * 80, "<b>"]
    figures = FoldFigures(names)
    fold = make_fold(5, n_clips=16, num_classes=4)
    for kind, draw in DRAW.items():
        assert_is_picture(kind, draw(figures, fold))


def test_class_names_are_shown_as_they_are() -> None:
    names = ["<b>", "a & b", "$x$", "\"'>", "]]>", "&lt;", "nul\x00", "esc\x1b[1m", "\ud800"]
    figures = FoldFigures(names)
    shown = [*names[:6], "nul\ufffd", "esc\ufffd[1m", "\ufffd"]
    n_names = len(names)
    # Each class is taken for the next. Three at a time: six pairs, and six areas, are named.
    for first in range(0, n_names, 3):
        y_true = np.arange(first, first + 3)
        confusion = figures.confusion_matrix(y_true, (y_true + 1) % n_names)
        texts = [text for text, _, _ in svg_texts(open_svg(confusion))]
        for index in range(n_names):
            is_true = index in y_true
            is_predicted = index in (y_true + 1) % n_names
            # Once at each axis, and once for each of its lines beside the matrix.
            assert texts.count(shown[index]) == 2 + is_true, f"{names[index]!r} in {texts}"
            assert texts.count(f"→ {shown[index]}") == is_predicted, f"{names[index]!r} in {texts}"
        roc = figures.roc(y_true, np.eye(n_names)[y_true])
        texts = [text for text, _, _ in svg_texts(open_svg(roc))]
        for index in range(first, first + 3):
            assert shown[index] in texts, f"{names[index]!r} not in {texts}"


def test_callers_mistakes_are_refused(figures: FoldFigures) -> None:
    with pytest.raises(ValueError, match=r"at least one class, but is empty"):
        FoldFigures([])
    with pytest.raises(ValueError, match=r"same shape, but got \(2,\) and \(3,\)"):
        figures.curiosity_histogram([0.1, 0.2], [True, False, True])
    with pytest.raises(ValueError, match=r"must hold booleans, but got dtype int64"):
        figures.curiosity_histogram([0.1, 0.2], np.array([1, 0]))
    with pytest.raises(ValueError, match=r"one dimension, but got shape \(1, 2\)"):
        figures.curiosity_per_class([[0.1, 0.2]], [0, 1])
    with pytest.raises(ValueError, match=r"`y_true` must hold integers, but got dtype float64"):
        figures.confusion_matrix([0.5], [0])
    with pytest.raises(ValueError, match=r"must lie in 0..9, but got values from -1 to 3"):
        figures.confusion_matrix([0, 1], [3, -1])
    with pytest.raises(ValueError, match=r"shape \(2, 10\), but got \(2, 9\)"):
        figures.roc([0, 1], np.zeros((2, 9)))
    with pytest.raises(ValueError, match=r"`epochs` must be finite and >= 0, but got -1.0"):
        figures.losses([-1.0], [0.1], [], [])
    with pytest.raises(ValueError, match=r"`checkpoint_epochs` must be finite .* got nan"):
        figures.losses([], [], [np.nan], [0.1])


def test_equal_curiosity_of_other_clips_is_another_picture(figures: FoldFigures) -> None:
    zeros = np.zeros(8)
    a = figures.curiosity_histogram(zeros, np.arange(8) < 6)
    assert figures.curiosity_histogram(zeros, np.arange(8) < 5) != a
    assert figures.curiosity_histogram(zeros, np.arange(8) >= 2) == a, "six right, two wrong"
    b = figures.curiosity_per_class(zeros, np.zeros(8, np.int_))
    assert figures.curiosity_per_class(zeros, np.ones(8, np.int_)) != b
