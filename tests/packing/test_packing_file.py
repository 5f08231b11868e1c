"""Packed files: round trips, sizes known beforehand, and hostile content.

Models are made of random codes; nothing is trained here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwave.config import (
    SCHEMES,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    PackedFileError,
    RouterConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet
from qwave.data.normalization import has_constants
from qwave.packing import (
    FORMAT_VERSION,
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
from qwave.runtime import PackedClassifier, load_packed, save_packed

ALL = tuple(SCHEMES)
NORMALIZATIONS = ("standard", "l2", "min_max", "raw", "layer", "sqrt_layer")
CLASS_NAMES = (
    ("a", "b"),
    ("dog bark", "rain", "sea waves"),
    ("犬の鳴き声", "дождь", "🐓", 'a "quoted" \\ name', "tab\tand\nnewline"),
    tuple(f"a very long name of a class, number {i}, {'ü' * (7 * i)}" for i in range(20)),
    ("", " "),
    ("\x00\x1f\x7f\x08\x0c\r", "\u2028\u2029\ufeff", "</script>&<", "e\u0301", "\U0010ffff"),
)


def make_data(n_features: int, class_names: tuple[str, ...]) -> EmbeddingSet:
    y = np.arange(len(class_names), dtype=np.int64)
    x = np.zeros((len(y), n_features), dtype=np.float32)
    names = tuple(map(str, y))
    return EmbeddingSet(x, y, None, None, class_names, names, "0123456789abcdef")


def make_model(rng: np.random.Generator, config: TrialConfig, data: EmbeddingSet) -> PackedModel:
    """A model of random codes, as training could have left it."""
    header = make_header(config, data, mc_seed=int(rng.integers(2**32)))
    layers = {}
    for shape in layer_shapes(header.model, header.in_features, len(header.class_names)):
        size = (shape.out_features, shape.in_features)
        bias = rng.normal(size=shape.out_features).astype(np.float16)
        grid = SCHEMES[shape.scheme].weights
        if grid is None:
            codes = rng.normal(size=size).astype(np.float32)
            layers[shape.name] = PackedLayer(shape.scheme, codes, None, bias)
            continue
        levels = np.arange(-grid.highest, grid.highest + 1, grid.spacing, dtype=np.float32)
        scale = rng.uniform(0.01, 1, shape.out_features).astype(np.float16)
        layers[shape.name] = PackedLayer(shape.scheme, rng.choice(levels, size), scale, bias)
    offset = factor = None
    if has_constants(header.normalization):
        offset = rng.normal(size=header.in_features).astype(np.float16)
        factor = rng.uniform(0.5, 2, header.in_features).astype(np.float16)
    limits = (0.125, 0.375) if header.model.num_experts > 1 else None
    return PackedModel(header, layers, offset, factor, limits)


def draw_config(rng: np.random.Generator) -> TrialConfig:
    num_experts = int(rng.choice([1, 1, 2, 3, 5]))
    hidden = [(), (6,), (9, 4), (1,)][rng.integers(4)]
    return TrialConfig(
        data=DataConfig(normalization=str(rng.choice(NORMALIZATIONS))),  # type: ignore[arg-type]
        model=ModelConfig(
            schemes=tuple(rng.choice(ALL, num_experts).tolist()),
            hidden=hidden,
            head_scheme=str(rng.choice(ALL)) if rng.random() < 0.5 else None,
            top_k=int(rng.integers(1, num_experts + 1)),
            dropout=round(float(rng.uniform(0, 0.9)), 3),
            input_dropout=float(rng.uniform(0, 0.9)),
            router=RouterConfig(
                int(rng.choice([0, 5])), str(rng.choice(ALL)), float(rng.choice([0.0, 1 / 3]))
            ),
            curiosity=CuriosityConfig(
                float(rng.choice([0.0, 0.1, 1e-7])), int(rng.integers(2, 99))
            ),
        ),
    ).canonical()


def draw_model(seed: int) -> tuple[TrialConfig, EmbeddingSet, PackedModel]:
    rng = np.random.default_rng(seed)
    config = draw_config(rng)
    data = make_data(int(rng.integers(1, 40)), CLASS_NAMES[rng.integers(len(CLASS_NAMES))])
    return config, data, make_model(rng, config, data)


def small_model(*schemes: str, hidden: tuple[int, ...] = (3,), alpha: float = 0.5) -> PackedModel:
    config = TrialConfig(
        data=DataConfig(normalization="standard" if len(schemes) > 1 else "layer"),
        model=ModelConfig(
            schemes,
            hidden,
            top_k=min(2, len(schemes)),
            dropout=0.25,
            input_dropout=0.125,
            curiosity=CuriosityConfig(alpha, 4),
        ),
    )
    data = make_data(5, ("dog", "rain", "sea"))
    return make_model(np.random.default_rng(1), config.canonical(), data)


MIXTURE = ("int1", "int4", "fp32")
PLAIN = ("int8",)


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The safetensors header and the rest of a file, by the format's definition."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: dict[str, Any], rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + rest


def edited(content: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with its qwave header changed in place by `edit`."""
    header, rest = split(content)
    tree = json.loads(header["__metadata__"]["qwave"])
    edit(tree)
    header["__metadata__"]["qwave"] = json.dumps(tree)
    return join(header, rest)


