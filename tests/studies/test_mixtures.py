"""Does a mixture pay: every number against a slower way to it, and the whole study once."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState, create_trial

from qwave.config import Budget, ConfigError, ModelConfig, RouterConfig
from qwave.data import EmbeddingSet
from qwave.engine.crossval import Predictions
from qwave.packing.model import layer_shapes
from qwave.report import SizedEstimate, estimates_png
from qwave.scores import (
    Difference,
    FrontPoint,
    Interval,
    bootstrap_difference,
    bootstrap_score_difference,
    cluster_weights,
)
from qwave.scores.pareto import hypervolume, non_dominated
from qwave.space import parse_config
from qwave.sweep import Plan, Repeat, load_study
from studies.equal_compute import (
    MAX_EXTENSION,
    Cost,
    cut,
    first_told,
    nearest_prefix,
    total,
    trial_costs,
    weights_per_clip,
)
from studies.fronts import Reference, Scored, hypervolume_difference
from studies.mixtures import MAX_MIXTURES, best_mixtures, main
from studies.mixtures_report import collapse_words, compute_note, significant_leads, verdict
from studies.routers import (
    RIVALS,
    Examined,
    best_single_hits,
    expert_probabilities,
    experts_in_use,
    random_hits,
    route_agreement,
    router_hits,
    top_experts,
)

SEEDS = range(25)


# --- compute ---


@pytest.mark.parametrize("hidden", [(), (5,), (7, 3)])
@pytest.mark.parametrize("router", [0, 4])
@pytest.mark.parametrize(("num_experts", "top_k"), [(1, 1), (3, 1), (3, 2), (3, 3)])
def test_weights_of_a_clip_are_those_of_the_packed_layers_that_it_meets(
    hidden: tuple[int, ...], router: int, num_experts: int, top_k: int
) -> None:
    model = ModelConfig(
        schemes=("int8",) * num_experts,
        hidden=hidden,
        top_k=top_k,
        router=RouterConfig(hidden=router),
    )
    met = [f"e{expert}" for expert in range(top_k)] + ["r"]
    expected = sum(
        shape.in_features * shape.out_features
        for shape in layer_shapes(model, 11, 6)
        if shape.name.split(".")[0] in met
    )
    assert weights_per_clip(model, 11, 6) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_prefix_is_the_shortest_of_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 6, size=rng.integers(1, 9)).tolist()
    target = int(rng.integers(0, sum(values) + 5))
    gaps = {k: abs(sum(values[:k]) - target) for k in range(1, len(values) + 1)}
    expected = min(gaps, key=lambda k: (gaps[k], k))
    assert nearest_prefix(values, target) == expected, (values, target)


def study_of(*trials: tuple[TrialState, dict[str, Any]], num_experts: int = 1) -> Any:
    """An Optuna study of finished trials: state, and user attributes besides the configuration."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for number, (state, attributes) in enumerate(trials):
        config = {"model": {"schemes": ["int8"] * num_experts, "hidden": []}}
        config["train"] = {"epochs": 2, "learning_rate": 0.001 * (number + 1)}  # type: ignore[dict-item]
        given = {"config": config, "digest": f"{number}", "mlflow_run_id": f"run{number}"}
        values = [0.5, 100.0] if state == TrialState.COMPLETE else None
        study.add_trial(
            create_trial(state=state, values=values, user_attrs={**given, **attributes})
        )
    return study


def scores(accuracy: float, size: int) -> dict[str, Any]:
    found = {"accuracy": accuracy, "accuracy_standard_error": 0.01, "size_bytes": float(size)}
    return {"scores": found, "seconds": 1.5}


def test_what_was_trained_has_a_cost_and_nothing_else_has(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0, num_features=12, num_classes=3)
    study = study_of(
        (TrialState.COMPLETE, scores(0.5, 100)),
        (TrialState.PRUNED, {"outcome": "over_budget"}),
        (TrialState.COMPLETE, {**scores(0.5, 100), "outcome": "duplicate", "duplicate_of": 0}),
        (TrialState.FAIL, {"outcome": "failed", "reason": "diverged"}),
        (TrialState.FAIL, {}),  # stopped, and queued again
        (TrialState.FAIL, {"outcome": "duplicate"}),
        (TrialState.COMPLETE, scores(0.6, 100)),
    )
    each = 40 * 2 * 12 * 3  # rows x epochs x weights
    assert trial_costs(study, data, 40) == [
        Cost(0, each, 1.5),
        Cost(3, each, 0.0),
        Cost(6, each, 1.5),
    ]


