"""Leaks: what gives a class away in this data, but not when the model is used.

A label or a row number among the features, a drift of recordings that were made class by class,
the same clip on both sides of a split: each makes scores that mean nothing, and none of it shows
in the scores. The probe is cheap, and misses subtle leaks.

Notation: n clips, m sampled clips, d features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qwave.data.embeddings import EmbeddingSet
from qwave.data.folds import Fold

_MOST_ROWS = 2000  # sampled rows: sorting 1536 columns of 2000 rows takes half a second
_BLOCK = 128  # columns that are sorted at a time
_SEED = 0
_GIVEN_AWAY = 0.9  # least skill of a column that nearly gives the classes away
_ORDINARY = 0.6  # skill below which the other columns must stay: above it, classes are easy
_DRIFTING = 0.5  # least skill of a column that follows the order of the rows
_IN_ORDER = 0.9  # least rank correlation with the order of the rows, within classes
_FEWEST_ROWS = 20  # with fewer rows, some column separates the classes by luck
_FEWEST_REPEATS = 10  # clips, besides the first of each class, that must confirm a column
_SHOWN = 5  # columns named in a message


def find_leaks(data: EmbeddingSet, folds: Sequence[Fold]) -> tuple[str, ...]:
    """Messages about suspicious columns and rows: which ones, the effect on scores, the remedy.

    A column is judged by the skill of a nearest-neighbour classifier that is given this column
    only, on clips of other folds: skill 0 is guessing the commonest class, 1 is never wrong. A
    message names columns that reach 0.9 while ordinary columns stay below 0.6 (many strong
    features mean that the classes are easy); columns with one value for all clips of a class; and
    columns that follow the order of the rows, also within each class, if the rows are sorted by
    class. At most 2,000 clips are used, drawn by a fixed seed.

    Other messages name rows that are equal in every feature, and names of clips that are on both
    sides of a split or in two classes.

    Args:
        data: Embeddings with labels.
        folds: Folds of these embeddings, made by `make_folds`.
    """
    return (
        *_column_leaks(data, folds),
        *_equal_rows(data, folds),
        *_equal_names(data, folds),
    )


def _column_leaks(data: EmbeddingSet, folds: Sequence[Fold]) -> Iterator[str]:
    n = len(data.y)
    if n < _FEWEST_ROWS:
        return
    generator = np.random.default_rng(_SEED)
    # In random order: columns are sorted, and rows of equal value must not stay sorted by class.
    rows = generator.permutation(n)[:_MOST_ROWS]
    half = np.zeros(n, dtype=bool)
    for fold in folds[::2]:
        half[fold.test] = True
    y, x = data.y[rows], data.x[rows]
    skill = _skills(x, y, half[rows])
    of_class = _are_of_class(x, y)
    drift = _drifts(x, y, rows) if _is_sorted_by_class(data.y) else np.zeros(x.shape[1])
    in_order = (drift >= _IN_ORDER) & (skill >= _DRIFTING) & ~of_class
    strong = (skill >= _GIVEN_AWAY) & ~of_class & ~in_order
    others = skill[~strong & ~of_class & ~in_order]
    ordinary = max(float(others.max()), 0.0) if len(others) else 1.0
    # A table may have this many columns besides its features; more are features of easy classes.
    is_few = strong.sum() <= max(1, min(_SHOWN, x.shape[1] // 4))
    advice = (
        "if that was not measured on the clips, scores are worth nothing; leave it out of the "
        "features"
    )
    for is_named, what in (
        (of_class, "one value for all clips of a class, as a label has"),
        (in_order, "the order of the rows, which are sorted by class, as a row number has"),
    ):
        if is_named.any():
            yield f"{_columns(is_named, data.feature_names)} {what}: {advice}"
    if strong.any() and is_few and ordinary < _ORDINARY:
        yield (
            f"{_columns(strong, data.feature_names)} what nearly gives the classes away by "
            f"itself: a skill of {skill[strong].max():.2f} (0 is guessing, 1 is never wrong) "
            f"where other columns reach {ordinary:.2f}, as a label, an index or a time has: "
            f"{advice}"
        )


def _columns(is_named: np.ndarray, feature_names: Sequence[str]) -> str:
    """The beginning of a sentence about columns, by their names, else by their numbers."""
    numbers = np.flatnonzero(is_named).tolist()
    shown = [repr(feature_names[n]) if feature_names else str(n) for n in numbers[:_SHOWN]]
    listed = ", ".join(shown) + (", ..." if len(numbers) > _SHOWN else "")
    counted = "" if feature_names else " (counted from 0)"
    return (
        f"feature column {listed}{counted} has"
        if len(numbers) == 1
        else f"feature columns {listed}{counted} have"
    )


def _skills(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Skill [d] of each column of x [m, d].

    Each clip gets the class of the nearest clip in the other half. The skill is
    (accuracy - a) / (1 - a), with a the share of the commonest class. Clips whose class is not in
    both halves are left out; without any other clips the skill is 0.
    """
    both = np.intersect1d(y[half], y[~half])
    is_asked = np.isin(y, both)
    guess = np.bincount(y[is_asked]).max() / is_asked.sum() if is_asked.any() else 1.0
    if len(both) < 2 or guess == 1:
        return np.zeros(x.shape[1])
    accuracy = np.empty(x.shape[1])
    for start in range(0, x.shape[1], _BLOCK):
        columns = np.ascontiguousarray(x[:, start : start + _BLOCK].T)
        order = np.argsort(columns, axis=1, kind="stable")
        values = np.take_along_axis(columns, order, axis=1)
        right = np.zeros(values.shape, dtype=bool)
        for side in (half, ~half):
            is_known = ~side[order]
            nearest = _nearest_known(values, is_known)
            predicted = np.take_along_axis(y[order], nearest, axis=1)
            right |= (predicted == y[order]) & ~is_known
        is_counted = is_asked[order]
        accuracy[start : start + _BLOCK] = (right & is_counted).sum(axis=1) / is_asked.sum()
    return (accuracy - guess) / (1 - guess)


