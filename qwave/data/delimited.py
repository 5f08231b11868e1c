"""Tables in text files (CSV) of all common forms, read in one pass.

Comma, semicolon, tab or ``|`` between cells; decimal points or decimal commas; UTF-8 with or
without a byte-order mark, UTF-16 with one, or Windows-1252; lines that end in LF, CRLF or CR;
comments and Excel's ``sep=;`` above the header; commas at the ends of rows. A table that could be
read in two ways is refused.

Shapes: n rows, d features.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from array import array
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qwave.config import DataError
from qwave.data.columns import could_be_labels
from qwave.data.kinds import refuse_other_kinds
from qwave.data.numerals import NumberColumns, shown

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
_HEAD = 2**20  # bytes that hold any header


class TextTable(NamedTuple):
    """A text file whose header has been read.

    Attributes:
        names: Names of the columns, without spaces around them and without empty ones at the end.
        delimiter: Character between cells.
        text: Text of the whole file.
        start: Position in the text where the first row below the header begins.
        line: Number of lines above that row.
    """

    names: list[str]
    delimiter: str
    text: str
    start: int
    line: int


class Rows(NamedTuple):
    """The rows of a table below its header.

    Attributes:
        x: Columns of numbers, float64 [n, d]; empty cells are NaN.
        texts: Text of other columns, by number of the column: n cells without spaces around them.
        lines: Line of the file on which each row begins, [n], counted from 1.
    """

    x: np.ndarray
    texts: dict[int, list[str]]
    lines: np.ndarray


def open_table(file: Path, source: str) -> TextTable:
    """Read a text file and find its header.

    Raises:
        DataError: The file cannot be opened, is no text, or holds no header.
    """
    refuse_other_kinds(file, source, "text")
    return _opened(_decoded(file, source), source)


def peek_names(file: Path) -> list[str]:
    """Names of a text file's columns, read from its beginning; none where it has no header."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
        is_wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = head.decode("utf-16" if is_wide else "utf-8-sig", "replace")
        return _opened(text, str(file)).names
    except (OSError, DataError):  # reading the whole table gives the error
        return []


def _opened(text: str, source: str) -> TextTable:
    stream = io.StringIO(text, newline="")
    given, comments, line = None, [], 0
    while raw := stream.readline():
        bare = raw.strip().strip('"')
        if match := re.fullmatch(r"sep=(.)", raw.strip('\r\n "'), re.IGNORECASE):
            given = match.group(1)
        elif bare.startswith("#"):
            comments.append(raw)
        elif bare:
            stream.seek(stream.tell() - len(raw))
            break
        line += 1
    else:
        stream.seek(0, io.SEEK_END)
    start = stream.tell()
    header = _header(text, start, given, source, line)
    if comments and not (header and could_be_labels(header[0])):
        # numpy.savetxt writes the header as a comment; "#" may be the name of the first column.
        comment = comments[-1].lstrip()
        if not re.match(r"#[,;\t|]", comment):
            comment = comment.lstrip("#")
        above = _header(comment, 0, given or (header and header[1]), source, line)
        is_as_wide = above is not None and (header is None or len(header[0]) == len(above[0]))
        if above and is_as_wide and could_be_labels(above[0]):
            return TextTable(_without_end(above[0]), above[1], text, start, line)
    if header is None:
        raise DataError(
            f"{source} cannot be read as a CSV table: it has no header; its first line must name "
            "the columns, such as class_id,f0,f1"
        )
    names, delimiter, length, n_lines = header
    if len(names) == 1:
        raise DataError(
            f"{source} cannot be read as a CSV table: row {line + 1} has one cell only, "
            f"{shown(names[0])}; it must name the columns, with a comma, a semicolon, a tab or | "
            "between them; leave out lines above the names, or begin each with #"
        )
    return TextTable(_without_end(names), delimiter, text, start + length, line + n_lines)


