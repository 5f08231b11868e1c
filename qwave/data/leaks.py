"""What gives a class away that will not be there when the model is used.

A label or a row number among the features, a drift of the recordings in the order in which they
were made class by class, the same clip on both sides of a split: each makes scores that mean
nothing, and none of it shows in them. The probe is cheap and misses what is subtle.

Notation: n clips, m sampled clips, d features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qwave.data.embeddings import EmbeddingSet
from qwave.data.folds import Fold

_MOST_ROWS = 2000  # sampled for the columns: sorting 1536 columns of so many takes half a second
_BLOCK = 128  # columns that are sorted at a time
_SEED = 0
_GIVEN_AWAY = 0.9  # skill of a column that nearly gives the classes away
_ORDINARY = 0.6  # skill that columns beside it may have: more, and the classes are just easy
_DRIFTING = 0.5  # skill of a column that follows the order of the rows
_IN_ORDER = 0.9  # rank correlation with the order of the rows, within classes
_FEWEST_ROWS = 20  # with fewer, some column separates the classes by luck
_FEWEST_REPEATS = 10  # clips, beside the first of each class, that must bear a column out
_SHOWN = 5


def find_leaks(data: EmbeddingSet, folds: Sequence[Fold]) -> tuple[str, ...]:
    """Sentences that name suspicious columns and rows, what they do to scores, and what to do.

    Columns are judged by the skill of a nearest-neighbour classifier that sees one column only, on
    clips of other folds: 0 is that of guessing the commonest class, 1 is never wrong. Named are
    those that reach 0.9 where ordinary columns stay below 0.6 (many strong features are just easy
    classes); those whose values stand for the classes one to one; and those that follow the order
    of the rows, within each class too, where rows are sorted by class. Of more than 2,000 clips
    2,000 are drawn, by a fixed seed.

    Rows are named that are equal to each other in every feature, and names that stand on both
    sides of a split or at two classes.

    Args:
        data: Embeddings with labels.
        folds: As `make_folds` made them.
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
    # As many as a table may have beside its features; more are features, of easy classes.
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
    """The beginning of a sentence about columns: by name, or by number where they have none."""
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
    """Skill [d] of each column of x [m, d]: clips of a half told by the nearest of the other.

    (accuracy - a) / (1 - a), with a the share of the commonest class. Clips whose class the other
    half lacks are not asked about; 0 where nothing can be.
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
            told = np.take_along_axis(y[order], nearest, axis=1)
            right |= (told == y[order]) & ~is_known
        is_counted = is_asked[order]
        accuracy[start : start + _BLOCK] = (right & is_counted).sum(axis=1) / is_asked.sum()
    return (accuracy - guess) / (1 - guess)


def _nearest_known(values: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Place in its row of the known value that is nearest to each of sorted values [k, m].

    Of two that are as near the left one is taken. Each row has a known value.
    """
    last = values.shape[1] - 1
    place = np.arange(last + 1)
    left = np.maximum.accumulate(np.where(is_known, place, -1), axis=1)
    right = np.minimum.accumulate(np.where(is_known, place, last + 1)[:, ::-1], axis=1)[:, ::-1]
    has_left, has_right = left >= 0, right <= last
    left, right = np.maximum(left, 0), np.minimum(right, last)
    below = values - np.take_along_axis(values, left, axis=1)
    above = np.take_along_axis(values, right, axis=1) - values
    is_left = has_left & (~has_right | (below <= above))
    return np.where(is_left, left, right)


def _are_of_class(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Columns of x [m, d] with one value for all clips of a class, not for all clips, bool [d].

    Classes with one clip say nothing.
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
        place = _centred_ranks(rows[is_label][:, None])
        ranks = _centred_ranks(x[is_label])
        total += (ranks * place).sum(axis=0)
        spread += (ranks**2).sum(axis=0)
        spread_rows += float((place**2).sum())
    correlation: np.ndarray = np.abs(total) / np.sqrt(np.maximum(spread * spread_rows, 1))
    return correlation


def _centred_ranks(x: np.ndarray) -> np.ndarray:
    """Ranks of each column of x [m, d] about their mean; columns without a spread have none.

    Equal values are ranked as they come: rows come in random order.
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
    pair = (crossing or torn or _pairs(contents, is_twin))[0]
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
    """Equal values to equal numbers from 0, int64 [n]."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def _crossing(ids: np.ndarray, folds: Sequence[Fold]) -> list[tuple[int, int]]:
    """Rows that are tested, each with the first of its fold's training rows of the same id."""
    pairs: list[tuple[int, int]] = []
    for fold in folds:
        known, first = np.unique(ids[fold.train], return_index=True)
        is_met = np.isin(ids[fold.test], known)
        met = fold.test[is_met]
        trained = fold.train[first[np.searchsorted(known, ids[met])]]
        pairs += zip(met.tolist(), trained.tolist(), strict=True)
    return sorted(pairs)


def _torn(ids: np.ndarray, y: np.ndarray) -> list[tuple[int, int]]:
    """Rows whose id also stands at another class than theirs, each with the first such row."""
    is_torn = np.bincount(np.unique(np.stack([ids, y]), axis=1)[0], minlength=len(ids))[ids] > 1
    rows = np.flatnonzero(is_torn).tolist()
    first: dict[int, dict[int, int]] = {}
    for row in rows:
        first.setdefault(ids[row], {}).setdefault(y[row], row)
    return [
        (row, next(other for label, other in first[ids[row]].items() if label != y[row]))
        for row in rows
    ]


def _pairs(ids: np.ndarray, is_twin: np.ndarray) -> list[tuple[int, int]]:
    """The first row that has an equal, and that."""
    row = int(np.flatnonzero(is_twin)[0])
    return [(row, int(np.flatnonzero(ids == ids[row])[1]))]


def _named(data: EmbeddingSet, row: int, other: int) -> str:
    places = [
        f"{data.names[place]!r}, row {place}, {data.class_names[data.y[place]]!r}"
        for place in sorted((row, other))
    ]
    return f"first: {' and '.join(places)}"
