"""Numbers in the cells of a text file, with decimal points or decimal commas.

Shapes: n rows, d columns.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

from qwave.config import DataError
from qwave.data.labels import feature_key

_NUMBER = re.compile(
    r"\s*[+-]?(?:[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)\s*",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
# 1,234 may be 1234, or 1.234 where commas are decimal; 0,123 and 1,5 can only be the latter.
_THOUSANDS = re.compile(r"\s*[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+\s*")
_DIGITS = re.compile(r"[\s0-9.,eE+-]+")
_MISSING = ("", "nan", "na", "n/a", "null", "none")
_WORDS = ("inf", "infinity", "nan", "true", "false")
_BETWEEN = "\x1f"  # stands in no cell that is a number


class NumberColumns:
    """Collects rows of numbers that are read one by one; columns are numbered from 0."""

    def __init__(self, names: Sequence[str], source: str) -> None:
        self._names, self._source = names, source
        self._values = array("d")
        self._n_rows = 0
        # Line, column and text of the first number with a point, and with a comma.
        self._first: dict[str, tuple[int, int, str]] = {}
        self._is_decimal = False  # whether a number has a comma that can only be decimal
        self._booleans: Counter[int] = Counter()  # rows that are true or false, by column

    def add(self, line: int, cells: Sequence[str]) -> None:
        """Add the cells [d] of one row, which begins on `line`.

        Raises:
            DataError: A cell is no number, or decimal points and commas are mixed.
        """
        joined, numbers = _BETWEEN.join(cells), cells
        for mark in ".,":
            if mark in joined and mark not in self._first:
                for column, cell in enumerate(cells):
                    if mark in cell and _DIGITS.fullmatch(cell):  # words may hold marks as well
                        self._first[mark] = line, column, cell.strip()
                        break
        if len(self._first) == 2:
            raise self._mixed()
        if "," in joined and "," in self._first:
            self._is_decimal = self._is_decimal or any(
                "," in cell and not _THOUSANDS.fullmatch(cell) for cell in cells
            )
            numbers = [cell.replace(",", ".") for cell in cells]
        self._n_rows += 1
        # Python's float takes "1_000" and digits of any script as well.
        if joined.isascii() and "_" not in joined:
            try:
                self._values.extend(map(float, numbers))
                return
            except ValueError:
                del self._values[(self._n_rows - 1) * len(self._names) :]
        if len(cells) > 1 and _is_other(cells, self._names):
            raise DataError(
                f"{self._source}, row {line}: {shown(cells[0].strip())} is not a number, nor is "
                "any other cell of a feature; leave the row out if it is no clip (units, a second "
                "header), or, if the columns are no features, drop them or list the features with "
                f"{feature_key(self._source)}"
            )
        self._values.extend(
            self._slowly(line, column, number, cell)
            for column, (number, cell) in enumerate(zip(numbers, cells, strict=True))
        )

    def finish(self) -> np.ndarray:
        """All rows, float64 [n, d]; empty cells are NaN.

        Raises:
            DataError: Commas may be decimal or separators, or a column is only partly boolean.
        """
        if not self._n_rows:
            return np.zeros((0, len(self._names)))
        if "," in self._first and not self._is_decimal:
            line, column, cell = self._first[","]
            raise DataError(
                f"{self._cell(line, column)}: {cell!r} may be one number with a separator of "
                "thousands, or a decimal comma; write numbers with a decimal point, and without "
                "separators of thousands"
            )
        for column, n_rows in self._booleans.items():
            if n_rows != self._n_rows:
                raise DataError(
                    f"{self._source}, column {self._names[column]!r}: {n_rows} rows hold true or "
                    f"false and {self._n_rows - n_rows} do not; write a number in every row"
                )
        return np.frombuffer(self._values, np.float64).reshape(self._n_rows, len(self._names))

    def _cell(self, line: int, column: int) -> str:
        return f"{self._source}, row {line}, column {self._names[column]!r}"

    def _mixed(self) -> DataError:
        """The error for numbers with points and numbers with commas in one table."""
        (other_line, other, other_cell), (line, column, cell) = sorted(self._first.values())
        if self._first["."] == self._first[","]:
            return DataError(
                f"{self._cell(line, column)}: {cell!r} is not a number; write numbers with a "
                "decimal point, and without separators of thousands"
            )
        return DataError(
            f"{self._cell(line, column)}: {cell!r} is not a number beside {other_cell!r} (row "
            f"{other_line}, column {self._names[other]!r}): numbers have decimal points or "
            "decimal commas, not both, and no separators of thousands; write decimal points only"
        )

    def _slowly(self, line: int, column: int, number: str, cell: str) -> float:
        """The value of one cell (`number` has a decimal point), or an error with its position."""
        bare = number.strip()
        if not bare:
            return np.nan
        if _NUMBER.fullmatch(bare):
            return float(bare)
        if bare.lower() in ("true", "false"):
            self._booleans[column] += 1
            return float(bare.lower() == "true")
        advice = (
            "write a number, or, if the column is no feature, drop it or list the features with "
            f"{feature_key(self._source)}"
        )
        if bare[0] in "[(":
            advice = "write one column for each feature, or lists into a .parquet file"
        raise DataError(
            f"{self._cell(line, column)}: {shown(cell.strip())} is not a number; {advice}"
        )


def _is_other(cells: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a row holds the names once more, or words alone."""
    bare = [cell.strip() for cell in cells]
    words = [cell for cell in bare if not re.search("[0-9]", cell) and cell.lower() not in _WORDS]
    return bare == list(names) or (len(words) == len(cells) and any(words))


def typed(cells: Sequence[str], *, is_code: bool = False) -> np.ndarray:
    """A column of labels, folds or groups [n] as whole numbers, numbers, or unchanged strings.

    Words such as ``None`` and ``NA`` are NaN if all other cells are numbers, else strings. If
    `is_code` is true, as for labels, a cell with a leading zero (``01``) makes all cells strings.
    """
    found = set(cells)
    if all(map(_WHOLE.fullmatch, found)):
        # 07 and 7 are one number and two names.
        is_plain = all(cell == "0" or not cell.lstrip("+-").startswith("0") for cell in found)
        if is_plain or (not is_code and len(set(map(int, found))) == len(found)):
            return np.array([int(cell) for cell in cells], np.int64)
        return np.array(cells, object)
    numbers = {cell for cell in found if _NUMBER.fullmatch(cell)}
    has_value = any(cell.lower() not in _MISSING for cell in numbers)
    if has_value and all(cell.lower() in _MISSING for cell in found - numbers):
        return np.array([float(cell) if cell in numbers else np.nan for cell in cells])
    return np.array(cells, object)


def shown(cell: str) -> str:
    """At most 60 characters of a cell in quotes, for a message."""
    return repr(cell if len(cell) <= 60 else f"{cell[:60]}...")
