"""The proof: it accepts what training packed, and notices every layer that is not as trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from qwave.config import SCHEMES, CuriosityConfig, ModelConfig, RouterConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import FittedModel, fit_model
from qwave.exporting import verify
from qwave.exporting.verify import (
    TOLERANCE,
    VerificationError,
    require_agreement,
    torch_probabilities,
)
from qwave.packing import PackedModel, from_bytes, to_bytes
from qwave.runtime import PackedClassifier

from .examples import CURIOUS, LINEAR, TRAIN, config_of

MODELS = {
    "linear": LINEAR,
    "curious, top-1": CURIOUS,
    "curious, top-2": dataclasses.replace(CURIOUS, top_k=2),
    "curious, twins": dataclasses.replace(CURIOUS, schemes=("int1", "popcount", "popcount")),
    "not curious": dataclasses.replace(CURIOUS, curiosity=CuriosityConfig(0.0)),
    "all schemes": dataclasses.replace(
        CURIOUS, schemes=tuple(SCHEMES), top_k=3, router=RouterConfig(4, "int4", 0.3)
    ),
    "deep, other head": ModelConfig(("ternary",), (8, 5), head_scheme="int16", dropout=0.2),
}


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(8, distance=0.6)


@pytest.fixture(scope="module")
def fitted(data: EmbeddingSet) -> Callable[..., FittedModel]:
    @cache
    def fit(name: str, mode: str = "qat") -> FittedModel:
        train = dataclasses.replace(TRAIN, mode=mode)  # type: ignore[arg-type]
        return fit_model(dataclasses.replace(config_of(MODELS[name]), train=train), data)

    return fit


def read_back(packed: PackedModel) -> PackedClassifier:
    return PackedClassifier(from_bytes(to_bytes(packed), "a test"))


def prove(fitted: FittedModel, packed: PackedModel, x: np.ndarray) -> verify.Agreement:
    said = read_back(packed).predict_proba(x)
    return require_agreement(
        torch_probabilities(fitted, x), said, tolerance=TOLERANCE, claim="no agreement"
    )


@pytest.mark.parametrize("mode", ["qat", "ptq"])
@pytest.mark.parametrize("name", MODELS)
def test_a_packed_model_says_what_was_trained(
    name: str, mode: str, fitted: Callable[..., FittedModel], data: EmbeddingSet
) -> None:
    model = fitted(name, mode)
    agreement = prove(model, model.packed, data.x)
    assert agreement.n_clips == len(data.y)
    assert agreement.n_other_class == 0
    assert agreement.largest_difference < 1e-5


@pytest.mark.parametrize("name", ["curious, top-1", "all schemes", "deep, other head"])
def test_every_layer_that_is_not_as_trained_is_noticed(
    name: str, fitted: Callable[..., FittedModel], data: EmbeddingSet
) -> None:
    model = fitted(name)
    noticed = []
    for place, layer in model.packed.layers.items():
        if not place.startswith("r") and not _is_used(model, place, data):
            continue  # an expert that no clip is sent to says nothing
        turned = dataclasses.replace(layer, codes=layer.codes[::-1].copy(), bias=layer.bias[::-1])
        layers = {**model.packed.layers, place: turned}
        assert _is_refused(model, dataclasses.replace(model.packed, layers=layers), data), place
        noticed.append(place)
    assert len(noticed) >= 2, noticed


def _is_refused(fitted: FittedModel, packed: PackedModel, data: EmbeddingSet) -> bool:
    try:
        prove(fitted, packed, data.x)
    except VerificationError:
        return True
    return False


def _is_used(fitted: FittedModel, place: str, data: EmbeddingSet) -> bool:
    expert = int(place[1:].split(".")[0])
    return bool(read_back(fitted.packed).examine(data.x).gates[:, expert].any())


def test_the_tilt_of_curiosity_is_part_of_what_is_proven(
    fitted: Callable[..., FittedModel], data: EmbeddingSet
) -> None:
    model = fitted("curious, top-1")
    header = model.packed.header
    calm = dataclasses.replace(header.model, curiosity=CuriosityConfig(0.0, 6))
    calm_file = dataclasses.replace(model.packed, header=dataclasses.replace(header, model=calm))
    with pytest.raises(VerificationError, match="no agreement"):
        prove(model, calm_file, data.x)
    assert model.packed.curiosity_range is not None
    low, high = model.packed.curiosity_range
    assert low < high
    shifted = dataclasses.replace(model.packed, curiosity_range=(high, 2 * high))
    with pytest.raises(VerificationError, match="no agreement"):
        prove(model, shifted, data.x)


def test_a_range_without_width_tilts_nothing(
    fitted: Callable[..., FittedModel], data: EmbeddingSet
) -> None:
    model = fitted("curious, top-2")
    flat = dataclasses.replace(model.packed, curiosity_range=(1e-6, 1e-6))
    assert prove(FittedModel(flat, model.trained), flat, data.x).largest_difference < 1e-5


def test_biases_are_taken_as_the_file_holds_them(
    fitted: Callable[..., FittedModel], data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted("all schemes")
    stored = prove(model, model.packed, data.x).largest_difference
    monkeypatch.setattr(verify, "_with_stored_biases", lambda mixture: mixture)
    assert prove(model, model.packed, data.x).largest_difference > 2 * stored


# --- comparing ---

EXPECTED = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.399, 0.4, 0.201]])


def compared(changes: list[list[float]]) -> verify.Agreement:
    return require_agreement(
        EXPECTED, EXPECTED + np.array(changes), tolerance=0.01, claim="they differ"
    )


def test_a_tie_may_go_either_way_and_is_counted() -> None:
    agreement = compared([[0, 0, 0], [0, 0, 0], [0.005, -0.005, 0]])
    assert agreement.largest_difference == pytest.approx(0.005)
    assert agreement.n_other_class == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([[0.011, -0.011, 0]] + [[0, 0, 0]] * 2, r"0 have another class, .* is 0\.011 \(0\.01 is"),
        ([[-0.4, 0.4, 0]] + [[0, 0, 0]] * 2, r"of 3 clips, 1 have another class"),
        ([[np.nan, 0, 0]] + [[0, 0, 0]] * 2, r"is nan \(0\.01 is allowed\); nothing was exported"),
    ],
)
def test_predictions_that_differ_are_refused_with_numbers(
    changes: list[list[float]], message: str
) -> None:
    with pytest.raises(VerificationError, match=f"^they differ: .*{message}"):
        compared(changes)


def test_another_class_is_refused_even_if_probabilities_are_near() -> None:
    expected, found = np.array([[0.508, 0.492]]), np.array([[0.499, 0.501]])
    assert np.abs(expected - found).max() < 0.01
    with pytest.raises(VerificationError, match="1 have another class"):
        require_agreement(expected, found, tolerance=0.01, claim="they differ")


@pytest.mark.parametrize("seed", range(8))
def test_agreement_is_what_a_loop_over_clips_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = rng.dirichlet(np.ones(4), 30)
    found = expected + rng.normal(size=expected.shape) * 10.0 ** rng.integers(-5, -1)
    largest, n_other, n_wrong = 0.0, 0, 0
    for said, other in zip(expected.tolist(), found.tolist(), strict=True):
        largest = max([largest, *(abs(a - b) for a, b in zip(said, other, strict=True))])
        first, now = said.index(max(said)), other.index(max(other))
        n_other += first != now
        n_wrong += said[first] - said[now] >= 0.01
    if largest > 0.01 or n_wrong:
        with pytest.raises(VerificationError, match=f"30 clips, {n_wrong} have another"):
            require_agreement(expected, found, tolerance=0.01, claim="they differ")
        return
    agreement = require_agreement(expected, found, tolerance=0.01, claim="they differ")
    assert (agreement.n_clips, agreement.n_other_class) == (30, n_other), f"{seed=}"
    assert agreement.largest_difference == pytest.approx(largest), f"{seed=}"
