"""Labels as whole numbers from 0, and the names of their classes.

Shapes: n clips, k classes.
"""

from __future__ import annotations

import numbers
import re
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from qwave.config import DataError

_LARGEST = 2**63
_DIGITS = re.compile(r"[+-]?[0-9]{1,19}")


class LabelColumn(NamedTuple):
    """A column, or an array, that could be the label.

    Attributes:
        name: Name of the column or array.
        values: Numbers or strings [n]; a missing value is NaN or None.
    """

    name: str
    values: np.ndarray


class Labels(NamedTuple):
    """The label of every row, from one column or several that agree.

    Attributes:
        values: Whole numbers or strings [n], as `class_codes` takes them.
        label_of: Names by class id, from a second column; empty where there is none.
        left_out: Names of the other columns, which repeat the label.
    """

    values: np.ndarray
    label_of: dict[int, str]
    left_out: tuple[str, ...]


def is_whole(value: object) -> bool:
    """Whether a value of any type is a whole number in the range of int64."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return False
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        return False  # Python takes "1_000" and digits of any script
    try:
        number = int(value)  # type: ignore[call-overload]
        return float(value) == number and -_LARGEST <= number < _LARGEST  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def is_number(value: object) -> bool:
    """Whether a value is a real number or a boolean, and no span of time or text."""
    is_real = isinstance(value, numbers.Real | Decimal | np.bool_)
    return is_real and not isinstance(value, np.timedelta64)


def is_missing(value: object) -> bool:
    """Whether a cell is missing: None, NaN, or pandas' NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' own NA compares as neither
        return True
    except ValueError:  # an array
        return False


def is_empty(value: object) -> bool:
    """Whether a cell is missing or an empty text."""
    return is_missing(value) or (isinstance(value, str) and not value)


def as_text(values: np.ndarray, what: str) -> np.ndarray:
    """Values with bytes decoded from UTF-8 and strings stripped; all other values stay.

    Raises:
        DataError: Bytes are no UTF-8; `what` begins the message.
    """
    if values.dtype.kind in "ST":
        values = values.astype(object)
    if values.dtype.kind not in "UO":
        return values
    cleaned = np.empty(values.shape, object)
    for row, value in enumerate(values.flat):
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{what}, row {row}: the bytes {value!r} are no text in UTF-8; write "
                    "strings: array.astype(str)"
                ) from error
        cleaned.flat[row] = value.strip() if isinstance(value, str) else value
    return cleaned


def choose_labels(
    columns: Sequence[LabelColumn], source: str, lines: Sequence[int], remedy: str = "drop it"
) -> Labels:
    """The label, from one or several columns that could be the label.

    Args:
        columns: Columns, the most certain one first. Every later column must agree with it one to
            one; it then names the classes if the first holds numbers, or else is left out.
        source: Name of the table; every message begins with it.
        lines: Number of each row in messages, [n].
        remedy: Advice on a column that is not the label, for messages.

    Raises:
        DataError: Two columns do not agree one to one, or a cell is empty.
    """
    first, *others = columns
    label_of: dict[int, str] = {}
    left_out = []
    values = first.values
    for other in others:
        _require_agreement(first, other, source, lines, remedy)
        is_named = not label_of and all(isinstance(value, str) for value in other.values)
        if is_named and all(is_whole(value) for value in first.values):
            label_of = {
                int(key): str(value) for key, value in zip(first.values, other.values, strict=True)
            }
            values = np.array([int(value) for value in values], object)  # "07" is named, so 7
        else:
            left_out.append(other.name)
    return Labels(values, label_of, tuple(left_out))


