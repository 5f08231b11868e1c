"""What a search left: the data it had, what it predicted, and the scores of that."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from qwave.config import DataConfig, DataError, StoreError, TrialConfig
from qwave.data import EmbeddingSet, leave_out, load_embeddings
from qwave.exporting import Candidate
from qwave.exporting.record import (
    OutOfFold,
    cross_validated_scores,
    read_out_of_fold,
)
from qwave.scores import bootstrap_mean, bootstrap_score
from qwave.store import Tracker
from qwave.sweep.searched import load_searched

from .examples import LINEAR, config_of

Ran = Callable[[TrialConfig, int], Candidate]


@pytest.fixture
def data(clouds: Path) -> EmbeddingSet:
    return load_embeddings(clouds)


def config_on(path: Path, holdout_fold: int | None = None) -> TrialConfig:
    return config_of(LINEAR, data=DataConfig(path=str(path), n_folds=2, holdout_fold=holdout_fold))


def test_the_data_of_a_search_are_all_rows_and_those_that_it_had(
    clouds: Path, data: EmbeddingSet
) -> None:
    full, searched = load_searched(config_on(clouds), "clouds", data.digest)
    assert full.digest == searched.digest == data.digest
    left = leave_out(data, 1)
    full, searched = load_searched(config_on(clouds, holdout_fold=1), "clouds", left.digest)
    assert full.digest == data.digest
    assert searched.digest == left.digest
    assert (len(full.y), len(searched.y)) == (60, 39)


def test_data_that_changed_are_refused_with_both_digests(
    clouds: Path, data: EmbeddingSet, tmp_path: Path
) -> None:
    arrays = dict(np.load(clouds))
    arrays["x"][7, 3] += 1
    changed = tmp_path / "changed.npz"
    np.savez(changed, **arrays)
    now = load_embeddings(changed).digest
    message = (
        rf"^{changed} has changed since the search: the digest of its rows was {data.digest} and "
        rf"is {now}; put the old file back, or search again$"
    )
    with pytest.raises(DataError, match=message):
        load_searched(config_on(changed), "clouds", data.digest)


def test_data_that_are_gone_are_refused_with_the_digest_to_look_for(tmp_path: Path) -> None:
    gone = tmp_path / "gone.npz"
    message = (
        rf"^data\.path: no such file: {gone} .*; the sweep 'clouds' was searched on rows of "
        f"{gone} whose digest is 00aa: put the file back"
    )
    with pytest.raises(DataError, match=message):
        load_searched(config_on(gone), "clouds", "00aa")


# --- predictions.csv ---


@pytest.fixture
def recorded(ran: Ran, tracker: Tracker) -> Path:
    candidate = ran(config_of(LINEAR), 3)
    return tracker.artifact_folder(candidate.point.mlflow_run_id) / "predictions.csv"


def test_predictions_are_read_as_the_trial_wrote_them(
    recorded: Path, data: EmbeddingSet, ran: Ran
) -> None:
    said = read_out_of_fold(recorded, data)
    with recorded.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert said.fold.tolist() == [int(row["fold"]) for row in rows]
    assert data.fold is not None
    assert said.fold.tolist() == data.fold.tolist()
    for row, probabilities in zip(rows, said.probabilities.tolist(), strict=True):
        assert [float(row[name]) for name in data.class_names] == probabilities
    is_right = said.probabilities.argmax(axis=1) == data.y
    by_fold = [is_right[said.fold == fold].mean() for fold in range(3)]
    assert np.mean(by_fold) == pytest.approx(ran(config_of(LINEAR), 3).point.accuracy)


def test_missing_predictions_are_refused(tmp_path: Path, data: EmbeddingSet) -> None:
    file = tmp_path / "predictions.csv"
    with pytest.raises(StoreError, match=rf"^no such file: {file}; the run's artifacts were rem"):
        read_out_of_fold(file, data)


def _without_a_row(rows: list[list[str]]) -> None:
    del rows[5]


def _in_other_order(rows: list[list[str]]) -> None:
    rows[5], rows[6] = rows[6], rows[5]


def _of_another_class(rows: list[list[str]]) -> None:
    rows[5][2] = "sea"


def _cut_short(rows: list[list[str]]) -> None:
    rows[5] = rows[5][:3]


@pytest.mark.parametrize("edit", [_without_a_row, _in_other_order, _of_another_class, _cut_short])
def test_predictions_of_other_clips_are_refused(
    edit: Callable[[list[list[str]]], None], recorded: Path, data: EmbeddingSet, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"is not about the 60 clips of the search, in their ord"):
        read_out_of_fold(_edited(recorded, edit, tmp_path), data)


def _edited(file: Path, edit: Callable[[list[list[str]]], None], folder: Path) -> Path:
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    edit(rows)
    edited = folder / "edited.csv"
    with edited.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return edited


@pytest.mark.parametrize(("column", "text"), [(1, "first"), (5, "much")])
def test_damaged_predictions_are_refused(
    column: int, text: str, recorded: Path, data: EmbeddingSet, tmp_path: Path
) -> None:
    def edit(rows: list[list[str]]) -> None:
        rows[9][column] = text

    with pytest.raises(StoreError, match=rf"edited\.csv is damaged: .*'{text}'; the run's artif"):
        read_out_of_fold(_edited(recorded, edit, tmp_path), data)


# --- scores ---


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns_and_intervals_those_of_resampled_recordings(
    seed: int, data: EmbeddingSet
) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), len(data.y)) + 0.2 * np.eye(3)[data.y]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    scores = cross_validated_scores(data, OutOfFold(probabilities, np.zeros(len(data.y), int)))
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": metrics.accuracy_score(data.y, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(data.y, predicted),
        "weighted_f1": metrics.f1_score(data.y, predicted, average="weighted"),
        "macro_f1": metrics.f1_score(data.y, predicted, average="macro"),
        "nll": metrics.log_loss(data.y, probabilities),
        "brier": 3 * metrics.mean_squared_error(np.eye(3)[data.y], probabilities),
        "roc_auc": metrics.roc_auc_score(data.y, probabilities, multi_class="ovr"),
    }
    for name, value in expected.items():
        assert scores.values[name] == pytest.approx(value), f"{name} {seed=}"
    assert set(scores.intervals) == {
        *("accuracy", "balanced_accuracy", "weighted_f1", "nll", "brier")
    }
    for name, interval in scores.intervals.items():
        assert interval.estimate == pytest.approx(expected[name]), f"{name} {seed=}"
        assert interval.low < interval.estimate < interval.high, f"{name} {seed=}"
    hits = (predicted == data.y).astype(float)
    nll = -np.log(probabilities[np.arange(len(data.y)), data.y])
    alone = {
        "nll": bootstrap_mean(nll, data.group, seed=0),
        "accuracy": bootstrap_score(
            lambda weights: (weights @ hits) / weights.sum(axis=1), data.group, len(hits), seed=0
        ),
    }
    for name, interval in alone.items():
        found = dataclasses.astuple(scores.intervals[name])
        assert found == pytest.approx(dataclasses.astuple(interval)), f"{name} {seed=}"


def test_a_class_that_got_no_probability_has_a_finite_loss(data: EmbeddingSet) -> None:
    probabilities = np.eye(3)[(data.y + 1) % 3]
    scores = cross_validated_scores(data, OutOfFold(probabilities, np.zeros(len(data.y), int)))
    assert np.isfinite(scores.intervals["nll"].estimate)
    assert scores.intervals["nll"].estimate == pytest.approx(scores.values["nll"])
