"""Trials and a sweep that ran, made once a process: real folds, MLflow runs and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet, leave_out, load_embeddings
from qwave.engine.crossval import cross_validate
from qwave.exporting import Candidate, Search, export_model, facts
from qwave.exporting.facts import Facts
from qwave.packing import packed_size_bytes, to_bytes
from qwave.scores import FrontPoint
from qwave.space import load_sweep
from qwave.store import Store, Tracker
from qwave.sweep import collect_points, front_of, load_study, plan_sweep, run_sweep
from qwave.sweep.launcher import FinishedTrial
from qwave.sweep.record import Recorder, config_label

from ..here import workers_here
from .examples import CARDS, HERE, SWEEP, Swept

SWEEP_NAME = "clouds"


@pytest.fixture(autouse=True)
def _short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a model takes is measured in every export, and matters in none of these."""
    monkeypatch.setattr(facts, "_SECONDS", 0.01)


@pytest.fixture(scope="session")
def clouds(
    tmp_path_factory: pytest.TempPathFactory, gaussians: Callable[..., EmbeddingSet]
) -> Path:
    """Embeddings in a file: three classes, three official folds, recordings of two clips."""
    data = gaussians(5, distance=0.5)
    path = tmp_path_factory.mktemp("data") / "clouds.npz"
    assert data.fold is not None
    assert data.group is not None
    names, class_names = np.array(data.names), np.array(["dog", "rain|", "sea"])
    arrays = {"x": data.x, "y": data.y, "fold": data.fold, "group": data.group}
    np.savez(path, names=names, class_names=class_names, **arrays)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="session")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def ran(tracker: Tracker, clouds: Path) -> Callable[[TrialConfig, int], Candidate]:
    """A trial that was cross-validated on the file and recorded, as a sweep does; each once."""
    done: dict[tuple[str, int], Candidate] = {}

    def run(config: TrialConfig, number: int) -> Candidate:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, path=str(clouds))
        ).canonical()
        if (config.digest, number) not in done:
            data = leave_out(load_embeddings(clouds), config.data.holdout_fold)
            recorder = Recorder(tracker, tracker.experiment(SWEEP_NAME), data, str(clouds))
            size_bytes = packed_size_bytes(config, data)
            run_id = recorder.start(number, config, size_bytes)
            result = cross_validate(config, data)
            packed = tuple(to_bytes(model.packed) for model in result.models)
            recorder.finish(run_id, FinishedTrial(result, packed))
            point = FrontPoint(
                number=number,
                accuracy=result.scores["accuracy"],
                standard_error=result.scores["accuracy_standard_error"],
                size_bytes=size_bytes,
                is_front=True,
                num_experts=config.model.num_experts,
                label=config_label(config),
                configuration=config.flat(),
                digest=config.digest,
                mlflow_run_id=run_id,
            )
            search = Search(SWEEP_NAME, "0123456789abcdef", data.digest, n_trained=7)
            done[config.digest, number] = Candidate(search, point, config)
        return done[config.digest, number]

    return run


@pytest.fixture(scope="session")
def facts_of(
    ran: Callable[[TrialConfig, int], Candidate],
    tracker: Tracker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Facts]:
    @cache
    def facts_of(name: str, *, is_refitted: bool = True) -> Facts:
        out = tmp_path_factory.mktemp("models")
        candidate = ran(CARDS[name], 12)
        exported = export_model(candidate, tracker, out, is_refitted=is_refitted)
        return dataclasses.replace(
            exported.facts, provenance=HERE, latency_us={1: 0.0412, 64: 1.25}
        )

    return facts_of


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, clouds: Path) -> Swept:
    """A sweep that ran, and three more trials that were not trained."""
    folder = tmp_path_factory.mktemp("swept")
    file = folder / "small.yaml"
    file.write_text(SWEEP.replace("PATH", str(clouds)))
    with workers_here():
        run_sweep(plan_sweep(load_sweep(file)), folder / "store")
    study = load_study(folder / "store", "small")
    points = collect_points(study)
    first = study.trials[points[0].number]
    added = [
        add(study, TrialState.PRUNED, digest="f" * 16, outcome="over_budget"),
        add(study, TrialState.FAIL, **{**first.user_attrs, "outcome": "duplicate"}),
        add(study, TrialState.FAIL),
    ]
    return Swept(folder / "store", points, front_of(points), *added)


def add(study: optuna.Study, state: TrialState, **attributes: object) -> int:
    trial: FrozenTrial = create_trial(state=state, user_attrs=attributes)
    study.add_trial(trial)
    return len(study.trials) - 1
