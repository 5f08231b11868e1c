"""What fresh seeds say of a front: against plain loops, and by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from qwave.config import DataConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.scores import (
    FrontPoint,
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    cluster_weights,
)
from qwave.scores.pareto import hypervolume
from qwave.sweep import Repeat
from qwave.sweep.confirm import (
    Confirmed,
    FreshScore,
    better_than_smaller,
    optimism,
    score_points,
    with_holdout,
)
from studies.confirm.report import confirmed_table, front_section
from tests.studies.front_points import dominates, front_points

MakeSet = Callable[..., EmbeddingSet]
REFERENCE = {"reference_accuracy": 0.1, "reference_bytes": 4_000_000}


def _repeats(
    points: Sequence[FrontPoint], predicted: Mapping[str, np.ndarray]
) -> dict[str, list[Repeat]]:
    return {
        point.digest: [
            cast(Repeat, SimpleNamespace(predictions=SimpleNamespace(predicted=row)))
            for row in predicted[point.digest]
        ]
        for point in points
    }


def _world(
    make_set: MakeSet, seed: int, n_seeds: int
) -> tuple[list[FrontPoint], dict[str, np.ndarray], EmbeddingSet]:
    """Some points, and what the models of each seed predict of 60 clips of 25 recordings."""
    rng = np.random.default_rng(seed)
    group = np.append(np.arange(25), rng.integers(25, size=35))
    y = rng.integers(3, size=60)
    data = make_set(np.zeros((60, 2)), np.append([0, 1, 2], y[3:]), group=group)
    points = front_points(
        [
            (float(a), int(s) * 100)
            for a, s in zip(rng.random(5), rng.integers(1, 5, 5), strict=True)
        ],
        [0.1] * 5,
    )
    predicted = {}
    for point, skill in zip(points, rng.uniform(0.3, 1.0, size=5), strict=True):
        is_right = rng.random((n_seeds, 60)) < skill
        predicted[point.digest] = np.where(is_right, data.y, (data.y + 1) % 3)
    return points, predicted, data


def _plainly_better(hits: np.ndarray, sizes: Sequence[int], group: np.ndarray) -> list[bool]:
    """One test a model against the best that is not larger; Holm's steps, one by one."""
    p_values: dict[int, float] = {}
    for i in range(len(sizes)):
        best = None
        for j in range(len(sizes)):
            if (
                j != i
                and sizes[j] <= sizes[i]
                and (best is None or hits[j].mean() > hits[best].mean())
            ):
                best = j
        if best is not None:
            test = bootstrap_difference(hits[i], hits[best], group, seed=0)
            p_values[i] = test.p_value if test.estimate > 0 else 1.0
    is_better = [i not in p_values for i in range(len(sizes))]
    left = dict(p_values)
    while left:
        i = min(left, key=lambda place: left[place])
        if left[i] * len(left) > 0.05:
            break
        is_better[i] = True
        del left[i]
    return is_better


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_confirmation_is_that_of_plain_loops(make_set: MakeSet, seed: int, n_seeds: int) -> None:
    points, predicted, data = _world(make_set, seed, n_seeds)
    assert data.group is not None
    got = score_points(points, _repeats(points, predicted), data)
    sizes = [point.size_bytes for point in points]
    hits = np.array([(predicted[point.digest] == data.y).mean(axis=0) for point in points])
    means = [round(float(row.mean()), 12) for row in hits]
    pairs = list(zip(means, sizes, strict=True))
    weights = np.concatenate(list(cluster_weights(data.group, 60, n_resamples=2000, seed=0)))
    resampled = np.round(weights @ hits.T / weights.sum(axis=1, keepdims=True), 12)
    is_better = _plainly_better(hits, sizes, data.group)
    for place, (point, entry) in enumerate(zip(points, got, strict=True)):
        hint = f"{seed=} {place=}"
        assert entry.point is point, hint
        assert entry.score.hits.tolist() == hits[place].tolist(), hint
        interval = bootstrap_mean(hits[place], data.group, seed=0)
        assert entry.score.accuracy == interval, hint
        assert entry.score.accuracy.estimate == pytest.approx(means[place]), hint
        of_seeds = [(row == data.y).mean() for row in predicted[point.digest]]
        if n_seeds == 1:
            assert entry.score.seed_deviation is None, hint
        else:
            assert entry.score.seed_deviation == pytest.approx(np.std(of_seeds, ddof=1)), hint
        assert entry.score.is_front == (not any(dominates(o, pairs[place]) for o in pairs)), hint
        on_front = [
            not any(dominates((row[o], sizes[o]), (row[place], sizes[place])) for o in range(5))
            for row in resampled[::20]
        ]
        assert entry.probability == pytest.approx(np.mean(on_front), abs=0.15), hint
        assert entry.is_possibly_dominated == (not is_better[place]), hint
        assert entry.holdout is None, hint


