"""Columns and rows of a table that look like features and clips, and are not.

A column may number the rows, or be the label once more; a row may hold the sums of the others.

Shapes: n clips, d features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from qwave.config import DataError
from qwave.data.column_names import plain_name
from qwave.data.columns import stem_of
from qwave.data.labels import feature_key

# Fewer rows may hold such numbers by chance.
_FEWEST_ROWS = 8
_FEWEST_REPEATS = 20  # clips beside the first of each class that bear out a coarser label
_BLOCK = 256  # rows compared at once
_SUMMARIES = (
    *("total", "grandtotal", "subtotal", "sum", "mean", "average", "avg", "median", "std"),
    *("stddev", "stdev", "min", "max", "count", "summe", "gesamt", "gesamtergebnis", "mittelwert"),
    *("anzahl", "moyenne", "somme", "suma", "promedio"),
)


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
        for place, n_values in _renamings(x, y, n_classes):
            # Of two classes, one of many columns of zeros and ones may be the label by chance.
            is_lone = stems[place] is None or count[stems[place]] < 2
            if n_values == n_classes and (n_classes > 2 or is_lone):
                raise DataError(
                    f"{source}: column {names[place]!r} is the label once more, in other numbers; "
                    f"{advice}"
                )
            if 1 < n_values < n_classes and is_lone and len(x) - n_classes >= _FEWEST_REPEATS:
                raise DataError(
                    f"{source}: column {names[place]!r} has one number for all clips of a class, "
                    f"as a coarser label has; {advice}"
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


def refuse_summaries(
    y: np.ndarray, class_names: Sequence[str], lines: Sequence[int], source: str
) -> None:
    """Refuse rows at the end of a table that hold sums of the others, by what their label says.

    Args:
        y: Classes [n], whole numbers from 0.
        class_names: One name a class.
        lines: Place of each row for messages, [n].
        source: Where they are from: the beginning of every message.

    Raises:
        DataError: The last row is the only one of a class that is named as sums are.
    """
    name = class_names[y[-1]]
    if plain_name(name) in _SUMMARIES and np.count_nonzero(y == y[-1]) == 1 < len(y) - 1:
        raise DataError(
            f"{source}, row {lines[-1]}: {name!r} seems to be a summary of the rows above it, and "
            "no clip; leave such rows out (if it is a class, give it another name)"
        )


def note_whole_numbers(x: np.ndarray, names: Sequence[str], source: str) -> str:
    """A note on features that are whole numbers beside numbered ones (``f0``) that are not.

    Empty where there are none, or where fewer than half of the features are numbered.

    Args:
        x: Features, finite [n, d].
        names: Names of the columns, [d].
        source: Where they are from.
    """
    stems = [stem_of(name) for name in names]
    count = Counter(stems)
    is_lone = np.array([stem is None or count[stem] < 2 for stem in stems])
    if 2 * is_lone.sum() > len(names) or (x == np.round(x)).all():
        return ""
    lone = np.flatnonzero(is_lone)
    is_whole = (x[:, lone] == np.round(x[:, lone])).all(axis=0)
    found = [repr(names[place]) for place in lone[is_whole]]
    if not found:
        return ""
    shown = ", ".join(found[:12]) + (", ..." if len(found) > 12 else "")
    return (
        f"{shown} {'are features' if len(found) > 1 else 'is a feature'} of whole numbers; if not "
        f"measured on the clips, list the features with {feature_key(source)}"
    )


def _renamings(x: np.ndarray, y: np.ndarray, n_classes: int) -> list[tuple[int, int]]:
    """Columns of whole numbers, one for all clips of a class, and how many numbers they hold."""
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
        (int(place), len(np.unique(column)))
        for place, column in zip(left, values.T, strict=True)
        if (column == np.round(column)).all()
    ]
