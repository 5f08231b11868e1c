"""The packed file: safetensors with one JSON header, deterministic, never unpickled.

| tensor | dtype | content |
|---|---|---|
| `e0.1.c` | U8 | packed codes of layer 1 of expert 0 (`qwave.packing.bits`) |
| `e0.1.s` | F16 [o] | its scales; absent for fp32 |
| `e0.1.b` | F16 [o] | its bias |
| `r.0.c` ... | | the router's layers |
| `n.o`, `n.f` | F16 [d] | offset and factor of `standard` and `min_max` |
| `u` | F32 [2] | the mixture's range of mutual information |

The length of the file follows from configuration and data before training (`packed_size_bytes`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any, get_args

import numpy as np

from qwave.config import (
    ConfigError,
    CuriosityConfig,
    ModelConfig,
    PackedFileError,
    RouterConfig,
    TrialConfig,
)
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet
from qwave.data.normalization import has_constants
from qwave.packing.bits import pack, packed_length, unpack
from qwave.packing.model import Header, LayerShape, PackedLayer, PackedModel, layer_shapes

FORMAT_VERSION = 1
_MAX_HEADER_BYTES = 1_000_000
_MAX_MC_SAMPLES = 10_000
_KEY = "qwave"

_Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def to_bytes(model: PackedModel) -> bytes:
    """The content of a packed file."""
    tensors: dict[str, np.ndarray] = {}
    for name, layer in model.layers.items():
        tensors[f"{name}.c"] = pack(layer.codes, layer.scheme)
        if layer.scale is not None:
            tensors[f"{name}.s"] = layer.scale
        tensors[f"{name}.b"] = layer.bias
    if model.offset is not None and model.factor is not None:
        tensors["n.o"], tensors["n.f"] = model.offset, model.factor
    if model.curiosity_range is not None:
        tensors["u"] = np.array(model.curiosity_range, dtype=np.float32)
    return _serialize(model.header, tensors)


def from_bytes(content: bytes, source: str) -> PackedModel:
    """Read a packed file's content.

    Every tensor's name, dtype and shape is checked against what the header's configuration asks
    for before anything is decoded.

    Raises:
        PackedFileError: Anything is not as `to_bytes` would have written it; `source` names the
            file in the message.
    """
    # Imported where files are read and written: the engine imports this package on machines that
    # have torch, numpy and scikit-learn only, and trains without files.
    from safetensors import SafetensorError
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little") if len(content) >= 8 else -1
    if not 0 <= length <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise PackedFileError(
            f"{source}: not a packed qwave model: {len(content)} bytes, header length {length}"
        )
    try:
        tensors = load(content)
        metadata = json.loads(content[8 : 8 + length])["__metadata__"][_KEY]
        header = _header_from_json(json.loads(metadata))
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PackedFileError(f"{source}: not a readable packed model: {error}") from error
    expected = _layout(header)
    found = {name: (str(t.dtype), t.shape) for name, t in tensors.items()}
    wanted = {name: (str(dtype), shape) for name, (dtype, shape) in expected.items()}
    if found != wanted:
        wrong = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
        raise PackedFileError(
            f"{source}: tensor {wrong[0]!r} is {found.get(wrong[0], 'missing')}, "
            f"the header asks for {wanted.get(wrong[0], 'nothing')}"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != np.uint8 and not np.isfinite(tensor).all():
            raise PackedFileError(f"{source}: tensor {name!r} holds values that are not finite")
    layers = {}
    for shape in layer_shapes(header.model, header.in_features, len(header.class_names)):
        size = (shape.out_features, shape.in_features)
        codes = unpack(tensors[f"{shape.name}.c"], shape.scheme, size)
        scale = tensors.get(f"{shape.name}.s")
        layers[shape.name] = PackedLayer(shape.scheme, codes, scale, tensors[f"{shape.name}.b"])
    limits = tensors.get("u")
    return PackedModel(
        header,
        layers,
        tensors.get("n.o"),
        tensors.get("n.f"),
        None if limits is None else (float(limits[0]), float(limits[1])),
    )


def make_header(config: TrialConfig, data: EmbeddingSet, mc_seed: int = 0) -> Header:
    """The header of a model trained with a configuration on a data set."""
    config = config.canonical()
    model = config.model
    model = dataclasses.replace(
        model,
        dropout=_rate(_rate_text(model.dropout)),
        input_dropout=_rate(_rate_text(model.input_dropout)),
        router=dataclasses.replace(model.router, dropout=_rate(_rate_text(model.router.dropout))),
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
    framing, names of tensors and classes, and the JSON header.
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
    return {**parts, "container": _container_length(header, layout)}


def _container_length(header: Header, layout: _Layout) -> int:
    """Length of everything before the first tensor: 8 bytes, and the JSON header padded to 8.

    Written out after safetensors' format description (tensors by falling dtype, then by name),
    because laying out zeros instead takes 4 ms for a middling model and a study asks about a
    thousand models before it starts. Tests hold it against files.
    """
    names = {"float32": "F32", "float16": "F16", "uint8": "U8"}
    order = list(names)
    entries: dict[str, Any] = {"__metadata__": {_KEY: _header_text(header)}}
    offset = 0
    for name, (dtype, shape) in sorted(
        layout.items(), key=lambda item: (order.index(str(item[1][0])), item[0])
    ):
        end = offset + dtype.itemsize * math.prod(shape)
        entries[name] = {
            "dtype": names[str(dtype)],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False)
    return 8 + -(-len(text.encode()) // 8) * 8


def _layout(header: Header) -> _Layout:
    half, byte = np.dtype(np.float16), np.dtype(np.uint8)
    layout: _Layout = {}
    shapes: list[LayerShape] = layer_shapes(
        header.model, header.in_features, len(header.class_names)
    )
    for shape in shapes:
        count = shape.out_features * shape.in_features
        layout[f"{shape.name}.c"] = (byte, (packed_length(count, shape.scheme),))
        if shape.scheme != "fp32":
            layout[f"{shape.name}.s"] = (half, (shape.out_features,))
        layout[f"{shape.name}.b"] = (half, (shape.out_features,))
    if has_constants(header.normalization):
        layout["n.o"] = layout["n.f"] = (half, (header.in_features,))
    if header.model.num_experts > 1:
        layout["u"] = (np.dtype(np.float32), (2,))
    return layout


def _serialize(header: Header, tensors: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    # One metadata key only: safetensors writes several in no fixed order.
    content: bytes = save(tensors, metadata={_KEY: _header_text(header)})
    return content


def _header_text(header: Header) -> str:
    return json.dumps(_header_to_json(header), separators=(",", ":"), ensure_ascii=False)


def _rate_text(rate: float) -> str:
    """A dropout rate as four hexadecimal digits, in units of 2^-16.

    That is how finely training draws (`qwave.dropout.DropMask`), and unlike a decimal fraction it
    has one length: the size of a file must not depend on the digits of a rate.
    """
    return f"{min(round(rate * 2**16), 2**16 - 1):04x}"


def _rate(text: str) -> float:
    return int(text, 16) / 2**16


def _header_to_json(header: Header) -> dict[str, Any]:
    model = header.model
    tree: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "classes": list(header.class_names),
        "features": header.in_features,
        "normalization": header.normalization,
        "schemes": list(model.schemes),
        "hidden": list(model.hidden),
        "mc": [model.curiosity.mc_samples, f"{header.mc_seed:08x}"],
        "data": header.data_digest,
        "config": header.config_digest,
    }
    if model.head_scheme is not None:
        tree["head"] = model.head_scheme
    if model.num_experts > 1:
        router = model.router
        tree["router"] = [router.hidden, router.scheme, _rate_text(router.dropout)]
        tree["top_k"] = model.top_k
        tree["alpha"] = model.curiosity.alpha
    else:
        tree["dropout"] = [_rate_text(model.input_dropout), _rate_text(model.dropout)]
    return tree


def _header_from_json(tree: dict[str, Any]) -> Header:
    if tree["version"] != FORMAT_VERSION:
        raise PackedFileError(
            f"format version {tree['version']!r}; this qwave reads version {FORMAT_VERSION}"
        )
    samples, seed = tree["mc"]
    schemes = tuple(tree["schemes"])
    is_mixture = len(schemes) > 1
    router = RouterConfig()
    input_dropout = dropout = 0.0
    if is_mixture:
        width, scheme, rate = tree["router"]
        router = RouterConfig(width, scheme, _rate(rate))
    else:
        input_dropout, dropout = (_rate(text) for text in tree["dropout"])
    try:
        model = ModelConfig(
            schemes=schemes,
            hidden=tuple(tree["hidden"]),
            head_scheme=tree.get("head"),
            top_k=tree.get("top_k", 1),
            dropout=dropout,
            input_dropout=input_dropout,
            router=router,
            curiosity=CuriosityConfig(tree.get("alpha", 0.0), samples),
        )
    except ConfigError as error:
        raise PackedFileError(f"impossible model: {error}") from error
    names, features = tree["classes"], tree["features"]
    whole = {
        "features": (features, 1),
        "top_k": (model.top_k, 1),
        "router": (model.router.hidden, 0),
        **{f"hidden[{layer}]": (width, 1) for layer, width in enumerate(model.hidden)},
    }
    for key, (number, least) in whole.items():
        if type(number) is not int or not least <= number < 2**31:
            raise PackedFileError(f"{key} must be a whole number from {least}, not {number!r}")
    if type(samples) is not int or not 2 <= samples <= _MAX_MC_SAMPLES:
        raise PackedFileError(f"mc samples must be 2 to {_MAX_MC_SAMPLES}, not {samples!r}")
    if not re.fullmatch(r"[0-9a-f]{8}", str(seed)):
        raise PackedFileError(f"mc seed must be eight hexadecimal digits, not {seed!r}")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise PackedFileError(f"class names must be a list of strings, but got {names!r}")
    if tree["normalization"] not in get_args(Normalization):
        raise PackedFileError(f"unknown normalization {tree['normalization']!r}")
    return Header(
        model,
        tree["normalization"],
        features,
        tuple(names),
        int(seed, 16),
        str(tree["data"]),
        str(tree["config"]),
    )