def test_the_trials_that_a_sweep_asks_for_end_where_it_counts_them() -> None:
    study = study_of(
        (TrialState.COMPLETE, {}),
        (TrialState.PRUNED, {"outcome": "over_budget"}),
        (TrialState.FAIL, {}),  # stopped, and queued again
        (TrialState.FAIL, {"outcome": "failed"}),
        (TrialState.COMPLETE, {"outcome": "duplicate"}),
        (TrialState.COMPLETE, {}),
    )
    assert [first_told(study, plan_for(n)) for n in (1, 2, 3, 4, 9)] == [0, 3, 4, 5, 5]
    assert first_told(study_of(), plan_for(3)) == -1
    costs = [Cost(0, 5, 0.0), Cost(3, 7, 0.0), Cost(5, 11, 0.0)]
    assert [total(costs, last) for last in (-1, 0, 2, 3, None)] == [0, 5, 5, 12, 23]


def plan_for(n_trials: int) -> Plan:
    """A plan of which only the number of trials matters."""
    sweep = SimpleNamespace(budget=Budget(n_trials=n_trials))
    return cast(Plan, SimpleNamespace(sweep=sweep))


def test_a_cut_search_has_a_front_of_its_own() -> None:
    found = [scores(a, s) for a, s in ((0.5, 100), (0.6, 200), (0.7, 300), (0.9, 50))]
    study = study_of(*((TrialState.COMPLETE, entry) for entry in found))
    costs = [Cost(number, 10, 2.0) for number in range(4)]
    search = cut(study, costs, 31)
    assert [point.number for point in search.front] == [0, 1, 2]
    assert (search.compute, search.seconds, search.n_left_out) == (30, 6.0, 1)
    whole = cut(study, costs, 40)
    assert [point.number for point in whole.front] == [3]
    assert whole.n_left_out == 0


def test_a_search_without_a_result_is_refused() -> None:
    study = study_of((TrialState.FAIL, {"outcome": "failed"}), (TrialState.COMPLETE, scores(1, 9)))
    costs = [Cost(0, 10, 0.0), Cost(1, 10, 1.0)]
    for few in (costs[:1], []):
        with pytest.raises(ConfigError, match="has no result within the compute of the other"):
            cut(study, few, 10)
    with pytest.raises(ConfigError, match=r"raise budget\.n_trials"):
        cut(study, costs, 9)
    assert len(cut(study, costs, 20).points) == 1


# --- hypervolumes ---


def random_models(rng: np.random.Generator, n: int) -> Scored:
    """Few models on few clips; equal sizes and sizes beyond the reference among them."""
    m = int(rng.integers(1, 6))
    sizes = rng.choice([10.0, 20.0, 50.0, 100.0, 1000.0, 2000.0], size=m)
    return Scored(rng.binomial(3, 0.6, size=(m, n)) / 3, sizes)


