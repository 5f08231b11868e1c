"""`studies.mixtures` from search to report, a second start, and arguments that are refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from qwave.data import EmbeddingSet
from qwave.scores.pareto import hypervolume
from qwave.sweep import load_study
from studies.mixtures import main
from studies.mixtures.equal_compute import MAX_EXTENSION, nearest_prefix, trial_costs
from studies.mixtures.study import MAX_MIXTURES

STUDY = """
name: pays
seeds: [21, 22, 23]
data: {path: PATH, normalization: layer, n_folds: 3}
budget: {n_trials: 9, max_size_bytes: 100000, workers: 1}
sampler: {name: random, seed: 3, in_flight: 3}
fixed:
  train: {epochs: 2, batch_size: 16}
  model: {curiosity: {mc_samples: 3}, top_k: 1}
search:
  model.num_experts: {int: [1, 3]}
  model.schemes: {mix: [int1, int4]}
  model.hidden: {choice: {linear: [], tiny: [4]}}
  model.input_dropout: {float: [0.0, 0.5]}
"""


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number_of(row: dict[str, str], name: str) -> float:
    return float(row[name])


def state_of(store: Path) -> dict[str, Any]:
    """What a start that trains nothing leaves as it was."""
    studies = {name: load_study(store, name) for name in ("pays_smoke_one", "pays_smoke_mix")}
    return {
        "trials": {name: len(study.trials) for name, study in studies.items()},
        "repeats": {f.name: f.stat().st_mtime_ns for f in (store / "repeats").glob("*.npz")},
    }


@pytest.mark.slow
def test_the_study_from_search_to_report_and_again(
    tmp_path: Path,
    gaussians: Callable[..., EmbeddingSet],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = gaussians(5, distance=0.8)
    path, file, store = tmp_path / "clouds.npz", tmp_path / "pays.yaml", tmp_path / "store"
    assert data.fold is not None
    assert data.group is not None
    np.savez(path, x=data.x, y=data.y, fold=data.fold, group=data.group)
    file.write_text(STUDY.replace("PATH", str(path)), encoding="utf-8")
    arguments = [str(file), "--smoke", "budget.n_trials=9", "--store", str(store)]
    assert main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    folder = store / "reports" / "pays_smoke"
    names = ["hypervolumes.csv", "fronts.csv", "fronts.png", "routers.csv", "routers.png"]
    names += ["routes.csv", "report.html"]
    assert {entry.name for entry in folder.iterdir()} == set(names)
    assert all(name in printed for name in names)
    assert "Does a mixture pay?" in printed

    # Compute: rows x epochs x weights, over the trials of each search.
    n_rows, rows = 2 * len(data.y), read_csv(folder / "hypervolumes.csv")
    costs = [
        trial_costs(load_study(store, f"pays_smoke_{n}"), data, n_rows) for n in ("one", "mix")
    ]
    totals = [sum(cost.compute for cost in search) for search in costs]
    assert max(len(search) for search in costs) > 9, "the cheaper search was to go on"
    assert max(len(search) for search in costs) <= 9 * MAX_EXTENSION
    for row, search in zip(rows, costs, strict=False):
        n_kept = nearest_prefix([cost.compute for cost in search], min(totals))
        assert number_of(row, "trials") == n_kept
        assert number_of(row, "trials_beyond") == len(search) - n_kept
        kept = sum(cost.compute for cost in search[:n_kept])
        assert number_of(row, "compute_(1e9)") == pytest.approx(kept / 1e9, abs=1e-6)
        assert kept == pytest.approx(min(totals), rel=0.2)
    gap = number_of(rows[1], "hypervolume") - number_of(rows[0], "hypervolume")
    assert number_of(rows[2], "hypervolume") == pytest.approx(gap, abs=2e-6)

    # The same hypervolumes from the table of the fronts.
    fronts = read_csv(folder / "fronts.csv")
    for row in rows[:2]:
        members = [member for member in fronts if member["search"] == row["front"]]
        volume = hypervolume(
            [number_of(member, "confirmed") for member in members],
            [number_of(member, "size") for member in members],
            reference_accuracy=1 / 3,
            reference_bytes=100_000,
        )
        assert number_of(row, "hypervolume") == pytest.approx(volume, abs=1e-5)
    assert {member["experts"] for member in fronts if member["search"] == "one expert"} == {"1"}

    routers = read_csv(folder / "routers.csv")
    assert 1 <= len(routers) <= MAX_MIXTURES
    for row in routers:
        others = ("learned", "random", "cheapest", "costliest", "best_single")
        assert number_of(row, "oracle") >= max(number_of(row, name) for name in others)  # top-1
        lead = number_of(row, "learned") - number_of(row, "random")
        assert number_of(row, "lead_on_random") == pytest.approx(lead, abs=2e-6)

    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pays_smoke")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (study,) = [run for run in runs if run.data.tags["qwave.kind"] == "study"]
    assert study.info.status == "FINISHED"
    assert study.data.metrics["hypervolume_difference"] == pytest.approx(gap, abs=2e-6)
    assert study.data.metrics["n_mixtures_examined"] == len(routers)
    assert study.data.params["seeds"] == "[21, 22]"
    assert {f.path for f in client.list_artifacts(study.info.run_id, "report")} == {
        f"report/{name}" for name in names
    }

    before = state_of(store)
    assert len(before["repeats"]) == 2 * len({row["digest"] for row in (*fronts, *routers)})
    tables = {name: (folder / name).read_bytes() for name in names if name.endswith(".csv")}
    assert main(arguments) == 0, capsys.readouterr().err
    assert state_of(store) == before
    assert {name: (folder / name).read_bytes() for name in tables} == tables
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "no such sweep file: nothing.yaml"),
        (["seeds=[0, 1]"], "`seeds` must be fresh"),
        (["model.num_experts=1"], "one search must have 1 expert and the other up to 2 or more"),
        (["budget.max_size_bytes=1000"], "the smallest configuration of this space takes 1"),
        (["--device", "tpu"], "device must be cpu, cuda or mps, but got 'tpu'"),
    ],
)
def test_bad_arguments_end_with_exit_code_2_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    store = tmp_path / "store"
    default = Path(__file__).resolve().parents[2] / "sweeps" / "mixtures.yaml"
    files = [] if any(a.endswith(".yaml") for a in arguments) else [str(default)]
    assert main([*files, *arguments, "--store", str(store)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not store.exists()
