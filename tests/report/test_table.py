"""One table, three ways to write it: what people read, what programs read, what pages show."""

from __future__ import annotations

import csv
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from qwave.report import Cell, Column, Table
from qwave.scores import Interval

HOSTILE = '</td><script>alert("x")</script>&amp;\'<'
COLUMNS = (
    Column("size", "bytes"),
    Column("accuracy", "share"),
    Column("difference", "share", 1),
    Column("mean gate", "number", 3),
    Column("on front", "yes"),
    Column("model"),
)
ROWS: tuple[tuple[Cell, ...], ...] = (
    (1234, Interval(0.93125, 0.9, 0.95), 0.0123456, 0.5, True, "2 x int1, 8"),
    (2_500_000, Interval(1.0, 1.0, 1.0), -0.0000001, 2, False, "int8, (64, 64)"),
    (87, 0.5, None, None, None, None),
)
TABLE = Table(COLUMNS, ROWS)


class Cells(HTMLParser):
    """Texts, sorting keys and classes of a table's cells, row by row, headings first."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[list[str]] = []
        self.keys: list[list[str | None]] = []
        self.classes: list[list[str | None]] = []
        self.names: set[str] = set()
        self.is_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        if tag == "tr":
            for rows in (self.texts, self.keys, self.classes):
                rows.append([])
        if tag in ("td", "th"):
            self.is_cell = True
            self.texts[-1].append("")
            self.keys[-1].append(dict(attrs).get("data-value"))
            self.classes[-1].append(dict(attrs)["class"])

    def handle_endtag(self, tag: str) -> None:
        self.is_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.is_cell:
            self.texts[-1][-1] += data


SHOWN = [
    ["size", "accuracy (%)", "difference (%)", "mean gate", "on front", "model"],
    ["1.23 kB", "93.12 [90.00, 95.00]", "1.2", "0.500", "yes", "2 x int1, 8"],
    ["2.5 MB", "100.00 [100.00, 100.00]", "0.0", "2.000", "", "int8, (64, 64)"],
    ["87 B", "50.00", "-", "-", "-", "-"],
]


def test_a_page_shows_percent_and_kilobytes_and_sorts_by_the_numbers() -> None:
    cells = Cells(TABLE.html())
    assert cells.texts == SHOWN
    assert cells.keys[0] == [None] * 6
    assert cells.keys[1:] == [
        ["1234", "0.93125", "0.012346", "0.5", "True", "2 x int1, 8"],
        ["2500000", "1", "0", "2", "False", "int8, (64, 64)"],
        ["87", "0.5", "", "", "", ""],
    ]
    assert cells.classes == [["number"] * 4 + [""] * 2] * 4


def test_a_terminal_shows_the_same_cells_in_aligned_columns() -> None:
    lines = TABLE.text().splitlines()
    assert [re.split(r"  +", line.strip()) for line in lines] == [
        [cell for cell in row if cell] for row in SHOWN
    ]
    # Numbers end under their headings, words begin there.
    for name, value in (("size", "1.23 kB"), ("accuracy (%)", "95.00]"), ("gate", "0.500")):
        assert lines[0].index(name) + len(name) == lines[1].index(value) + len(value), name
    for row, word in enumerate(("model", "2 x int1", "int8, (")):
        assert lines[row].index(word) == lines[0].index("model"), word
    assert all(line == line.rstrip() for line in lines)


def test_a_narrow_terminal_shows_every_letter_within_its_width() -> None:
    path = "/a/long/path/" * 8 + "model.qwave"
    table = Table((*COLUMNS, Column("file")), tuple((*row, path) for row in ROWS))
    lines = table.text(80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(table.text().splitlines()) == 1 + len(ROWS)
    shown = "".join("".join(lines).split())
    for letter in set(path):
        assert shown.count(letter) >= path.count(letter) * len(ROWS), letter


def test_csv_holds_numbers_as_they_are_and_ends_of_intervals_in_columns_of_their_own() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    names = ["size", "accuracy", "accuracy_low", "accuracy_high", "difference"]
    assert rows == [
        [*names, "mean_gate", "on_front", "model"],
        ["1234", "0.93125", "0.9", "0.95", "0.012346", "0.5", "True", "2 x int1, 8"],
        ["2500000", "1", "1", "1", "0", "2", "False", "int8, (64, 64)"],
        ["87", "0.5", "", "", "", "", "", ""],
    ]
    assert TABLE.csv().endswith("\n")
    assert "\r" not in TABLE.csv()


@pytest.mark.parametrize("seed", range(5))
def test_numbers_come_back_from_csv_to_six_decimals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=40) * 10.0 ** rng.integers(-7, 7, size=40)
    table = Table((Column("v", "number"),), tuple((float(v),) for v in values))
    read = [float(row["v"]) for row in csv.DictReader(io.StringIO(table.csv()))]
    assert read == pytest.approx(values.tolist(), abs=0.51e-6, rel=1e-12), f"{seed=}"
    assert not re.search(r"e[-+]?\d", table.csv()), f"{seed=} {table.csv()}"


@pytest.mark.parametrize("value", [-0.0, 0.0, -1e-9, 1e-9])
def test_nothing_has_no_sign(value: float) -> None:
    table = Table((Column("v", "share"), Column("w", "number", 0)), ((value, value),))
    assert table.text().splitlines()[1].split() == ["0.00", "0"]
    assert table.csv().splitlines()[1] == "0,0"
    assert 'data-value="0"' in table.html()
    both = Table((Column("v", "share"),), ((Interval(value, value, value),),))
    assert both.text().splitlines()[1].strip() == "0.00 [0.00, 0.00]"


@pytest.mark.parametrize(("value", "text"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_number_that_is_none_is_shown_as_such(value: float, text: str) -> None:
    table = Table((Column("v", "share"),), ((value,),))
    assert table.text().splitlines()[1].strip() == text
    assert table.csv() == f"v\n{text}\n"


def test_numbers_of_numpy_are_numbers() -> None:
    columns = (Column("a", "share"), Column("b", "number"), Column("c", "bytes"))
    own = Table(columns, ((0.25, 3, 1500),))
    numpys = Table(columns, ((np.float64(0.25), np.int64(3), np.int64(1500)),))  # type: ignore[arg-type]
    assert (own.text(), own.csv(), own.html()) == (numpys.text(), numpys.csv(), numpys.html())


def test_data_cannot_become_markup() -> None:
    columns = (Column(HOSTILE), Column(HOSTILE, "share"), Column(HOSTILE, "bytes"))
    html = Table(columns, ((HOSTILE, HOSTILE, HOSTILE),)).html()
    cells = Cells(html)
    assert cells.names == {"div", "table", "thead", "tbody", "tr", "th", "td", "button"}
    assert cells.texts == [[HOSTILE, f"{HOSTILE} (%)", HOSTILE], [HOSTILE] * 3]
    assert cells.keys[1] == [HOSTILE] * 3
    assert "<script" not in html
    assert html.count('"') == html.count('="') * 2


def test_data_cannot_become_cells_of_csv() -> None:
    hostile = 'a,"b"\nc'
    text = Table((Column(hostile), Column("n", "number")), ((hostile, 1), (None, 2))).csv()
    assert list(csv.reader(io.StringIO(text))) == [
        [hostile.replace(" ", "_"), "n"],
        [hostile, "1"],
        ["", "2"],
    ]


def test_a_table_without_rows_has_its_headings() -> None:
    empty = Table(COLUMNS, ())
    assert empty.text().split("  ") == [heading for heading in SHOWN[0]]
    assert empty.csv() == "size,accuracy,difference,mean_gate,on_front,model\n"
    assert Cells(empty.html()).texts == SHOWN[:1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, 2), r"^row 1 has 2 cells, but there are 6 columns$"),
        ((), r"^row 1 has 0 cells, but there are 6 columns$"),
        ((1,) * 7, r"^row 1 has 7 cells, but there are 6 columns$"),
    ],
)
def test_ragged_rows_are_refused(row: tuple[Cell, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table(COLUMNS, (ROWS[0], row))
