"""Equal numbers give equal scores and equal bytes, in whatever form they come.

Every form of `forms.FORMS` goes through every consumer: training by each backend,
`cross_validate`, the estimator and `predict_proba`. Six that differ in kind, from a file or as a
plan's data, go the whole road of a user: the sweep, `studies.confirm`, `qwave export` and the
registered model.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import mlflow
import numpy as np
import pytest

import qwave
from qwave import cli
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import pack_fold, train_folds
from qwave.engine.crossval import cross_validate
from qwave.packing import to_bytes
from qwave.space import load_sweep, parse_config
from qwave.store import Store, Tracker
from qwave.store.folder import opened_store
from qwave.sweep import load_study, plan_sweep, run_sweep
from studies import confirm, moe_pareto

from ..here import workers_here
from . import forms

KINDS = ("fractions", "integers", "booleans")

CONFIG = parse_config(
    {
        "data": {"n_folds": 3, "normalization": "standard"},
        "model": {"schemes": ["int1", "int8"], "hidden": [4], "input_dropout": 0.2},
        "train": {"epochs": 2, "batch_size": 16},
    }
).canonical()

SWEEP = """
name: forms
data: {path: PATH}
budget: {n_trials: 2, max_size_bytes: 100000, workers: 1}
sampler: {name: random, seed: 3, in_flight: 2, baselines: false}
fixed:
  train: {epochs: 2, batch_size: 16}
  model: {curiosity: {mc_samples: 3}}
search:
  model.num_experts: {int: [1, 2]}
  model.schemes: {mix: [int1, int8]}
  model.hidden: {choice: {linear: [], tiny: [4]}}
"""
CONFIRM = "study: forms\nseeds: [11, 12]\nmax_points: 2\nworkers: 1\n"


def plain(kind: str) -> EmbeddingSet:
    """The numbers of a kind as C-ordered float32."""
    given = forms.numbers(kind)
    return qwave.embeddings_from_arrays(given.x, given.y, fold=given.fold, names=given.names)


def trained(data: EmbeddingSet, backend: Literal["compiled", "stacked"]) -> list[bytes]:
    """Packed bytes of all folds."""
    folds = make_folds(data, CONFIG.data)
    result = train_folds(CONFIG, data, folds, backend=backend)
    return [
        to_bytes(pack_fold(result, place, CONFIG, data, fold)) for place, fold in enumerate(folds)
    ]


@functools.cache
def trained_on_plain(kind: str, backend: Literal["compiled", "stacked"]) -> list[bytes]:
    return trained(plain(kind), backend)


@functools.cache
def validated_on_plain(kind: str) -> qwave.TrialResult:
    return cross_validate(CONFIG, plain(kind))


@functools.cache
def fitted_on_plain(kind: str) -> qwave.QuantizedMoEClassifier:
    given = forms.numbers(kind)
    return classifier().fit(given.x, given.y)


def classifier() -> qwave.QuantizedMoEClassifier:
    return qwave.QuantizedMoEClassifier(["int1", "int8"], epochs=2, random_state=0)


@pytest.mark.parametrize("form", forms.FORMS)
def test_the_set_is_the_same_and_its_rows_lie_one_after_another(form: str, tmp_path: Path) -> None:
    data, expected = forms.load(form, tmp_path), plain(forms.kind_of(form))
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous
    assert data.y.dtype == np.int64
    np.testing.assert_array_equal(data.x, expected.x)
    assert data.digest == expected.digest


@pytest.mark.parametrize("form", forms.FORMS)
def test_compiled_training_packs_the_same_bytes(form: str, tmp_path: Path, native: object) -> None:
    data = forms.load(form, tmp_path)
    assert trained(data, "compiled") == trained_on_plain(forms.kind_of(form), "compiled")


@pytest.mark.parametrize("form", forms.FORMS)
def test_stacked_training_packs_the_same_bytes(form: str, tmp_path: Path) -> None:
    data = forms.load(form, tmp_path)
    assert trained(data, "stacked") == trained_on_plain(forms.kind_of(form), "stacked")


@pytest.mark.parametrize("form", forms.FORMS)
def test_cross_validation_scores_and_packs_the_same(form: str, tmp_path: Path) -> None:
    found = cross_validate(CONFIG, forms.load(form, tmp_path))
    expected = validated_on_plain(forms.kind_of(form))
    assert found.scores == expected.scores
    assert found.pooled_scores == expected.pooled_scores
    np.testing.assert_array_equal(
        found.predictions.probabilities, expected.predictions.probabilities
    )
    packed = [[to_bytes(model.packed) for model in run.models] for run in (found, expected)]
    assert packed[0] == packed[1]


@pytest.mark.parametrize("form", forms.FORMS)
def test_the_estimator_packs_and_answers_the_same(form: str, tmp_path: Path) -> None:
    given = forms.numbers(forms.kind_of(form))
    x = forms.features(form, tmp_path)
    expected = fitted_on_plain(forms.kind_of(form))
    # A frame's columns are numbered: scikit-learn wants names of one type, and takes none.
    found = classifier().fit(x, given.y)
    assert to_bytes(found.model_.packed) == to_bytes(expected.model_.packed)
    np.testing.assert_array_equal(found.predict_proba(x), expected.predict_proba(given.x))


@pytest.mark.parametrize("form", forms.FORMS)
def test_a_packed_model_answers_the_same(form: str, tmp_path: Path) -> None:
    kind = forms.kind_of(form)
    model = validated_on_plain(kind).models[0]
    found = model.predict_proba(forms.features(form, tmp_path))
    np.testing.assert_array_equal(found, model.predict_proba(forms.numbers(kind).x))


@pytest.fixture(scope="module", autouse=True)
def _here() -> Iterator[None]:
    """Everything is trained in this process, with a small teacher."""
    with workers_here():
        yield


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds nothing yet, to be copied: MLflow takes seconds to make its tables."""
    store = tmp_path_factory.mktemp("empty") / "store"
    with opened_store(Store(store)):
        Tracker(Store(store))
    return store