def test_the_smallest_has_nothing_to_beat_and_a_copy_beats_nothing() -> None:
    rng = np.random.default_rng(3)
    good, bad = (rng.random(200) < 0.9).astype(float), (rng.random(200) < 0.4).astype(float)
    sizes = np.array([300, 100, 200, 400, 500])
    hits = np.array([good, bad, bad, good, 1 - good])
    assert better_than_smaller(hits, sizes, None) == [True, True, False, False, False]
    # Of two smallest, each has the other to beat.
    assert better_than_smaller(hits[[0, 1]], np.array([7, 7]), None) == [True, False]
    assert better_than_smaller(hits[:1], np.array([7]), None) == [True]


def test_a_lead_that_many_tests_could_give_by_chance_is_not_shown() -> None:
    """Ten models in a row of sizes, each a copy of the smallest with a few more hits."""
    base = np.zeros(100)
    base[:50] = 1
    lead = base.copy()
    lead[50:57] = 1
    p_value = bootstrap_difference(lead, base, None, seed=0).p_value
    assert 0.005 < p_value < 0.05
    assert better_than_smaller(np.array([base, lead]), np.array([1, 2]), None) == [True, True]
    hits = np.array([base, lead, *[base] * 9])
    sizes = np.arange(11)
    assert better_than_smaller(hits, sizes, None) == [True, *[False] * 10]


def _confirmed(
    points: Sequence[FrontPoint], values: Sequence[float], is_front: Sequence[bool]
) -> list[Confirmed]:
    return [
        Confirmed(
            point,
            FreshScore(np.array([value]), Interval(value, value - 0.05, value + 0.05), 0.01, kept),
            0.5,
            not kept,
        )
        for point, value, kept in zip(points, values, is_front, strict=True)
    ]


def test_optimism_is_how_much_lower_the_front_of_the_search_lies() -> None:
    searched = [(0.6, 100), (0.8, 1000), (0.7, 1000), (0.8, 1000), (0.9, 10_000)]
    points = front_points(searched, [0.1] * 5)
    assert [point.is_front for point in points] == [True, True, False, True, True]
    values = [0.5, 0.75, 0.85, 0.8, 0.7]
    confirmed = _confirmed(points, values, [True, False, True, False, False])
    found = optimism(confirmed, REFERENCE)
    assert found == {
        "optimism": pytest.approx((0.1 + 0.05 + 0.0 + 0.2) / 4),
        "largest_optimism": pytest.approx(0.2),
        # From 100 bytes on 0.6, from 1 kB on 0.8, from 10 kB to 4 MB on 0.9; chance is 0.1.
        "hypervolume_searched": pytest.approx(0.5 + 0.7 + 0.8 * np.log10(400)),
        "hypervolume_confirmed": pytest.approx(0.4 + 0.75 * (1 + np.log10(400))),
        "front_size_searched": 3,  # two of the four are equal
        "front_size_confirmed": 2,
    }
    assert found["hypervolume_confirmed"] == pytest.approx(
        hypervolume(values, [point.size_bytes for point in points], **REFERENCE)
    )


