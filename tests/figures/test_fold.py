from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qwave.figures import FoldFigures

from .samples import CLASS_NAMES, FoldData, make_fold, open_png

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


@pytest.mark.parametrize("kind", DRAW)
def test_picture_is_a_png_of_the_promised_size(figures: FoldFigures, kind: str) -> None:
    png = DRAW[kind](figures, make_fold(0))
    image = open_png(png)
    assert image.size == (640, 400)
    assert image.mode == "P"
    assert len(png) < 40_000, f"{kind} takes {len(png)} bytes"
    assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


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
    assert open_png(DRAW[kind](figures, fold)).size == (640, 400)


def test_empty_fold_is_drawn_and_differs_from_a_full_one(figures: FoldFigures) -> None:
    empty = {
        "histogram": figures.curiosity_histogram([], []),
        "per_class": figures.curiosity_per_class([], []),
        "confusion": figures.confusion_matrix([], []),
        "roc": figures.roc([], []),
        "losses": figures.losses([], [], [], []),
    }
    for kind, png in empty.items():
        assert open_png(png).size == (640, 400)
        assert png != DRAW[kind](figures, make_fold(0)), kind


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
    for png in (
        figures.curiosity_per_class(holed, fold.y_true),
        figures.roc(fold.y_true, probabilities),
        figures.losses(fold.epochs, train_loss, fold.checkpoint_epochs, np.full(5, bad)),
    ):
        assert open_png(png).size == (640, 400)


def test_losses_of_zero_and_of_huge_size_are_drawn(figures: FoldFigures) -> None:
    assert open_png(figures.losses([1, 2, 3], [1e30, 0.0, 1e-30], [3], [0.5])).size == (640, 400)


def test_class_names_are_not_formulas() -> None:
    names = ["$\\frac{1}$", "a\nb", "x" * 80, "<b>"]
    figures = FoldFigures(names)
    fold = make_fold(5, n_clips=16, num_classes=4)
    for draw in DRAW.values():
        assert open_png(draw(figures, fold)).size == (640, 400)


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


def test_a_picture_drawn_again_is_the_same_and_forgotten_in_the_end(figures: FoldFigures) -> None:
    zeros, y_true = np.zeros(80), np.arange(80) % 10
    first = figures.curiosity_per_class(zeros, y_true)
    for seed in range(70):
        fold = make_fold(seed)
        figures.curiosity_per_class(fold.curiosity, fold.y_true)
        figures.curiosity_histogram(fold.curiosity, fold.y_true == fold.y_pred)
    assert figures.curiosity_per_class(zeros, y_true) == first
    assert len(figures._drawn) == 64


def test_equal_curiosity_of_other_clips_is_another_picture(figures: FoldFigures) -> None:
    zeros = np.zeros(8)
    a = figures.curiosity_histogram(zeros, np.arange(8) < 6)
    assert figures.curiosity_histogram(zeros, np.arange(8) < 5) != a
    assert figures.curiosity_histogram(zeros, np.arange(8) >= 2) == a, "six right, two wrong"
    b = figures.curiosity_per_class(zeros, np.zeros(8, np.int_))
    assert figures.curiosity_per_class(zeros, np.ones(8, np.int_)) != b
