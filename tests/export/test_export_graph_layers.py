"""One layer in an ONNX graph, against loops over whole numbers; and the paths of its parts."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from qwave.config import SCHEMES, Grid, Scheme
from qwave.exporting.graph_layers import Graph, add_layer, add_mask, linear
from qwave.packing import PackedLayer, packed_length

ALL = tuple(SCHEMES)
INTEGERS = [name for name, scheme in SCHEMES.items() if scheme.activations is not None]
SHARED = [name for name in INTEGERS if name != "int8"]  # codes that share bytes

every_scheme = pytest.mark.parametrize("scheme", ALL)
every_integer = pytest.mark.parametrize("scheme", INTEGERS)


def run(graph: Graph, output: str, x: np.ndarray | None = None) -> np.ndarray:
    """What a tensor of the graph holds, given float clips ``x`` where the graph reads them."""
    inputs = []
    if x is not None:
        shape: list[str | int] = [*map(str, "abc"[: x.ndim - 1]), x.shape[-1]]
        inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    model = helper.make_model(
        helper.make_graph(
            list(graph.nodes.values()),
            "layer",
            inputs,
            [onnx.ValueInfoProto(name=output)],
            initializer=list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run([output], {} if x is None else {"x": x})
    return np.asarray(found)


def stored(graph: Graph, name: str) -> np.ndarray:
    return numpy_helper.to_array(graph.initializers[name])


def levels(scheme: str) -> np.ndarray:
    grid = SCHEMES[scheme].weights
    assert grid is not None
    return np.arange(-grid.highest, grid.highest + 1, grid.spacing, dtype=np.float32)


def random_layer(scheme: str, n_out: int, n_in: int, seed: int) -> PackedLayer:
    rng = np.random.default_rng(seed)
    bias = rng.normal(size=n_out).astype(np.float16)
    if SCHEMES[scheme].weights is None:
        codes = rng.normal(size=(n_out, n_in)).astype(np.float32)
        return PackedLayer(scheme, codes, None, bias)
    scale = rng.uniform(0.01, 1, n_out).astype(np.float16)
    return PackedLayer(scheme, rng.choice(levels(scheme), (n_out, n_in)), scale, bias)


def plain_layer(scheme: str, codes: np.ndarray, scale: float) -> PackedLayer:
    """A layer of given codes, with one scale for all rows and no bias."""
    bias = np.zeros(len(codes), np.float16)
    return PackedLayer(scheme, codes, bias + np.float16(scale), bias)


def linear_by_hand(x: np.ndarray, layer: PackedLayer) -> np.ndarray:
    """The layer, one output after another, with sums of Python's whole numbers."""
    scheme = SCHEMES[layer.scheme]
    assert scheme.weights is not None
    assert scheme.activations is not None
    assert layer.scale is not None
    y = np.empty((len(x), len(layer.codes)), np.float32)
    factors = layer.scale.astype(np.float32) / np.float32(scheme.weights.denominator)
    for row, clip in enumerate(x):
        codes, sample_factor = quantise_by_hand(clip, scheme.activations)
        for output, weights in enumerate(layer.codes):
            total = sum(int(a) * int(w) for a, w in zip(codes, weights, strict=True))
            y[row, output] = np.float32(total) * factors[output] * sample_factor
            y[row, output] += np.float32(layer.bias[output])
    return y


def quantise_by_hand(clip: np.ndarray, grid: Grid) -> tuple[list[int], np.float32]:
    """Codes of one clip and what one of them is worth."""
    sizes = [abs(float(value)) for value in clip]
    measured = max(sizes) if grid.scale == "absmax" else math.fsum(sizes) / len(sizes)
    scale = max(np.float32(measured) * np.float32(grid.scale_factor), np.float32(2.0**-100))
    per_unit = np.float32(grid.denominator) / scale
    codes = [round(float(value * per_unit)) for value in clip]  # ties to even
    codes = [max(-grid.highest, min(grid.highest, code)) for code in codes]
    return codes, scale / np.float32(grid.denominator)


# --- products -----------------------------------------------------------------------------------


