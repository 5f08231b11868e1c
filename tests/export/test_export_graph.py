"""The ONNX graph of a packed model, run by onnxruntime, against `qwave.runtime`.

Models are made of random codes. Every scheme and normalisation is in `tests.conformance`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from qwave.config import (
    SCHEMES,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrialConfig,
)
from qwave.exporting.graph import onnx_model
from qwave.packing import PackedModel
from qwave.runtime import PackedClassifier

from ..packing.models import draw_model, make_data, make_model, with_layer

ALL = tuple(SCHEMES)
TOLERANCE = 1e-5
CLASS_NAMES = ("dog", "rain", "sea waves")
N_FEATURES = 37  # no multiple of what shares a byte


def plain(scheme: str, *hidden: int, head: str | None = None) -> ModelConfig:
    return ModelConfig((scheme,), hidden, head_scheme=head, dropout=0.3, input_dropout=0.2)


def mixture(
    *schemes: str, top_k: int = 2, alpha: float = 2.0, router: RouterConfig | None = None
) -> ModelConfig:
    return ModelConfig(
        schemes,
        (8,),
        top_k=top_k,
        router=router or RouterConfig(0, schemes[0], 0.3),
        curiosity=CuriosityConfig(alpha),
    )


MODELS = {f"deep {name}": plain(name, 9, 6) for name in ALL}
MODELS |= {f"head of {name}": plain("int2", 8, head=name) for name in ALL}
MODELS |= {
    "all, top 1": mixture(*ALL, top_k=1),
    "all, top 2": mixture(*ALL),
    "all, every one": mixture(*ALL, top_k=len(ALL)),
    "all, not curious": mixture(*ALL, alpha=0.0),
    "all, very curious": mixture(*ALL, alpha=50.0),
    "linear experts": dataclasses.replace(mixture("int1", "int1", "int8", "fp32"), hidden=()),
    "sure router": mixture("int1", "int8", router=RouterConfig(4, "int8", 0.0)),
}

every_model = pytest.mark.parametrize("name", MODELS)
every_seed = pytest.mark.parametrize("seed", range(8))


def packed(model: ModelConfig, normalization: str = "standard") -> PackedModel:
    config = TrialConfig(
        data=DataConfig(normalization=normalization),  # type: ignore[arg-type]
        model=model,
    ).canonical()
    return make_model(np.random.default_rng(5), config, make_data(N_FEATURES, CLASS_NAMES))


def clips(n_features: int, seed: int = 1, n: int = 20) -> np.ndarray:
    """Random clips, then eight of the kinds that scales, norms and deviations stumble over."""
    x = 3 * np.random.default_rng(seed).normal(size=(n + 8, n_features))
    x[n : n + 4] *= np.array([1e-5, 1e-7, 1e-9, 1e6])[:, None]
    x[n + 4 :] = np.array([0.0, 2.7, -1e-30, 3e4])[:, None]
    return x.astype(np.float32)


def run(model: onnx.ModelProto, x: np.ndarray, *, optimised: bool = True) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"embeddings": x}), strict=True))


def assert_same(
    found: dict[str, np.ndarray], model: PackedModel, x: np.ndarray, what: str
) -> None:
    """The graph's outputs are what the runtime says of the same clips."""
    said = PackedClassifier(model, "numpy").examine(x)
    wanted = {"probabilities": said.probabilities}
    if model.header.model.num_experts > 1:
        wanted["gates"] = said.gates
    assert list(found) == list(wanted), what
    for name, theirs in wanted.items():
        ours = found[name]
        assert ours.dtype == np.float32, f"{what}: {name}"
        assert ours.shape == theirs.shape, f"{what}: {name}"
        worst = float(np.abs(ours - theirs).max(initial=0))
        assert worst < TOLERANCE, f"{what}: {name} differ by {worst}"
    if "gates" in found:
        assert np.array_equal(found["gates"] > 0, wanted["gates"] > 0), what


