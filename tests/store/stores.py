"""A small store that tests copy, and what they ask of a store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from qwave.cli import main as qwave
from qwave.store import Store
from studies import confirm, moe_pareto

SWEEP = """
name: small
data: {path: PATH, normalization: layer, n_folds: 2}
budget: {n_trials: 2, max_size_bytes: 100000, workers: 1}
sampler: {name: random, seed: 3, in_flight: 1, baselines: false}
fixed:
  train: {epochs: 2, batch_size: 16}
  model: {curiosity: {mc_samples: 2}}
search:
  model.schemes: {mix: [int1, int4]}
  model.input_dropout: {float: [0.0, 0.5]}
"""
CONFIRMATION = "{name: again, study: small, seeds: [11], max_points: 1, workers: 1}"


class Place(NamedTuple):
    """A store, and the files that the commands on it are given."""

    store: Path
    sweep: Path
    confirmation: Path

    def search(self, *arguments: str) -> int:
        return moe_pareto.main([str(self.sweep), "--store", str(self.store), *arguments])

    def confirm(self, *arguments: str) -> int:
        return confirm.main([str(self.confirmation), "--store", str(self.store), *arguments])

    def export(self, *arguments: str) -> int:
        wanted = arguments or ("--budget", "1MB")
        return qwave(["export", *wanted, "--sweep", "small", "--store", str(self.store)])

    def client(self) -> MlflowClient:
        return MlflowClient(Store(self.store).tracking_uri, Store(self.store).tracking_uri)

    def runs(self, kind: str, name: str = "small", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        client = self.client()
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        query = f"tags.`qwave.kind` = '{kind}'"
        return list(client.search_runs([experiment.experiment_id], query, view))


def make_place(folder: Path, x: np.ndarray, y: np.ndarray) -> Place:
    """Write the data, a sweep and its confirmation; the store is not there yet."""
    data, sweep = folder / "clouds.npz", folder / "small.yaml"
    confirmation = folder / "confirm.yaml"
    np.savez(data, x=x, y=y, fold=np.arange(len(y)) % 2)
    sweep.write_text(SWEEP.replace("PATH", str(data)))
    confirmation.write_text(CONFIRMATION)
    return Place(folder / "store", sweep, confirmation)


def kept_texts(store: Path) -> Iterator[tuple[str, str, str]]:
    """Table, column and value of every text in MLflow's database."""
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, str):
                        yield table, column, value


def times(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time of change and time of last reading of everything in a folder."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        stat = path.lstat()
        found[str(path)] = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return found
