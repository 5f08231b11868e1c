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

Arrays of wider elements stand first, otherwise in this order, so that all of them are aligned.

The length of the file follows from configuration and data before training (`packed_size_bytes`).
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qwave.config import (
    SCHEMES,
    ConfigError,
    PackedFileError,
    QwaveError,
    TrialConfig,
    require_config,
)
from qwave.data import EmbeddingSet, require_embeddings
from qwave.data.normalization import has_constants
from qwave.packing.bits import pack, packed_length, unpack
from qwave.packing.header import (
    FORMAT_VERSION,
    header_from_text,
    header_to_text,
    rounded_rate,
)
from qwave.packing.model import Header, PackedLayer, PackedModel, layer_shapes

# Names of 20,000 classes. As much hostile text takes up to 40 MB and 0.2 seconds to refuse.
_MAX_HEADER_BYTES = 1_000_000
_MAX_REASON = 500  # characters of a message
_SMALLEST_SCALE = 2.0**-14  # that of a row of zeros (`qwave.nn.quantizers.stored_scale`)
_TENSOR = "t"

_Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def to_bytes(model: PackedModel) -> bytes:
    """The content of a packed file.

    Raises:
        ConfigError: The class names are too long for a header.
    """
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
    parts = [_head(model.header, layout)]
    for name, (dtype, shape) in layout.items():
        assert arrays[name].shape == shape, f"{name}: {arrays[name].shape} instead of {shape}"
        parts.append(arrays[name].astype(dtype.newbyteorder("<"), copy=False).tobytes())
    return b"".join(parts)


def from_bytes(content: bytes, source: str) -> PackedModel:
    """Read a packed file's content, with the limits and checks of `from_file`.

    Raises:
        PackedFileError: Anything is not as `to_bytes` would have written it; `source` names the
            file in the message.
    """
    return _read(io.BytesIO(content), len(content), source)


def from_file(path: str | os.PathLike[str]) -> PackedModel:
    """Read a packed file.

    A file has one form in each version of the format: every byte before the tensor must be the one
    that `to_bytes` writes, or wrote in that version, for the header that they hold, and every
    array must hold what training can leave. The header, of a
    megabyte at most, is checked first, then the length of the file against the layout that the
    header asks for, and only then is the tensor read. Unpacking takes a byte a weight (two of
    `int16`, four of `fp32`), 8 times the file where these have one bit, and as much again for the
    layer at hand.

    Raises:
        PackedFileError: There is no such file, it is none that can be read to an end (a folder, a
            pipe, a device) or may not be read, or anything is not as `to_bytes` would have written
            it.
    """
    file = Path(path)
    if not os.path.isfile(file):
        there = " (it is a folder, a pipe or a device)" if os.path.exists(file) else ""
        raise PackedFileError(f"no such file: {file}{there}")
    try:
        with file.open("rb") as opened:
            return _read(opened, os.fstat(opened.fileno()).st_size, str(file))
    except OSError as error:
        raise PackedFileError(f"{file} cannot be read: {error.strerror or error}") from error


