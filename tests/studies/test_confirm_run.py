"""The whole way: a search, its confirmation, a second start, and a fold that nobody searched."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from mlflow import MlflowClient

from qwave.data import EmbeddingSet, leave_out, load_embeddings
from qwave.engine.crossval import cross_validate
from qwave.space import parse_config
from studies import confirm, moe_pareto

pytestmark = pytest.mark.slow

SWEEP = """
name: small
data: {path: PATH, normalization: layer, n_folds: 3}
budget: {n_trials: 4, max_size_bytes: 100000, workers: 1}
sampler: {name: random, seed: 3, in_flight: 2, baselines: false}
fixed:
  train: {epochs: 2, batch_size: 16}
  model: {curiosity: {mc_samples: 3}}
search:
  model.num_experts: {int: [1, 2]}
  model.schemes: {mix: [int1, int4]}
  model.hidden: {choice: {linear: [], tiny: [4]}}
  model.input_dropout: {float: [0.0, 0.5]}
"""
STUDY = """
study: small
seeds: [11, 12, 13]
near_standard_errors: 1
max_points: 4
workers: 1
"""
COLUMNS = [
    *("size", "searched", "confirmed", "confirmed_low", "confirmed_high", "seed_deviation"),
    *("on_front", "front", "possibly_dominated", "model", "digest"),
]


class Place(NamedTuple):
    """The files of a study, and the store that it writes into."""

    data: Path
    sweep: str
    study: str
    store: str

    def search(self, *arguments: str) -> int:
        return moe_pareto.main([self.sweep, *arguments, "--store", self.store])

    def confirm(self, *arguments: str) -> int:
        return confirm.main([self.study, "--store", self.store, *arguments])

    def rows(self, name: str) -> list[dict[str, str]]:
        path = Path(self.store) / "reports" / name / "front_confirmed.csv"
        return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))

    def runs(self, name: str, kind: str) -> list[Any]:
        mlflow = MlflowClient(tracking_uri=f"sqlite:///{self.store}/mlflow.db")
        experiment = mlflow.get_experiment_by_name(name)
        assert experiment is not None
        query = f"tags.`qwave.kind` = '{kind}'"
        return list(mlflow.search_runs([experiment.experiment_id], query))

    def results(self) -> dict[str, int]:
        files = (Path(self.store) / "repeats").iterdir()
        return {file.name: file.stat().st_ino for file in files}


@pytest.fixture
def place(tmp_path: Path, gaussians: Callable[..., EmbeddingSet]) -> Place:
    data = gaussians(5, distance=0.7)
    assert data.fold is not None
    assert data.group is not None
    np.savez(tmp_path / "clouds.npz", x=data.x, y=data.y, fold=data.fold, group=data.group)
    sweep, study = tmp_path / "small.yaml", tmp_path / "confirm.yaml"
    sweep.write_text(SWEEP.replace("PATH", str(tmp_path / "clouds.npz")))
    study.write_text(STUDY)
    return Place(tmp_path / "clouds.npz", str(sweep), str(study), str(tmp_path / "store"))


def check_row(row: dict[str, str], configs: dict[str, Any], data: EmbeddingSet) -> None:
    """A row's numbers are those of its configuration, cross-validated with every seed."""
    accuracies = []
    for seed in (11, 12, 13):
        config = parse_config({**configs[row["digest"]], "seed": seed})
        accuracies.append((cross_validate(config, data).predictions.predicted == data.y).mean())
    assert float(row["confirmed"]) == pytest.approx(np.mean(accuracies), abs=1e-6)
    assert float(row["seed_deviation"]) == pytest.approx(np.std(accuracies, ddof=1), abs=1e-6)
    assert float(row["confirmed_low"]) <= float(row["confirmed"]) <= float(row["confirmed_high"])


def configs_of(place: Place, name: str) -> dict[str, Any]:
    """Digest to configuration, of the search's trials."""
    found = {}
    for run in place.runs(name, "trial"):
        path = Path(run.info.artifact_uri.removeprefix("file://")) / "config.json"
        found[run.data.tags["qwave.config_digest"]] = json.loads(path.read_text())
    return found