def assert_same_model(found: PackedModel, wanted: PackedModel) -> None:
    assert list(found.layers) == list(wanted.layers)
    for name, layer in wanted.layers.items():
        other = found.layers[name]
        assert other.scheme == layer.scheme
        assert other.codes.dtype == np.float32
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
    for field in dataclasses.fields(wanted.header):
        if field.name != "model":
            assert getattr(found.header, field.name) == getattr(wanted.header, field.name)


# --- round trip and size ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_size_from_the_configuration_is_the_size_of_the_file(seed: int, tmp_path: Path) -> None:
    config, data, model = draw_model(seed)
    file = tmp_path / "model.qwave"
    returned = save_packed(model, file)
    size = os.path.getsize(file)
    assert packed_size_bytes(config, data) == size, f"seed {seed}: {config}"
    assert len(to_bytes(model)) == returned == size
    assert_same_model(load_packed(file).packed, model)


@pytest.mark.parametrize("seed", range(20))
def test_reading_and_writing_again_gives_the_same_bytes(seed: int) -> None:
    _, _, model = draw_model(1000 + seed)
    content = to_bytes(model)
    assert to_bytes(model) == content, f"seed {seed}"
    assert to_bytes(from_bytes(content, "again")) == content, f"seed {seed}"


@pytest.mark.parametrize("seed", range(20))
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


def in_file(rate: float) -> float:
    """A rate to the nearest 2^-16, and never 1."""
    return min(round(rate * 65536), 65535) / 65536


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


@pytest.mark.parametrize("seed", range(20))
def test_model_that_was_read_is_the_canonical_one(seed: int) -> None:
    config, _, model = draw_model(3000 + seed)
    found = from_bytes(to_bytes(model), "test").header.model
    for key in ("schemes", "hidden", "head_scheme", "top_k"):
        assert getattr(found, key) == getattr(config.model, key), f"seed {seed}: {key}"
    assert found.curiosity == config.model.curiosity
    if config.model.num_experts > 1:
        rate = in_file(config.model.router.dropout)
        assert found.router == dataclasses.replace(config.model.router, dropout=rate)
    else:
        assert found.dropout == in_file(config.model.dropout)
        assert found.input_dropout == in_file(config.model.input_dropout)
    # What training alone needs is not stored.
    assert found.load_balance_weight == ModelConfig().load_balance_weight


@pytest.mark.parametrize("mc_seed", [0, 1, 2**32 - 1])
def test_seed_of_the_masks_does_not_change_the_size(mc_seed: int) -> None:
    model = small_model(*MIXTURE)
    header = dataclasses.replace(model.header, mc_seed=mc_seed)
    content = to_bytes(dataclasses.replace(model, header=header))
    assert len(content) == len(to_bytes(model))
    assert from_bytes(content, "test").header.mc_seed == mc_seed


