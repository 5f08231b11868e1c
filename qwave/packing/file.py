"""The packed file: safetensors with a header of strings, deterministic, never unpickled.

One tensor, `t` of U8, holds all arrays one after another, because an entry of its own would cost
each of them 60 bytes of header, as much as the scales, biases and range of a small model. What
lies where follows from the header (`qwave.packing.header`):

| array | dtype | content |
|---|---|---|
| `u` | float32 [2] | a mixture's range of mutual information |
| `n.o`, `n.f` | float16 [d] | offset and factor of `standard` and `min_max` |
| `e0.1.s` | float16 [o] | scales of layer 1 of expert 0; absent for fp32 |
| `e0.1.b` | float16 [o] | its bias |
| `e0.1.c` | uint8 | its packed codes (`qwave.packing.bits`) |
| `r.0.s` ... | | the router's layers |

By falling width of their elements, otherwise in this order, so that all of them are aligned.

The length of the file follows from configuration and data before training (`packed_size_bytes`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from qwave.config import PackedFileError, TrialConfig
from qwave.data import EmbeddingSet
from qwave.data.normalization import has_constants
from qwave.packing.bits import pack, packed_length, unpack
from qwave.packing.header import header_from_text, header_to_text, rounded_rate
from qwave.packing.model import Header, PackedLayer, PackedModel, layer_shapes

_MAX_HEADER_BYTES = 1_000_000
_TENSOR = "t"

_Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def to_bytes(model: PackedModel) -> bytes:
    """The content of a packed file."""
    arrays: dict[str, np.ndarray] = {}
    for name, layer in model.layers.items():
        arrays[f"{name}.c"] = pack(layer.codes, layer.scheme)
        arrays[f"{name}.b"] = layer.bias
        if layer.scale is not None:
            arrays[f"{name}.s"] = layer.scale
    if model.offset is not None and model.factor is not None:
        arrays["n.o"], arrays["n.f"] = model.offset, model.factor
    if model.curiosity_range is not None:
        arrays["u"] = np.array(model.curiosity_range)
    layout = _layout(model.header)
    parts = [
        arrays[name].astype(dtype.newbyteorder("<"), copy=False).tobytes()
        for name, (dtype, _) in layout.items()
    ]
    return b"".join([_head(model.header, layout), *parts])


def from_bytes(content: bytes, source: str) -> PackedModel:
    """Read a packed file's content.

    The length is checked against what the header's configuration asks for before anything is
    decoded.

    Raises:
        PackedFileError: Anything is not as `to_bytes` would have written it; `source` names the
            file in the message.
    """
    # Imported where files are read: the engine imports this package on machines that have torch,
    # numpy and scikit-learn only, and trains without files.
    from safetensors import SafetensorError
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little") if len(content) >= 8 else -1
    if not 0 <= length <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise PackedFileError(
            f"{source}: not a packed qwave model: {len(content)} bytes, header length {length}"
        )
    try:
        tensors = load(content)
        header = header_from_text(json.loads(content[8 : 8 + length]).get("__metadata__") or {})
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        # KeyError: safetensors' reader on types that numpy does not have, such as BF16.
        raise PackedFileError(f"{source}: not a readable packed model: {error}") from error
    # Before layers are listed: a megabyte of header can name experts and widths by the 10^5 each.
    n_layers = header.model.num_experts * (len(header.model.hidden) + 1)
    if n_layers > len(content):
        raise PackedFileError(f"{source}: {n_layers} layers do not fit into {len(content)} bytes")
    layout = _layout(header)
    found = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    wanted = {_TENSOR: ("uint8", (_data_length(layout),))}
    if found != wanted:
        raise PackedFileError(f"{source}: tensors are {found}, the header asks for {wanted}")
    arrays = _split(tensors[_TENSOR], layout)
    for name, array in arrays.items():
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            raise PackedFileError(f"{source}: array {name!r} holds values that are not finite")
    layers = {}
    for shape in layer_shapes(header.model, header.in_features, len(header.class_names)):
        size = (shape.out_features, shape.in_features)
        try:
            codes = unpack(arrays[f"{shape.name}.c"], shape.scheme, size)
        except PackedFileError as error:
            raise PackedFileError(f"{source}: layer {shape.name!r}: {error}") from error
        scale = arrays.get(f"{shape.name}.s")
        layers[shape.name] = PackedLayer(shape.scheme, codes, scale, arrays[f"{shape.name}.b"])
    limits = arrays.get("u")
    return PackedModel(
        header,
        layers,
        arrays.get("n.o"),
        arrays.get("n.f"),
        None if limits is None else (float(limits[0]), float(limits[1])),
    )


def make_header(config: TrialConfig, data: EmbeddingSet, mc_seed: int = 0) -> Header:
    """The header of a model trained with a configuration on a data set."""
    config = config.canonical()
    model = config.model
    model = dataclasses.replace(
        model,
        dropout=rounded_rate(model.dropout),
        input_dropout=rounded_rate(model.input_dropout),
        router=dataclasses.replace(model.router, dropout=rounded_rate(model.router.dropout)),
    )
    return Header(
        model,
        config.data.normalization,
        data.x.shape[1],
        data.class_names,
        mc_seed,
        data.digest,
        config.digest,
    )


def packed_size_bytes(config: TrialConfig, data: EmbeddingSet) -> int:
    """Length of the packed file that a configuration leads to, before any training."""
    return sum(packed_size_parts(config, data).values())


def packed_size_parts(config: TrialConfig, data: EmbeddingSet) -> dict[str, int]:
    """The same by part: ``expert_0`` ..., ``router``, ``normalization``, ``container``.

    The container is everything besides codes, scales, biases and constants: the safetensors
    framing and the header.
    """
    header = make_header(config, data)
    layout = _layout(header)
    parts: dict[str, int] = {}
    for name, (dtype, shape) in layout.items():
        place = name.split(".")[0]
        part = {"r": "router", "u": "router", "n": "normalization"}.get(
            place, f"expert_{place[1:]}"
        )
        parts[part] = parts.get(part, 0) + dtype.itemsize * math.prod(shape)
    return {**parts, "container": len(_head(header, layout))}


def _head(header: Header, layout: _Layout) -> bytes:
    """Everything before the tensor: its length in 8 bytes, and the JSON header padded to 8.

    Written out after safetensors' format description: the library writes metadata in no fixed
    order, and equal models are equal files.
    """
    length = _data_length(layout)
    tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    entries = {"__metadata__": header_to_text(header), _TENSOR: tensor}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _data_length(layout: _Layout) -> int:
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())


def _split(content: np.ndarray, layout: _Layout) -> dict[str, np.ndarray]:
    """The arrays in the tensor's bytes, in native byte order."""
    arrays = {}
    start = 0
    for name, (dtype, shape) in layout.items():
        end = start + dtype.itemsize * math.prod(shape)
        array = content[start:end].view(dtype.newbyteorder("<")).reshape(shape)
        arrays[name] = array.astype(dtype, copy=False)
        start = end
    return arrays


def _layout(header: Header) -> _Layout:
    """Dtype and shape of every array, in the order of the file."""
    single, half, byte = map(np.dtype, (np.float32, np.float16, np.uint8))
    layout: _Layout = {}
    if header.model.num_experts > 1:
        layout["u"] = (single, (2,))
    if has_constants(header.normalization):
        layout["n.o"] = layout["n.f"] = (half, (header.in_features,))
    for shape in layer_shapes(header.model, header.in_features, len(header.class_names)):
        count = shape.out_features * shape.in_features
        if shape.scheme != "fp32":
            layout[f"{shape.name}.s"] = (half, (shape.out_features,))
        layout[f"{shape.name}.b"] = (half, (shape.out_features,))
        layout[f"{shape.name}.c"] = (byte, (packed_length(count, shape.scheme),))
    return dict(sorted(layout.items(), key=lambda item: -item[1][0].itemsize))