def class_codes(
    values: np.ndarray,
    source: str,
    *,
    class_names: Sequence[str] = (),
    label_of: Mapping[int, str] | None = None,
    lines: Sequence[int] | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as whole numbers 0 to k-1, int64 [n], and the classes' names.

    Args:
        values: Whole numbers from 0, which are mapped in ascending order, with a warning where
            they have gaps; or strings, which become classes in alphabetical order.
        source: Name of the data; every message begins with it.
        class_names: One name a class, or one name for each number from 0.
        label_of: Names by class id.
        lines: Number of each row in messages; by default rows count from 0.

    Raises:
        DataError: A label is neither a whole number nor a string, or is empty; there is one class
            only; or two classes have one name.
    """
    lines = range(len(values)) if lines is None else lines
    has_text = any(isinstance(value, str) for value in values)
    if has_text and all(isinstance(value, str) or is_missing(value) for value in values):
        for line, value in zip(lines, values, strict=True):
            if is_empty(value):
                raise DataError(
                    f"{source}, row {line}: the label is empty; write the clip's class, or leave "
                    "the row out"
                )
        found, y = np.unique(values.astype(str), return_inverse=True)
        names = [str(value) for value in found]
    else:
        found, y = np.unique(_whole_labels(values, source, lines), return_inverse=True)
        names = [str(value) for value in found]
        if len(found) > 1:
            names = _class_names(found, class_names, label_of or {}, source)
            _refuse_one_name(found, names, source)
    if len(found) < 2:
        raise DataError(f"{source} has one class only ({found[0]}); need at least 2")
    return y.astype(np.int64), tuple(names)


def _require_agreement(
    first: LabelColumn, other: LabelColumn, source: str, lines: Sequence[int], remedy: str
) -> None:
    """Refuse two columns of which one is not a renaming of the other."""
    names_of: dict[Any, dict[Any, int]] = {}
    ids_of: dict[Any, dict[Any, int]] = {}
    for line, one, two in zip(lines, first.values, other.values, strict=True):
        for column, value in ((first, one), (other, two)):
            if is_empty(value):
                raise DataError(
                    f"{source}, row {line}: column {column.name!r} is empty; fill it in for "
                    "every row, or leave the column out"
                )
        one, two = _hashable(one), _hashable(two)
        names_of.setdefault(one, {}).setdefault(two, line)
        ids_of.setdefault(two, {}).setdefault(one, line)
    advice = f"if {other.name!r} is not the label, {remedy}"
    for one, seen in names_of.items():
        if len(seen) > 1:
            found = "labels" if other.name == "label" else f"values of {other.name!r}"
            shown = ", ".join(sorted(map(str, seen))[:5])
            raise DataError(
                f"{source}: {first.name} {one} has several {found}: {shown} "
                f"(row {list(seen.values())[1]}); write one {other.name} for each {first.name}; "
                f"{advice}"
            )
    for two, seen in ids_of.items():
        if len(seen) > 1:
            ids = " and ".join(sorted(map(str, seen)))
            raise DataError(
                f"{source}: two classes have one name: {first.name} {ids} are both "
                f"{other.name} {two} (row {list(seen.values())[1]}); give each its own name, or "
                f"both one {first.name}; {advice}"
            )


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | numbers.Number | np.bool_) else str(value)


def feature_key(source: str) -> str:
    """The name of `feature_columns` in messages: a key of a sweep, or an argument in Python."""
    return "data.feature_columns" if source.startswith("data.path") else "feature_columns"


def _whole_labels(values: np.ndarray, source: str, lines: Sequence[int]) -> np.ndarray:
    if values.dtype.kind in "mMcV":
        raise DataError(
            f"{source}: class labels must be whole numbers from 0 or strings, but are of type "
            f"{values.dtype}"
        )
    bad = [
        (line, value)
        for line, value in zip(lines, values, strict=True)
        if not is_whole(value) or int(value) < 0
    ]
    if bad:
        found = sorted({str(value) for _, value in bad})
        raise DataError(
            f"{source}: class labels must be whole numbers from 0, but found "
            f"{', '.join(found[:10])}; the first in row {bad[0][0]}; write a whole number from 0 "
            "for every clip, or a name for every clip"
        )
    return np.array([int(value) for value in values], np.int64)


def _class_names(
    found: np.ndarray, given: Sequence[str], label_of: Mapping[int, str], source: str
) -> list[str]:
    """Names of the classes that occur; labels other than 0 to k-1 are mapped, with a warning."""
    is_plain = np.array_equal(found, np.arange(len(found)))
    if not is_plain:
        warnings.warn(
            f"{source}: class labels {', '.join(map(str, found))} were mapped to "
            f"0..{len(found) - 1} in this order",
            UserWarning,
            stacklevel=5,
        )
    if len(given) == len(found):
        return list(given)
    if given and is_plain:
        raise DataError(
            f"{source}: {len(given)} class names for {len(found)} classes; "
            f"a class without clips cannot be learnt; write {len(found)} names"
        )
    if len(given) > found.max():
        return [given[value] for value in found]
    return [label_of.get(int(value), str(value)) for value in found]


def _refuse_one_name(found: np.ndarray, names: Sequence[str], source: str) -> None:
    """Refuse two classes of one name: a prediction names its class, which must be clear."""
    id_of: dict[str, int] = {}
    for class_id, name in zip(found.tolist(), names, strict=True):
        other = id_of.setdefault(name, class_id)
        if other != class_id:
            raise DataError(
                f"{source}: two classes have one name: {other} and {class_id} are both {name!r}; "
                "give each its own name, or both one number"
            )