def _nearest_known(values: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Index in its row of the known value nearest to each of the sorted values [k, m].

    Of two equally near values the left one is taken. Each row must have a known value.
    """
    last = values.shape[1] - 1
    index = np.arange(last + 1)
    left = np.maximum.accumulate(np.where(is_known, index, -1), axis=1)
    right = np.minimum.accumulate(np.where(is_known, index, last + 1)[:, ::-1], axis=1)[:, ::-1]
    has_left, has_right = left >= 0, right <= last
    left, right = np.maximum(left, 0), np.minimum(right, last)
    below = values - np.take_along_axis(values, left, axis=1)
    above = np.take_along_axis(values, right, axis=1) - values
    is_left = has_left & (~has_right | (below <= above))
    return np.where(is_left, left, right)


def _are_of_class(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether a column of x [m, d] has one value a class, but not one for all clips: bool [d].

    Classes with one clip are left out.
    """
    is_repeated = np.bincount(y)[y] > 1
    x, y = x[is_repeated], y[is_repeated]
    labels, first, own = np.unique(y, return_index=True, return_inverse=True)
    if len(y) - len(labels) < _FEWEST_REPEATS:
        return np.zeros(x.shape[1], dtype=bool)
    is_one: np.ndarray = (x[first][own] == x).all(axis=0) & (x != x[0]).any(axis=0)
    return is_one


def _is_sorted_by_class(y: np.ndarray) -> bool:
    """Whether the rows of each class follow each other."""
    return int(np.count_nonzero(np.diff(y))) + 1 == len(np.unique(y))


def _drifts(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rank correlation [d], without its sign, of columns x [m, d] and rows [m] within classes."""
    total, spread, spread_rows = np.zeros(x.shape[1]), np.zeros(x.shape[1]), 0.0
    for label in np.unique(y):
        is_label = y == label
        row_ranks = _centred_ranks(rows[is_label][:, None])
        ranks = _centred_ranks(x[is_label])
        total += (ranks * row_ranks).sum(axis=0)
        spread += (ranks**2).sum(axis=0)
        spread_rows += float((row_ranks**2).sum())
    correlation: np.ndarray = np.abs(total) / np.sqrt(np.maximum(spread * spread_rows, 1))
    return correlation


def _centred_ranks(x: np.ndarray) -> np.ndarray:
    """Ranks of each column of x [m, d] minus their mean; 0 for a column of equal values.

    Equal values are ranked in the order of the rows, which is random.
    """
    ranks = np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0) - (len(x) - 1) / 2
    return np.where(x.max(axis=0) > x.min(axis=0), ranks, 0.0)


def _equal_rows(data: EmbeddingSet, folds: Sequence[Fold]) -> Iterator[str]:
    contents = _ids([row.tobytes() for row in data.x + np.float32(0)])  # -0 counts as 0
    is_twin = np.bincount(contents)[contents] > 1
    if not is_twin.any():
        return
    crossing = _crossing(contents, folds)
    torn = _torn(contents, data.y)
    twins = np.flatnonzero(contents == contents[is_twin.argmax()])
    pair = (*crossing, *torn, (int(twins[0]), int(twins[1])))[0]
    what = (
        f"{is_twin.sum()} of {len(data.y)} clips equal another one in every feature "
        f"({_named(data, *pair)})"
    )
    if crossing:
        what += (
            f"; {len(crossing)} of them are tested by a model that was trained on their equal, "
            "so that scores are not those of new clips"
        )
    else:
        what += "; each counts more than once in training and in scores"
    if torn:
        what += f"; {len(torn)} have an equal of another class, so that one label is wrong"
    yield (
        f"{what}: keep one of each, or give equal clips one recording in `group` (and set "
        "data.drop_overlap=true where folds are official)"
    )


def _equal_names(data: EmbeddingSet, folds: Sequence[Fold]) -> Iterator[str]:
    names = _ids(data.names)
    if np.bincount(names).max() == 1:
        return
    if crossing := _crossing(names, folds):
        yield (
            f"{len(crossing)} of {len(data.y)} clips are tested by a model that was trained on a "
            f"clip of the same name ({_named(data, *crossing[0])}): if a name is a recording, "
            "scores are not those of new recordings; give the names as `group` too (and set "
            "data.drop_overlap=true where folds are official)"
        )
    elif torn := _torn(names, data.y):
        yield (
            f"{len(torn)} of {len(data.y)} clips share their name with a clip of another class "
            f"({_named(data, *torn[0])}): if a name is a clip, one label is wrong"
        )


def _ids(values: Sequence[object]) -> np.ndarray:
    """Whole numbers from 0, int64 [n]: equal for equal values."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def _crossing(ids: np.ndarray, folds: Sequence[Fold]) -> list[tuple[int, int]]:
    """Tested rows with the id of a training row of their fold, each with the first such row."""
    pairs: list[tuple[int, int]] = []
    for fold in folds:
        known, first = np.unique(ids[fold.train], return_index=True)
        is_met = np.isin(ids[fold.test], known)
        met = fold.test[is_met]
        trained = fold.train[first[np.searchsorted(known, ids[met])]]
        pairs += zip(met.tolist(), trained.tolist(), strict=True)
    return sorted(pairs)


def _torn(ids: np.ndarray, y: np.ndarray) -> list[tuple[int, int]]:
    """Rows whose id also has a row of another class, each with the first such row."""
    first: dict[int, dict[int, int]] = {}
    for row, (own, label) in enumerate(zip(ids.tolist(), y.tolist(), strict=True)):
        first.setdefault(own, {}).setdefault(label, row)
    return [
        (row, next(other for label, other in first[own].items() if label != y[row]))
        for row, own in enumerate(ids.tolist())
        if len(first[own]) > 1
    ]


def _named(data: EmbeddingSet, *pair: int) -> str:
    """The two rows of a pair by name, number and class, for a message."""
    clips = [
        f"{data.names[row]!r}, row {row}, {data.class_names[data.y[row]]!r}"
        for row in sorted(pair)
    ]
    return f"first: {' and '.join(clips)}"
