"""`qwave.search`, `confirm`, `export` and `embed`: the commands as functions."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qwave
from qwave.config import ConfigError
from qwave.data import EmbeddingSet
from tests.inference.sounds import make_clip

FEW: dict[str, Any] = {
    "budget__n_trials": 2,
    "budget__workers": 1,
    "train__epochs": 2,
    "model__hidden": [],
    "name": "mine",
}


@pytest.fixture
def clouds(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(5, n_per_class=10, num_features=6, distance=0.7)


@pytest.mark.slow
def test_from_rows_in_memory_to_a_model_in_a_thread(
    clouds: EmbeddingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes: list[Any] = []

    def work() -> None:
        outcomes.append(qwave.search("moe_pareto", data=clouds, store="some store", **FEW))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (outcome,) = outcomes
    assert outcome.front
    assert outcome.counts["complete"] == 2
    assert len(repr(outcome)) < 2000
    again = qwave.search("moe_pareto", data=clouds, store=Path("some store"), **FEW)
    assert again.counts == outcome.counts, "the search is continued, and its budget is spent"
    with (tmp_path / "some store" / "reports" / "mine" / "front.csv").open() as file:
        assert [int(row["size_bytes"]) for row in csv.DictReader(file)] == [
            point.size_bytes for point in outcome.front
        ]
    confirmed = qwave.confirm("mine", store="some store", seeds=[7, 8], workers=1)
    assert [entry.point.digest for entry in confirmed][:1] == [outcome.front[0].digest]
    assert all(0 <= entry.score.accuracy.estimate <= 1 for entry in confirmed)
    (model,) = qwave.export("mine", budget="10kB", store="some store", out="model.qwave")
    assert all(len(repr(value)) < 2000 for value in (confirmed[0], model))
    assert (tmp_path / "model.qwave").stat().st_size == model.exported.facts.point.size_bytes
    assert qwave.load_packed("model.qwave").predict_proba(clouds.x).shape == (
        len(clouds.y),
        clouds.num_classes,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sweep": "mo_pareto"}, "no such sweep file: mo_pareto .did you mean 'moe_pareto"),
        ({"train__epoch": 3}, "unknown key 'train.epoch'"),
        ({"train__epochs": "many"}, "train.epochs = 'many': input should be a valid integer"),
        ({"train__epochs": object()}, "an override must be a plain value, but got <object"),
        ({"sweep": {"name": "a", "serach": {}}}, "the sweep: unknown key 'serach'"),
        ({"**": 1}, "unknown key"),
    ],
)
def test_wrong_input_is_one_error_and_nothing_is_written(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        qwave.search(store=tmp_path / "store", **arguments)
    assert not (tmp_path / "store").exists()


def test_two_data_sets_are_one_too_many(clouds: EmbeddingSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`data` and `data__path` are two data sets"):
        qwave.search(data=clouds, data__path="esc10", store=tmp_path)
    with pytest.raises(ConfigError, match="give `trial` or `budget`, but not both"):
        qwave.export(trial=1, budget="1kB", store=tmp_path)


@pytest.mark.slow
def test_recordings_become_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label in range(2):
        for take in range(3):
            file = tmp_path / "clips" / f"class {label}" / f"{take}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            make_clip(file, label, seed=take)
    out = tmp_path / "some.npz"
    data = qwave.embed(tmp_path / "clips", encoder="logmel", out=out, workers=1)
    assert data.class_names == ("class 0", "class 1")
    assert qwave.load_embeddings(str(out)).digest == data.digest