def _read(file: BinaryIO, size: int, source: str) -> PackedModel:
    """The model in a file of `size` bytes."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > min(_MAX_HEADER_BYTES, size - 8):
        raise PackedFileError(
            f"{source}: not a packed qwave model: {size} bytes, header length {length}"
        )
    head = start + file.read(length)
    try:
        text = _metadata(head[8:])
        header = header_from_text(text)
        layout = _layout(header)
        wanted = len(head) + _data_length(layout)
        if size != wanted:
            raise PackedFileError(f"{size} bytes, but its header is that of a file of {wanted}")
        _require_written(head, _head(header, layout, int(text["qwave"])))
        return _decode(header, layout, file.read(_data_length(layout)))
    except QwaveError as error:
        reason = str(error)[:_MAX_REASON]  # may quote a megabyte
        raise PackedFileError(f"{source}: not a readable packed model: {reason}") from error


def _metadata(text: bytes) -> dict[str, str]:
    """The strings of a safetensors header.

    By Python's own reader instead of that of safetensors, which wants the whole file and is one
    more thing to install on a device. What else the header says is compared byte by byte.
    """
    try:
        entries = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise PackedFileError(f"the header is no JSON: {error}") from error
    metadata = entries.get("__metadata__") if isinstance(entries, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise PackedFileError("the header has no `__metadata__` of strings")
    return metadata


def _require_written(found: bytes, written: bytes) -> None:
    """Refuse a head that says the same in other bytes, or more than what is read from it."""
    if found != written:
        at = len(os.path.commonprefix([found, written]))
        raise PackedFileError(
            f"byte {at} begins {found[at : at + 30]!r}, where qwave would have written "
            f"{written[at : at + 30]!r}"
        )


def _decode(header: Header, layout: _Layout, data: bytes) -> PackedModel:
    if len(data) != _data_length(layout):
        raise PackedFileError(f"the file became {_data_length(layout) - len(data)} bytes shorter")
    arrays = _split(np.frombuffer(data, dtype=np.uint8), layout)
    for name, array in arrays.items():
        lowest = _lowest(name)
        if array.dtype != np.uint8 and not (np.isfinite(array) & (array >= lowest)).all():
            raise PackedFileError(f"array {name!r} must hold finite numbers from {lowest:g}")
    layers = {}
    for shape in layer_shapes(header.model, header.in_features, len(header.class_names)):
        size = (shape.out_features, shape.in_features)
        try:
            codes = unpack(arrays[f"{shape.name}.c"], shape.scheme, size)
        except PackedFileError as error:
            raise PackedFileError(f"layer {shape.name!r}: {error}") from error
        scale = arrays.get(f"{shape.name}.s")
        layers[shape.name] = PackedLayer(shape.scheme, codes, scale, arrays[f"{shape.name}.b"])
    curiosity_range = None
    if "u" in arrays:
        low, high = map(float, arrays["u"])
        if low > high:
            raise PackedFileError(f"the range of mutual information is {low:g} to {high:g}")
        curiosity_range = (low, high)
    return PackedModel(header, layers, arrays.get("n.o"), arrays.get("n.f"), curiosity_range)


def _lowest(name: str) -> float:
    """The smallest number that training leaves in an array of floats."""
    if name.endswith(".s"):
        return _SMALLEST_SCALE
    return 0.0 if name in ("n.f", "u") else -math.inf


def make_header(config: TrialConfig, data: EmbeddingSet, mc_seed: int = 0) -> Header:
    """The header of a model trained with a configuration on a data set.

    Raises:
        ConfigError: The first value is no configuration, or no file can hold such a model.
        DataError: The second is no `EmbeddingSet`.
    """
    require_config(config, "make_header")
    require_embeddings(data, "make_header")
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
        data.encoder,
    )


def packed_size_bytes(config: TrialConfig, data: EmbeddingSet) -> int:
    """Length of the packed file that a configuration leads to, before any training.

    Raises:
        ConfigError: No packed file can hold such a model (see `Header`), or all its class names.
        DataError: The data are no `EmbeddingSet`.
    """
    require_config(config, "packed_size_bytes")
    require_embeddings(data, "packed_size_bytes")
    return sum(packed_size_parts(config, data).values())


def packed_size_parts(config: TrialConfig, data: EmbeddingSet) -> dict[str, int]:
    """Packed size by part: ``expert_0`` ..., ``router``, ``normalization``, ``container``.

    The container is everything besides codes, scales, biases and constants: the safetensors
    framing and the header.
    """
    header = make_header(config, data)
    layout = _layout(header)
    parts: dict[str, int] = {}
    for name, (dtype, shape) in layout.items():
        key = name.split(".")[0]
        shared = {"r": "router", "u": "router", "n": "normalization"}
        part = shared.get(key, f"expert_{key[1:]}")
        parts[part] = parts.get(part, 0) + dtype.itemsize * math.prod(shape)
    return {**parts, "container": len(_head(header, layout))}


def _head(header: Header, layout: _Layout, version: int = FORMAT_VERSION) -> bytes:
    """Everything before the tensor: its length in 8 bytes, and the JSON header padded to 8.

    Written out after safetensors' format description: the library writes metadata in no fixed
    order, and equal models are equal files.
    """
    length = _data_length(layout)
    tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    entries = {"__metadata__": header_to_text(header, version), _TENSOR: tensor}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER_BYTES:
        raise ConfigError(
            f"the header of a packed file has at most {_MAX_HEADER_BYTES} bytes, but with these "
            f"{len(header.class_names)} class names it would have {len(text)}; shorten the names"
        )
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
        # Codes are unpacked; copies of the rest do not keep the whole file in memory.
        arrays[name] = array if dtype == np.uint8 else array.astype(dtype)
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
        if SCHEMES[shape.scheme].weights is not None:
            layout[f"{shape.name}.s"] = (half, (shape.out_features,))
        layout[f"{shape.name}.b"] = (half, (shape.out_features,))
        layout[f"{shape.name}.c"] = (byte, (packed_length(count, shape.scheme),))
    return dict(sorted(layout.items(), key=lambda item: -item[1][0].itemsize))