def test_file_is_plain_safetensors_with_one_metadata_key() -> None:
    header, rest = split(to_bytes(small_model(*MIXTURE)))
    assert list(header["__metadata__"]) == ["qwave"]
    tensors = {name: value for name, value in header.items() if name != "__metadata__"}
    layers = ["e0.0", "e0.1", "e1.0", "e1.1", "e2.0", "e2.1", "r.0"]
    wanted = {f"{name}.c": "U8" for name in layers} | {f"{name}.b": "F16" for name in layers}
    wanted |= {f"{name}.s": "F16" for name in layers if not name.startswith("e2")}
    wanted |= {"n.o": "F16", "n.f": "F16", "u": "F32"}
    assert {name: value["dtype"] for name, value in tensors.items()} == wanted
    assert len(rest) == max(value["data_offsets"][1] for value in tensors.values())


# --- layers and masks ---------------------------------------------------------------------------


def test_layers_are_those_of_the_experts_and_then_the_router() -> None:
    model = ModelConfig(("int1", "int8"), (6, 4), head_scheme="int4", router=RouterConfig(3))
    found = [dataclasses.astuple(shape) for shape in layer_shapes(model, 10, 2)]
    assert found == [
        ("e0.0", "int1", 6, 10),
        ("e0.1", "int1", 4, 6),
        ("e0.2", "int4", 2, 4),
        ("e1.0", "int8", 6, 10),
        ("e1.1", "int8", 4, 6),
        ("e1.2", "int4", 2, 4),
        ("r.0", "int8", 3, 10),
        ("r.1", "int8", 2, 3),
    ]
    linear = [dataclasses.astuple(s) for s in layer_shapes(ModelConfig(("int2",), ()), 10, 2)]
    assert linear == [("e0.0", "int2", 2, 10)]


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN])
def test_masks_are_numpys_uniform_numbers_below_or_above_the_rate(
    schemes: tuple[str, ...],
) -> None:
    header = small_model(*schemes).header
    rates = [in_file(RouterConfig().dropout)] if len(schemes) > 1 else [0.125, 0.25]
    masks = mc_masks(header)
    generator = np.random.Generator(np.random.PCG64(header.mc_seed))
    assert [mask.shape for mask in masks] == [(4, 5), (4, 3)][: len(rates)]
    for mask, rate in zip(masks, rates, strict=True):
        assert mask.dtype == np.float32
        wanted = np.where(generator.random(mask.shape) >= rate, 1 / (1 - rate), 0)
        np.testing.assert_allclose(mask, wanted, rtol=1e-6)


def test_masks_keep_their_share_and_are_ones_where_nothing_is_dropped() -> None:
    header = small_model(*PLAIN).header
    curiosity = CuriosityConfig(0.0, 20_000)
    model = dataclasses.replace(header.model, curiosity=curiosity, input_dropout=0.0)
    inputs, hidden = mc_masks(dataclasses.replace(header, model=model))
    assert (inputs == 1).all()
    dropped, n = int((hidden == 0).sum()), hidden.size
    assert abs(dropped - 0.25 * n) < 5 * math.sqrt(n * 0.25 * 0.75), f"{dropped} of {n}"


def test_masks_follow_from_the_seed() -> None:
    header = small_model(*PLAIN).header
    for ours, again in zip(mc_masks(header), mc_masks(header), strict=True):
        assert np.array_equal(ours, again)
    other = mc_masks(dataclasses.replace(header, mc_seed=header.mc_seed ^ 1))
    assert any(not np.array_equal(a, b) for a, b in zip(mc_masks(header), other, strict=True))


# --- hostile files ------------------------------------------------------------------------------


