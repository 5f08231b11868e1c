"""`qwave front`: the fronts of a store, as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from qwave.cli import main
from qwave.sweep import collect_points, front_of, load_study
from tests.store.stores import Place


@pytest.mark.slow
def test_the_front_of_a_store_is_printed_in_three_forms(
    searched: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(searched.store)]
    name = json.loads(_printed(["front", "--json", *store], capsys)).popitem()[0]
    front = front_of(collect_points(load_study(searched.store, name)))
    found = json.loads(_printed(["front", "--json", "--sweep", name, *store], capsys))[name]
    assert [(p["size_bytes"], p["accuracy"], p["digest"]) for p in found] == [
        (point.size_bytes, point.accuracy, point.digest) for point in front
    ]
    rows = list(csv.DictReader(io.StringIO(_printed(["front", "--csv", *store], capsys))))
    assert [row["digest"] for row in rows] == [point.digest for point in front]
    text = _printed(["front", *store], capsys)
    assert name in text
    assert all(point.digest in text for point in front)


def test_a_store_without_a_study_or_of_other_names_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", "--store", str(tmp_path / "none")]) == 2
    assert "holds no study yet; search first" in capsys.readouterr().err
    assert main(["front", "--sweep", "other", "--store", str(tmp_path / "none")]) == 2
    assert "holds no study 'other'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def _printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out
