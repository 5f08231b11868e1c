"""Columns and rows of a table that look like features and clips, and are not.

A column may number the rows, or be the label once more; a row may hold the sums of the others.

Shapes: n clips, d features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwave.config import DataError
from qwave.data.columns import plain_name, scheme_sizes
from qwave.data.labels import feature_key

_FEWEST_ROWS = 8  # fewer rows may hold such numbers by chance
_FEWEST_REPEATS = 20  # clips, besides the first of each class, that show a coarser label
_BLOCK = 256  # rows compared at once
_SUMMARIES = (
    "total grandtotal subtotal sum mean average avg median std stddev stdev min max count summe "
    "gesamt gesamtergebnis mittelwert anzahl moyenne somme suma promedio"
)


def refuse_disguised(x: np.ndarray, y: np.ndarray, names: Sequence[str], source: str) -> None:
    """Refuse a column of whole numbers that numbers the rows, or renames the classes.

    Args:
        x: Features, finite [n, d].
        y: Classes [n], whole numbers from 0, each present.
        names: Names of the columns, [d]. A column whose name ends in a number (``f0``) is not
            refused for numbering the rows.
        source: Name of the table; every message begins with it.

    Raises:
        DataError: There is such a column.
    """
    if len(x) < _FEWEST_ROWS:
        return
    sizes = scheme_sizes(names)
    advice = f"drop it, or list the features with {feature_key(source)}"
    n_classes = int(y.max()) + 1
    if len(x) >= 3 * n_classes:
        for column, n_values in _renamings(x, y, n_classes):
            # With two classes, one of many columns of zeros and ones may be the label by chance.
            is_lone = sizes[column] < 2
            if n_values == n_classes and (n_classes > 2 or is_lone):
                raise DataError(
                    f"{source}: column {names[column]!r} is the label once more, in other "
                    f"numbers; {advice}"
                )
            if 1 < n_values < n_classes and is_lone and len(x) - n_classes >= _FEWEST_REPEATS:
                raise DataError(
                    f"{source}: column {names[column]!r} has one number for all clips of a class, "
                    f"as a coarser label has; {advice}"
                )
    unnumbered = [column for column, size in enumerate(sizes) if size == 0]
    if not unnumbered or len(names) < 2:
        return
    columns = np.asarray(x[:, unnumbered], np.float64)
    step = np.diff(columns, axis=0)
    numbers_rows = (step == 1).all(axis=0) & np.isin(columns[0], (0, 1))
    if len(unnumbered) < len(names):  # other columns are numbered: this one is of another kind
        numbers_rows |= (step > 0).all(axis=0) & (columns == np.round(columns)).all(axis=0)
    if numbers_rows.any():
        name = names[unnumbered[int(numbers_rows.argmax())]]
        raise DataError(
            f"{source}: column {name!r} numbers the rows, which may give the labels away; {advice}"
        )


def refuse_summaries(
    y: np.ndarray, class_names: Sequence[str], lines: Sequence[int], source: str
) -> None:
    """Refuse a row at the end of a table that holds sums of the others, by its label.

    Args:
        y: Classes [n], whole numbers from 0.
        class_names: One name a class.
        lines: Number of each row in messages, [n].
        source: Name of the table; every message begins with it.

    Raises:
        DataError: The last row is the only one of its class, which has a name like ``total``.
    """
    name = class_names[y[-1]]
    if plain_name(name) in _SUMMARIES.split() and np.count_nonzero(y == y[-1]) == 1 < len(y) - 1:
        raise DataError(
            f"{source}, row {lines[-1]}: {name!r} seems to be a summary of the rows above it, and "
            "no clip; leave such rows out (if it is a class, give it another name)"
        )


def note_whole_numbers(x: np.ndarray, names: Sequence[str], source: str) -> str:
    """A note on features of whole numbers beside numbered features (``f0``) of other numbers.

    Args:
        x: Features, finite [n, d].
        names: Names of the columns, [d].
        source: Name of the table.

    Returns:
        The note; empty if there are none, or if fewer than half of the features are numbered.
    """
    is_lone = np.array(scheme_sizes(names)) < 2
    is_whole = (x == np.round(x)).all(axis=0)
    if 2 * is_lone.sum() > len(names) or is_whole.all():
        return ""
    found = [repr(names[column]) for column in np.flatnonzero(is_lone & is_whole).tolist()]
    if not found:
        return ""
    shown = ", ".join(found[:12]) + (", ..." if len(found) > 12 else "")
    return (
        f"{shown} {'are features' if len(found) > 1 else 'is a feature'} of whole numbers; if not "
        f"measured on the clips, list the features with {feature_key(source)}"
    )


def _renamings(x: np.ndarray, y: np.ndarray, n_classes: int) -> list[tuple[int, int]]:
    """Columns with one whole number for all clips of a class, and how many numbers each holds."""
    first = np.unique(y, return_index=True)[1]
    left = np.arange(x.shape[1])
    for start in range(0, len(x), _BLOCK):  # few columns outlive the first block
        rows = slice(start, start + _BLOCK)
        block, own = x[rows], x[first]
        if len(left) < x.shape[1]:  # columns are copied only once few of them are left
            block, own = block[:, left], own[:, left]
        left = left[(block == own[y[rows]]).all(axis=0)]
    values = x[first][:, left]
    return [
        (int(column), len(np.unique(numbers)))
        for column, numbers in zip(left, values.T, strict=True)
        if (numbers == np.round(numbers)).all()
    ]
