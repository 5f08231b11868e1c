"""One arithmetic in every backend: each scheme and each normalisation, in each of them.

The lists are those of the code: a scheme of `SCHEMES`, a name in `Normalization` or a function in
`BACKENDS` is tested without an edit here.

Sums of codes are exact. Means, deviations and exponentials may differ in a last bit, which moves a
code across a boundary of rounding in one clip of a thousand or so: such a clip's probabilities may
differ by what one code is worth, the others' by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest

from qwave.config import SCHEMES, CuriosityConfig, Grid, ModelConfig, RouterConfig
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, normalization

from .backends import BACKENDS, NORMALIZATIONS, QUANTIZE_WEIGHTS, Case, by_definition, make_case

ALL = tuple(SCHEMES)
MODELS = {
    "linear": lambda scheme: ModelConfig((scheme,), ()),
    "deep": lambda scheme: ModelConfig((scheme,), (37, 9)),
    "mixture": lambda scheme: ModelConfig(
        (scheme,) * 3, (8,), top_k=2, router=RouterConfig(0, scheme)
    ),
    "top 1 of all": lambda scheme: ModelConfig(
        ALL, (8,), top_k=1, head_scheme=scheme, router=RouterConfig(5, scheme)
    ),
}
every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(scope="module")
def case_of(gaussians: Callable[..., EmbeddingSet]) -> Callable[..., Case]:
    """A fitted model of a scheme and a normalisation, on 75 features: no multiple of a vector."""

    @cache
    def fit(scheme: str, kind: str, normalization: Normalization = "sqrt_layer") -> Case:
        data = gaussians(3, num_classes=5, num_features=75, distance=0.5)
        return make_case(MODELS[kind](scheme), normalization, data)

    return fit


def check_backends(case: Case) -> None:
    """Compare every backend with the definitions of the grids."""
    expected = by_definition(case)
    for backend, predict in BACKENDS.items():
        assert_alike(predict(case), expected, backend)


def assert_alike(found: np.ndarray, expected: np.ndarray, backend: str) -> None:
    """Equal to rounding in all clips but two of a hundred, and close in those."""
    worst = np.abs(found - expected).max(axis=1)
    assert found.shape == expected.shape, backend
    assert found.dtype == np.float32, backend
    assert (worst > 1e-5).mean() <= 0.02, f"{backend}: {worst.max()}"
    assert worst.max() < 5e-3, f"{backend}: {worst.max()}"


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("scheme", ALL)
def test_every_scheme_is_the_arithmetic_of_its_grids(
    scheme: str, kind: str, case_of: Callable[..., Case]
) -> None:
    check_backends(case_of(scheme, kind))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("scheme", ALL)
def test_every_normalisation_is_the_one_that_trained(
    scheme: str, normalization: Normalization, case_of: Callable[..., Case]
) -> None:
    check_backends(case_of(scheme, "deep", normalization))


@pytest.mark.parametrize("scheme", ALL)
def test_curious_routes_are_those_of_the_numpy_runtime(
    scheme: str, gaussians: Callable[..., EmbeddingSet]
) -> None:
    model = ModelConfig(
        ALL, (8,), top_k=2, router=RouterConfig(0, scheme, 0.3), curiosity=CuriosityConfig(2.0)
    )
    case = make_case(model, "layer", gaussians(4, num_features=75, distance=0.5))
    expected = BACKENDS["the numpy runtime"](case)
    for backend in ("the compiled runtime", "the ONNX graph"):
        if backend in BACKENDS:
            assert_alike(BACKENDS[backend](case), expected, backend)


# --- rules that a backend does not know ---------------------------------------------------------


@contextmanager
def changed(grid: Grid, **rules: object) -> Iterator[None]:
    """A grid with other rules for a while, wherever it is read."""
    before = {rule: getattr(grid, rule) for rule in rules}
    try:
        for rule, value in rules.items():
            object.__setattr__(grid, rule, value)
        yield
    finally:
        for rule, value in before.items():
            object.__setattr__(grid, rule, value)


@every_backend
@pytest.mark.parametrize(("rule", "value"), [("scale", "median"), ("spacing", 3)])
@pytest.mark.parametrize("part", ["weights", "activations"])
def test_an_unknown_rule_of_a_grid_is_refused_by_name(
    part: str, rule: str, value: object, backend: str, case_of: Callable[..., Case]
) -> None:
    if part == "weights" and backend not in QUANTIZE_WEIGHTS:
        pytest.skip("reads the codes of weights from a file")
    case = case_of("int4", "linear")
    grid = getattr(SCHEMES["int4"], part)
    named = backend.replace("the stacked engine", "torch fake-quantization")
    message = rf"^{named} has no arithmetic for Grid\.{rule}.*={value!r}"
    with changed(grid, **{rule: value}), pytest.raises(NotImplementedError, match=message):
        BACKENDS[backend](case)


@every_backend
def test_an_unknown_step_of_a_normalisation_is_refused_by_name(
    backend: str, case_of: Callable[..., Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of("int4", "linear")
    monkeypatch.setitem(normalization._CLIP_STEPS, "sqrt_layer", ("roots", "cube"))
    named = {"the compiled runtime", "the ONNX graph"} & {backend} or {"numpy"}
    message = f"^{named.pop()} has no arithmetic for normalisation step='cube'"
    with pytest.raises(NotImplementedError, match=message):
        BACKENDS[backend](case)


@pytest.mark.parametrize("steps", [("standardise", "roots"), ("unit", "roots"), ("roots",)])
def test_known_steps_of_a_normalisation_can_be_taken_in_any_order(
    steps: tuple[str, ...],
    gaussians: Callable[..., EmbeddingSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(normalization._CLIP_STEPS, "raw", steps)
    data = gaussians(3, num_classes=5, num_features=75, distance=0.5)
    check_backends(make_case(MODELS["deep"]("int4"), "raw", data))


@pytest.mark.parametrize("part", ["weights", "activations"])
def test_codes_too_large_for_the_integers_of_a_graph_are_refused(
    part: str, case_of: Callable[..., Case]
) -> None:
    case = case_of("int8", "linear")
    message = "the ONNX graph has no arithmetic for"
    grid = getattr(SCHEMES["int8"], part)
    with changed(grid, highest=300), pytest.raises(NotImplementedError, match=message):
        BACKENDS["the ONNX graph"](case)
