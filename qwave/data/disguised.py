"""Columns of a table that look like features and are not: row numbers, the label once more.

Shapes: n clips, d features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from qwave.config import DataError
from qwave.data.columns import stem_of
from qwave.data.labels import feature_key

# Fewer rows may hold such numbers by chance.
_FEWEST_ROWS = 8
_BLOCK = 256  # rows compared at once


def refuse_disguised(x: np.ndarray, y: np.ndarray, names: Sequence[str], source: str) -> None:
    """Refuse a column of whole numbers that numbers the rows, or renames the classes.

    Args:
        x: Features, finite [n, d].
        y: Classes [n], whole numbers from 0, each present.
        names: Names of the columns, [d]. One that ends in a number (``f0``) may number the rows.
        source: Where they are from: the beginning of every message.

    Raises:
        DataError: There is such a column.
    """
    if len(x) < _FEWEST_ROWS:
        return
    stems = [stem_of(name) for name in names]
    count = Counter(stems)
    advice = f"drop it, or list the features with {feature_key(source)}"
    n_classes = int(y.max()) + 1
    if len(x) >= 3 * n_classes:
        for place in _renamings(x, y, n_classes):
            # Of two classes, one of many columns of zeros and ones may be the label by chance.
            if n_classes > 2 or stems[place] is None or count[stems[place]] < 2:
                raise DataError(
                    f"{source}: column {names[place]!r} is the label once more, in other numbers; "
                    f"{advice}"
                )
    unnumbered = [place for place, stem in enumerate(stems) if stem is None]
    if not unnumbered or len(names) < 2:
        return
    columns = np.asarray(x[:, unnumbered], np.float64)
    step = np.diff(columns, axis=0)
    numbers_rows = (step == 1).all(axis=0) & np.isin(columns[0], (0, 1))
    if len(unnumbered) < len(names):  # the others' names say that this one is of another kind
        numbers_rows |= (step > 0).all(axis=0) & (columns == np.round(columns)).all(axis=0)
    for place in np.flatnonzero(numbers_rows).tolist():
        raise DataError(
            f"{source}: column {names[unnumbered[place]]!r} numbers the rows, which may give the "
            f"labels away; {advice}"
        )


def _renamings(x: np.ndarray, y: np.ndarray, n_classes: int) -> list[int]:
    """Columns of whole numbers, one number for each class and another for every other."""
    first = np.array([np.flatnonzero(y == label)[0] for label in range(n_classes)])
    left = np.arange(x.shape[1])
    for start in range(0, len(x), _BLOCK):  # few columns outlive the first block
        rows = slice(start, start + _BLOCK)
        # x[rows] is a view; columns are copied only once few of them are left.
        block, own = (
            (x[rows], x[first])
            if len(left) == x.shape[1]
            else (
                x[rows][:, left],
                x[first][:, left],
            )
        )
        left = left[(block == own[y[rows]]).all(axis=0)]
    values = x[first][:, left]
    return [
        int(place)
        for place, column in zip(left, values.T, strict=True)
        if len(np.unique(column)) == n_classes and (column == np.round(column)).all()
    ]
