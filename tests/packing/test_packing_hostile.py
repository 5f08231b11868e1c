"""Hostile files: refused with an error of qwave's own, or models that predict."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest

from qwave.config import ModelConfig, PackedFileError, TrialConfig
from qwave.packing import from_bytes, to_bytes
from qwave.packing.header import header_to_text
from qwave.runtime import PackedClassifier

from .models import (
    MIXTURE,
    PLAIN,
    edited,
    join,
    make_data,
    make_model,
    small_model,
    split,
    with_layer,
)


def entry(dtype: str, *shape: int, start: int = 0) -> dict[str, Any]:
    """A tensor of bytes as safetensors lists it."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, start + math.prod(shape)]}


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
    assert n_refused > 2 * end // 3, f"only {n_refused} of {end} flips were noticed"


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


@pytest.mark.parametrize(
    ("length", "text"), [(2**40, b"{}"), (3, b"{}"), (10**6 + 1, b"{}" + b" " * 10**6)]
)
def test_absurd_header_length_is_refused_with_both_lengths(length: int, text: bytes) -> None:
    content = length.to_bytes(8, "little") + text
    match = f"^absurd: not a packed qwave model: {len(content)} bytes, header length {length}$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content, "absurd")


def test_other_peoples_safetensors_are_refused() -> None:
    content = to_bytes(small_model(*PLAIN))
    header, rest = split(content)
    for metadata in (None, {}, {"format": "pt"}, {"qwave": ""}, {"qwave": "[]"}, {"qwave": "{}"}):
        with pytest.raises(PackedFileError, match="not a readable packed model: format version"):
            from_bytes(join({**header, "__metadata__": metadata}, rest), "theirs")
    del header["__metadata__"]
    with pytest.raises(PackedFileError, match="readable packed model: format version None; this"):
        from_bytes(join(header, rest), "theirs")


