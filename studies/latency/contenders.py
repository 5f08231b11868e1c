"""The runtimes that `studies.latency` compares, all with the weights of one network.

Each takes raw embeddings, which are not negative, and returns probabilities: it takes square
roots, standardises each clip, and ends with a softmax.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.pack import packed_layer
from qwave.engine.refit import fit_model
from qwave.packing import PackedModel, layer_shapes, make_header

Predict = Callable[[np.ndarray], np.ndarray]
_BLOCK = 32  # weights that share a scale in MatMulNBits
_OPSET, _IR_VERSION = 21, 10


class Layer(NamedTuple):
    """One layer of a float network: weight [o, i], bias [o]."""

    weight: np.ndarray
    bias: np.ndarray


def float_layers(data: EmbeddingSet, hidden: tuple[int, ...], n_epochs: int) -> list[Layer]:
    """The layers of a float network, trained for a few epochs."""
    train = TrainConfig(epochs=n_epochs, distillation=0.0)
    model = ModelConfig(("fp32",), hidden)
    fitted = fit_model(TrialConfig(DataConfig(), model, train), data)
    layers = fitted.packed.layers.values()
    return [Layer(layer.codes, layer.bias.astype(np.float32)) for layer in layers]


def packed_model(layers: Sequence[Layer], scheme: str, data: EmbeddingSet) -> PackedModel:
    """The network, quantized after training."""
    hidden = tuple(len(layer.bias) for layer in layers[:-1])
    config = TrialConfig(DataConfig(), ModelConfig((scheme,), hidden)).canonical()
    shapes = layer_shapes(config.model, data.x.shape[1], data.num_classes)
    packed = {
        shape.name: packed_layer(
            torch.from_numpy(layer.weight), torch.from_numpy(layer.bias), scheme
        )
        for shape, layer in zip(shapes, layers, strict=True)
    }
    return PackedModel(make_header(config, data), packed, None, None, None)


def exported(packed: PackedModel) -> Predict:
    """The model.onnx of `qwave export --onnx`, in onnxruntime."""
    from qwave.exporting.graph import onnx_model

    return _session(onnx_model(packed).SerializeToString())


class _FloatNetwork(nn.Module):
    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.linears = nn.ModuleList()
        for layer in layers:
            linear = nn.Linear(layer.weight.shape[1], len(layer.bias))
            linear.weight.data.copy_(torch.from_numpy(layer.weight))
            linear.bias.data.copy_(torch.from_numpy(layer.bias))
            self.linears.append(linear)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.layer_norm(x.sqrt(), x.shape[1:], eps=1e-12)
        for index, linear in enumerate(self.linears):
            if index > 0:
                x = torch.relu(functional.layer_norm(x, x.shape[1:]))
            x = linear(x)
        return torch.softmax(x, dim=-1)


def torch_float(layers: Sequence[Layer]) -> Predict:
    """PyTorch in float32."""
    return _in_torch(_FloatNetwork(layers))


def torch_int8(layers: Sequence[Layer]) -> Predict:
    """PyTorch's dynamic quantization."""
    with warnings.catch_warnings():
        # PyTorch refers to torchao, another package, which has no such function yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        network = torch.ao.quantization.quantize_dynamic(_FloatNetwork(layers), {nn.Linear})
    return _in_torch(network)


def _in_torch(network: nn.Module) -> Predict:
    network.eval()

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()

    return predict


def onnx_float(layers: Sequence[Layer]) -> Predict:
    """onnxruntime in float32."""
    return _session(_onnx_network(layers, _float_product).SerializeToString())


def onnx_int8(layers: Sequence[Layer]) -> Predict:
    """onnxruntime's own dynamic quantization, a scale for each row."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        network = _onnx_network(layers, _float_product)
        logging.disable(logging.WARNING)  # it advises fusions that do not apply here
        try:
            quantize_dynamic(network, file, per_channel=True, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        return _session(file.read_bytes())


def onnx_4_bits(layers: Sequence[Layer]) -> Predict:
    """onnxruntime's MatMulNBits: 4 bits, a scale for each block, inputs rounded to int8."""
    return _session(_onnx_network(layers, _product_of_4_bits).SerializeToString())


def _onnx_network(layers: Sequence[Layer], product: Callable[..., Any]) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [helper.make_node("Sqrt", ["embeddings"], ["roots"])], []
    x = "roots"
    for index, layer in enumerate(layers):
        width = layer.weight.shape[1]
        named = {f"ones_{index}": np.ones(width, dtype=np.float32), f"bias_{index}": layer.bias}
        constants += [numpy_helper.from_array(value, name) for name, value in named.items()]
        normalised, y = f"normalised_{index}", f"layer_{index}"
        nodes.append(helper.make_node("LayerNormalization", [x, f"ones_{index}"], [normalised]))
        if index > 0:
            nodes.append(helper.make_node("Relu", [normalised], [f"relu_{index}"]))
            normalised = f"relu_{index}"
        node, weights = product(layer, normalised, f"product_{index}", f"weight_{index}")
        nodes += [node, helper.make_node("Add", [f"product_{index}", f"bias_{index}"], [y])]
        constants += [numpy_helper.from_array(value, name) for name, value in weights.items()]
        x = y
    nodes.append(helper.make_node("Softmax", [x], ["probabilities"]))
    shapes = {"embeddings": layers[0].weight.shape[1], "probabilities": len(layers[-1].bias)}
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["clips", width])
        for name, width in shapes.items()
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _float_product(layer: Layer, x: str, y: str, name: str) -> tuple[Any, dict[str, np.ndarray]]:
    from onnx import helper

    node = helper.make_node("MatMul", [x, name], [y])
    return node, {name: np.ascontiguousarray(layer.weight.T)}


def _product_of_4_bits(
    layer: Layer, x: str, y: str, name: str
) -> tuple[Any, dict[str, np.ndarray]]:
    from onnx import helper

    n_out, n_in = layer.weight.shape
    n_blocks = -(-n_in // _BLOCK)
    padded = np.zeros((n_out, n_blocks * _BLOCK), dtype=np.float32)
    padded[:, :n_in] = layer.weight
    blocks = padded.reshape(n_out, n_blocks, _BLOCK)
    scale = np.maximum(np.abs(blocks).max(axis=2) / 7, np.float32(1e-12))
    codes = (np.rint(blocks / scale[:, :, None]) + 8).astype(np.uint8)  # zero point 8
    packed = codes[:, :, ::2] | codes[:, :, 1::2] << 4
    sizes = {"K": n_in, "N": n_out, "bits": 4, "block_size": _BLOCK, "accuracy_level": 4}
    inputs = [x, name, f"{name}_scale"]
    node = helper.make_node("MatMulNBits", inputs, [y], domain="com.microsoft", **sizes)
    return node, {name: packed, f"{name}_scale": scale.reshape(-1)}


def _session(content: bytes) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def predict(x: np.ndarray) -> np.ndarray:
        probabilities: np.ndarray = session.run(["probabilities"], {"embeddings": x})[0]
        return probabilities

    return predict
