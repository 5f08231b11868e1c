"""Pictures of a fold: size, determinism, any number of classes, hostile names, odd values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from sklearn import metrics

from qwave.report import CuriosityFigures, FoldFigures
from qwave.report.curiosity import nice_limit
from qwave.report.fold import roc_curve

from .samples import CLASS_NAMES, FoldData, make_fold, open_png, open_svg, svg_texts


class Figures(NamedTuple):
    curiosity: CuriosityFigures
    fold: FoldFigures


Draw = Callable[[Figures, FoldData], bytes]

DRAW: dict[str, Draw] = {
    "histogram": lambda f, d: f.curiosity.histogram(d.curiosity, d.y_true == d.y_pred),
    "per_class": lambda f, d: f.curiosity.per_class(d.curiosity, d.y_true),
    "confusion": lambda f, d: f.fold.confusion_matrix(d.y_true, d.y_pred),
    "roc": lambda f, d: f.fold.roc(d.y_true, d.probabilities),
    "losses": lambda f, d: f.fold.losses(
        d.epochs, d.train_loss, d.checkpoint_epochs, d.held_out_loss
    ),
}


def figures_of(class_names: tuple[str, ...]) -> Figures:
    return Figures(CuriosityFigures(class_names), FoldFigures(class_names))


@pytest.fixture(scope="module")
def figures() -> Figures:
    return figures_of(CLASS_NAMES)


def assert_is_picture(kind: str, picture: bytes) -> None:
    if kind in ("histogram", "per_class"):
        assert open_png(picture).size == (640, 400)
        assert "Software" not in open_png(picture).info
    else:
        assert open_svg(picture).tag == "svg"
        assert b"Matplotlib" not in picture


def words_of(svg: bytes) -> str:
    return "\n".join(text for text, _, _ in svg_texts(open_svg(svg)))


@pytest.mark.parametrize("kind", DRAW)
def test_nothing_of_one_picture_reaches_the_next(figures: Figures, kind: str) -> None:
    draw = DRAW[kind]
    before = draw(figures, make_fold(1))
    assert_is_picture(kind, before)
    other = draw(figures, make_fold(2))
    assert other != before
    assert draw(figures, make_fold(1)) == before
    # The slow twin of what is kept: new figures for each picture.
    assert draw(figures_of(CLASS_NAMES), make_fold(1)) == before


@pytest.mark.parametrize("num_classes", [1, 2, 50])
def test_any_number_of_classes_is_drawn(num_classes: int) -> None:
    figures = figures_of(tuple(f"class {index}" for index in range(num_classes)))
    fold = make_fold(3, n_clips=4 * num_classes, num_classes=num_classes)
    for kind, draw in DRAW.items():
        assert_is_picture(kind, draw(figures, fold))


def test_an_empty_fold_is_drawn(figures: Figures) -> None:
    curiosity, fold = figures
    assert_is_picture("histogram", curiosity.histogram([], []))
    assert_is_picture("per_class", curiosity.per_class([], []))
    assert "no clips" in words_of(fold.confusion_matrix([], []))
    assert "no curve" in words_of(fold.roc([], []))
    assert "no losses" in words_of(fold.losses([], [], [], []))


@pytest.mark.parametrize("value", [0.0, -1e-12, 1e9])
def test_equal_curiosity_is_drawn(figures: Figures, value: float) -> None:
    curiosity = np.full(8, value)
    first = figures.curiosity.histogram(curiosity, np.arange(8) < 6)
    assert open_png(first).size == (640, 400)
    assert figures.curiosity.histogram(curiosity, np.arange(8) >= 2) == first, "six right of 8"
    rows = figures.curiosity.per_class(curiosity, np.arange(8))
    assert figures.curiosity.per_class(curiosity, np.zeros(8, int)) != rows


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_left_out_but_counted(figures: Figures, bad: float) -> None:
    fold = make_fold(4)
    is_correct = fold.y_true == fold.y_pred
    holed = fold.curiosity.copy()
    holed[[0, 7]] = bad
    keep = np.isfinite(holed)
    whole = open_png(figures.curiosity.histogram(holed[keep], is_correct[keep]))
    left_out = open_png(figures.curiosity.histogram(holed, is_correct))
    # Only the note in the upper right corner tells the two apart.
    note, below = (380, 0, 640, 36), (0, 36, 640, 400)
    assert whole.crop(note).tobytes() != left_out.crop(note).tobytes()
    assert whole.crop(below).tobytes() == left_out.crop(below).tobytes()
    probabilities = fold.probabilities.copy()
    probabilities[3, 2] = bad
    roc = figures.fold.roc(fold.y_true, probabilities)
    assert "1 clips not finite, left out" in words_of(roc)
    train = np.append(fold.train_loss[1:], bad)
    losses = figures.fold.losses(fold.epochs, train, [100], [bad])
    assert_is_picture("losses", losses)


def test_losses_of_zero_and_of_huge_size_are_drawn(figures: Figures) -> None:
    losses = figures.fold.losses([1, 2, 3], [1e30, 0.0, 1e-30], [3], [0.5])
    assert_is_picture("losses", losses)
    assert losses == figures.fold.losses([1, 2, 3], [1e30, 1e-6, 1e-6], [3], [0.5])


def test_class_names_are_shown_as_they_are() -> None:
    names = ("<b>", "a & b", "$x$", "\"'>", "]]>", "&lt;", "$\\frac{1}$", "a\nb", "x" * 80)
    shown = [*names[:7], "a b", "x" * 13 + "…"]
    figures = figures_of((*names, "nul\x00", "\ud800"))
    shown += ["nul\\x00", "\\ud800"]
    fold = make_fold(5, n_clips=44, num_classes=11)
    for kind, draw in DRAW.items():
        assert_is_picture(kind, draw(figures, fold))
    texts = words_of(DRAW["confusion"](figures, fold)).split("\n")
    for name in shown:
        # Once at each axis.
        assert texts.count(name) >= 2, f"{name!r} in {texts}"


@pytest.mark.parametrize("seed", range(5))
def test_the_confusion_matrix_has_the_counts_of_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 21))
    y_true, y_pred = rng.integers(n_classes, size=(2, 150))
    figures = FoldFigures([f"class {chr(97 + index)}" for index in range(n_classes)])
    words = words_of(figures.confusion_matrix(y_true, y_pred))
    counts = metrics.confusion_matrix(y_true, y_pred, labels=range(n_classes))
    numbers = sorted(int(word) for word in words.split("\n") if word.isdecimal())
    assert numbers == sorted(counts[counts > 0].tolist()), f"{seed=}"
    assert f"{np.trace(counts)} of 150 right" in words
    wrong = counts - np.diag(np.diag(counts))
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    named = f"class {chr(97 + i)}\n  → class {chr(97 + j)}: {wrong.max()}"
    assert named in re.sub(r"\n +→", "\n  →", words), f"{seed=}"


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_those_of_sklearn(seed: int) -> None:
    fold = make_fold(seed, n_clips=40, num_classes=7)
    # The last class has no clip in the fold, and no curve.
    scores = np.column_stack((fold.probabilities, np.zeros(40)))
    words = words_of(FoldFigures([f"c{i}" for i in range(8)]).roc(fold.y_true, scores))
    areas = [metrics.roc_auc_score(fold.y_true == index, scores[:, index]) for index in range(7)]
    assert f"mean area {np.mean(areas):.3f}" in words
    assert "7 of 8 classes" in words
    listed = [float(found) for found in re.findall(r"^(\d\.\d{3}) ", words, re.MULTILINE)]
    assert listed == pytest.approx(sorted(areas)[:6], abs=0.0005), f"{seed=}"


@pytest.mark.parametrize(
    ("value", "limit"),
    [(0.0, 0.01), (0.01, 0.01), (0.011, 0.02), (0.05, 0.05), (0.9, 1.0), (51.0, 100.0)],
)
def test_nice_limit_is_the_least_rung_above(value: float, limit: float) -> None:
    assert nice_limit(value, 0.01, (1, 2, 5)) == limit


def test_a_curve_is_that_of_scikit_learn() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        is_positive, score = rng.random(30) < 0.4, np.round(rng.random(30), 1)
        is_positive[:2] = True, False
        expected = metrics.roc_curve(is_positive, score, drop_intermediate=False)[:2]
        for found, wanted in zip(roc_curve(is_positive, score), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-12, err_msg=f"{seed=}")