def test_a_front_is_confirmed_once_and_reported_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.search() == 0
    capsys.readouterr()
    # Where the search's own seed, or other data, or another study is asked for, nothing happens.
    for arguments, message in (
        (["seeds=[1, 0]"], "`seeds` must be fresh, but the search itself trained with 0"),
        (["study=other"], "holds no study 'other' (it holds small); search first"),
        (["train.epochs=3"], "unknown key 'train.epochs'"),
        (["--device", "tpu"], "device must be cpu, cuda or mps, but got 'tpu'"),
    ):
        assert place.confirm(*arguments) == 2, message
        error = capsys.readouterr().err
        assert error.startswith("error: "), error
        assert message in error
    assert not (Path(place.store) / "reports" / "confirm").exists()

    assert place.confirm() == 0
    printed = capsys.readouterr().out
    rows = place.rows("small")
    assert list(rows[0]) == COLUMNS
    sizes = [int(row["size"]) for row in rows]
    assert sizes == sorted(sizes)
    searched = Path(place.store) / "reports" / "small" / "front.csv"
    front = {row["digest"] for row in csv.DictReader(searched.read_text().splitlines())}
    assert front <= {row["digest"] for row in rows}
    configs = configs_of(place, "small")
    data = load_embeddings(place.data)
    for row in rows:
        check_row(row, configs, data)
    trained, results = place.runs("confirm", "trial"), place.results()
    assert len(trained) == len(results) == 3 * len(rows)
    (run,) = place.runs("confirm", "study")
    assert run.data.params["seeds"] == "(11, 12, 13)"
    assert run.data.metrics["front_size_searched"] == len(front)
    gaps = [float(r["searched"]) - float(r["confirmed"]) for r in rows if r["digest"] in front]
    assert run.data.metrics["optimism"] == pytest.approx(np.mean(gaps), abs=1e-5)
    folder = Path(place.store) / "reports" / "confirm"
    names = {"report.html", "front.csv", "front.png"}
    assert {file.name for file in folder.iterdir()} == names
    beside = searched.with_name("front_confirmed.csv")
    assert (folder / "front.csv").read_bytes() == beside.read_bytes()
    for file in (*folder.iterdir(), beside):
        assert str(file) in printed

    before = {file: file.read_bytes() for file in (*folder.iterdir(), beside)}
    assert place.confirm() == 0
    assert place.results() == results
    assert len(place.runs("confirm", "trial")) == len(trained)
    assert len(place.runs("confirm", "study")) == 1
    assert {file: file.read_bytes() for file in before} == before
    # One seed more trains that one only, wherever the overrides stand.
    assert place.confirm("seeds=[11, 12, 13, 14]") == 0
    assert results.items() <= place.results().items()
    assert len(place.results()) == 4 * len(rows)

    np.savez(place.data, x=data.x + 1, y=data.y, fold=data.fold, group=data.group)  # type: ignore[arg-type]
    capsys.readouterr()
    assert place.confirm() == 2
    assert "has changed since the search: the digest of its rows was" in capsys.readouterr().err


def test_a_front_is_scored_on_the_fold_that_the_search_never_saw(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = ["data.n_folds=2", "data.holdout_fold=1", "train.distillation=0.5"]
    assert place.search("data.holdout_fold=1") == 2
    assert "data.n_folds=3, but the file has 2 official folds (0, 2)" in capsys.readouterr().err
    assert place.search(*held_out) == 0
    assert place.confirm() == 0
    rows = place.rows("small")
    interval = [f"held-out_fold{end}" for end in ("", "_low", "_high")]
    assert list(rows[0]) == [*COLUMNS[:-2], *interval, *COLUMNS[-2:]]
    full = load_embeddings(place.data)
    left = leave_out(full, 1)
    configs = configs_of(place, "small")
    for row in rows:
        check_row(row, configs, left)
        assert (row["held-out_fold"] != "") == (row["front"] == "True"), row
        if row["held-out_fold"]:
            low, value, high = (float(row[interval[i]]) for i in (1, 0, 2))
            assert 0 <= low <= value <= high <= 1, row
            # Of three seeds and the clips of one fold.
            n_hits = value * 3 * (len(full.y) - len(left.y))
            assert n_hits == pytest.approx(round(n_hits), abs=1e-3), row
    assert any(row["held-out_fold"] for row in rows)
    assert "held-out fold (%)" in capsys.readouterr().out
    (run, *_) = place.runs("confirm", "trial")
    assert run.data.params["data.holdout_fold"] == "1"
    assert run.data.tags["qwave.data_digest"] == left.digest
    before, first = place.results(), place.rows("small")
    assert place.confirm() == 0
    assert place.results() == before
    assert place.rows("small") == first


def test_a_smoke_run_is_confirmed_by_a_smoke_run(place: Place) -> None:
    assert place.search("--smoke", "--trials", "2") == 0
    assert place.confirm("--smoke", "max_points=1") == 0
    assert {run.data.params["seed"] for run in place.runs("confirm_smoke", "trial")} == {
        "11",
        "12",
    }
    (run,) = place.runs("confirm_smoke", "study")
    assert run.data.params["study"] == "small_smoke"
    assert place.rows("small_smoke")
    assert (Path(place.store) / "reports" / "confirm_smoke" / "report.html").exists()