def trials_of(store: Path) -> dict[str, Any]:
    """What a sweep leaves, by what does not name its files: values and packed bytes of trials."""
    study = load_study(store, "forms")
    found: dict[str, Any] = {}
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        found[f"{trial.number} values"] = trial.values
        found[f"{trial.number} scores"] = attributes["fold_scores"]
        models = sorted((store / "artifacts").glob(f"*/{attributes['mlflow_run_id']}/**/*.qwave"))
        assert len(models) == 3
        found[f"{trial.number} models"] = [model.read_bytes() for model in models]
    return found


def walked(file: Path, folder: Path, empty_store: Path) -> dict[str, Any]:
    """A user's road from a file: search, and what follows it."""
    sweep, store = folder / "sweep.yaml", folder / "store"
    shutil.copytree(empty_store, store)
    sweep.write_text(SWEEP.replace("PATH", str(file)))
    assert moe_pareto.main([str(sweep), "--store", str(store)]) == 0
    return handed_over(folder, qwave.load_embeddings(file).x)


def handed_over(folder: Path, x: forms.Held) -> dict[str, Any]:
    """What a search left, confirmed, exported, and the registered model's answers to x."""
    study, store = folder / "confirm.yaml", folder / "store"
    study.write_text(CONFIRM)
    assert confirm.main([str(study), "--store", str(store)]) == 0
    export = ["export", "--sweep", "forms", "--budget", "100kB", "--store", str(store)]
    assert cli.main([*export, "--out", str(folder / "model.qwave")]) == 0
    (model,) = (store / "artifacts").rglob("MLmodel")
    table = Store(store).report_folder("forms") / "front_confirmed.csv"
    return {
        **trials_of(store),
        "confirmed": table.read_text(),
        "exported": (folder / "model.qwave").read_bytes(),
        "registered": mlflow.pyfunc.load_model(str(model.parent)).predict(x).to_csv(),
    }


@pytest.fixture(scope="session")
def road_of_plain(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Callable[[str], dict[str, Any]]:
    """What the road gives for C-ordered float32 numbers of a kind, in a file."""

    @functools.cache
    def road(kind: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(kind)
        return walked(forms.FILES["npz"][1](forms.numbers(kind), folder), folder, empty_store)

    return road


@pytest.mark.slow
@pytest.mark.parametrize("form", ["npz, float64", "CSV", "Parquet of columns, bool"])
def test_the_whole_road_from_a_file_ends_the_same(
    form: str,
    tmp_path: Path,
    empty_store: Path,
    road_of_plain: Callable[[str], dict[str, Any]],
) -> None:
    kind, write = forms.FILES[form]
    found = walked(write(forms.numbers(kind), tmp_path), tmp_path, empty_store)
    expected = road_of_plain(kind)
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        assert found[part] == value, f"{form}: {part}"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["big-endian", "int8, Fortran order", "pandas frame"])
def test_the_whole_road_of_data_in_memory_ends_the_same(
    form: str,
    tmp_path: Path,
    empty_store: Path,
    road_of_plain: Callable[[str], dict[str, Any]],
) -> None:
    kind = forms.kind_of(form)
    shutil.copytree(empty_store, tmp_path / "store")
    file = forms.FILES["npz"][1](forms.numbers(kind), tmp_path)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP.replace("PATH", str(file)))
    plan = dataclasses.replace(plan_sweep(load_sweep(sweep)), data=forms.load(form, tmp_path))
    assert run_sweep(plan, tmp_path / "store").counts["complete"] == 2
    found = handed_over(tmp_path, forms.features(form, tmp_path))
    expected = road_of_plain(kind)
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        assert found[part] == value, f"{form}: {part}"
