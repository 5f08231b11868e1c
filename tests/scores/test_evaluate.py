"""Scores against scikit-learn, SciPy and plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from qwave.scores.evaluate import (
    clustered_standard_error,
    expected_calibration_error,
    score_predictions,
    score_uncertainty,
)


def _random(seed: int, n: int = 80, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Labels in which every class occurs, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(num_classes), rng.integers(num_classes, size=n - num_classes)])
    logits = rng.normal(size=(n, num_classes)) + 1.2 * np.eye(num_classes)[y]
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return y, probabilities.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_classes", [2, 4])
def test_every_score_equals_scikit_learns(seed: int, num_classes: int) -> None:
    y, p = _random(seed, num_classes=num_classes)
    p = p.astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    predicted = p.argmax(axis=1)
    one_hot = np.eye(num_classes)[y]
    area = (
        metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")
        if num_classes > 2
        else metrics.roc_auc_score(y, p[:, 1])
    )
    expected = {
        "accuracy": metrics.accuracy_score(y, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
        "weighted_f1": metrics.f1_score(y, predicted, average="weighted"),
        "macro_f1": metrics.f1_score(y, predicted, average="macro"),
        "nll": metrics.log_loss(y, p),
        "brier": sum(metrics.mean_squared_error(one_hot[:, k], p[:, k]) for k in np.unique(y)),
        "roc_auc": area,
    }
    got = score_predictions(y, p)
    assert set(got) == {*expected, "ece"}
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-9), f"{seed=} {name}"
        assert type(got[name]) is float, name


@pytest.mark.parametrize("seed", range(5))
def test_the_area_under_roc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    y, p = _random(seed, n=40, num_classes=3)
    p = np.round(p, 1)  # ties
    areas = []
    for label in range(3):
        positive, negative = p[y == label, label], p[y != label, label]
        test = stats.mannwhitneyu(positive, negative)
        areas.append(test.statistic / (len(positive) * len(negative)))
    assert score_predictions(y, p)["roc_auc"] == pytest.approx(np.mean(areas)), f"{seed=}"


@pytest.mark.parametrize("seed", range(5))
def test_classes_that_do_not_occur_are_left_out_of_averages_over_classes(seed: int) -> None:
    y, p = _random(seed, num_classes=3)
    # Two more classes: one that is predicted now and then, one that never is.
    wide = np.concatenate([p * 0.7, np.full((len(p), 1), 0.3), np.zeros((len(p), 1))], axis=1)
    predicted = wide.argmax(axis=1)
    assert (predicted == 3).any()
    got = score_predictions(y, wide)
    recalls = [metrics.recall_score(y == k, predicted == k) for k in range(3)]
    f1 = [metrics.f1_score(y == k, predicted == k, zero_division=0) for k in range(3)]
    areas = [metrics.roc_auc_score(y == k, wide[:, k]) for k in range(3)]
    assert got["balanced_accuracy"] == pytest.approx(np.mean(recalls)), f"{seed=}"
    assert got["macro_f1"] == pytest.approx(np.mean(f1)), f"{seed=}"
    share = np.bincount(y) / len(y)
    assert got["weighted_f1"] == pytest.approx(share @ f1), f"{seed=}"
    assert got["roc_auc"] == pytest.approx(np.mean(areas)), f"{seed=}"


def test_clips_of_one_class_cannot_be_ranked() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    got = score_predictions(np.array([0, 0]), p)
    assert got["roc_auc"] == 0.5
    assert got["accuracy"] == got["balanced_accuracy"] == 0.5
    assert got["nll"] == pytest.approx(-(np.log(0.9) + np.log(0.2)) / 2)


def test_one_clip_is_scored() -> None:
    got = score_predictions(np.array([1]), np.array([[0.25, 0.75]]))
    assert got == {
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "weighted_f1": 1.0,
        "macro_f1": 1.0,
        "nll": pytest.approx(-np.log(0.75)),
        "brier": pytest.approx(2 * 0.25**2),
        "ece": pytest.approx(0.25),
        "roc_auc": 0.5,
    }


def test_perfect_and_utterly_wrong_predictions_have_the_extreme_scores() -> None:
    y = np.array([0, 1, 2, 0, 1, 2])
    right = score_predictions(y, np.eye(3)[y])
    assert (right["accuracy"], right["macro_f1"], right["roc_auc"]) == (1, 1, 1)
    assert (right["nll"], right["brier"], right["ece"]) == (0, 0, 0)
    wrong = score_predictions(y, np.eye(3)[(y + 1) % 3])
    assert (wrong["accuracy"], wrong["macro_f1"], wrong["balanced_accuracy"]) == (0, 0, 0)
    assert wrong["brier"] == 2
    assert wrong["ece"] == pytest.approx(1)
    assert np.isfinite(wrong["nll"])
    assert wrong["nll"] > 80


def _plain_calibration_error(y: np.ndarray, p: np.ndarray, n_bins: int) -> float:
    ranked = sorted(range(len(y)), key=lambda i: p[i].max())
    n_bins = min(n_bins, len(y))
    sizes = [len(y) // n_bins + (b < len(y) % n_bins) for b in range(n_bins)]
    error, start = 0.0, 0
    for size in sizes:
        part = ranked[start : start + size]
        confidence = sum(float(p[i].max()) for i in part) / size
        accuracy = sum(int(p[i].argmax() == y[i]) for i in part) / size
        error += size / len(y) * abs(confidence - accuracy)
        start += size
    return error


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "n_bins"), [(80, 15), (75, 15), (15, 15), (7, 15), (40, 1)])
def test_calibration_error_equals_a_plain_loop_over_bins_of_equal_mass(
    seed: int, n: int, n_bins: int
) -> None:
    y, p = _random(seed, n=n)
    expected = _plain_calibration_error(y, p, n_bins)
    assert expected_calibration_error(y, p, n_bins) == pytest.approx(expected, abs=1e-6), (
        f"{seed=}"
    )
    if n_bins == 15:
        assert score_predictions(y, p)["ece"] == pytest.approx(expected, abs=1e-6), f"{seed=}"


def test_a_calibrated_model_has_a_small_calibration_error_and_a_boastful_one_a_large_one() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, size=4000)
    y = (rng.random(4000) > confidence).astype(int)  # right as often as it says
    honest = np.stack([confidence, 1 - confidence], axis=1)
    boastful = np.stack([np.full(4000, 0.999), np.full(4000, 0.001)], axis=1)
    assert expected_calibration_error(y, honest) < 0.03
    assert expected_calibration_error(y, boastful) == pytest.approx(0.25, abs=0.03)


def _plain_risks(is_wrong: np.ndarray, order: tuple[int, ...]) -> tuple[float, float]:
    """AURC and AUGRC of one order, coverage by coverage."""
    n = len(order)
    selective, generalized = [], []
    for kept in range(1, n + 1):
        n_wrong = sum(bool(is_wrong[i]) for i in order[:kept])
        selective.append(n_wrong / kept)
        generalized.append(n_wrong / n)
    return sum(selective) / n, sum(generalized) / n


@pytest.mark.parametrize("seed", range(5))
def test_risk_coverage_areas_equal_a_loop_over_coverages(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_correct = rng.random(50) < 0.7
    uncertainty = rng.permutation(50) / 50  # no ties
    aurc, augrc = _plain_risks(~is_correct, tuple(np.argsort(uncertainty)))
    got = score_uncertainty(is_correct, uncertainty)
    assert got["aurc"] == pytest.approx(aurc), f"{seed=}"
    assert got["augrc"] == pytest.approx(augrc), f"{seed=}"
    expected = metrics.roc_auc_score(~is_correct, uncertainty)
    assert got["error_auroc"] == pytest.approx(expected), f"{seed=}"


@pytest.mark.parametrize("seed", range(6))
def test_ties_get_the_mean_over_all_orders_in_which_they_could_stand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 7
    is_correct = rng.random(n) < 0.5
    uncertainty = rng.integers(3, size=n).astype(float)
    orders = [
        order
        for order in itertools.permutations(range(n))
        if all(uncertainty[a] <= uncertainty[b] for a, b in itertools.pairwise(order))
    ]
    assert len(orders) > 1, f"{seed=}"
    areas = np.mean([_plain_risks(~is_correct, order) for order in orders], axis=0)
    got = score_uncertainty(is_correct, uncertainty)
    assert got["aurc"] == pytest.approx(areas[0]), f"{seed=} {uncertainty} {is_correct}"
    assert got["augrc"] == pytest.approx(areas[1]), f"{seed=} {uncertainty} {is_correct}"


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_an_uncertainty_do_not_depend_on_the_order_of_clips(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_correct, uncertainty = rng.random(30) < 0.6, rng.integers(5, size=30) / 5
    order = rng.permutation(30)
    one = score_uncertainty(is_correct, uncertainty)
    assert score_uncertainty(is_correct[order], uncertainty[order]) == pytest.approx(one), seed


def test_an_uncertainty_that_knows_nothing_scores_chance_and_the_error_rate() -> None:
    is_correct = np.array([True, False, True, True])
    got = score_uncertainty(is_correct, np.zeros(4))
    assert got == pytest.approx({"error_auroc": 0.5, "aurc": 0.25, "augrc": 0.25 * 10 / 16})


@pytest.mark.parametrize(("is_right", "error_rate"), [(True, 0.0), (False, 1.0)])
def test_all_right_or_all_wrong_is_chance(is_right: bool, error_rate: float) -> None:
    got = score_uncertainty(np.full(5, is_right), np.arange(5.0))
    assert got == pytest.approx(
        {"error_auroc": 0.5, "aurc": error_rate, "augrc": error_rate * 15 / 25}
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_error_of_independent_clips_is_the_classical_one(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=37)
    expected = stats.sem(values)
    assert expected == pytest.approx(values.std(ddof=1) / np.sqrt(37))
    assert clustered_standard_error(values, None) == pytest.approx(expected), f"{seed=}"
    assert clustered_standard_error(values, np.arange(37)) == pytest.approx(expected), f"{seed=}"
    names = np.array([f"recording {i}" for i in range(37)])
    assert clustered_standard_error(values, names) == pytest.approx(expected), f"{seed=}"


@pytest.mark.parametrize("seed", range(4))
def test_the_error_of_recordings_is_that_of_a_bootstrap_over_recordings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_groups = 120
    sizes = rng.integers(1, 5, size=n_groups)
    group = np.repeat(np.arange(n_groups), sizes)
    is_correct = rng.random(n_groups)[group] < 0.5 + 0.4 * (rng.random(len(group)) - 0.5)
    totals = np.bincount(group, weights=is_correct)
    drawn = rng.integers(n_groups, size=(4000, n_groups))
    means = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    expected = means.std()
    got = clustered_standard_error(is_correct, group)
    assert got == pytest.approx(expected, rel=0.08), f"{seed=}"
    assert got > 1.2 * clustered_standard_error(is_correct, None), f"{seed=}"


def test_copies_of_every_clip_do_not_make_the_mean_more_certain() -> None:
    values = np.random.default_rng(1).random(25)
    alone = clustered_standard_error(values, np.arange(25))
    copied = clustered_standard_error(np.repeat(values, 4), np.repeat(np.arange(25), 4))
    assert copied == pytest.approx(alone)


def test_the_order_and_the_names_of_recordings_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    values, group = rng.random(30), rng.integers(8, size=30)
    order = rng.permutation(30)
    names = np.array([f"r{99 - g}" for g in group])
    one = clustered_standard_error(values, group)
    assert clustered_standard_error(values[order], names[order]) == pytest.approx(one)


def test_one_recording_alone_says_nothing_about_the_error() -> None:
    assert np.isnan(clustered_standard_error(np.array([1.0, 0.0]), np.array([3, 3])))
    assert np.isnan(clustered_standard_error(np.array([True]), None))


def test_equal_values_have_no_error() -> None:
    assert clustered_standard_error(np.ones(6, dtype=bool), np.arange(6) // 2) == 0
