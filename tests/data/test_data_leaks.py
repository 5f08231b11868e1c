"""The probe for leaks: finds what gives classes away, and is silent about honest data."""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from qwave.config import DataConfig
from qwave.data import (
    EmbeddingSet,
    embeddings_from_arrays,
    find_leaks,
    load_embeddings,
    make_folds,
    take_rows,
)

ADVICE = (
    "if that was not measured on the clips, scores are worth nothing; leave it out of the features"
)


def _leaks(data: EmbeddingSet, *, drop_overlap: bool = False) -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = make_folds(data, DataConfig(drop_overlap=drop_overlap))
    return find_leaks(data, folds)


def _of(x: Any, y: Any, **columns: Any) -> tuple[str, ...]:
    return _leaks(embeddings_from_arrays(x, y, **columns))


def _features(seed: int, y: np.ndarray, d: int, distance: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(y.max() + 1, d))[y] * distance + rng.normal(size=(len(y), d))


# --- columns ---


def _label(y: np.ndarray) -> np.ndarray:
    return y


def _renamed(y: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).permutation(y.max() + 1)[y] * -7.3


def _one_class(y: np.ndarray) -> np.ndarray:
    return y == 1


@pytest.mark.parametrize("leak", [_label, _renamed, _one_class])
@pytest.mark.parametrize(("n", "d", "c"), [(40, 3, 4), (400, 320, 10), (300, 1, 2)])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_a_label_among_the_features_is_named(
    leak: Any, n: int, d: int, c: int, is_sorted: bool
) -> None:
    y = np.arange(n) % c
    y = np.sort(y) if is_sorted else np.random.default_rng(n).permutation(y)
    x = np.insert(_features(n, y, d), d // 2, leak(y), axis=1)
    assert _of(x, y) == (
        f"feature column {d // 2} (counted from 0) has one value for all clips of a class, as a "
        f"label has: {ADVICE}",
    )


def _row(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n)


def _down(n: int, rng: np.random.Generator) -> np.ndarray:
    return 1e6 - 2 * np.arange(n)


def _time(n: int, rng: np.random.Generator) -> np.ndarray:
    return 3 * np.arange(n) + rng.uniform(0, 5, n)


@pytest.mark.parametrize("leak", [_row, _down, _time])
@pytest.mark.parametrize(("n", "d", "c"), [(40, 3, 4), (400, 320, 10), (3000, 5, 50)])
def test_a_column_that_follows_rows_sorted_by_class_is_named(
    leak: Any, n: int, d: int, c: int
) -> None:
    y = np.sort(np.arange(n) % c)
    x = np.append(_features(n, y, d), leak(n, np.random.default_rng(0))[:, None], axis=1)
    assert _of(x, y) == (
        f"feature column {d} (counted from 0) has the order of the rows, which are sorted by "
        f"class, as a row number has: {ADVICE}",
    )
    # Numbers of rows that are in no order of classes say nothing.
    mixed = np.random.default_rng(1).permutation(n)
    assert _of(np.append(x[mixed, :d], x[:, d:], axis=1), y[mixed]) == ()


@pytest.mark.parametrize(("n", "d", "c"), [(100, 4, 4), (400, 320, 10)])
def test_a_column_that_nearly_gives_the_classes_away_is_named(n: int, d: int, c: int) -> None:
    """A label with noise; an old row number, in rows that have been shuffled since."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(n) % c)
    noisy = y + rng.normal(size=n) * 0.05
    old_row = np.argsort(np.argsort(y + rng.uniform(0, 0.5, n)))
    for leak in (noisy, old_row):
        (said,) = _of(np.append(_features(n, y, d), leak[:, None], axis=1), y)
        assert re.fullmatch(
            rf"feature column {d} \(counted from 0\) has what nearly gives the classes away by "
            r"itself: a skill of (1\.00|0\.9\d) \(0 is guessing, 1 is never wrong\) where other "
            rf"columns reach 0\.\d\d, as a label, an index or a time has: {re.escape(ADVICE)}",
            said,
        )


def test_columns_of_a_table_go_by_their_names() -> None:
    y = np.arange(60) // 20
    x = _features(0, y, 6)
    x[:, 4] = y == 2
    data = dataclasses.replace(embeddings_from_arrays(x, y), feature_names=tuple("abcdef"))
    part = take_rows(data, np.arange(0, 60, 2))
    assert part.feature_names == data.feature_names
    for rows in (data, part):
        (said,) = _leaks(rows)
        assert said.startswith("feature column 'e' has one value for all clips of a class")


@pytest.mark.parametrize("seed", range(8))
def test_honest_data_raise_no_alarm(seed: int) -> None:
    """Noise, blobs however far apart, after a ReLU, in half precision, sorted by class or not."""
    rng = np.random.default_rng(seed)
    n, d, c = int(rng.integers(8, 300)), int(rng.integers(3, 200)), int(rng.integers(2, 8))
    y = rng.integers(0, c, n)
    y = np.unique(np.sort(y) if seed % 2 else y, return_inverse=True)[1]
    x = _features(seed, y, d, rng.choice([0, 0.5, 1, 2, 4, 20]))
    x = np.maximum(x, 0) if seed % 3 == 0 and d > 10 else x
    x = x.astype(np.float16) if seed % 5 == 0 and d > 10 else x
    if sorted(np.bincount(y))[-2] > 1:  # the data can be split
        assert _of(x, y) == (), f"{seed=}"


def test_real_data_raise_no_alarm() -> None:
    data = load_embeddings("esc10")
    assert data.fold is not None
    assert data.group is not None
    for n_classes in (2, 3, 10):
        rows = data.y < n_classes
        columns = {"fold": data.fold[rows], "group": data.group[rows]}
        assert _of(data.x[rows], data.y[rows], **columns) == ()
    for load in (load_wine, load_breast_cancer, load_digits):
        x, y = load(return_X_y=True)
        assert _of(x, y) == (), load.__name__


def test_constant_columns_and_few_clips_raise_no_alarm() -> None:
    y = np.arange(40) // 10
    x = _features(0, y, 5)
    x[:, 2] = 3.0
    assert _of(x, y) == ()
    # The only clip of a class that has a value.
    x[:, 3] = 0
    x[39, 3] = 1
    y[39] = 4
    assert _of(x, y) == ()
    assert _of(np.arange(8.0)[:, None], np.arange(8) // 4) == ()


# --- rows ---

NAMES = [f"clip {row}.wav" for row in range(40)]
Y = np.arange(40) % 4
FOLD = np.arange(40) // 4 % 2
KEEP = (
    "keep one of each, or give equal clips one recording in `group` (and set "
    "data.drop_overlap=true where folds are official)"
)


def test_equal_clips_on_both_sides_of_a_split_are_named() -> None:
    x = _features(0, Y, 8)
    x[[6, 14]] = x[2]  # folds 1, 1 and 0
    assert _of(x, Y, names=NAMES, fold=FOLD) == (
        "3 of 40 clips equal another one in every feature (first: 'clip 2.wav', row 2, '2' and "
        "'clip 6.wav', row 6, '2'); 3 of them are tested by a model that was trained on their "
        f"equal, so that scores are not those of new clips: {KEEP}",
    )
    # What the message says to do helps.
    group = np.where(np.isin(np.arange(40), [2, 6, 14]), 2, np.arange(40))
    data = embeddings_from_arrays(x, Y, names=NAMES, fold=FOLD, group=group)
    (said,) = _leaks(data, drop_overlap=True)
    assert "each counts more than once" in said
    kept = np.setdiff1d(np.arange(40), [6, 14])
    names = [NAMES[row] for row in kept]
    assert _of(x[kept], Y[kept], names=names, fold=FOLD[kept]) == ()


def test_one_clip_under_two_names_on_one_side_counts_twice() -> None:
    x = _features(0, Y, 8)
    x[10] = x[2]
    x[2, 3], x[10, 3] = 0.0, -0.0
    assert _of(x, Y, names=NAMES, fold=FOLD) == (
        "2 of 40 clips equal another one in every feature (first: 'clip 2.wav', row 2, '2' and "
        f"'clip 10.wav', row 10, '2'); each counts more than once in training and in "
        f"scores: {KEEP}",
    )


def test_equal_clips_of_two_classes_are_named() -> None:
    x = _features(0, Y, 8)
    x[9] = x[2]
    assert _of(x, Y, names=NAMES, fold=FOLD) == (
        "2 of 40 clips equal another one in every feature (first: 'clip 2.wav', row 2, '2' and "
        "'clip 9.wav', row 9, '1'); each counts more than once in training and in scores; 2 have "
        f"an equal of another class, so that one label is wrong: {KEEP}",
    )


def test_a_name_on_both_sides_of_a_split_is_named() -> None:
    names = list(NAMES)
    names[4] = names[20] = names[0]  # folds 1, 1 and 0
    assert _of(_features(0, Y, 8), Y, names=names, fold=FOLD) == (
        "3 of 40 clips are tested by a model that was trained on a clip of the same name (first: "
        "'clip 0.wav', row 0, '0' and 'clip 0.wav', row 4, '0'): if a name is a recording, scores "
        "are not those of new recordings; give the names as `group` too (and set "
        "data.drop_overlap=true where folds are official)",
    )
    # What the message says to do helps.
    assert _of(_features(0, Y, 8), Y, names=names, group=names) == ()


def test_a_name_of_two_classes_is_named() -> None:
    names = list(NAMES)
    names[9] = names[0]
    assert _of(_features(0, Y, 8), Y, names=names, fold=FOLD) == (
        "2 of 40 clips share their name with a clip of another class (first: 'clip 0.wav', row 0, "
        "'0' and 'clip 0.wav', row 9, '1'): if a name is a clip, one label is wrong",
    )


@pytest.mark.parametrize("seed", range(8))
def test_equal_rows_are_counted_as_by_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 40, 60)
    data = embeddings_from_arrays(
        rng.normal(size=(40, 4))[values], rng.permutation(60) % 3, fold=np.arange(60) % 3
    )
    folds = make_folds(data, DataConfig())
    tested = {
        row for fold in folds for row in fold.test if (values[fold.train] == values[row]).any()
    }
    torn = {row for row in range(60) if (data.y[values == values[row]] != data.y[row]).any()}
    (said,) = find_leaks(data, folds)
    assert f"; {len(tested)} of them are tested" in said, f"{seed=}"
    assert f"; {len(torn)} have an equal of another class" in said, f"{seed=}"
    assert said.startswith(f"{(np.bincount(values)[values] > 1).sum()} of 60 "), f"{seed=}"
