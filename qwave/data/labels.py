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
        name: What it is called where it was read.
        values: Numbers or strings [n]; what is missing is NaN or None.
    """

    name: str
    values: np.ndarray


class Labels(NamedTuple):
    """The label of every row, from one column or several that say the same.

    Attributes:
        values: Whole numbers or strings [n], as `class_codes` takes them.
        label_of: Names by class id, from a second column; empty where there is none.
        left_out: Names of the columns that say the same once more.
    """

    values: np.ndarray
    label_of: dict[int, str]
    left_out: tuple[str, ...]


def is_whole(value: object) -> bool:
    """Whether a value is a whole number that an int64 holds, in whatever type."""
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
    """Whether a cell holds nothing: None, or a number that is none."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' own NA compares as neither
        return True
    except ValueError:  # an array
        return False


def is_empty(value: object) -> bool:
    """Whether a cell holds nothing, or an empty text."""
    return is_missing(value) or (isinstance(value, str) and not value)


def as_text(values: np.ndarray, what: str) -> np.ndarray:
    """Bytes become text, by UTF-8; strings lose the spaces around them; all else stays.

    Raises:
        DataError: Bytes are no UTF-8; `what` begins the message.
    """
    if values.dtype.kind in "ST":
        values = values.astype(object)
    if values.dtype.kind not in "UO":
        return values
    cleaned = np.empty(values.shape, object)
    for place, value in enumerate(values.flat):
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{what}, row {place}: the bytes {value!r} are no text in UTF-8; write "
                    "strings: array.astype(str)"
                ) from error
        cleaned.flat[place] = value.strip() if isinstance(value, str) else value
    return cleaned


def choose_labels(
    columns: Sequence[LabelColumn], source: str, lines: Sequence[int], remedy: str = "drop it"
) -> Labels:
    """The label, where several columns could be it.

    Args:
        columns: The most certain one first. A later one must go with it one to one, and then
            names the classes if the first holds numbers, or is left out.
        source: Where they are from: the beginning of every message.
        lines: Place of each row for messages, [n].
        remedy: What to do with a column that is not the label, for messages.

    Raises:
        DataError: Two of them do not go together one to one, or a cell is empty.
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
    """Labels as 0 to k-1, int64 [n], and the classes' names.

    Args:
        values: Whole numbers from 0, which are mapped in ascending order, with a warning where
            they have gaps; or strings, which become classes in alphabetical order.
        source: Where they are from: the beginning of every message.
        class_names: One name a class, or one for each number from 0.
        label_of: Names by class id.
        lines: Place of each row for messages; by default rows count from 0.

    Raises:
        DataError: A label is neither, or empty; there is one class only; or two classes have one
            name.
    """
    places = range(len(values)) if lines is None else lines
    is_text = [isinstance(value, str) for value in values]
    if any(is_text) and all(
        text or is_missing(value) for text, value in zip(is_text, values, strict=True)
    ):
        _refuse_empty(values, source, places)
        found, y = np.unique(values.astype(str), return_inverse=True)
        names = [str(value) for value in found]
    else:
        found, y = np.unique(_whole_labels(values, source, places), return_inverse=True)
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
    """How `feature_columns` is given for data of this source, for messages."""
    return "data.feature_columns" if source.startswith("data.path") else "feature_columns"


def _refuse_empty(values: np.ndarray, source: str, places: Sequence[int]) -> None:
    for line, value in zip(places, values, strict=True):
        if is_empty(value):
            raise DataError(
                f"{source}, row {line}: the label is empty; write the clip's class, or leave the "
                "row out"
            )


def _whole_labels(values: np.ndarray, source: str, places: Sequence[int]) -> np.ndarray:
    if values.dtype.kind in "mMcV":
        raise DataError(
            f"{source}: class labels must be whole numbers from 0 or strings, but are of type "
            f"{values.dtype}"
        )
    bad = [
        (line, value)
        for line, value in zip(places, values, strict=True)
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
    """A prediction says a name: two classes of one name could not be told apart."""
    id_of: dict[str, int] = {}
    for class_id, name in zip(found.tolist(), names, strict=True):
        other = id_of.setdefault(name, class_id)
        if other != class_id:
            raise DataError(
                f"{source}: two classes have one name: {other} and {class_id} are both {name!r}; "
                "give each its own name, or both one number"
            )