def predict_or_refuse(content: bytes, num_features: int, what: str) -> bool:
    """Whether the content was taken for a model; that model must then predict."""
    try:
        model = from_bytes(content, "hostile.qwave")
    except PackedFileError:
        return False
    classifier = PackedClassifier(model)
    width = model.header.in_features
    assert width == num_features, what
    with np.errstate(all="ignore"):  # a flipped scale may be any float16
        found = classifier.examine(np.ones((2, width), dtype=np.float32))
    assert found.probabilities.shape == (2, len(model.header.class_names)), what
    assert found.gates.shape == (2, model.header.model.num_experts), what
    return True


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_truncated_files_are_refused_at_every_length(schemes: tuple[str, ...]) -> None:
    content = to_bytes(small_model(*schemes))
    for length in range(len(content)):
        with pytest.raises(PackedFileError, match=r"^cut\.qwave: not a (packed|readable)"):
            from_bytes(content[:length], "cut.qwave")


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(PackedFileError, match="not a readable packed model"):
        from_bytes(to_bytes(small_model(*PLAIN)) + b"\0", "long.qwave")


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF])
@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_flipped_header_bytes_are_refused_or_give_a_model_that_predicts(
    schemes: tuple[str, ...], mask: int
) -> None:
    content = to_bytes(small_model(*schemes))
    end = 8 + int.from_bytes(content[:8], "little")
    failures = []
    n_refused = 0
    for place in range(end):
        hostile = bytearray(content)
        hostile[place] ^= mask
        what = f"byte {place}: {bytes(hostile[max(0, place - 20) : place + 12])!r}"
        try:
            n_refused += not predict_or_refuse(bytes(hostile), 5, what)
        except Exception as error:  # the point: no other exception may come out
            failures.append(f"{what} raises {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
    assert n_refused > end // 3, f"only {n_refused} of {end} flips were noticed"


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_flipped_data_bytes_are_refused_or_give_a_model_that_predicts(
    schemes: tuple[str, ...],
) -> None:
    content = to_bytes(small_model(*schemes))
    start = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(2)
    for place in range(start, len(content)):
        hostile = bytearray(content)
        hostile[place] ^= int(rng.integers(1, 256))
        predict_or_refuse(bytes(hostile), 5, f"byte {place}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\0" * 8,
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        pickle.dumps({"weights": [1, 2, 3]}),
        b"PK\x03\x04" + b"\0" * 60,
        b"#!/usr/bin/env python\nprint('hello')\n",
        (2**64 - 1).to_bytes(8, "little") + b"{}",
        (2**63).to_bytes(8, "little") + b"{}",
        (10**6 + 1).to_bytes(8, "little") + b" " * (10**6 + 1),
        (3).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (40_000).to_bytes(8, "little") + b"[" * 20_000 + b"]" * 20_000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_packed_model_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(PackedFileError, match=r"^some/file: not a (packed|readable)"):
        from_bytes(content, "some/file")


def test_absurd_header_length_is_refused_with_both_lengths() -> None:
    content = (2**40).to_bytes(8, "little") + b"{}"
    with pytest.raises(PackedFileError, match="10 bytes, header length 1099511627776"):
        from_bytes(content, "absurd")


def test_other_peoples_safetensors_are_refused() -> None:
    content = to_bytes(small_model(*PLAIN))
    header, rest = split(content)
    for metadata in ({}, {"format": "pt"}, {"qwave": ""}, {"qwave": "[]"}, {"qwave": "{}"}):
        with pytest.raises(PackedFileError, match="not a readable packed model"):
            from_bytes(join({**header, "__metadata__": metadata}, rest), "theirs")
    del header["__metadata__"]
    with pytest.raises(PackedFileError, match="not a readable packed model"):
        from_bytes(join(header, rest), "theirs")


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None, 1e999])
def test_other_versions_are_refused_with_both_numbers(version: object) -> None:
    content = edited(to_bytes(small_model(*PLAIN)), lambda t: t.update(version=version))
    match = f"format version .*; this qwave reads version {FORMAT_VERSION}"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content, "later.qwave")


MIXTURE_KEYS = [
    "version",
    "classes",
    "features",
    "normalization",
    "schemes",
    "hidden",
    "mc",
    "data",
    "config",
    "router",
    "top_k",
    "alpha",
]


