"""An ONNX graph in the making; linear layers of every scheme, as in `qwave.runtime`.

Codes enter the products, and sums of quantized layers are whole numbers in int32. What it takes
for that on every processor:

- Activations are uint8 around 128: of int8, onnxruntime multiplies slowly or not at all.
- Weights are int8 up to codes of 64, and uint8 around 128 above. Processors with AVX2 or AVX-512
  but without VNNI add two products of uint8 with int8 in a saturating int16, which holds 255 x 64
  x 2 and not 255 x 127 x 2. onnxruntime multiplies uint8 with uint8 by instructions that do not
  saturate, at half the speed of int8 on processors with VNNI.
- Means over features are float64. A last bit can carry an activation across a rounding boundary,
  to the next of 255 codes.

Codes below 8 bits are stored several a byte, and the graph unpacks them with divisions of whole
numbers. ONNX has types of 4 and (from opset 25) 2 bits, but none for signs and trits, and products
take none of them. Runtimes that fold constants, as onnxruntime does, unpack once, while they load.

Notation: i inputs and o outputs of a layer. Functions take names of tensors and return them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

from qwave.config import SCHEMES, Grid, Scheme, unknown_rule
from qwave.packing import PackedLayer
from qwave.runtime.arithmetic import SMALLEST_SAMPLE_SCALE, row_factor

BACKEND = "the ONNX graph"
_UINT8_ZERO = 128
_HIGHEST_SIGNED = 64  # see the head of this module
_HIGHEST_BYTE, _HIGHEST_SHORT = 127, 32767


@dataclass(frozen=True)
class Graph:
    """An ONNX graph in the making: nodes in the order of their execution, and their constants.

    Names are paths such as ``expert_0/layer_1/codes``, which viewers show as a tree. The name of a
    node is that of its one output: its scope and operator, numbered from the second on.

    Attributes:
        scope: Path before the names of what is added, with its slash, or nothing.
        nodes: Name to node.
        initializers: Name to constant. Both are shared with the graphs that `within` returns.
    """

    scope: str = ""
    nodes: dict[str, onnx.NodeProto] = field(default_factory=dict)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def within(self, name: str) -> Graph:
        """The same graph, adding under ``scope/name``."""
        return dataclasses.replace(self, scope=f"{self.scope}{name}/")

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add an operator of the default domain with one output, whose name is returned.

        Args:
            op: Type of the operator; inputs and attributes are those of ONNX.
            name: Name of the operator in the graph; default: its type.
        """
        path = self._free_name(name or op)
        self.nodes[path] = helper.make_node(op, inputs, [path], name=path, **attributes)
        return path

    def pair(self, op: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Add an operator with two outputs."""
        path = self._free_name(op)
        outputs = f"{path}:0", f"{path}:1"
        self.nodes[path] = helper.make_node(op, inputs, outputs, name=path, **attributes)
        return outputs

    def cast(self, x: str, dtype: DTypeLike) -> str:
        """Add a conversion of `x` to another type of elements."""
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def constant(self, array: np.ndarray, name: str) -> str:
        """Add an array under a name of its own, which is returned with its scope."""
        path = f"{self.scope}{name}"
        assert path not in self.initializers, f"two constants are named {path}"
        self.initializers[path] = numpy_helper.from_array(array, path)
        return path

    def value(self, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """A number or a short list, named by itself and kept once a graph."""
        array = np.asarray(value, dtype)
        name = f"{array.dtype}({array.tolist()})"
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def _free_name(self, name: str) -> str:
        path = first = f"{self.scope}{name}"
        count = 1
        while path in self.nodes:
            count += 1
            path = f"{first}_{count}"
        return path


class Layer(NamedTuple):
    """A linear layer's scheme and the names of its constants.

    Attributes:
        scheme: Scheme of the layer.
        codes: [i, o]; int8 or uint8 where activations are quantized, otherwise float.
        zero_points: The code that stands for 0 in activations; then, unless it is 0, in `codes`.
        factor: float [o], scale over denominator; None for fp32.
        bias: float [o].
    """

    scheme: Scheme
    codes: str
    zero_points: Sequence[str]
    factor: str | None
    bias: str


def add_layer(graph: Graph, layer: PackedLayer) -> Layer:
    """Add the constants of a layer."""
    scheme = SCHEMES[layer.scheme]
    _require_integers(scheme)
    factor, zero_points = row_factor(layer), []
    if scheme.activations is not None:
        zero = graph.value(_UINT8_ZERO, np.uint8)
        zero_points = [zero, zero] if _is_unsigned(scheme) else [zero]
    return Layer(
        scheme,
        _codes(graph, layer.codes.T, scheme),
        zero_points,
        None if factor is None else graph.constant(factor, "factor"),
        graph.constant(layer.bias.astype(np.float32), "bias"),
    )


def add_mask(graph: Graph, mask: np.ndarray) -> str | None:
    """Add a dropout mask [s, i], one bit an element; None if it drops nothing."""
    if (mask == 1).all():
        return None
    is_kept = graph.cast(_digits(graph, mask > 0, 2, "mask"), np.float32)
    return graph.node("Mul", is_kept, graph.value(mask.max()))


def linear(graph: Graph, x: str, layer: Layer) -> str:
    """A layer of float [..., i], in its scheme's arithmetic: [..., o]."""
    sample_factor = None
    if layer.scheme.activations is None:
        y = graph.node("MatMul", x, layer.codes)
    else:
        codes, sample_factor = _quantise_samples(graph, x, layer.scheme.activations)
        product = graph.node("MatMulInteger", codes, layer.codes, *layer.zero_points)
        y = graph.cast(product, np.float32)
    for factor in (layer.factor, sample_factor):
        y = y if factor is None else graph.node("Mul", y, factor)
    return graph.node("Add", y, layer.bias)


def over_features(graph: Graph, reduction: str, x: str) -> str:
    """A reduction, such as ``ReduceMean``, over the last axis, which stays with length 1."""
    return graph.node(reduction, x, graph.value([-1], np.int64))


def _quantise_samples(graph: Graph, x: str, grid: Grid) -> tuple[str, str]:
    """Codes around 128, uint8 [..., i], and what a step of them is worth, float [..., 1]."""
    if grid.spacing != 1:
        raise unknown_rule(BACKEND, "Grid.spacing of activations", grid.spacing)
    sizes = graph.node("Abs", x)
    if grid.scale == "absmax":
        measured = over_features(graph, "ReduceMax", sizes)
    elif grid.scale == "absmean":
        mean = over_features(graph, "ReduceMean", graph.cast(sizes, np.float64))
        measured = graph.cast(mean, np.float32)
    else:
        raise unknown_rule(BACKEND, "Grid.scale of activations", grid.scale)
    measured = graph.node("Mul", measured, graph.value(grid.scale_factor))
    scale = graph.node("Max", measured, graph.value(SMALLEST_SAMPLE_SCALE))
    denominator = graph.value(grid.denominator)
    # Not QuantizeLinear, which divides by the scale: its last bits are others.
    values = graph.node("Mul", x, graph.node("Div", denominator, scale))
    limits = graph.value(-grid.highest), graph.value(grid.highest)
    codes = graph.node("Clip", graph.node("Round", values), *limits)
    shifted = graph.node("Add", codes, graph.value(_UINT8_ZERO))
    return graph.cast(shifted, np.uint8), graph.node("Div", scale, denominator)


def _require_integers(scheme: Scheme) -> None:
    """Refuse codes that the integer types of the graph cannot hold."""
    weights, activations = scheme.weights, scheme.activations
    if activations is not None and (weights is None or activations.highest > _HIGHEST_BYTE):
        raise unknown_rule(BACKEND, "Scheme", scheme.name)
    highest = _HIGHEST_SHORT if activations is None else _HIGHEST_BYTE
    if weights is not None and weights.highest > highest:
        raise unknown_rule(BACKEND, "Grid.highest of weights", weights.highest)


def _is_unsigned(scheme: Scheme) -> bool:
    """Whether codes are kept as uint8 around 128."""
    if scheme.weights is None or scheme.activations is None:
        return False
    return scheme.weights.highest > _HIGHEST_SIGNED


def _codes(graph: Graph, codes: np.ndarray, scheme: Scheme) -> str:
    """Codes [i, o] as the layer's product takes them."""
    grid = scheme.weights
    if grid is None:
        return graph.constant(codes, "codes")
    if scheme.activations is None:
        return graph.cast(graph.constant(codes.astype(np.int16), "codes"), np.float32)
    whole = codes.astype(np.int64)
    if _is_unsigned(scheme):
        return graph.constant((whole + _UINT8_ZERO).astype(np.uint8), "codes")
    digits = _digits(graph, (whole + grid.highest) // grid.spacing, grid.n_levels, "codes")
    inside = graph.within("codes")
    above = inside.node("Mul", digits, graph.value(grid.spacing, np.int32))
    return inside.cast(inside.node("Sub", above, graph.value(grid.highest, np.int32)), np.int8)


def _digits(graph: Graph, digits: np.ndarray, base: int, name: str) -> str:
    """Digits 0 to base - 1 of any shape as int32, stored as many a byte as fit.

    The first digit of a byte is the least significant, as in a packed file
    (`qwave.packing.bits`).
    """
    powers = base ** np.arange(8)
    powers = powers[powers * base <= 256]
    n_bytes = -(-digits.size // len(powers))
    padded = np.zeros((n_bytes, len(powers)), np.int64)
    padded.reshape(-1)[: digits.size] = digits.reshape(-1)
    stored = graph.constant((padded @ powers).astype(np.uint8)[:, None], name)
    inside = graph.within(name)
    shifted = inside.node("Div", inside.cast(stored, np.int32), graph.value(powers, np.int32))
    unpacked = inside.node("Mod", shifted, graph.value(base, np.int32))
    flat = inside.node("Reshape", unpacked, graph.value([-1], np.int64))
    ends = graph.value([0], np.int64), graph.value([digits.size], np.int64)
    used = inside.node("Slice", flat, *ends)  # without the digits that fill the last byte
    return inside.node("Reshape", used, graph.value(digits.shape, np.int64))