# --- agreement with the runtime -----------------------------------------------------------------


@every_model
def test_graph_says_what_the_packed_model_says(name: str) -> None:
    model = packed(MODELS[name])
    x = clips(N_FEATURES)
    assert_same(run(onnx_model(model), x), model, x, name)


@every_seed
def test_graphs_of_drawn_models_say_what_the_models_say(seed: int) -> None:
    config, _, model = draw_model(seed)
    x = clips(model.header.in_features, seed)
    assert_same(run(onnx_model(model), x), model, x, f"seed {seed}: {config}")


@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("name", ["deep popcount", "all, top 2"])
def test_any_number_of_clips_is_predicted(name: str, n: int) -> None:
    model = packed(MODELS[name], "sqrt_layer")
    x = clips(N_FEATURES)[:n]
    assert_same(run(onnx_model(model), x), model, x, f"{name}, {n} clips")


def test_no_code_of_a_hidden_unit_depends_on_the_order_of_a_sum() -> None:
    # With means in float32, some of these five million units get another code.
    model = packed(plain("int4", 256), "raw")
    x = np.random.default_rng(8).normal(size=(20_000, N_FEATURES)).astype(np.float32)
    found = run(onnx_model(model), x)["probabilities"]
    wanted = PackedClassifier(model, "numpy").predict_proba(x)
    worst = float(np.abs(found - wanted).max())
    assert worst < TOLERANCE, f"probabilities differ by {worst}"


# --- routes and curiosity -----------------------------------------------------------------------


def test_curiosity_tilts_routes_toward_more_bits() -> None:
    x = clips(N_FEATURES)
    shares = []
    for name in ("all, not curious", "all, top 2", "all, very curious"):
        gates = run(onnx_model(packed(MODELS[name])), x)["gates"]
        shares.append(float(gates[:, -1].mean()))
    assert shares == sorted(shares)
    assert shares[0] < shares[1] < shares[2]


def test_range_of_curiosity_without_width_tilts_nothing() -> None:
    model = packed(MODELS["all, very curious"])
    x = clips(N_FEATURES)
    for limits in ((0.2, 0.2), (0.3, 0.1)):
        flat = dataclasses.replace(model, curiosity_range=limits)
        assert_same(run(onnx_model(flat), x), flat, x, f"{limits}")


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_first_of_equal_experts_is_chosen(alpha: float) -> None:
    model = packed(mixture("int4", "int4", "int4", "int4", top_k=2, alpha=alpha))
    layer = model.layers["r.0"]
    assert layer.scale is not None
    equal = {
        "codes": np.repeat(layer.codes[:1], 4, axis=0),
        "scale": np.repeat(layer.scale[:1], 4),
        "bias": np.repeat(layer.bias[:1], 4),
    }
    gates = run(onnx_model(with_layer(model, "r.0", **equal)), clips(N_FEATURES))["gates"]
    assert (gates == [0.5, 0.5, 0, 0]).all()


# --- other runtimes -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deep ternary", "deep int8", "head of int16", "all, top 2"])
def test_graph_says_the_same_without_optimisation(name: str) -> None:
    model = packed(MODELS[name], "sqrt_layer")
    x = clips(N_FEATURES)
    found = run(onnx_model(model), x, optimised=False)
    assert_same(found, model, x, name)


@pytest.mark.parametrize("name", ["deep int1", "deep popcount", "deep int8", "all, top 2"])
def test_graph_says_the_same_in_the_reference_implementation_of_onnx(name: str) -> None:
    model = packed(MODELS[name], "layer")
    x = clips(N_FEATURES)
    graph = onnx_model(model)
    names = [output.name for output in graph.graph.output]
    outputs = ReferenceEvaluator(graph).run(names, {"embeddings": x})
    assert isinstance(outputs, list)
    assert_same(dict(zip(names, outputs, strict=True)), model, x, name)
