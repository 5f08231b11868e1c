"""Weighted scores of uncertainties against scikit-learn, repeated rows and plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics

from qwave.scores import bootstrap_score, cluster_weights
from qwave.scores.evaluate import score_uncertainty
from qwave.scores.uncertainty import (
    WeightedScore,
    augrc,
    aurc,
    escalation,
    mutual_information,
    roc_auc,
)

NAMES: dict[str, Callable[[np.ndarray, np.ndarray], WeightedScore]] = {
    "error_auroc": roc_auc,
    "aurc": aurc,
    "augrc": augrc,
}


def _clips(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wrong predictions, uncertainties full of ties that know a little, and weights."""
    rng = np.random.default_rng(seed)
    is_wrong = rng.random(n) < 0.3
    uncertainty = np.round(rng.random(n) + 0.3 * is_wrong, 1)
    weights = rng.integers(0, 4, size=(6, n))
    weights[:, 0] += 1  # no row is empty
    return is_wrong, uncertainty, weights


# --- weighted scores ---


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_a_weight_is_the_clip_as_often(seed: int, name: str) -> None:
    is_wrong, uncertainty, weights = _clips(seed)
    got = NAMES[name](is_wrong, uncertainty)(weights)
    expected = [
        score_uncertainty(~np.repeat(is_wrong, row), np.repeat(uncertainty, row))[name]
        for row in weights
    ]
    assert got == pytest.approx(expected, abs=1e-12), f"{seed=}"


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_scikit_learns_with_weights(seed: int) -> None:
    is_wrong, uncertainty, weights = _clips(seed)
    expected = [metrics.roc_auc_score(is_wrong, uncertainty, sample_weight=row) for row in weights]
    assert roc_auc(is_wrong, uncertainty)(weights) == pytest.approx(expected), f"{seed=}"


@pytest.mark.parametrize("seed", range(5))
def test_of_several_uncertainties_the_area_is_the_mean(seed: int) -> None:
    is_wrong, uncertainty, weights = _clips(seed)
    other = np.round(np.random.default_rng([seed, 1]).random(len(uncertainty)), 1)
    both = roc_auc(is_wrong, np.stack([uncertainty, other]))(weights)
    each = [roc_auc(is_wrong, part)(weights) for part in (uncertainty, other)]
    assert both == pytest.approx(np.mean(each, axis=0)), f"{seed=}"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("score", [aurc, augrc])
def test_ties_come_to_the_mean_over_all_orders(
    seed: int, score: Callable[[np.ndarray, np.ndarray], WeightedScore]
) -> None:
    """Five clips; what is tied is kept in every possible order."""
    rng = np.random.default_rng(seed)
    is_wrong = rng.random(5) < 0.5
    uncertainty = rng.integers(0, 3, size=5)
    orders = [
        order
        for order in itertools.permutations(range(5))
        if all(uncertainty[a] <= uncertainty[b] for a, b in itertools.pairwise(order))
    ]
    total = 0.0
    for order in orders:
        wrong = 0
        for kept, clip in enumerate(order, 1):
            wrong += bool(is_wrong[clip])
            total += wrong / (kept if score is aurc else 5) / 5
    got = score(is_wrong, uncertainty)(np.ones((1, 5), dtype=np.int64))
    assert got == pytest.approx([total / len(orders)]), f"{seed=} {is_wrong} {uncertainty}"


@pytest.mark.parametrize(("is_wrong", "error_rate"), [(False, 0.0), (True, 1.0)])
def test_where_all_are_right_or_all_wrong_no_order_matters(
    is_wrong: bool, error_rate: float
) -> None:
    wrong = np.full(4, is_wrong)
    weights = np.array([[1, 1, 1, 1], [3, 0, 0, 1]])
    uncertainty = np.array([0.1, 0.4, 0.4, 0.9])
    assert roc_auc(wrong, uncertainty)(weights).tolist() == [0.5, 0.5]
    assert aurc(wrong, uncertainty)(weights) == pytest.approx([error_rate] * 2)
    # Kept and wrong after k of n: k / n.
    assert augrc(wrong, uncertainty)(weights) == pytest.approx([error_rate * 5 / 8] * 2)


