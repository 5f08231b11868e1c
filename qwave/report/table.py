"""One table, three ways to read it: on the terminal, as CSV, in a report.

On paper, a share is written in percent and a size in kB; in the CSV file both are numbers as they
are, with their intervals in columns of their own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from qwave.report.points import size_text
from qwave.text import for_html, for_terminal


class Estimate(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float


Cell = str | int | float | bool | Estimate | None
Kind = Literal["text", "share", "bytes", "number", "yes"]

ABSENT = "-"


@dataclass(frozen=True)
class Column:
    """How the cells of a column are written.

    Attributes:
        name: Heading; with ``_`` for spaces, the column's name in CSV.
        kind: ``text``; ``share`` (0 to 1, shown in percent), ``bytes``, ``number``; ``yes`` (a
            bool, shown as a word or not at all).
        digits: After the decimal point, of shares (in percent) and numbers.
    """

    name: str
    kind: Kind = "text"
    digits: int = 2

    @property
    def is_number(self) -> bool:
        """Whether cells stand on the right."""
        return self.kind not in ("text", "yes")

    def show(self, cell: Cell) -> str:
        """A cell for a reader; what was not measured is a dash."""
        if cell is None:
            return ABSENT
        if isinstance(cell, Estimate):
            low, high = self._number(cell.low), self._number(cell.high)
            return f"{self._number(cell.value)} [{low}, {high}]"
        if self.kind == "yes":
            return "yes" if cell else ""
        if self.kind == "bytes" and not isinstance(cell, str):
            return size_text(cell)
        return cell if isinstance(cell, str) else self._number(cell)

    def _number(self, value: float) -> str:
        scale = 100 if self.kind == "share" else 1
        # A difference of nothing has no sign.
        return f"{round(value * scale, self.digits) + 0.0:.{self.digits}f}"

    @property
    def heading(self) -> str:
        """The name, with its unit."""
        return f"{self.name} (%)" if self.kind == "share" else self.name


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are columns.

    Raises:
        ValueError: A row has another number of cells.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} has {len(row)} cells, but there are {len(self.columns)} columns"
                )

    def text(self) -> str:
        """Aligned columns, for a terminal."""
        shown = [[for_terminal(column.heading) for column in self.columns], *self._shown()]
        widths = [max(map(len, cells)) for cells in zip(*shown, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if column.is_number else cell.ljust(width)
                for column, cell, width in zip(self.columns, cells, widths, strict=True)
            ).rstrip()
            for cells in shown
        )

    def csv(self) -> str:
        """All numbers to six decimals; an interval's ends in columns ``*_low`` and ``*_high``."""
        has_interval = [
            any(isinstance(row[place], Estimate) for row in self.rows)
            for place in range(len(self.columns))
        ]
        header: list[str] = []
        for column, is_wide in zip(self.columns, has_interval, strict=True):
            name = column.name.replace(" ", "_")
            header += [name, f"{name}_low", f"{name}_high"] if is_wide else [name]
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            cells: list[str] = []
            for cell, is_wide in zip(row, has_interval, strict=True):
                parts = list(cell) if isinstance(cell, Estimate) else [cell]
                cells += [_plain(part) for part in parts]
                cells += [""] * (2 if is_wide and not isinstance(cell, Estimate) else 0)
            writer.writerow(cells)
        return stream.getvalue()

    def html(self, *, is_compact: bool = False) -> str:
        """For a page with the style and the script of `qwave.report.page`.

        Args:
            is_compact: Whether it stays a table on a narrow screen, where the rows of others
                become cards; for few narrow columns.
        """
        head = "".join(
            f'<th scope="col" class="{_css(column)}"><button type="button">'
            f"{for_html(column.heading)}</button></th>"
            for column in self.columns
        )
        body = "\n".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        kind = "scroll" if is_compact else "scroll cards"
        return (
            f'<div class="{kind}"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody>\n</table></div>"
        )

    def _html_row(self, row: Sequence[Cell]) -> str:
        return "".join(
            f'<td class="{_css(column)}" data-label="{for_html(column.heading)}" '
            f'data-value="{for_html(_key(cell))}">'
            f"{for_html(column.show(cell))}</td>"
            for column, cell in zip(self.columns, row, strict=True)
        )

    def _shown(self) -> list[list[str]]:
        return [
            [
                for_terminal(column.show(cell))
                for column, cell in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]


def _css(column: Column) -> str:
    return "number" if column.is_number else ""


def _key(cell: Cell) -> str:
    """What a page sorts by."""
    return _plain(cell.value if isinstance(cell, Estimate) else cell)


def _plain(cell: str | int | float | bool | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{round(cell, 6) + 0.0:.6f}".rstrip("0").rstrip(".")
    return str(cell)
