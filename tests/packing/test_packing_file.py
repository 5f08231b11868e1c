"""Packed files: round trips, sizes known beforehand, and their bytes by hand.

Models are made of random codes; nothing is trained here.
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from qwave.config import (
    SCHEMES,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrialConfig,
)
from qwave.data.normalization import has_constants
from qwave.packing import (
    PackedLayer,
    PackedModel,
    from_bytes,
    layer_shapes,
    make_header,
    mc_masks,
    packed_size_bytes,
    packed_size_parts,
    to_bytes,
)
from qwave.packing.header import header_to_text
from qwave.runtime import load_packed, save_packed

from .models import (
    MIXTURE,
    PLAIN,
    as_stored,
    draw_model,
    in_file,
    make_data,
    make_model,
    small_model,
    split,
    with_layer,
)


def assert_same_model(found: PackedModel, wanted: PackedModel) -> None:
    assert list(found.layers) == list(wanted.layers)
    for name, layer in wanted.layers.items():
        other = found.layers[name]
        assert other.scheme == layer.scheme
        assert other.codes.dtype == {"int16": np.int16, "fp32": np.float32}.get(
            layer.scheme, np.int8
        )
        assert np.array_equal(other.codes, layer.codes), name
        assert other.bias.tobytes() == layer.bias.tobytes(), name
        if layer.scale is None:
            assert other.scale is None
        else:
            assert other.scale is not None
            assert other.scale.tobytes() == layer.scale.tobytes(), name
    for ours, theirs in ((found.offset, wanted.offset), (found.factor, wanted.factor)):
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs is None or ours.tobytes() == theirs.tobytes()
    assert found.curiosity_range == wanted.curiosity_range
    assert found.header == as_stored(wanted.header)


# --- round trip and size ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_size_from_the_configuration_is_the_size_of_the_file(seed: int, tmp_path: Path) -> None:
    config, data, model = draw_model(seed)
    file = tmp_path / "model.qwave"
    returned = save_packed(model, file)
    size = os.path.getsize(file)
    assert packed_size_bytes(config, data) == size, f"seed {seed}: {config}"
    assert len(to_bytes(model)) == returned == size
    assert_same_model(load_packed(file).packed, model)


@pytest.mark.parametrize("seed", range(8))
def test_reading_and_writing_again_gives_the_same_bytes(seed: int) -> None:
    _, _, model = draw_model(1000 + seed)
    content = to_bytes(model)
    assert to_bytes(model) == content, f"seed {seed}"
    assert to_bytes(from_bytes(content, "again")) == content, f"seed {seed}"


@pytest.mark.parametrize("seed", range(8))
def test_parts_of_the_size_are_those_of_the_stored_bits(seed: int) -> None:
    config, data, model = draw_model(2000 + seed)
    parts = packed_size_parts(config, data)
    assert sum(parts.values()) == len(to_bytes(model))
    num_experts, num_features = config.model.num_experts, data.x.shape[1]
    wanted = dict.fromkeys([f"expert_{i}" for i in range(num_experts)], 0)
    if num_experts > 1:
        wanted["router"] = 8  # the range of curiosity: two float32
    if has_constants(config.data.normalization):
        wanted["normalization"] = 2 * 2 * num_features
    for shape in layer_shapes(config.model, num_features, data.num_classes):
        part = "router" if shape.name[0] == "r" else f"expert_{shape.name[1:].split('.')[0]}"
        bits = shape.out_features * shape.in_features * SCHEMES[shape.scheme].bits
        vectors = 1 if shape.scheme == "fp32" else 2  # bias, scale
        wanted[part] += math.ceil(bits / 8) + 2 * vectors * shape.out_features
    container = parts.pop("container")
    assert parts == wanted, f"seed {seed}: {config}"
    assert container > 0


def test_arrays_of_other_shapes_than_the_headers_are_not_written() -> None:
    model = small_model(*PLAIN)
    bias = model.layers["e0.0"].bias
    with pytest.raises(AssertionError, match=r"e0\.0\.b: \(2,\) instead of \(3,\)"):
        to_bytes(with_layer(model, "e0.0", bias=bias[:2]))


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1 / 3, 0.1, 0.5, 0.999, 1 - 1e-9, 1 - 2**-53])
@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_rates_are_stored_to_the_nearest_65536th_in_one_length(
    schemes: tuple[str, ...], rate: float
) -> None:
    config = TrialConfig(
        model=ModelConfig(
            schemes, (3,), dropout=rate, input_dropout=rate, router=RouterConfig(0, "int8", rate)
        )
    ).canonical()
    data = make_data(5, ("dog", "rain"))
    model = make_model(np.random.default_rng(3), config, data)
    content = to_bytes(model)
    found = from_bytes(content, "test").header
    stored = found.model.router.dropout if len(schemes) > 1 else found.model.input_dropout
    assert stored == in_file(rate) < 1
    # Size and masks are those of the header before it was written.
    assert len(content) == packed_size_bytes(config, data)
    for ours, theirs in zip(mc_masks(found), mc_masks(model.header), strict=True):
        assert np.array_equal(ours, theirs)
        assert np.isfinite(ours).all()


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_safetensors_own_reader_shows_the_header_and_one_tensor(
    schemes: tuple[str, ...], tmp_path: Path
) -> None:
    model = small_model(*schemes)
    file = tmp_path / "model.qwave"
    save_packed(model, file)
    text = header_to_text(model.header)
    header, rest = split(file.read_bytes())
    with safe_open(file, framework="np") as opened:
        assert opened.metadata() == text
        assert list(opened.keys()) == ["t"]
        tensor = opened.get_tensor("t")
    assert tensor.dtype == np.uint8
    assert tensor.shape == (len(rest),)
    assert tensor.tobytes() == rest
    # In this order, which safetensors itself does not keep.
    assert list(header) == ["__metadata__", "t"]
    assert list(header["__metadata__"].items()) == list(text.items())


TWIN_CONFIG = TrialConfig(
    data=DataConfig(normalization="standard"),
    model=ModelConfig(
        ("ternary", "int4", "fp32"),
        (),
        top_k=2,
        router=RouterConfig(0, "int16", 0.25),
        curiosity=CuriosityConfig(0.5, 4),
    ),
)


def twin_model() -> PackedModel:
    def half(*values: float) -> np.ndarray:
        return np.array(values, dtype=np.float16)

    def codes(*rows: tuple[float, float, float]) -> np.ndarray:
        return np.array(rows, dtype=np.float32)

    data = make_data(3, ('a "b", c', "犬\n"), "mel@00c0ffee")
    header = make_header(TWIN_CONFIG, data, mc_seed=0xBEEF)
    header = dataclasses.replace(header, sure_probability=0.65625)  # 0xa800 / 2^16
    layers = {
        "e0.0": PackedLayer("ternary", codes((-1, 0, 1), (1, 0, -1)), half(1, 2), half(3, 4)),
        "e1.0": PackedLayer("int4", codes((-7, 0, 7), (1, 2, 3)), half(5, 6), half(7, 8)),
        "e2.0": PackedLayer("fp32", codes((0.5, -1, 2), (3, 4, 5)), None, half(9, 10)),
        "r.0": PackedLayer(
            "int16", codes((-2, -1, 0), (1, 2, 3), (300, 5, 6)), half(11, 12, 13), half(14, 15, 16)
        ),
    }
    return PackedModel(header, layers, half(17, 18, 19), half(20, 21, 22), (0.125, 0.375))


def test_bytes_are_those_laid_out_by_hand() -> None:
    data = struct.pack("<2f", 0.125, 0.375)  # u
    for number in (17, 18, 19, 20, 21, 22):  # n.o, n.f
        data += struct.pack("<e", number)
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10):  # scales and bias of e0, of e1, bias of e2
        data += struct.pack("<e", number)
    for number in (11, 12, 13, 14, 15, 16):  # scales and bias of the router
        data += struct.pack("<e", number)
    # Digits 0, 1, 2, 2, 1 | 0 of base 3, as in the worked example of qwave.packing.bits.
    data += bytes([0 + 1 * 3 + 2 * 9 + 2 * 27 + 1 * 81, 0])
    data += bytes([0 + 7 * 16, 14 + 8 * 16, 9 + 10 * 16])  # code + 7, two a byte
    for weight in (0.5, -1, 2, 3, 4, 5):
        data += struct.pack("<f", weight)
    for code in (-2, -1, 0, 1, 2, 3, 300, 5, 6):
        data += code.to_bytes(2, "little", signed=True)
    text = (
        r'{"__metadata__":{"qwave":"2","classes":"\"a \"\"b\"\", c\",\"犬\n\"",'
        r'"features":"3,mel@00c0ffee",'
        r'"normalization":"standard","schemes":"ternary,int4,fp32","router":"0,int16","top_k":"2",'
        r'"alpha":"0.5","mc":"4,0000beef,4000","sure":"a800",'
        f'"digests":"0123456789abcdef,{TWIN_CONFIG.digest}"}},'
        f'"t":{{"dtype":"U8","shape":[{len(data)}],"data_offsets":[0,{len(data)}]}}}}'
    ).encode()
    while len(text) % 8:
        text += b" "
    assert to_bytes(twin_model()) == len(text).to_bytes(8, "little") + text + data
