"""Intervals of a configuration's scores: against its scores, and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from qwave.scores import bootstrap_mean, bootstrap_score, cluster_weights
from qwave.scores.evaluate import score_intervals, score_predictions

SCORES = ("accuracy", "balanced_accuracy", "weighted_f1")


def _random(seed: int, m: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes of very different sizes, predictions of m seeds, recordings of 1 to 3 clips."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(24), rng.integers(1, 4, size=24))
    of_recording = np.concatenate([[0, 1, 2, 3], rng.choice(4, size=20, p=[0.6, 0.3, 0.07, 0.03])])
    y = of_recording[group]
    predicted = np.where(rng.random((m, len(y))) < 0.7, y, rng.integers(4, size=(m, len(y))))
    order = rng.permutation(len(y))
    return y[order], predicted[:, order], group[order]


def _mean_scores(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Mean over the seeds of the scores of their predictions."""
    num_classes = 1 + max(int(y.max()), int(predicted.max()))
    of_seeds = [score_predictions(y, np.eye(num_classes)[part]) for part in predicted]
    return {name: float(np.mean([scores[name] for scores in of_seeds])) for name in SCORES}


def _plain_scores(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The same, written out: hits, recalls of the classes that are there, and their F1."""
    labels, support = np.unique(y, return_counts=True)
    recalls, f1 = [], []
    for part in predicted:
        hits = np.array([((part == label) & (y == label)).sum() for label in labels])
        claims = np.array([(part == label).sum() for label in labels])
        recalls.append((hits / support).mean())
        f1.append((2 * hits / (support + claims) * support).sum() / len(y))
    values = (predicted == y).mean(), np.mean(recalls), np.mean(f1)
    return {name: float(value) for name, value in zip(SCORES, values, strict=True)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("m", [1, 4])
def test_estimates_are_the_mean_over_seeds_of_each_score(seed: int, m: int) -> None:
    y, predicted, group = _random(seed, m)
    got = score_intervals(y, predicted, group, seed=seed)
    assert tuple(got) == SCORES
    for name, expected in _mean_scores(y, predicted).items():
        assert got[name].estimate == pytest.approx(expected, abs=1e-11), f"{seed=} {name}"
        assert got[name].low <= got[name].estimate <= got[name].high, f"{seed=} {name}"


@pytest.mark.parametrize("seed", range(2))
def test_resamples_are_scored_as_a_loop_over_the_clips_drawn_would(seed: int) -> None:
    y, predicted, group = _random(seed, m=2)
    blocks = list(cluster_weights(group, len(y), n_resamples=2000, seed=seed))
    weights = np.concatenate(blocks)
    n_without_a_class = 0
    found: dict[tuple[int, ...], dict[str, float]] = {}
    for row in weights:
        rows = np.repeat(np.arange(len(y)), row)
        n_without_a_class += len(set(y[rows].tolist())) < 4
        found[tuple(row.tolist())] = _plain_scores(y[rows], predicted[:, rows])
    assert n_without_a_class > 100, f"{seed=}"
    got = score_intervals(y, predicted, group, seed=seed)
    for name in SCORES:

        def score(rows: np.ndarray, name: str = name) -> np.ndarray:
            values = []
            for row in rows:
                key = tuple(row.tolist())
                if key not in found:
                    drawn = np.repeat(np.arange(len(y)), row)
                    found[key] = _plain_scores(y[drawn], predicted[:, drawn])
                values.append(found[key][name])
            return np.array(values)

        expected = bootstrap_score(score, group, len(y), seed=seed)
        for field in ("estimate", "low", "high", "standard_error"):
            assert getattr(got[name], field) == pytest.approx(
                getattr(expected, field), abs=1e-10
            ), f"{seed=} {name} {field}"


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_has_the_interval_of_the_mean_of_hits(seed: int) -> None:
    y, predicted, group = _random(seed)
    got = score_intervals(y, predicted, group, seed=seed)["accuracy"]
    expected = bootstrap_mean((predicted == y).mean(axis=0), group, seed=seed)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-11), seed


def test_a_class_that_is_predicted_but_never_true_counts_as_in_the_scores() -> None:
    y = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    predicted = np.array([[0, 3, 1, 1, 0, 0, 0, 1], [0, 0, 3, 3, 0, 1, 1, 1]])
    got = score_intervals(y, predicted, None, seed=0)
    for name, expected in _mean_scores(y, predicted).items():
        assert got[name].estimate == pytest.approx(expected), name


def test_a_class_of_one_recording_does_not_spoil_resamples_without_it() -> None:
    y = np.array([0] * 6 + [1] * 6 + [2])
    group = np.repeat(np.arange(7), 2)[:13]
    got = score_intervals(y, y[None].repeat(2, axis=0), group, seed=0)
    for name in SCORES:
        # All right, whichever classes a resample holds.
        assert (got[name].estimate, got[name].low, got[name].high) == (1, 1, 1), name
    wrong = score_intervals(y, (y[None] + 1) % 3, group, seed=0)
    for name in SCORES:
        assert (wrong[name].estimate, wrong[name].low, wrong[name].high) == (0, 0, 0), name


def test_the_order_of_clips_and_of_seeds_does_not_matter() -> None:
    y, predicted, group = _random(8)
    order = np.random.default_rng(8).permutation(len(y))
    one = score_intervals(y, predicted, group, seed=8)
    other = score_intervals(y[order], predicted[::-1, order], group[order], seed=8)
    for name in SCORES:
        for field in ("estimate", "low", "high"):
            assert getattr(other[name], field) == pytest.approx(getattr(one[name], field)), name