@every_integer
@pytest.mark.parametrize("seed", range(8))
def test_layer_is_the_loop_over_whole_numbers_to_the_bit(scheme: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_in, n_out = (int(size) for size in rng.integers(1, 40, 2))
    layer = random_layer(scheme, n_out, n_in, seed)
    x = rng.normal(size=(7, n_in)).astype(np.float32) * np.float32(10.0 ** rng.integers(-6, 6))
    x[3] = 0
    x[4] = x[4, 0]
    graph = Graph()
    found = run(graph, linear(graph, "x", add_layer(graph, layer)), x)
    assert np.array_equal(found, linear_by_hand(x, layer)), f"{scheme}, seed {seed}"


@every_scheme
def test_samples_of_clips_go_through_a_layer_as_clips_do(scheme: str) -> None:
    layer = random_layer(scheme, 4, 11, 3)
    x = np.random.default_rng(4).normal(size=(3, 5, 11)).astype(np.float32)
    graph = Graph()
    output = linear(graph, "x", add_layer(graph, layer))
    flat = run(graph, output, x.reshape(15, 11))
    np.testing.assert_allclose(run(graph, output, x), flat.reshape(3, 5, 4), atol=1e-6)


@pytest.mark.parametrize("n_in", [1, 2, 64, 1000])
def test_largest_sums_of_codes_are_exact(n_in: int) -> None:
    codes = np.array([[127.0] * n_in, [-127.0] * n_in], np.float32)
    layer = plain_layer("int8", codes, 127)
    x = np.full((2, n_in), [[127.0], [-127.0]], np.float32)
    graph = Graph()
    found = run(graph, linear(graph, "x", add_layer(graph, layer)), x)
    largest = n_in * 127 * 127
    assert found.tolist() == [[largest, -largest], [-largest, largest]]


@every_integer
def test_no_two_products_of_codes_saturate_an_int16(scheme: str) -> None:
    """uint8 activations times int8 weights are added by twos in int16 where there is no VNNI."""
    graph = Graph()
    layer = add_layer(graph, plain_layer(scheme, levels(scheme)[None], 1))
    codes = run(graph, layer.codes) if layer.codes in graph.nodes else stored(graph, layer.codes)
    zeros = [stored(graph, name) for name in layer.zero_points]
    assert zeros[0].dtype == np.uint8
    if codes.dtype == np.int8:
        assert 255 * 2 * np.abs(codes.astype(int)).max() <= np.iinfo(np.int16).max
        assert len(zeros) == 1
    else:
        assert codes.dtype == np.uint8
        assert zeros[1].dtype == np.uint8
    zero = int(zeros[1]) if len(zeros) == 2 else 0
    assert (codes.astype(int)[:, 0] - zero).tolist() == levels(scheme).tolist()


@pytest.mark.parametrize("scale", ["absmax", "absmean"])
def test_activations_follow_their_grid(scale: str) -> None:
    # Grids beside those of today's schemes: another factor, fewer levels.
    activations = Grid(1, 7, 7.0, scale, 1.5)  # type: ignore[arg-type]
    scheme = Scheme("made up", SCHEMES["int4"].bits, SCHEMES["int4"].weights, activations)
    x = np.random.default_rng(6).normal(size=(5, 30)).astype(np.float32)
    graph = Graph()
    identity = plain_layer("int4", np.eye(30, dtype=np.float32), 7)
    layer = add_layer(graph, identity)._replace(scheme=scheme)
    found = run(graph, linear(graph, "x", layer), x)
    for row, clip in enumerate(x):
        codes, worth = quantise_by_hand(clip, activations)
        assert np.array_equal(found[row], np.array(codes, np.float32) * worth), f"clip {row}"


# --- codes and masks ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SHARED)
@pytest.mark.parametrize("n_in", [1, 2, 5, 8, 39, 40])
def test_codes_share_bytes_as_in_the_packed_file(scheme: str, n_in: int) -> None:
    layer = random_layer(scheme, 3, n_in, n_in)
    graph = Graph()
    codes = add_layer(graph, layer).codes
    assert stored(graph, "codes").nbytes == packed_length(3 * n_in, scheme)
    assert np.array_equal(run(graph, codes), layer.codes.T)


@pytest.mark.parametrize(("scheme", "dtype"), [("int8", "u1"), ("int16", "i2"), ("fp32", "f4")])
def test_wide_codes_are_stored_as_they_are(scheme: str, dtype: str) -> None:
    layer = random_layer(scheme, 3, 5, 1)
    graph = Graph()
    add_layer(graph, layer)
    codes = stored(graph, "codes")
    assert codes.dtype == np.dtype(dtype)
    assert np.array_equal(codes - (128.0 if scheme == "int8" else 0.0), layer.codes.T)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(2, 1), (3, 8), (20, 37)])
def test_mask_takes_one_bit_an_element(rate: float, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    mask = (rng.random(shape) >= rate).astype(np.float32) / np.float32(1 - rate)
    mask[0, 0] = 0
    graph = Graph()
    name = add_mask(graph, mask)
    assert name is not None
    assert stored(graph, "mask").nbytes == -(-mask.size // 8)
    assert np.array_equal(run(graph, name), mask)


def test_mask_that_drops_nothing_is_none() -> None:
    graph = Graph()
    assert add_mask(graph, np.ones((4, 9), np.float32)) is None
    assert not graph.nodes
    assert not graph.initializers


# --- paths --------------------------------------------------------------------------------------


def test_nodes_are_named_by_scope_and_operator_and_numbered_from_the_second() -> None:
    graph = Graph()
    inside = graph.within("expert_0").within("layer_1")
    assert inside.node("Mul", "a", "b") == "expert_0/layer_1/Mul"
    assert inside.node("Mul", "a", "b") == "expert_0/layer_1/Mul_2"
    assert graph.within("expert_0/layer_1").node("Mul", "a", "b") == "expert_0/layer_1/Mul_3"
    assert graph.node("Mul", "a", "b") == "Mul"
    assert graph.node("Softmax", "a", axis=-1, name="probabilities") == "probabilities"
    assert inside.pair("TopK", "a", "b") == ("expert_0/layer_1/TopK:0", "expert_0/layer_1/TopK:1")
    assert [node.name for node in graph.nodes.values()] == list(graph.nodes)
    assert graph.nodes is inside.nodes