def test_a_resample_without_errors_has_an_area_of_a_half() -> None:
    area = roc_auc(np.array([True, False, False]), np.array([0.9, 0.1, 0.2]))
    assert area(np.array([[1, 1, 1], [0, 2, 1], [2, 0, 0]])).tolist() == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("name", NAMES)
def test_a_bootstrap_asks_for_all_resamples_at_once(name: str) -> None:
    is_wrong, uncertainty, _ = _clips(3, n=40)
    group = np.arange(40) // 2
    found = bootstrap_score(NAMES[name](is_wrong, uncertainty), group, 40, n_resamples=99, seed=5)
    drawn = np.concatenate(list(cluster_weights(group, 40, n_resamples=99, seed=5)))
    each = [
        score_uncertainty(~np.repeat(is_wrong, row), np.repeat(uncertainty, row))[name]
        for row in drawn
    ]
    assert found.estimate == pytest.approx(score_uncertainty(~is_wrong, uncertainty)[name])
    assert found.standard_error == pytest.approx(np.std(each, ddof=1))
    assert min(each) <= found.low <= found.estimate <= found.high <= max(each)


# --- an ensemble's disagreement ---


@pytest.mark.parametrize("seed", range(5))
def test_mutual_information_equals_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(4, 0.5), size=(3, 7))
    p[0, 0] = [1, 0, 0, 0]

    def entropy(q: np.ndarray) -> float:
        return -sum(float(value) * math.log(value) for value in q if value > 0)

    expected = [
        entropy(p[:, clip].mean(axis=0)) - np.mean([entropy(p[m, clip]) for m in range(3)])
        for clip in range(7)
    ]
    assert mutual_information(p) == pytest.approx(expected, abs=1e-12), f"{seed=}"


def test_members_that_agree_have_none_and_members_sure_of_different_classes_have_all() -> None:
    agree = np.full((4, 1, 3), 1 / 3)
    differ = np.eye(3)[:, None, :]
    assert mutual_information(agree).tolist() == [0.0]
    assert mutual_information(differ) == pytest.approx([math.log(3)])
    assert mutual_information(differ[:1]).tolist() == [0.0]  # one member has nobody to differ from


# --- escalation ---


@pytest.mark.parametrize("seed", range(5))
def test_escalation_is_the_mean_over_all_ways_to_break_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    uncertainty = rng.integers(0, 3, size=5)
    orders = [
        order
        for order in itertools.permutations(range(5))
        if all(uncertainty[a] >= uncertainty[b] for a, b in itertools.pairwise(order))
    ]
    for n_chosen in range(6):
        expected = np.zeros(5)
        for order in orders:
            expected[list(order[:n_chosen])] += 1 / len(orders)
        got = escalation(uncertainty, n_chosen / 5)
        assert got == pytest.approx(expected), f"{seed=} {uncertainty} {n_chosen}"


@pytest.mark.parametrize("seed", range(3))
def test_the_expected_number_is_the_share_even_between_clips(seed: int) -> None:
    rng = np.random.default_rng(seed)
    uncertainty = np.round(rng.random(13), 1)
    shares = rng.random(20)
    chance = escalation(uncertainty, shares)
    assert chance.shape == (20, 13)
    assert chance.sum(axis=1) == pytest.approx(13 * shares), f"{seed=}"
    assert ((chance >= 0) & (chance <= 1)).all()
    # Whoever is more uncertain is as likely at least.
    order = np.argsort(uncertainty)
    assert (np.diff(chance[:, order], axis=1) >= -1e-12).all()


def test_equal_uncertainties_are_a_choice_at_random() -> None:
    assert escalation(np.zeros(4), 0.3) == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), [0.5, 2.0]])
def test_a_share_beyond_all_is_refused(share: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"`0 <= share <= 1` must hold, but got"):
        escalation(np.zeros(3), share)