def test_a_report_says_the_optimism_and_how_many_may_be_dominated() -> None:
    points = front_points([(0.6, 100), (0.8, 1000), (0.7, 1000)], [0.1] * 3)
    confirmed = _confirmed(points, [0.5, 0.85, 0.7], [True, True, False])
    section = front_section(confirmed, optimism(confirmed, REFERENCE), "moe", 3)
    assert section.name == "front"
    assert section.text.startswith(
        "The search saw its front +2.50 points above what fresh seeds give on average, +10.00 at "
        "most. Its front of 2 has a hypervolume of "
    )
    assert "the confirmed front of 2, of " in section.text
    assert "0 of the confirmed front may be no better" in section.text
    assert "mean of 3 seeds" in section.text
    assert section.table == confirmed_table(confirmed)
    assert section.picture is not None
    assert section.picture.startswith(b"\x89PNG")


def test_a_table_has_a_row_a_point_and_the_held_out_fold_where_there_is_one() -> None:
    points = front_points([(0.6, 100), (0.8, 1000)], [0.1] * 2)
    plain, other = _confirmed(points, [0.5, 0.85], [True, False])
    lines = confirmed_table([plain, other]).csv().splitlines()
    assert lines[0] == (
        "size,searched,confirmed,confirmed_low,confirmed_high,seed_deviation,on_front,front,"
        "possibly_dominated,model,digest"
    )
    assert lines[1] == "100,0.6,0.5,0.45,0.55,0.01,0.5,True,False,model 0,digest00"
    scored = [dataclasses.replace(plain, holdout=Interval(0.4, 0.3, 0.6)), other]
    lines = confirmed_table(scored).csv().splitlines()
    assert "held-out_fold,held-out_fold_low,held-out_fold_high,model" in lines[0]
    assert ",0.4,0.3,0.6,model 0," in lines[1]
    assert ",,,,model 1," in lines[2]
    one_seed = [
        dataclasses.replace(plain, score=dataclasses.replace(plain.score, seed_deviation=None))
    ]
    assert ",0.55,,0.5," in confirmed_table(one_seed).csv().splitlines()[1]


@pytest.mark.parametrize("has_groups", [True, False])
def test_only_the_confirmed_front_is_scored_on_the_held_out_fold(
    gaussians: MakeSet, monkeypatch: pytest.MonkeyPatch, has_groups: bool
) -> None:
    full = gaussians(4)
    if not has_groups:
        full = EmbeddingSet(**{**vars(full), "group": None})
    assert full.fold is not None
    rows = np.flatnonzero(full.fold == 1)
    points = front_points([(0.6, 100), (0.8, 1000), (0.7, 2000)], [0.1] * 3)
    confirmed = _confirmed(points, [0.5, 0.6, 0.7], [True, False, True])
    configs = {p.digest: TrialConfig(data=DataConfig(n_folds=p.number + 2)) for p in points}
    rng = np.random.default_rng(4)
    answers: dict[tuple[int | None, int], np.ndarray] = {
        (n, s): rng.integers(3, size=len(rows)) for n in (2, 3, 4) for s in (5, 6)
    }
    asked: list[tuple[int | None, int]] = []

    def predict(configs: Sequence[TrialConfig], data: EmbeddingSet, **_: Any) -> Any:
        assert data is full
        asked.extend((config.data.n_folds, config.seed) for config in configs)
        return rows, np.array([answers[key] for key in asked])

    monkeypatch.setattr("qwave.sweep.confirm.predict_holdout", predict)
    got = with_holdout(confirmed, configs, (5, 6), full, "cpu")
    assert asked == [(2, 5), (2, 6), (4, 5), (4, 6)]
    assert got[1] is not None
    assert got[1].holdout is None
    for place, n_folds in ((0, 2), (2, 4)):
        hits = np.array([answers[n_folds, seed] == full.y[rows] for seed in (5, 6)]).mean(axis=0)
        group = None if full.group is None else full.group[rows]
        expected = bootstrap_mean(hits, group, seed=0)
        assert got[place].holdout == expected
        assert got[place].point is confirmed[place].point
