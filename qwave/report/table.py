"""One table for terminals, CSV files and pages.

For a reader, a share is written in percent and a size in kB; in the CSV file both are numbers as
they are, with the ends of intervals in columns of their own.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TextIO

from markupsafe import Markup
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from qwave.report.templates import render
from qwave.scores import Interval
from qwave.text import for_terminal

Cell = str | int | float | bool | Interval | None
Kind = Literal["text", "share", "bytes", "number", "yes"]

ABSENT = "-"


@dataclass(frozen=True)
class Column:
    """How the cells of a column are written.

    Attributes:
        name: Heading; with ``_`` for spaces, the column's name in CSV.
        kind: ``text``; ``share`` (0 to 1, shown in percent), ``bytes``, ``number``; ``yes`` (a
            bool, shown as a word or not at all).
        digits: Digits after the decimal point of shares (in percent) and numbers.
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
        if isinstance(cell, Interval):
            low, high = self._number(cell.low), self._number(cell.high)
            return f"{self._number(cell.estimate)} [{low}, {high}]"
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
    """Rows of cells under named columns.

    Attributes:
        columns: How the cells of each column are written.
        rows: One cell for each column in every row; None for a value that was not measured.

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

    def text(self, width: int | None = None) -> str:
        """Aligned columns for a terminal.

        Args:
            width: Characters of a line, beyond which cells are continued in the next (see
                `terminal_width`); None for lines as long as they have to be.
        """
        table = RichTable(box=None, pad_edge=False, padding=(0, 1))
        for column in self.columns:
            justify: Literal["left", "right"] = "right" if column.is_number else "left"
            table.add_column(Text(for_terminal(column.heading)), justify=justify, overflow="fold")
        for row in self._shown():
            table.add_row(*(Text(for_terminal(cell)) for cell in row))
        stream = io.StringIO()
        # Not the terminal's own settings: the text is the same wherever it is written.
        console = Console(file=stream, width=width or 100_000, color_system=None, emoji=False)
        console.print(table)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def csv(self) -> str:
        """All numbers to six decimals; an interval's ends in columns ``*_low`` and ``*_high``."""
        has_interval = [
            any(isinstance(row[index], Interval) for row in self.rows)
            for index in range(len(self.columns))
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
                if isinstance(cell, Interval):
                    cells += map(_plain, (cell.estimate, cell.low, cell.high))
                else:
                    cells += [_plain(cell), *[""] * (2 if is_wide else 0)]
            writer.writerow(cells)
        return stream.getvalue()

    def html(self, *, is_compact: bool = False) -> Markup:
        """For a page with the style and the script of `qwave.report.templates`.

        Args:
            is_compact: Whether the table stays one on a narrow screen, where the rows of other
                tables become cards; for few narrow columns.
        """
        return render("table.html.j2", table=self, is_compact=is_compact)

    def html_rows(self) -> Iterator[list[HtmlCell]]:
        """The cells of each row for the template ``assets/table.html.j2``."""
        for row, shown in zip(self.rows, self._shown(), strict=True):
            yield [
                HtmlCell(column, text, _sort_key(cell))
                for column, text, cell in zip(self.columns, shown, row, strict=True)
            ]

    def _shown(self) -> list[list[str]]:
        return [
            [column.show(cell) for column, cell in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


class HtmlCell(NamedTuple):
    """A cell of a page: its column, what it shows, and what the page sorts it by."""

    column: Column
    text: str
    sort_key: str


def _sort_key(cell: Cell) -> str:
    return _plain(cell.estimate if isinstance(cell, Interval) else cell)


def _plain(cell: str | int | float | bool | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{round(cell, 6) + 0.0:.6f}".rstrip("0").rstrip(".")
    return str(cell)


def terminal_width(stream: TextIO) -> int | None:
    """Characters of a line of the terminal that a stream writes to; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def size_text(size_bytes: float) -> str:
    """A size for a reader, three significant digits: ``812 B``, ``2.05 kB``, ``1.5 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # 999.5 rounds to 1000 at three digits, so the next unit starts just below its scale.
        if size_bytes >= 0.9995 * scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes:.3g} B"
