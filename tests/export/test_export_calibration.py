"""Temperatures and thresholds: against scipy, closed forms and loops; folded into every scheme."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import optimize, special

from qwave.config import SCHEMES, ModelConfig, RouterConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.exporting.calibration import (
    CALIBRATED_TOLERANCE,
    Calibration,
    apply_calibration,
    cross_fit,
    fit_calibration,
    fit_sure_probability,
    fit_temperature,
    foldable_temperature,
    tempered,
)
from qwave.exporting.verify import require_agreement
from qwave.packing import PackedModel, from_bytes, to_bytes
from qwave.runtime import PackedClassifier

from ..packing.models import make_data, make_model, small_model, with_layer
from .examples import CURIOUS, LINEAR, config_of


def drawn(seed: int, n: int = 60, c: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, c], too sure or too timid, and labels that they know something about."""
    rng = np.random.default_rng([8, seed])
    logits = rng.normal(size=(n, c)) * rng.uniform(0.5, 3)
    y = np.array([rng.choice(c, p=p) for p in special.softmax(logits, axis=1)])
    return special.softmax(logits * rng.uniform(0.3, 3), axis=1), y


def loss(probabilities: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """What `fit_temperature` is least of: one of n labels is shared out among all classes."""
    target = (1 - 1 / len(y)) * np.eye(probabilities.shape[1])[y]
    target += 1 / len(y) / probabilities.shape[1]
    said = special.log_softmax(np.log(probabilities) / temperature, axis=1)
    return float(-(target * said).sum(axis=1).mean())


# --- the temperature ---


@pytest.mark.parametrize("seed", range(8))
def test_temperature_is_scipys_and_the_best_of_a_grid(seed: int) -> None:
    probabilities, y = drawn(seed)
    found = fit_temperature(probabilities, y)
    least = optimize.minimize_scalar(
        lambda log: loss(probabilities, y, math.exp(log)),
        bounds=(math.log(0.05), math.log(10)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert found == pytest.approx(math.exp(least.x), rel=1e-5), f"{seed=}"
    grid = np.exp(np.linspace(math.log(0.05), math.log(10), 400))
    assert loss(probabilities, y, found) <= min(loss(probabilities, y, t) for t in grid), seed


@pytest.mark.parametrize("truth", [0.2, 0.5, 1.0, 3.0])
def test_temperature_that_made_probabilities_wrong_is_found(truth: float) -> None:
    rng = np.random.default_rng(5)
    right = rng.dirichlet(np.ones(3), 20_000)
    y = (rng.random((len(right), 1)) > right.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(tempered(right, 1 / truth), y) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("n", [1, 2, 10, 400])
def test_without_an_error_a_model_is_as_sure_as_its_clips_are_many(n: int) -> None:
    # Two classes, all clips alike: the loss is least where the wrong one has its share, 1/2n.
    probabilities, y = np.tile([0.7, 0.3], (n, 1)), np.zeros(n, dtype=np.int64)
    wanted = 1 - 1 / (2 * n)
    logit = math.log(0.7 / 0.3)
    temperature = logit / math.log(wanted / (1 - wanted)) if n > 1 else 10.0
    assert fit_temperature(probabilities, y) == pytest.approx(temperature, rel=1e-6)
    if n > 1:
        assert tempered(probabilities, temperature)[0, 0] == pytest.approx(wanted)


def test_temperature_stays_within_its_range() -> None:
    y = np.arange(40) % 2
    certain = np.eye(2)[y] * (1 - 2e-6) + 1e-6
    assert fit_temperature(1 - certain, y) == pytest.approx(10)
    timid = np.eye(2)[y] * 1e-6 + (0.5 - 5e-7)
    assert fit_temperature(timid, y) == pytest.approx(0.05)
    assert np.isfinite(fit_temperature(np.eye(2)[1 - y], y)), "probabilities of 0"


def test_tempered_probabilities_are_those_of_divided_logits() -> None:
    logits = np.random.default_rng(1).normal(size=(50, 6)) * 5
    probabilities = special.softmax(logits, axis=1)
    np.testing.assert_allclose(tempered(probabilities, 1.0), probabilities, atol=1e-12)
    for temperature in (0.05, 0.7, 10.0):
        wanted = special.softmax(logits / temperature, axis=1)
        np.testing.assert_allclose(tempered(probabilities, temperature), wanted, atol=1e-9)


def test_what_float32_rounds_to_0_stays_next_to_it_at_any_temperature() -> None:
    found = tempered(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), 10.0)
    assert found.dtype == np.float64
    assert 0 < found[0, 1] < 2e-4
    assert found.sum() == pytest.approx(1)


# --- the threshold ---


@pytest.mark.parametrize("seed", range(8))
def test_sure_probability_is_reached_by_95_of_100_right_answers_and_as_high_as_can_be(
    seed: int,
) -> None:
    probabilities, y = drawn(seed, n=5 + 7 * seed)
    right = sorted(
        max(p)
        for p, label in zip(probabilities.tolist(), y.tolist(), strict=True)
        if p.index(max(p)) == label
    )
    found = fit_sure_probability(probabilities, y)
    assert found * 2**16 == int(found * 2**16), f"{seed=}"
    assert sum(p >= found for p in right) >= 0.95 * len(right), f"{seed=}"
    # One step more, and the clip that it was taken from is unsure; then fewer than 95 % are sure,
    # or the quantile lies between two clips.
    assert sum(p >= found + 2**-16 for p in right) <= 0.95 * (len(right) - 1) + 1, f"{seed=}"
    assert right[math.floor(0.05 * (len(right) - 1))] - 2**-16 < found <= right[-1], f"{seed=}"


def test_nothing_is_unsure_where_nothing_was_right() -> None:
    assert fit_sure_probability(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([1, 1])) == 0


# --- by the other folds ---


@pytest.mark.parametrize("seed", range(5))
def test_each_fold_is_calibrated_by_the_others(seed: int) -> None:
    probabilities, y = drawn(seed, n=90)
    fold = np.random.default_rng(seed).permutation(np.arange(90) % 3)
    found = cross_fit(probabilities, y, fold)
    for clip in range(len(y)):
        others = [row for row in range(len(y)) if fold[row] != fold[clip]]
        temperature = fit_temperature(probabilities[others], y[others])
        sure = fit_sure_probability(tempered(probabilities[others], temperature), y[others])
        wanted = special.softmax(np.log(probabilities[clip]) / temperature)
        np.testing.assert_allclose(found.probabilities[clip], wanted, atol=1e-9, err_msg=f"{seed}")
        assert found.is_sure[clip] == (wanted.max() >= sure), f"{seed=} {clip=}"


def test_a_clip_that_just_reaches_the_threshold_is_sure() -> None:
    probabilities, y = np.full((8, 2), 0.5), np.zeros(8, dtype=np.int64)
    assert fit_sure_probability(probabilities, y) == 0.5
    assert cross_fit(probabilities, y, np.arange(8) % 2).is_sure.all()


# --- in a model ---


MODELS = {
    **{f"linear {scheme}": ModelConfig((scheme,), ()) for scheme in SCHEMES},
    **{f"hidden {scheme}": ModelConfig((scheme,), (6,), dropout=0.2) for scheme in SCHEMES},
    "another head": ModelConfig(("int1",), (6, 5), head_scheme="fp32"),
    "curious": CURIOUS,
    "all schemes": dataclasses.replace(
        CURIOUS, schemes=tuple(SCHEMES), top_k=3, router=RouterConfig(4, "int4", 0.3)
    ),
}


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(8, distance=0.6)


@pytest.fixture(scope="module")
def packed(data: EmbeddingSet) -> Callable[[str], PackedModel]:
    return cache(lambda name: fit_model(config_of(MODELS[name]), data).packed)


def read_back(packed: PackedModel) -> PackedClassifier:
    return PackedClassifier(from_bytes(to_bytes(packed), "a test"))


@pytest.mark.parametrize("temperature", [0.11, 0.6341, 7.3])
@pytest.mark.parametrize("name", MODELS)
def test_file_says_what_it_said_at_another_temperature(
    name: str, temperature: float, packed: Callable[[str], PackedModel], data: EmbeddingSet
) -> None:
    before = packed(name)
    after = read_back(apply_calibration(before, Calibration(temperature, 0.75)))
    wanted = tempered(read_back(before).predict_proba(data.x), temperature)
    agreement = require_agreement(
        wanted,
        after.predict_proba(data.x),
        tolerance=CALIBRATED_TOLERANCE,
        claim=f"{name} at {temperature}",
    )
    assert agreement.n_other_class <= 1
    assert np.abs(wanted - read_back(before).predict_proba(data.x)).max() > 0.05


@pytest.mark.parametrize("name", ["hidden int2", "another head", "curious", "all schemes"])
def test_only_last_layers_of_experts_and_the_threshold_change(
    name: str, packed: Callable[[str], PackedModel], data: EmbeddingSet
) -> None:
    before = packed(name)
    content = to_bytes(before)
    after = apply_calibration(before, Calibration(0.6, 0.75))
    last = str(len(before.header.model.hidden))
    for place, layer in before.layers.items():
        is_last = place.startswith("e") and place.endswith(f".{last}")
        assert (after.layers[place] is layer) != is_last, place
    assert dataclasses.replace(after.header, sure_probability=0.0) == before.header
    assert after.header.sure_probability == 0.75
    assert to_bytes(before) == content, "it stays as it is"
    assert len(to_bytes(after)) == len(content)
    gates = read_back(after).examine(data.x).gates
    assert np.array_equal(gates, read_back(before).examine(data.x).gates)


# --- what a file cannot hold ---


def test_a_temperature_that_no_number_minds_is_taken_as_it_is() -> None:
    for model in (small_model("int4"), small_model("fp32"), small_model("int1", "int4", "fp32")):
        for temperature in (0.05, 0.6341, 10.0):
            assert foldable_temperature(model, temperature) == temperature


@pytest.mark.parametrize("schemes", [("int4",), ("int1", "int4", "fp32")])
def test_scales_do_not_fall_below_the_smallest(schemes: tuple[str, ...]) -> None:
    model = small_model(*schemes)
    scale = np.array([0.5, 3 * 2.0**-14, 0.25], dtype=np.float16)
    model = with_layer(model, "e0.1", scale=scale)
    assert foldable_temperature(model, 10.0) == pytest.approx(3)
    assert foldable_temperature(model, 2.5) == 2.5
    after = apply_calibration(model, Calibration(foldable_temperature(model, 10.0), 0.0))
    assert read_back(after).packed.layers["e0.1"].scale is not None, "it can be read"
    smallest = with_layer(model, "e0.1", scale=np.full(3, 2.0**-14, np.float16))
    assert foldable_temperature(smallest, 10.0) == 1


@pytest.mark.parametrize(
    ("schemes", "place", "part"),
    [
        (("int4",), "e0.1", "scale"),
        (("int4",), "e0.1", "bias"),
        (("fp32",), "e0.1", "codes"),
        (("int1", "int4", "fp32"), "e2.1", "codes"),
        (("int1", "int4", "fp32"), "e1.1", "bias"),
    ],
)
def test_numbers_do_not_rise_above_the_largest(
    schemes: tuple[str, ...], place: str, part: str
) -> None:
    model = small_model(*schemes)
    values = getattr(model.layers[place], part).copy()
    values.reshape(-1)[-1] = 32752 if part == "scale" else -32752
    model = with_layer(model, place, **{part: values})
    assert foldable_temperature(model, 0.05) == pytest.approx(0.5)
    assert foldable_temperature(model, 0.75) == 0.75
    after = apply_calibration(model, Calibration(foldable_temperature(model, 0.05), 0.0))
    found = getattr(read_back(after).packed.layers[place], part)
    assert np.abs(found).max() == 65504


def test_threshold_is_fitted_at_the_temperature_that_the_model_takes() -> None:
    probabilities, y = drawn(1)
    flat = tempered(probabilities, 0.2)
    wanted = fit_temperature(flat, y)
    assert wanted > 1.5
    config = TrialConfig(model=LINEAR).canonical()
    model = make_model(np.random.default_rng(0), config, make_data(5, ("a", "b", "c", "d")))
    free = fit_calibration(model, flat, y)
    assert free == (wanted, fit_sure_probability(tempered(flat, wanted), y))
    smallest = with_layer(model, "e0.0", scale=np.full(4, 2.0**-14, np.float16))
    assert fit_calibration(smallest, flat, y) == (1.0, fit_sure_probability(flat, y))
