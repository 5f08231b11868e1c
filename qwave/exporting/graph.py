"""A packed model as one ONNX graph of standard operators, from raw embeddings to probabilities.

Function by function it computes what `qwave.runtime` does: the same normalisation, codes and
routes.

Notation: n clips, d features, e experts, s MC-dropout samples, c classes. Functions take names of
tensors and return them.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from qwave.config import unknown_rule
from qwave.data.normalization import EPSILON, clip_steps
from qwave.exporting.graph_layers import (
    BACKEND,
    Graph,
    Layer,
    add_layer,
    add_mask,
    linear,
    over_features,
)
from qwave.packing import Header, PackedModel, mc_masks
from qwave.packing.header import header_to_text
from qwave.runtime import expert_cost
from qwave.runtime.arithmetic import HIDDEN_EPSILON

OPSET = 18  # the first with all that is used here; onnxruntime 1.14 and later run it
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


def onnx_model(packed: PackedModel) -> onnx.ModelProto:
    """The graph of a whole model, to predict in any ONNX runtime.

    Its input is ``embeddings``, float32 [n, d], of any number of clips, none included; they must
    be finite, which a graph cannot check. Its outputs are ``probabilities``, float32 [n, c], and
    ``gates`` of a mixture, float32 [n, e]. Curiosity is computed only where it routes clips
    (`model.curiosity.alpha`): it would double the file of a linear int1 model on 1280 features,
    and triple the time of one clip.

    Two things cost more than in `qwave.runtime`. All experts answer every clip, and those that it
    is not sent to weigh nothing: rows by expert are shapes that depend on values, which many
    runtimes do not take. MC-dropout holds all samples of all clips at once, up to 20 bytes x n x
    s x d: many clips are better predicted in batches.

    Equal packed models give equal graphs, to the byte. Their metadata are the header of the packed
    file, with the class names as JSON.

    Args:
        packed: The model.

    Raises:
        NotImplementedError: The model has a scheme or normalisation that the graph cannot hold.
    """
    header, graph = packed.header, Graph()
    outputs = {"probabilities": [len(header.class_names)]}
    x = _normalise(graph.within("normalization"), "embeddings", packed)
    experts = [
        _layers(graph.within(f"expert_{expert}"), packed, f"e{expert}")
        for expert in range(header.model.num_experts)
    ]
    router = _layers(graph.within("router"), packed, "r")
    if router:
        outputs["gates"] = [len(experts)]
        logits = _mix(graph, x, experts, _gates(graph, x, router, packed))
    else:
        logits = _forward(graph.within("expert_0"), x, experts[0])
    graph.node("Softmax", logits, axis=-1, name="probabilities")
    return _model(header, graph, outputs)


def _model(header: Header, graph: Graph, outputs: dict[str, list[int]]) -> onnx.ModelProto:
    def tensor(name: str, sizes: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["clips", *sizes])

    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        helper.make_graph(
            list(graph.nodes.values()),
            "qwave",
            [tensor("embeddings", [header.in_features])],
            [tensor(name, sizes) for name, sizes in outputs.items()],
            initializer=list(graph.initializers.values()),
        ),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),  # older readers refuse newer ones
        producer_name="qwave",
        producer_version=importlib.metadata.version("qwave"),
        doc_string=(
            f"Raw embeddings of {header.in_features} features to probabilities of "
            f"{len(header.class_names)} classes, whose names are in the metadata."
        ),
    )
    names = json.dumps(header.class_names, ensure_ascii=False)
    helper.set_model_props(model, {**header_to_text(header), "classes": names})
    return model


def _layers(graph: Graph, packed: PackedModel, part: str) -> list[Layer]:
    """Layers of a part of the packed file: ``e0`` and on, or ``r``, empty without router."""
    layers = [layer for name, layer in packed.layers.items() if name.split(".")[0] == part]
    return [add_layer(graph.within(f"layer_{i}"), layer) for i, layer in enumerate(layers)]


def _normalise(graph: Graph, x: str, packed: PackedModel) -> str:
    """Normalised clips, float [n, d] (`qwave.data.normalization`)."""
    for step in clip_steps(packed.header.normalization):
        if step == "roots":
            x = graph.node("Mul", graph.node("Sign", x), graph.node("Sqrt", graph.node("Abs", x)))
        elif step == "standardise":
            centred, variance = _centre(graph, x)
            x = _over_size(graph, centred, graph.node("Sqrt", variance))
        elif step == "unit":
            wide = graph.cast(x, np.float64)
            squares = over_features(graph, "ReduceSum", graph.node("Mul", wide, wide))
            x = _over_size(graph, wide, graph.node("Sqrt", squares))
        else:
            raise unknown_rule(BACKEND, "normalisation step", step)
    if packed.offset is not None and packed.factor is not None:
        offset = graph.cast(graph.constant(packed.offset, "offset"), np.float32)
        factor = graph.cast(graph.constant(packed.factor, "factor"), np.float32)
        x = graph.node("Mul", graph.node("Sub", x, offset), factor)
    return x


def _over_size(graph: Graph, x: str, size: str) -> str:
    """float64 clips over their deviations or norms, float [n, d]."""
    size = graph.node("Max", size, graph.value(EPSILON, np.float64))
    return graph.cast(graph.node("Div", x, size), np.float32)


def _centre(graph: Graph, x: str) -> tuple[str, str]:
    """Clips less their mean, float64 [..., i], and their variance, float64 [..., 1].

    Not LayerNormalization, which sums in float32: of a thousand clips one got another code.
    """
    wide = graph.cast(x, np.float64)
    centred = graph.node("Sub", wide, over_features(graph, "ReduceMean", wide))
    squares = graph.node("Mul", centred, centred)
    return centred, over_features(graph, "ReduceMean", squares)


def _forward(
    graph: Graph, x: str, layers: Sequence[Layer], masks: Sequence[str | None] = ()
) -> str:
    """Logits [n, o] of clips [n, i]; under masks [s, i], [n, s, o] of clips [n, 1, i]."""
    for index, layer in enumerate(layers):
        here = graph.within(f"layer_{index}")
        if index > 0:
            x = here.node("Relu", _standardise(here, x))
        mask = masks[index] if masks else None
        if mask is not None:
            x = here.node("Mul", x, mask)
        x = linear(here, x, layer)
    return x


def _standardise(graph: Graph, x: str) -> str:
    """Hidden units of each clip to mean 0 and deviation 1."""
    centred, variance = _centre(graph, x)
    padded = graph.node("Add", variance, graph.value(HIDDEN_EPSILON, np.float64))
    deviation = graph.node("Sqrt", padded)
    return graph.cast(graph.node("Div", centred, deviation), np.float32)


def _curiosity(graph: Graph, x: str, layers: Sequence[Layer], masks: list[np.ndarray]) -> str:
    """Mutual information of the softmax under each mask, [n]; 0 where nothing is dropped."""
    inside = graph.within("curiosity")
    stored = [add_mask(inside.within(f"layer_{i}"), mask) for i, mask in enumerate(masks)]
    if not any(stored):
        count = inside.node("Shape", x, start=0, end=1)
        return inside.node("ConstantOfShape", count)
    # A first layer without a mask is computed once: s comes in where something is dropped.
    rows = inside.node("Unsqueeze", x, graph.value([1], np.int64))
    samples = inside.node("Softmax", _forward(inside, rows, layers, stored), axis=-1)
    axis = graph.value([1], np.int64)
    mean = inside.node("ReduceMean", samples, axis, keepdims=0)
    mean_of_samples = inside.node("ReduceMean", _p_log_p(inside, samples), axis, keepdims=0)
    difference = inside.node("Sub", mean_of_samples, _p_log_p(inside, mean))
    information = inside.node("ReduceSum", difference, axis, keepdims=0)
    return inside.node("Max", information, graph.value(0))


def _p_log_p(graph: Graph, p: str) -> str:
    """``p log p``, and 0 at 0."""
    log = graph.node("Log", graph.node("Max", p, graph.value(_SMALLEST_NORMAL)))
    return graph.node("Mul", p, log)


def _gates(graph: Graph, x: str, router: Sequence[Layer], packed: PackedModel) -> str:
    """Weight of each expert, [n, e]; among equal experts the first is chosen, as TopK does."""
    model = packed.header.model
    inside = graph.within("router")
    p = inside.node("Softmax", _forward(inside, x, router), axis=-1)
    if model.curiosity.alpha > 0:
        information = _curiosity(graph, x, router, mc_masks(packed.header))
        p = _tilted(inside, p, information, packed)
    kept, chosen = inside.pair("TopK", p, graph.value([model.top_k], np.int64), axis=1)
    shares = inside.node("Div", kept, over_features(inside, "ReduceSum", kept))
    nothing = inside.node("Mul", p, graph.value(0))
    return graph.node("ScatterElements", nothing, chosen, shares, axis=1, name="gates")


def _tilted(graph: Graph, p: str, information: str, packed: PackedModel) -> str:
    """The router's probabilities times exp(alpha u beta), [n, e]: more bits where it is unsure."""
    assert packed.curiosity_range is not None, "a mixture carries its range"
    low, high = packed.curiosity_range
    if high <= low:
        return p  # a router that is never unsure
    model = packed.header.model
    above = graph.node("Sub", information, graph.value(low))
    share = graph.node("Div", above, graph.value(high - low))
    share = graph.node("Clip", share, graph.value(0), graph.value(1))
    tilt = graph.node("Mul", share, graph.value(model.curiosity.alpha))
    column = graph.node("Unsqueeze", graph.cast(tilt, np.float64), graph.value([1], np.int64))
    cost = graph.value(expert_cost(model.schemes), np.float64)
    logits = graph.cast(graph.node("Log", p), np.float64)
    tilted = graph.node("Add", logits, graph.node("Mul", column, cost))
    return graph.cast(graph.node("Softmax", tilted, axis=-1), np.float32)


def _mix(graph: Graph, x: str, experts: Sequence[Sequence[Layer]], gates: str) -> str:
    """Logits of the experts, weighed by their gates, [n, c]."""
    weighed = []
    for index, layers in enumerate(experts):
        inside = graph.within(f"expert_{index}")
        gate = inside.node("Gather", gates, graph.value([index], np.int64), axis=1)
        weighed.append(inside.node("Mul", gate, _forward(inside, x, layers)))
    return graph.node("Sum", *weighed)