def test_header_holds_what_this_file_tests() -> None:
    header, _ = split(to_bytes(small_model(*MIXTURE)))
    assert list(json.loads(header["__metadata__"]["qwave"])) == MIXTURE_KEYS


@pytest.mark.parametrize("junk", [None, [], {}, "x", -1, 2.5, True, 10**30, [[]], "NaN"])
@pytest.mark.parametrize("key", MIXTURE_KEYS)
def test_junk_under_any_key_is_refused_or_gives_a_model_that_predicts(
    key: str, junk: object
) -> None:
    content = edited(to_bytes(small_model(*MIXTURE)), lambda t: t.update({key: junk}))
    with np.errstate(all="ignore"):
        predict_or_refuse(content, 5, f"{key}={junk!r}")


@pytest.mark.parametrize("key", sorted(set(MIXTURE_KEYS) - {"top_k", "alpha"}))
def test_missing_key_is_refused(key: str) -> None:
    content = edited(to_bytes(small_model(*MIXTURE)), lambda t: t.pop(key))
    with pytest.raises(PackedFileError, match=f"not a readable packed model: '{key}'"):
        from_bytes(content, "gap.qwave")


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "unknown scheme": ({"schemes": ["int1", "int5", "fp32"]}, "impossible model.*'int5'"),
    "no scheme": ({"schemes": []}, "readable packed model"),
    "unknown head": ({"head": "int3"}, "impossible model.*head_scheme.*'int3'"),
    "top_k beyond the experts": ({"top_k": 4}, "impossible model.*top_k=4, num_experts=3"),
    "no top_k": ({"top_k": 0}, "impossible model.*top_k >= 1"),
    "broken top_k": ({"top_k": 1.5}, "top_k"),
    "negative alpha": ({"alpha": -1}, "impossible model.*curiosity.alpha"),
    "NaN alpha": ({"alpha": math.nan}, "impossible model.*curiosity.alpha"),
    "infinite alpha": ({"alpha": math.inf}, "alpha"),
    "one sample": ({"mc": [1, "00000000"]}, "impossible model.*mc_samples >= 2"),
    "broken samples": ({"mc": [2.5, "00000000"]}, "mc"),
    "endless samples": ({"mc": [10**15, "00000000"]}, "mc"),
    "negative seed": ({"mc": [4, "-0000001"]}, "seed"),
    "seed that is no number": ({"mc": [4, "xyz"]}, "readable packed model"),
    "dropout of everything": ({"router": [0, "int8", "10000"]}, "model.router.dropout < 1"),
    "negative dropout": ({"router": [0, "int8", "-001"]}, "0 <= model.router.dropout"),
    "NaN dropout": ({"router": [0, "int8", "nan"]}, "readable packed model"),
    "dropout that is a number": ({"router": [0, "int8", 0.1]}, "readable packed model"),
    "unknown router": ({"router": [0, "int9", "1999"]}, "model.router.scheme.*'int9'"),
    "negative router": ({"router": [-1, "int8", "1999"]}, "model.router.hidden >= 0"),
    "router too short": ({"router": [0]}, "readable packed model"),
    "router too long": ({"router": [0, "int8", "1999", 1]}, "readable packed model"),
    "hidden of nothing": ({"hidden": [0]}, "impossible model.*hidden >= 1"),
    "endless hidden": ({"hidden": [2**31]}, "must be a whole number from 1"),
    "broken hidden": ({"hidden": [2.5]}, "must be a whole number from 1"),
    "hidden that is true": ({"hidden": [True]}, "must be a whole number from 1"),
    "other hidden": ({"hidden": [4]}, "tensor 'e0.0.b' is .*, the header asks for"),
    "no features": ({"features": 0}, "must be a whole number from 1"),
    "endless features": ({"features": 2**40}, "must be a whole number from 1"),
    "huge features": ({"features": 2**31 - 1}, "the header asks for"),
    "features that are words": ({"features": "5"}, "must be a whole number from 1"),
    "more classes": ({"classes": ["a", "b", "c", "d"]}, "tensor 'e0.1.b' is .*, the header asks"),
    "no classes": ({"classes": []}, "class|tensor 'e0.1.b' is"),
    "classes that are numbers": ({"classes": [1, 2, 3]}, "class names must be a list of strings"),
    "classes that are one word": ({"classes": "abc"}, "class names must be a list of strings"),
    "other schemes": ({"schemes": ["int1", "int8", "fp32"]}, "the header asks for"),
    "fewer schemes": ({"schemes": ["int1", "int4"]}, "the header asks for nothing"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_headers_are_refused_and_say_what_is_wrong(case: str) -> None:
    changes, match = IMPOSSIBLE[case]
    content = edited(to_bytes(small_model(*MIXTURE)), lambda t: t.update(changes))
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content, "impossible.qwave")