@pytest.mark.parametrize(
    "metadata", [[], [["qwave", "1"]], "qwave", 1, True, {"qwave": 1}, {"qwave": None}], ids=repr
)
def test_metadata_that_are_no_strings_by_name_are_refused(metadata: object) -> None:
    header, rest = split(to_bytes(small_model(*PLAIN)))
    header["__metadata__"] = metadata
    with pytest.raises(PackedFileError, match="^theirs: not a readable packed model: .* invalid "):
        from_bytes(join(header, rest), "theirs")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_types_that_numpy_does_not_have_are_refused(dtype: str) -> None:
    header, rest = split(to_bytes(small_model(*PLAIN)))
    rest += bytes(len(rest) % 2)
    width = 2 if dtype == "BF16" else 1
    tensor = {"dtype": dtype, "shape": [len(rest) // width], "data_offsets": [0, len(rest)]}
    for content in (join({**header, "t": tensor}, rest), join({"weight": tensor}, rest)):
        with pytest.raises(PackedFileError, match=f"^theirs: not a readable .*: '{dtype}'$"):
            from_bytes(content, "theirs")


MIXTURE_KEYS = list(header_to_text(small_model(*MIXTURE).header))
JUNK: tuple[object, ...] = (
    *(None, [], {}, -1, 2.5, True, 10**30),
    *("", "x", "-1", "2.5", "1", "5,5", "9" * 30, "NaN"),
)


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("key", MIXTURE_KEYS)
def test_junk_under_any_key_is_refused_or_gives_a_model_that_predicts(
    key: str, junk: object
) -> None:
    content = edited(to_bytes(small_model(*MIXTURE)), lambda m: m.update({key: junk}))
    with np.errstate(all="ignore"):
        is_taken = predict_or_refuse(content, 5, f"{key}={junk!r}")
    assert isinstance(junk, str) or not is_taken, "metadata are strings"


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_values_swapped_between_keys_are_refused(schemes: tuple[str, ...]) -> None:
    model = small_model(*schemes)
    header, rest = split(to_bytes(model))
    text = header_to_text(model.header)
    for one, other in itertools.combinations(text, 2):
        if text[one] != text[other] and {one, other} != {"data", "config"}:  # may be any text
            header["__metadata__"] = {**text, one: text[other], other: text[one]}
            with pytest.raises(PackedFileError, match=r"^swapped\.qwave: "):
                from_bytes(join(header, rest), "swapped.qwave")


# Possible by themselves, but not with the arrays that follow.
OTHER_MODELS: dict[str, dict[str, str]] = {
    "other hidden": {"hidden": "4"},
    "another layer": {"hidden": "3,3"},
    "other features": {"features": "4"},
    "huge features": {"features": str(2**31)},
    "more classes": {"classes": "a,b,c,d"},
    "fewer classes": {"classes": "a"},
    "other schemes": {"schemes": "int1,int8,fp32"},
    "fewer schemes": {"schemes": "int1,int4"},
    "other head": {"head": "int16"},
    "wider router": {"router": "1,int8"},
    "router of fewer bits": {"router": "0,int1"},
    "no constants": {"normalization": "layer"},
}


@pytest.mark.parametrize("case", OTHER_MODELS)
def test_headers_of_other_models_are_refused_with_both_lengths(case: str) -> None:
    content = to_bytes(small_model(*MIXTURE))
    length = len(split(content)[1])
    match = rf"^other\.qwave: tensors are .*\({length},\).*, the header asks for .*\(\d+,\)"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(edited(content, lambda m: m.update(OTHER_MODELS[case])), "other.qwave")


def test_more_layers_than_bytes_are_refused_unlisted() -> None:
    changes = {"schemes": ",".join(["int1"] * 1000), "hidden": ",".join(["1"] * 1999)}
    content = edited(to_bytes(small_model(*MIXTURE)), lambda m: m.update(changes))
    match = rf"^many\.qwave: 2000000 layers do not fit into {len(content)} bytes$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content, "many.qwave")


def test_no_expert_and_no_class_cannot_agree_with_an_empty_file() -> None:
    header, _ = split(to_bytes(small_model(*PLAIN)))
    changes = {"schemes": "", "classes": ""}
    for tensors in ({}, {"t": entry("U8", 0)}):
        content = join({"__metadata__": {**header["__metadata__"], **changes}, **tensors}, b"")
        with pytest.raises(PackedFileError, match=r"^empty\.qwave: .*schemes"):
            from_bytes(content, "empty.qwave")


def test_model_without_classes_is_refused() -> None:
    config = TrialConfig(model=ModelConfig(("int8",), ()))
    model = make_model(np.random.default_rng(4), config, make_data(5, ()))
    with pytest.raises(PackedFileError, match="classes must be one row of names, but got ''"):
        from_bytes(to_bytes(model), "nothing.qwave")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_with_the_arrays_name(value: float) -> None:
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
        with pytest.raises(
            PackedFileError, match=rf"^bad\.qwave: array '{name}' holds .* not finite"
        ):
            from_bytes(to_bytes(hostile), "bad.qwave")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_float_weights_that_are_not_finite_are_refused_with_the_layers_name(value: float) -> None:
    model = small_model(*MIXTURE)
    codes = model.layers["e2.0"].codes.astype("<f4")
    before = codes.tobytes()
    codes[1, 2] = value
    content = to_bytes(model)
    assert content.count(before) == 1
    match = r"^bad\.qwave: layer 'e2\.0': a weight is not a code of fp32, or not finite$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content.replace(before, codes.tobytes()), "bad.qwave")


def test_bytes_that_are_no_codes_are_refused_with_the_layers_name() -> None:
    content = to_bytes(small_model("ternary", hidden=()))
    match = r"^bad\.qwave: layer 'e0\.0': a byte does not hold codes of ternary$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content[:-1] + b"\xff", "bad.qwave")


@pytest.mark.parametrize(
    "change", ["drop", "add", "add nothing", "rename", "retype", "reshape", "shorten", "lengthen"]
)
def test_tensors_must_be_exactly_those_of_the_header(change: str) -> None:
    header, rest = split(to_bytes(small_model(*PLAIN)))
    n = len(rest)
    tensors: dict[str, Any] = {
        "drop": {},
        "add": {"t": entry("U8", n), "x": entry("U8", 6, start=n)},
        "add nothing": {"t": entry("U8", n), "x": entry("U8", 0, start=n)},
        "rename": {"x": entry("U8", n)},
        "retype": {"t": entry("I8", n)},
        "reshape": {"t": entry("U8", 1, n)},
        "shorten": {"t": entry("U8", n - 1)},
        "lengthen": {"t": entry("U8", n + 1)},
    }[change]
    n_bytes = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    content = join(
        {"__metadata__": header["__metadata__"], **tensors}, (rest + bytes(9))[:n_bytes]
    )
    match = rf"^odd\.qwave: tensors are .*, the header asks for .'t': \('uint8', \({n},\)\)"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content, "odd.qwave")