def _without_end(names: list[str]) -> list[str]:
    """The names without empty ones at the end: separators at the end of a header name nothing."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def read_rows(
    table: TextTable, features: Sequence[int], others: Sequence[int], source: str
) -> Rows:
    """Read the rows below the header.

    Args:
        table: The table, as `open_table` returned it.
        features: Numbers of the columns that must hold numbers, at least one.
        others: Numbers of the columns whose text is needed.
        source: Name of the table; every message begins with it.

    Raises:
        DataError: A row has too many or too few cells, a feature is no number, or numbers could be
            read in two ways.
    """
    width = len(table.names)
    reader = NumberColumns([table.names[column] for column in features], source)
    pick = itemgetter(*features) if len(features) > 1 else lambda cells: (cells[features[0]],)
    texts: dict[int, list[str]] = {column: [] for column in others}
    seen: dict[str, str] = {}  # labels and folds repeat
    lines = array("q")
    for line, cells in read_cells(table, source):
        if len(cells) < width or any(map(str.strip, cells[width:])):
            raise DataError(
                f"{source} cannot be read as a CSV table: row {line} has {len(cells)} cells, but "
                f"the header names {width} columns; write one cell for each column, and put cells "
                f"that hold a {_DELIMITERS.get(table.delimiter, table.delimiter)} in double quotes"
            )
        reader.add(line, pick(cells))
        for column, text in texts.items():
            cell = cells[column].strip()
            text.append(seen.setdefault(cell, cell) if len(seen) < 10_000 else cell)
        lines.append(line)
    return Rows(reader.finish(), texts, np.array(lines, np.int64))


def read_cells(table: TextTable, source: str) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header that are not empty, each with the line on which it begins.

    Raises:
        DataError: Quotes are not closed.
    """
    stream = io.StringIO(table.text, newline="")
    stream.seek(table.start)
    reader = csv.reader(stream, delimiter=table.delimiter, skipinitialspace=True, strict=True)
    line = table.line + 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{source} cannot be read as a CSV table: row {line}: {error}; put cells in "
                "double quotes, and double those inside"
            ) from error
        if any(map(str.strip, cells)):
            yield line, cells
        line = table.line + reader.line_num + 1


def _header(
    text: str, start: int, given: str | None, source: str, line: int
) -> tuple[list[str], str, int, int] | None:
    """Names, delimiter, length and number of lines of a header; None where there is none.

    Among the possible delimiters, one that gives a column of labels is preferred, and of these the
    one that gives the most columns.
    """
    found: list[tuple[tuple[bool, int], list[str], str, int, int]] = []
    problem: csv.Error | None = None
    for delimiter in [given] if given else _DELIMITERS:
        stream = io.StringIO(text, newline="")
        stream.seek(start)
        try:
            reader = csv.reader(
                iter(stream.readline, ""),
                delimiter=delimiter,
                skipinitialspace=True,
                strict=True,
            )
            cells = [cell.strip() for cell in next(reader, [])]
        except (csv.Error, TypeError, ValueError) as error:
            # With another delimiter the same quotes may be correct.
            problem = problem or csv.Error(str(error))
            continue
        rank = could_be_labels(cells), len(cells)
        found.append((rank, cells, delimiter, stream.tell() - start, reader.line_num))
    if not found:
        raise DataError(
            f"{source} cannot be read as a CSV table: row {line + 1}: {problem}; the header must "
            "name the columns, with a comma, a semicolon, a tab or | between them, such as "
            "class_id,f0,f1"
        )
    rank, cells, delimiter, length, n_lines = max(found, key=lambda each: each[0])
    if not any(cells):
        return None
    return cells, delimiter, length, n_lines


def _decoded(file: Path, source: str) -> str:
    """The text of a file, without its byte-order mark."""
    try:
        content = file.read_bytes()
    except (OSError, MemoryError) as error:
        raise DataError(f"{source} cannot be opened: {error}") from error
    advice = "save the table as CSV in UTF-8"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source} cannot be read as a CSV table: it begins as UTF-16, but is not at byte "
                f"{error.start}; {advice}"
            ) from error
        if "\0" in text:
            _refuse_nul(text.count("\n", 0, text.index("\0")) + 1, source)
        return text
    if b"\0" in content:
        _refuse_nul(content.count(b"\n", 0, content.index(b"\0")) + 1, source)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            text = ""
        word = _foreign_word(text)
        if not word:
            raise DataError(
                f"{source} cannot be read as a CSV table: row {line}: byte "
                f"0x{content[error.start]:02x} is no text in UTF-8; {advice}"
            ) from error
        warnings.warn(
            f"{source} is not in UTF-8 (row {line}) and was read as Windows-1252, where a word is "
            f"{word!r}; {advice} if that is wrong",
            UserWarning,
            stacklevel=6,
        )
        return text


def _foreign_word(text: str) -> str | None:
    """The first word with a letter beyond ASCII; None if other characters are beyond ASCII too."""
    foreign = set(re.findall(r"[^\x00-\x7f]", text))
    if not foreign or not all(letter.isalpha() or letter in "°’‘“”–—§\xa0" for letter in foreign):
        return None
    words = re.findall(r"\w*[^\W\x00-\x7f]\w*", text)
    is_text = words and all(re.search("[A-Za-z]", word) for word in words)
    return str(words[0]) if is_text else None


def _refuse_nul(line: int, source: str) -> None:
    raise DataError(
        f"{source} cannot be read as a CSV table: row {line} holds a byte of zero, which no text "
        "has; it is another kind of file, damaged, or in UTF-16 without its mark; save the table "
        "as CSV in UTF-8"
    )