def test_no_expert_and_no_class_cannot_agree_with_an_empty_file() -> None:
    content = edited(
        join({"__metadata__": split(to_bytes(small_model(*PLAIN)))[0]["__metadata__"]}, b""),
        lambda t: t.update(schemes=[], classes=[]),
    )
    with pytest.raises(PackedFileError, match="schemes"):
        from_bytes(content, "empty.qwave")


def test_model_without_classes_is_refused() -> None:
    config = TrialConfig(model=ModelConfig(("int8",), ()))
    model = make_model(np.random.default_rng(4), config, make_data(5, ()))
    with pytest.raises(PackedFileError, match="class"):
        from_bytes(to_bytes(model), "nothing.qwave")


def test_unknown_normalization_is_refused_where_the_file_is_read() -> None:
    content = edited(to_bytes(small_model(*PLAIN)), lambda t: t.update(normalization="lazer"))
    with pytest.raises(PackedFileError, match="normalization.*'lazer'"):
        from_bytes(content, "lazer.qwave")


def with_layer(model: PackedModel, name: str, **changes: Any) -> PackedModel:
    layer = dataclasses.replace(model.layers[name], **changes)
    return dataclasses.replace(model, layers={**model.layers, name: layer})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_with_the_tensors_name(value: float) -> None:
    model = small_model(*MIXTURE)
    bad = {
        "e0.0.s": with_layer(model, "e0.0", scale=np.full(3, value, np.float16)),
        "e1.1.b": with_layer(model, "e1.1", bias=np.full(3, value, np.float16)),
        "r.0.s": with_layer(model, "r.0", scale=np.full(3, value, np.float16)),
        "n.o": dataclasses.replace(model, offset=np.full(5, value, np.float16)),
        "n.f": dataclasses.replace(model, factor=np.full(5, value, np.float16)),
        "u": dataclasses.replace(model, curiosity_range=(0.0, value)),
    }
    for name, hostile in bad.items():
        with pytest.raises(PackedFileError, match=f"tensor '{name}' holds .* not finite"):
            from_bytes(to_bytes(hostile), "bad.qwave")


def test_float_weights_that_are_not_finite_are_refused() -> None:
    header, rest = split(to_bytes(small_model(*MIXTURE)))
    start = header["e2.0.c"]["data_offsets"][0]
    nan = np.array([math.nan], dtype="<f4").tobytes()
    with pytest.raises(PackedFileError, match="not a code of fp32, or not finite"):
        from_bytes(join(header, rest[:start] + nan + rest[start + 4 :]), "bad.qwave")


@pytest.mark.parametrize("change", ["drop", "add", "rename", "retype"])
def test_tensors_must_be_exactly_those_of_the_header(change: str) -> None:
    header, rest = split(to_bytes(small_model(*PLAIN)))
    entry = header["e0.1.b"]
    if change == "retype":
        entry["dtype"] = "I16"
    else:
        if change != "add":
            del header["e0.1.b"]
        if change != "drop":
            header["x"] = entry
        if change == "add":
            header["x"] = {**entry, "data_offsets": [len(rest), len(rest) + 6]}
            rest += bytes(6)
    with pytest.raises(PackedFileError, match=r"^odd\.qwave: "):
        from_bytes(join(header, rest), "odd.qwave")
