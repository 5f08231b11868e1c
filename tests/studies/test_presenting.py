"""What a study prints: short tables whole, long ones by the name of their file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qwave.report import Column, Section, Table
from studies.presenting import MAX_ROWS, metric_name, show_study


def make_section(name: str, n_rows: int) -> Section:
    columns = (Column("row"), Column("score", "share"))
    rows = tuple((f"row {i}", i / 100) for i in range(n_rows))
    return Section(name, f"About {name}", f"Words of {name}.", Table(columns, rows))


def test_long_tables_are_named_and_short_ones_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sections = [
        make_section("short", MAX_ROWS),
        make_section("long", MAX_ROWS + 1),
        Section("words", "About nothing", "No table."),
    ]
    show_study(sections, [Path("reports") / "short.csv", Path("reports") / "report.html"])
    printed = capsys.readouterr().out
    assert printed.count("row 0") == 1
    assert f"row {MAX_ROWS - 1} " in printed
    assert f"({MAX_ROWS + 1} rows in long.csv)" in printed
    order = ("About short", "Words of short.", "About long", "Words of long.", "About nothing")
    places = [printed.index(text) for text in order]
    assert places == sorted(places)
    assert printed.endswith(f"  {Path('reports/short.csv')}\n  {Path('reports/report.html')}\n")


def test_metric_names_hold_what_mlflow_allows() -> None:
    assert metric_name("int1 + int8, [64]/α 1.0") == "int1   int8   64 /α 1.0"
    assert re.fullmatch(r"[\w\-. /]*", metric_name("a,b(c)*d%e:f"))
