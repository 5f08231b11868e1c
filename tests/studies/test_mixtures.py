"""The arithmetic of `studies.mixtures`, against plain loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from qwave.config import Budget, ConfigError, ModelConfig, RouterConfig
from qwave.data import EmbeddingSet
from qwave.engine.crossval import Predictions
from qwave.packing.model import layer_shapes
from qwave.scores import (
    Difference,
    FrontPoint,
    bootstrap_difference,
    bootstrap_score_difference,
    cluster_weights,
)
from qwave.scores.pareto import hypervolume, non_dominated
from qwave.space import parse_config
from qwave.sweep import Plan, Repeat
from studies.mixtures.equal_compute import (
    Cost,
    cut,
    first_told,
    nearest_prefix,
    total,
    trial_costs,
    weights_per_clip,
)
from studies.mixtures.fronts import Models, Reference, hypervolume_difference
from studies.mixtures.report import compute_note, significant_leads, verdict
from studies.mixtures.routers import (
    RIVALS,
    Examined,
    best_single_hits,
    expert_probabilities,
    experts_in_use,
    random_hits,
    router_hits,
)
from studies.mixtures.study import MAX_MIXTURES, best_mixtures

SEEDS = range(10)


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


def random_models(rng: np.random.Generator, n: int) -> Models:
    """Few models on few clips; equal sizes and sizes beyond the reference among them."""
    m = int(rng.integers(1, 6))
    sizes = rng.choice([10.0, 20.0, 50.0, 100.0, 1000.0, 2000.0], size=m)
    return Models(rng.binomial(3, 0.6, size=(m, n)) / 3, sizes)


def plain_hypervolume(models: Models, weights: np.ndarray, reference: Reference) -> float:
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


def test_experts_in_use_counts_them_when_they_share_evenly() -> None:
    fold = np.repeat([0, 1], 4)
    assert experts_in_use(np.zeros(8, dtype=int), fold, 3) == 1
    assert experts_in_use(np.array([0, 1, 0, 1, 1, 2, 2, 1]), fold, 3) == pytest.approx(2)
    # One fold uses all four experts, the other a single one.
    assert experts_in_use(np.array([0, 1, 2, 3, 3, 3, 3, 3]), fold, 4) == pytest.approx(2.5)
    uneven = experts_in_use(np.array([0, 0, 0, 1]), np.zeros(4, dtype=int), 2)
    assert uneven == pytest.approx(4 / 27**0.25)  # exp of -(3/4 log 3/4 + 1/4 log 1/4)


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
    return Examined(point, {}, found, 1.5, 0.4, 0.1)


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


def test_unequal_compute_is_confessed() -> None:
    assert compute_note(1.01) == compute_note(0.99) == ""
    assert "with mixtures had more" in compute_note(1.2)
    assert "of one expert had more" in compute_note(0.8)
