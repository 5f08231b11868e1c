"""The address of a store, and the absolute paths that MLflow keeps of it."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from qwave.store import Store
from qwave.store.database import mend_paths

SIGNS = "abc ÄßΩ%?#&=+;:'\"[]()$*~\\\n"


@pytest.mark.parametrize("seed", range(8))
def test_an_address_leads_to_the_database(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    name = "".join(rng.choices(SIGNS, k=12)) + rng.choice(["%20", "%3F", "%25", "x"])
    store = tmp_path / name
    found = make_url(Store(store).tracking_uri).database
    assert found == str(store / "mlflow.db"), f"seed {seed}: {name!r}"


TABLES = """
CREATE TABLE experiments (experiment_id INTEGER, name TEXT, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT, experiment_id INTEGER, artifact_uri TEXT);
CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE trace_tags (key TEXT, value TEXT);
CREATE TABLE logged_models (artifact_location TEXT);
CREATE TABLE model_versions (source TEXT, storage_location TEXT);
"""


def fill(store: Path, experiments: list[tuple[str, str, str | None]]) -> None:
    """Experiments as (name, location, `qwave.kind` of its run; "" for a run of another program,
    None for no run)."""
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        connection.executescript(TABLES)
        for number, (name, location, kind) in enumerate(experiments):
            connection.execute(
                "INSERT INTO experiments VALUES (?, ?, ?)", (number, name, location)
            )
            model = f"{location}/models/m-{number}/artifacts"
            connection.execute("INSERT INTO logged_models VALUES (?)", (model,))
            connection.execute("INSERT INTO model_versions VALUES (?, ?)", (model, model))
            if kind is not None:
                run = (str(number), number, f"{location}/{number}/artifacts")
                connection.execute("INSERT INTO runs VALUES (?, ?, ?)", run)
                tag = ("qwave.kind" if kind else "other", kind, str(number))
                connection.execute("INSERT INTO tags VALUES (?, ?, ?)", tag)
        connection.commit()


def kept(store: Path) -> list[str]:
    query = (
        "SELECT artifact_location FROM experiments UNION ALL SELECT artifact_uri FROM runs "
        "UNION ALL SELECT artifact_location FROM logged_models UNION ALL "
        "SELECT source FROM model_versions UNION ALL SELECT storage_location FROM model_versions"
    )
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        return [value for (value,) in connection.execute(query)]


@pytest.mark.parametrize("seed", range(8))
def test_paths_below_the_earlier_place_and_no_others_are_mended(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    old = Path("/data") / "".join(rng.choices("ab ü%_#?", k=6)) / "artifacts"
    elsewhere = [
        f"{old.as_uri()}2/small",  # a neighbour whose name begins alike
        f"{old.parent.as_uri()}/other/3",
        f"file:///data{old.as_uri().removeprefix('file://')}/3",
        "mlflow-artifacts:/3",
        "s3://bucket/artifacts/small",
        "/srv/mlruns/0",
    ]
    experiments: list[tuple[str, str, str | None]] = [
        ("small", f"{old.as_uri()}/small", "trial"),
        ("plain", f"{old}/plain", rng.choice(["", None])),
        ("made in the UI", f"{old.as_uri()}/5", rng.choice(["", None])),
        *[(f"e{n}", location, rng.choice(["", None])) for n, location in enumerate(elsewhere)],
    ]
    rng.shuffle(experiments)
    fill(tmp_path, experiments)
    before, new = kept(tmp_path), Store(tmp_path).artifact_root

    def expected(value: str) -> str:
        for prefix, other in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
            if value.startswith(f"{prefix}/"):
                return other + value[len(prefix) :]
        return value

    assert mend_paths(Store(tmp_path)) == [old], f"seed {seed}"
    assert kept(tmp_path) == [expected(value) for value in before], f"seed {seed}"
    written = (tmp_path / "mlflow.db").stat().st_mtime_ns
    assert mend_paths(Store(tmp_path)) == []
    assert (tmp_path / "mlflow.db").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("name", "location", "kind", "is_mended"),
    [
        ("small", "file:///old/artifacts/small", None, True),
        ("small (until 2026-10-25 02:30:00)", "file:///old/artifacts/small", None, True),
        ("renamed", "file:///old/artifacts/small", None, False),
        ("renamed", "file:///old/artifacts/small", "trial", True),
        ("small", "file:///old/files/small", None, False),
        ("small", "file:///old/files/small", "trial", True),  # artifacts was a link
        ("small", "file:///old/artifacts/small", "", False),
    ],
)
def test_experiments_of_qwave_are_known_by_their_runs_or_by_where_they_lie(
    tmp_path: Path, name: str, location: str, kind: str | None, is_mended: bool
) -> None:
    fill(tmp_path, [(name, location, kind)])
    assert bool(mend_paths(Store(tmp_path))) == is_mended


def test_several_earlier_places_are_all_mended(tmp_path: Path) -> None:
    """Of an older version that went on in the new place without mending."""
    fill(
        tmp_path,
        [("a", "file:///1/artifacts/a", "trial"), ("b", "file:///2/artifacts/b", "study")],
    )
    assert mend_paths(Store(tmp_path)) == [Path("/1/artifacts"), Path("/2/artifacts")]
    root = Store(tmp_path).artifact_root.as_uri()
    assert all(value.startswith(f"{root}/") for value in kept(tmp_path))
