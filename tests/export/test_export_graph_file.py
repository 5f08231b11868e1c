"""The ONNX graph as a file: valid, readable, small, the same every time. Nothing is run here."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import qwave
from qwave.config import SCHEMES, ModelConfig, TrialConfig
from qwave.exporting.graph import onnx_model
from qwave.packing import FORMAT_VERSION, layer_shapes, packed_length, to_bytes

from ..packing.models import CLASS_NAMES, draw_model, make_data, make_model, small_model

every_seed = pytest.mark.parametrize("seed", range(10))


def tensor_shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@every_seed
def test_graphs_are_valid_and_their_shapes_follow(seed: int) -> None:
    config, data, model = draw_model(seed)
    graph = onnx_model(model)
    onnx.checker.check_model(graph, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    assert [(value.name, tensor_shape(value)) for value in inferred.graph.input] == [
        ("embeddings", ["clips", data.x.shape[1]])
    ]
    wanted: dict[str, list[int | str]] = {"probabilities": ["clips", data.num_classes]}
    if config.model.num_experts > 1:
        wanted["gates"] = ["clips", config.model.num_experts]
    outputs = inferred.graph.output
    assert {value.name: tensor_shape(value) for value in outputs} == wanted, f"seed {seed}"
    assert {value.type.tensor_type.elem_type for value in outputs} == {TensorProto.FLOAT}


@every_seed
def test_graphs_have_standard_operators_only(seed: int) -> None:
    graph = onnx_model(draw_model(seed)[2])
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    assert graph.ir_version == 8
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions


@every_seed
def test_equal_models_are_equal_graphs_to_the_byte(seed: int) -> None:
    first, second = (onnx_model(draw_model(seed)[2]) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString(), f"seed {seed}"


@every_seed
def test_every_name_is_a_path_and_every_constant_is_used(seed: int) -> None:
    graph = onnx_model(draw_model(seed)[2]).graph
    nodes = [node.name for node in graph.node]
    constants = [tensor.name for tensor in graph.initializer]
    outputs = [name for node in graph.node for name in node.output]
    assert max(Counter(nodes).values()) == 1
    assert max(Counter([*outputs, *constants, "embeddings"]).values()) == 1
    used = {name for node in graph.node for name in node.input}
    assert set(constants) <= used, f"seed {seed}: {set(constants) - used}"
    place = r"((normalization|router|curiosity|expert_\d+)/(layer_\d+/)?((codes|mask)/)?)?"
    for name in nodes:
        assert re.fullmatch(place + r"\w+", name), name


@pytest.mark.parametrize("class_names", CLASS_NAMES)
def test_metadata_hold_the_names_of_the_classes(class_names: tuple[str, ...]) -> None:
    config = TrialConfig(model=ModelConfig(("int4",), ())).canonical()
    model = make_model(np.random.default_rng(1), config, make_data(5, class_names))
    read = onnx.load_from_string(onnx_model(model).SerializeToString())
    metadata = {entry.key: entry.value for entry in read.metadata_props}
    assert tuple(json.loads(metadata["classes"])) == class_names
    if any("犬" in name for name in class_names):
        assert "犬" in metadata["classes"]  # for people to read


def test_metadata_say_what_the_graph_was_made_from() -> None:
    model = small_model("int1", "int8")
    graph = onnx_model(model)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata["qwave"] == str(FORMAT_VERSION)
    assert metadata["digests"] == f"{model.header.data_digest},{model.header.config_digest}"
    assert metadata["schemes"] == "int1,int8"
    assert (graph.producer_name, graph.producer_version) == ("qwave", qwave.__version__)
    assert "5 features to probabilities of 3 classes" in graph.doc_string


@pytest.mark.parametrize("scheme", SCHEMES)
def test_codes_take_as_many_bytes_as_in_the_packed_file(scheme: str) -> None:
    config = TrialConfig(model=ModelConfig((scheme,), (64,), dropout=0.3)).canonical()
    data = make_data(101, ("dog", "rain", "sea"))
    model = make_model(np.random.default_rng(2), config, data)
    graph = onnx_model(model)
    sizes = {name: array.nbytes for name, array in arrays(graph).items()}
    for index, shape in enumerate(layer_shapes(config.model, 101, 3)):
        count = shape.in_features * shape.out_features
        assert sizes[f"expert_0/layer_{index}/codes"] == packed_length(count, scheme)
    # What stands around them are nodes and names, however many the weights.
    assert len(graph.SerializeToString()) - len(to_bytes(model)) < 10_000