def plain_hypervolume(models: Scored, weights: np.ndarray, reference: Reference) -> float:
    """Of one resample [n]: clips repeated as often as they were drawn."""
    rows = np.repeat(np.arange(len(weights)), weights)
    return hypervolume(
        models.hits[:, rows].mean(axis=1),
        models.size_bytes,
        reference_accuracy=reference.accuracy,
        reference_bytes=reference.size_bytes,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_hypervolumes_of_resamples_are_those_of_repeated_clips(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    models, reference = random_models(rng, n), Reference(float(rng.choice([0.1, 0.6])), 1000.0)
    weights = rng.integers(0, 4, size=(7, n))
    weights[:, 0] += 1
    expected = [plain_hypervolume(models, row, reference) for row in weights]
    found = models.hypervolumes(weights, reference)
    assert found == pytest.approx(expected, abs=1e-12), (seed, models)
    assert models.hypervolume(reference) == pytest.approx(
        models.hypervolumes(np.ones((1, n), dtype=int), reference)[0], abs=1e-12
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_difference_reflects_the_resamples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, reference = 20, Reference(0.1, 5000.0)
    group = np.append([0, 1], rng.integers(0, 8, size=n - 2))
    first, second = random_models(rng, n), random_models(rng, n)
    found = hypervolume_difference(first, second, reference, group)
    (weights,) = cluster_weights(group, n, n_resamples=2000, seed=0)
    estimate = first.hypervolume(reference) - second.hypervolume(reference)
    reflected = sorted(
        2 * estimate
        - plain_hypervolume(first, row, reference)
        + plain_hypervolume(second, row, reference)
        for row in weights
    )
    assert found.estimate == pytest.approx(estimate, abs=1e-11), seed
    assert found.low == pytest.approx(reflected[49], abs=1e-11), seed
    assert found.high == pytest.approx(reflected[1950], abs=1e-11), seed
    assert (found.p_value <= 0.05) == (not found.low <= 0 <= found.high), (seed, found)


def test_equal_fronts_differ_by_nothing() -> None:
    models = random_models(np.random.default_rng(3), 15)
    found = hypervolume_difference(models, models, Reference(0.1, 5000.0), None)
    assert found == Difference(0.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_difference_of_means_is_one_of_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 18
    a, b = rng.binomial(3, [[0.8], [0.7]], size=(2, n)) / 3
    group = np.append([0, 1], rng.integers(0, 9, size=n - 2)) if seed % 2 else None
    expected = bootstrap_difference(a, b, group, seed=seed, n_resamples=199)
    found = bootstrap_score_difference(
        lambda weights: (weights @ (a - b)) / weights.sum(axis=1),
        group,
        n,
        seed=seed,
        n_resamples=199,
    )
    for name in ("estimate", "low", "high", "standard_error", "p_value"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-11), seed


def test_scores_that_are_not_finite_are_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="scores must be finite for every resample"):
            bootstrap_score_difference(partial(_bad_when_drawn_twice, bad), None, 9, seed=0)


def _bad_when_drawn_twice(bad: float, weights: np.ndarray) -> np.ndarray:
    return np.where(weights[:, 0] > 1, bad, 0.0)


# --- routers ---


def random_experts(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Logits [e, n, c], labels [n] and folds [n] of a few clips."""
    rng = np.random.default_rng(seed)
    e, n, c = int(rng.integers(2, 5)), int(rng.integers(6, 15)), int(rng.integers(2, 4))
    fold = np.append([0, 1, 2], rng.integers(0, 3, size=n - 3))
    y: np.ndarray = rng.integers(0, c, size=n)
    return rng.normal(size=(e, n, c)), y, fold, rng


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_routing_is_the_mean_over_all_choices_of_mixed_logits(seed: int) -> None:
    logits, y, _, _ = random_experts(seed)
    e, n, _ = logits.shape
    for top_k in range(1, e + 1):
        found = random_hits(softmax(logits), y, top_k)
        for clip in range(n):
            hits = [
                sum(logits[expert, clip] for expert in chosen).argmax() == y[clip]
                for chosen in itertools.combinations(range(e), top_k)
            ]
            assert found[clip] == pytest.approx(sum(hits) / len(hits)), (seed, top_k, clip)


def test_random_routing_survives_probabilities_of_zero() -> None:
    probabilities = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=np.float32)
    assert random_hits(probabilities, np.array([1]), 1).tolist() == [0.5]
    assert random_hits(probabilities, np.array([0]), 2).tolist() == [1.0]  # a tie: the first class


@pytest.mark.parametrize("seed", SEEDS)
def test_routers_send_clips_where_they_say(seed: int) -> None:
    logits, y, fold, rng = random_experts(seed)
    e, n, c = logits.shape
    sizes = rng.choice([5, 7, 9], size=e).tolist()
    predicted = rng.permutation(y)
    found = router_hits(softmax(logits), predicted, y, fold, 1, sizes)
    cheapest = min(range(e), key=lambda expert: (sizes[expert], expert))
    costliest = max(range(e), key=lambda expert: (sizes[expert], expert))
    for clip in range(n):
        right = [bool(logits[expert, clip].argmax() == y[clip]) for expert in range(e)]
        place = (seed, clip)
        assert found["learned"][clip] == (predicted[clip] == y[clip]), place
        assert found["oracle"][clip] == any(right), place
        assert found["random"][clip] == pytest.approx(sum(right) / e), place
        assert found["cheapest"][clip] == right[cheapest], place
        assert found["costliest"][clip] == right[costliest], place


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_single_expert_is_chosen_on_the_other_folds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    e, n = int(rng.integers(2, 5)), 12
    is_right = rng.random((e, n)) < 0.6
    fold = rng.permutation(np.repeat([0, 1, 2], 4))
    found = best_single_hits(is_right, fold)
    for clip in range(n):
        others = [row for row in range(n) if fold[row] != fold[clip]]
        won = [int(sum(is_right[expert, others])) for expert in range(e)]
        assert found[clip] == is_right[won.index(max(won)), clip], (seed, clip)


def pair_count_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """The adjusted Rand index, from all pairs of clips."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    in_first = sum(first[i] == first[j] for i, j in pairs)
    in_second = sum(second[i] == second[j] for i, j in pairs)
    both = sum(first[i] == first[j] and second[i] == second[j] for i, j in pairs)
    chance = in_first * in_second / len(pairs)
    most = (in_first + in_second) / 2
    return 1.0 if most == chance else float((both - chance) / (most - chance))


@pytest.mark.parametrize("seed", SEEDS)
def test_agreement_is_the_mean_over_folds_and_pairs_of_seeds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.repeat([0, 1, 2], 6))
    routes = [rng.integers(0, int(rng.integers(1, 4)), size=18) for _ in range(3)]
    pairs = [
        (routes[a][fold == index], routes[b][fold == index])
        for a, b in ((0, 1), (0, 2), (1, 2))
        for index in range(3)
    ]
    expected = [
        pair_count_agreement(*pair) for pair in pairs if len(set(pair[0])) + len(set(pair[1])) > 2
    ]
    found = route_agreement(routes, fold)
    assert found == pytest.approx(np.mean(expected)), (seed, routes)


def test_agreement_knows_no_names_of_experts() -> None:
    fold = np.repeat([0, 1], 4)
    route = np.array([0, 0, 1, 2, 0, 1, 1, 2])
    renamed = np.where(fold == 0, np.array([2, 0, 1])[route], np.array([1, 2, 0])[route])
    assert route_agreement([route, renamed], fold) == 1
    assert route_agreement([route, route[::-1].copy()], fold) < 1
    assert math.isnan(route_agreement([route], fold))


def test_routers_that_send_all_clips_to_one_expert_agree_about_nothing() -> None:
    fold, nowhere = np.repeat([0, 1], 4), np.zeros(8, dtype=int)
    assert math.isnan(route_agreement([nowhere, nowhere + 1], fold))
    route = np.array([0, 1, 0, 1, 0, 0, 0, 0])
    assert route_agreement([route, nowhere], fold) == 0
    assert route_agreement([route, route], fold) == 1


def test_experts_in_use_counts_them_when_they_share_evenly() -> None:
    fold = np.repeat([0, 1], 4)
    assert experts_in_use(np.zeros(8, dtype=int), fold, 3) == 1
    assert experts_in_use(np.array([0, 1, 0, 1, 1, 2, 2, 1]), fold, 3) == pytest.approx(2)
    # One fold uses all four experts, the other a single one.
    assert experts_in_use(np.array([0, 1, 2, 3, 3, 3, 3, 3]), fold, 4) == pytest.approx(2.5)
    uneven = experts_in_use(np.array([0, 0, 0, 1]), np.zeros(4, dtype=int), 2)
    assert uneven == pytest.approx(4 / 27**0.25)  # exp of -(3/4 log 3/4 + 1/4 log 1/4)


def test_the_top_expert_has_the_largest_gate() -> None:
    gates = np.array([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    assert top_experts(gates).tolist() == [1, 2, 0]


def test_experts_are_asked_by_the_model_that_did_not_see_the_clip() -> None:
    class FoldModel:
        """Says its number and the clip's."""

        def __init__(self, number: int) -> None:
            self.number = number

        def expert_probabilities(self, x: np.ndarray) -> np.ndarray:
            return np.array([[[self.number, clip, e] for (clip,) in x] for e in range(2)])

    fold = np.array([1, 0, 2, 1, 0])
    blank = np.zeros((5, 3), dtype=np.float32)
    repeat = SimpleNamespace(
        config=parse_config({"model": {"schemes": ["int1", "int4"]}}),
        predictions=Predictions(blank, fold, fold, fold, fold, fold),
        models=lambda: [FoldModel(number) for number in range(3)],
    )
    found = expert_probabilities(cast(Repeat, repeat), np.arange(5.0)[:, None])
    for expert, clip in itertools.product(range(2), range(5)):
        assert found[expert, clip].tolist() == [fold[clip], clip, expert]


# --- choice and words ---


@pytest.mark.parametrize("seed", SEEDS)
def test_mixtures_on_the_front_come_first_then_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 20))
    accuracy, size = rng.integers(1, 9, size=n) / 10, rng.integers(1, 9, size=n)
    is_front = non_dominated(accuracy, size)
    points = [
        FrontPoint(i, float(accuracy[i]), 0.0, int(size[i]), bool(is_front[i]),
                   int(rng.integers(1, 4)), "", {}, str(i), "")
        for i in range(n)
    ]  # fmt: skip
    found = best_mixtures(points)
    mixtures = [point for point in points if point.num_experts > 1]
    assert len(found) == min(MAX_MIXTURES, len(mixtures))
    assert [p.size_bytes for p in found] == sorted(p.size_bytes for p in found)

    def rank(point: FrontPoint) -> tuple[bool, float]:
        best = max(p.accuracy for p in points if p.size_bytes <= point.size_bytes)
        return not point.is_front, best - point.accuracy

    left_out = [rank(point) for point in mixtures if point not in found]
    assert all(rank(point) <= other for point in found for other in left_out), (seed, points)


def examined_with(*leads: tuple[float, float]) -> Examined:
    """A mixture of which only the leads (estimate, p-value) matter."""
    point = FrontPoint(0, 0.5, 0.0, 100, True, 2, "a", {}, "a", "")
    found = {
        name: Difference(estimate, estimate - 1, estimate + 1, 1.0, p)
        for name, (estimate, p) in zip(RIVALS, leads, strict=True)
    }
    return Examined(point, {}, found, (), 0.5, 1.5, 0.4, 0.1)


def test_leads_are_sure_only_together() -> None:
    # Six tests: Holm asks for 0.05 / 6 of the smallest, 0.05 / 5 of the next.
    first = examined_with((0.2, 0.008), (-0.2, 0.009), (0.1, 0.02))
    second = examined_with((0.1, 0.5), (0.1, 0.04), (0.1, 1.0))
    assert significant_leads([first, second]) == [{"random": "+", "cheapest": "-"}, {}]
    assert significant_leads([second]) == [{}]


@pytest.mark.parametrize(
    ("low", "estimate", "high", "words"),
    [
        (-0.1, 0.1, 0.3, "0 is inside"),
        (0.0, 0.1, 0.3, "0 is inside"),
        (0.1, 0.2, 0.3, "mixtures pay"),
        (-0.3, -0.2, -0.1, "mixtures cost more"),
    ],
)
def test_the_verdict_says_where_0_is(low: float, estimate: float, high: float, words: str) -> None:
    assert words in verdict(Difference(estimate, low, high, 0.1, 0.5))


def test_collapsed_routers_are_counted() -> None:
    used = examined_with((0.1, 0.5), (0.1, 0.5), (0.1, 0.5))  # 1.5 experts in use
    collapsed = [dataclasses.replace(used, in_use=in_use) for in_use in (1.0, 1.04)]
    assert "2 of 3 mixtures have collapsed" in collapse_words([used, *collapsed])


def test_unequal_compute_is_confessed() -> None:
    assert compute_note(1.01) == compute_note(0.99) == ""
    assert "with mixtures had more" in compute_note(1.2)
    assert "of one expert had more" in compute_note(0.8)


def test_series_are_joined_by_steps_where_they_are_named() -> None:
    series = {
        name: [SizedEstimate(size, Interval(*[0.01 * size + shift] * 3)) for size in (10, 50)]
        for name, shift in (("one", 0.0), ("two", 0.2))
    }
    drawn = {
        names: estimates_png(series, title="steps", is_staircase=names)
        for names in (True, False, (), ("one",), ("one", "two"))
    }
    assert drawn[("one", "two")] == drawn[True]
    assert drawn[()] == drawn[False]
    assert len({drawn[True], drawn[False], drawn[("one",)]}) == 3


# --- the study ---

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
    said = capsys.readouterr().out
    folder = store / "reports" / "pays_smoke"
    names = ["hypervolumes.csv", "fronts.csv", "fronts.png", "routers.csv", "routers.png"]
    names += ["routes.csv", "experts.csv", "report.html"]
    assert {entry.name for entry in folder.iterdir()} == set(names)
    assert all(name in said for name in names)
    assert "Does a mixture pay?" in said

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

    routers, experts = read_csv(folder / "routers.csv"), read_csv(folder / "experts.csv")
    assert 1 <= len(routers) <= MAX_MIXTURES
    for row in routers:
        own = [expert for expert in experts if expert["digest"] == row["digest"]]
        assert len(own) >= 2
        assert sum(number_of(expert, "load") for expert in own) == pytest.approx(1, abs=1e-5)
        alone = [number_of(expert, "alone") for expert in own]
        assert number_of(row, "random") == pytest.approx(np.mean(alone), abs=1e-5)
        assert number_of(row, "oracle") >= max(alone)
        assert number_of(row, "oracle") >= number_of(row, "learned")  # top-1
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
    default = Path(__file__).resolve().parents[1] / "sweeps" / "mixtures.yaml"
    files = [] if any(a.endswith(".yaml") for a in arguments) else [str(default)]
    assert main([*files, *arguments, "--store", str(store)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not store.exists()
