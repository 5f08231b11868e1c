"""Hostile files, one kind at a time: refused with an error of qwave's own, or models that predict.

`test_packing_fuzz` has the same for thousands at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest

from qwave.config import ModelConfig, PackedFileError, TrialConfig
from qwave.packing import PackedModel, from_bytes, to_bytes
from qwave.packing.header import header_to_text

from .models import (
    MIXTURE,
    PLAIN,
    changed,
    join,
    make_data,
    make_model,
    outcome,
    small_model,
    split,
    with_head,
    with_layer,
)


def entry(dtype: str, *shape: int, start: int = 0) -> dict[str, Any]:
    """A tensor of bytes as safetensors lists it."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, start + math.prod(shape)]}


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_truncated_files_are_refused_at_every_length(schemes: tuple[str, ...]) -> None:
    content = to_bytes(small_model(*schemes))
    for length in range(len(content)):
        with pytest.raises(PackedFileError, match=rf"^cut\.qwave: not a .* {length} bytes"):
            from_bytes(content[:length], "cut.qwave")


def test_trailing_bytes_are_refused() -> None:
    content = to_bytes(small_model(*PLAIN))
    match = rf"readable packed model: {len(content) + 1} bytes, but .* file of {len(content)}$"
    for trail in (b"\0", b" "):
        with pytest.raises(PackedFileError, match=match):
            from_bytes(content + trail, "long.qwave")


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


@pytest.mark.parametrize(
    "metadata",
    [None, [], [["qwave", "1"]], "qwave", 1, True, {"qwave": 1}, {"qwave": None}, {"qwave": []}],
    ids=repr,
)
def test_metadata_that_are_no_strings_by_name_are_refused(metadata: object) -> None:
    header, rest = split(to_bytes(small_model(*PLAIN)))
    header["__metadata__"] = metadata
    match = "^theirs: not a readable packed model: the header has no `__metadata__` of strings$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(join(header, rest), "theirs")


NOT_JSON = {
    "nothing": b"",
    "spaces": b" " * 8,
    "a list that never ends": b"[1, 2",
    "nested a thousand times": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"{}" + b"}" * 100_000,
    "a number of 5000 digits": b'{"t":' + b"9" * 5000 + b"}",
    "UTF-16": '{"__metadata__":{}}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "latin 1": '{"é":1}'.encode("latin-1"),
    "a surrogate as bytes": b'{"\xed\xa0\x80":1}',
    "cut within a character": '{"犬'.encode()[:-1],
    "two values": b"{}{}",
    "zero bytes after it": b"{}\0\0",
    "single quotes": b"{'a': 1}",
    "a newline in a string": b'{"a\n":1}',
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_header_that_is_no_json_is_refused(case: str) -> None:
    text = NOT_JSON[case]
    with pytest.raises(PackedFileError, match="^odd: not a readable .*: the header is no JSON: "):
        from_bytes(len(text).to_bytes(8, "little") + text, "odd")


def rewritten(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, (old, text)
    return text.replace(old, new)


# The same to a reader of JSON, in other words; and what such readers differ about.
OTHER_HEADS: dict[str, tuple[str, str]] = {
    "space": ('{"__metadata__":', '{ "__metadata__":'),
    "escape": ('"qwave"', '"qw\\u0061ve"'),
    "key twice": ('"features":"5"', '"features":"4","features":"5"'),
    "metadata twice": ('{"__metadata__":', '{"__metadata__":{},"__metadata__":'),
    "tensor twice": ('"t":{', '"t":{"dtype":"U8"},"t":{'),
    "dtype twice": ('"dtype":"U8"', '"dtype":"F64","dtype":"U8"'),
    "another key": ('"t":{', '"u":{},"t":{'),
    "another tensor": ('"t":{', '"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"t":{'),
    "null": ('"t":{', '"x":null,"t":{'),
    "Infinity": ('"t":{', '"x":Infinity,"t":{'),
    "NaN": ('"t":{', '"x":NaN,"t":{'),
    "another dtype": ('"U8"', '"I8"'),
    "no dtype": ('"dtype":"U8",', ""),
    "unknown dtype": ('"U8"', '"PICKLE"'),
    "another shape": ('"shape":[', '"shape":[1,'),
    "huge shape": ('"shape":[', '"shape":[18446744073709551616,'),
    "negative shape": ('"shape":[', '"shape":[-'),
    "float shape": ('],"data_offsets"', '.0],"data_offsets"'),
    "exponent": ('],"data_offsets"', 'e0],"data_offsets"'),
    "offsets that overlap": ('"data_offsets":[0', '"data_offsets":[-1'),
    "offset": ('"data_offsets":[0', '"data_offsets":[1'),
    "tensor of another name": ('"t":', '"x":'),
    "order of keys": ('"shape":[', '"offset":[],"shape":['),
}


@pytest.mark.parametrize("case", OTHER_HEADS)
def test_header_in_other_words_is_refused_at_the_byte_where_they_differ(case: str) -> None:
    content = to_bytes(small_model(*PLAIN))
    _, rest = split(content)
    text = content[8 : -len(rest)].decode()
    hostile = with_head(rewritten(text, *OTHER_HEADS[case]).encode(), rest)
    with pytest.raises(PackedFileError, match=r"^odd: not a readable .*: byte \d+ begins b"):
        from_bytes(hostile, "odd")


def test_padding_of_the_header_is_the_least_that_aligns() -> None:
    content = to_bytes(small_model(*PLAIN))
    _, rest = split(content)
    text = content[8 : -len(rest)]
    for hostile in (text + b" " * 8, text[:-1] + b"\n", text.rstrip(), b" " + text):
        if hostile != text:
            with pytest.raises(PackedFileError, match="^odd: not a readable packed model: byte "):
                from_bytes(with_head(hostile, rest), "odd")


def test_messages_stay_short_and_on_one_line() -> None:
    content = to_bytes(small_model(*MIXTURE))
    long = "x\n" * 100_000
    for key in header_to_text(small_model(*MIXTURE).header):
        with pytest.raises(PackedFileError, match="^odd: not a readable") as caught:
            from_bytes(changed(content, {key: long}), "odd")
        assert len(str(caught.value)) < 600, key
        assert "\n" not in str(caught.value), key


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
    content = changed(to_bytes(small_model(*MIXTURE)), {key: junk})
    is_refused = outcome(content) == "refused"
    assert isinstance(junk, str) or is_refused, "metadata are strings"


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_values_swapped_between_keys_are_refused(schemes: tuple[str, ...]) -> None:
    model = small_model(*schemes)
    header, rest = split(to_bytes(model))
    text = header_to_text(model.header)
    for one, other in itertools.combinations(text, 2):
        if text[one] != text[other]:
            header["__metadata__"] = {**text, one: text[other], other: text[one]}
            with pytest.raises(PackedFileError, match=r"^swapped\.qwave: "):
                from_bytes(join(header, rest), "swapped.qwave")


# Possible by themselves, but not with the arrays that follow.
OTHER_MODELS: dict[str, dict[str, str]] = {
    "other hidden": {"hidden": "4"},
    "another layer": {"hidden": "3,3"},
    "other features": {"features": "4"},
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
    hostile = changed(content, OTHER_MODELS[case])
    match = rf"^other\.qwave: not a .*: {len(hostile)} bytes, but .* that of a file of \d+$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(hostile, "other.qwave")


def corrupted(name: str, value: float) -> PackedModel:
    """A model whose array of this name holds a value that training does not leave."""
    model = small_model(*MIXTURE)
    layer, _, kind = name.rpartition(".")
    if kind in ("s", "b"):
        key = {"s": "scale", "b": "bias"}[kind]
        values = getattr(model.layers[layer], key).copy()
        values[-1] = value
        return with_layer(model, layer, **{key: values})
    if name == "u":
        return dataclasses.replace(model, curiosity_range=(0.0, value))
    constants = np.full(5, value, np.float16)
    if name == "n.o":
        return dataclasses.replace(model, offset=constants)
    assert name == "n.f"
    return dataclasses.replace(model, factor=constants)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["e0.0.s", "e1.1.b", "r.0.s", "n.o", "n.f", "u"])
def test_values_that_are_not_finite_are_refused_with_the_arrays_name(
    name: str, value: float
) -> None:
    match = rf"^bad\.qwave: not a .*: array '{name}' must hold finite numbers from "
    with pytest.raises(PackedFileError, match=match):
        from_bytes(to_bytes(corrupted(name, value)), "bad.qwave")


@pytest.mark.parametrize(
    ("name", "value", "lowest"),
    [
        ("e0.0.s", -0.5, "6.10352e-05"),
        ("e0.0.s", 0.0, "6.10352e-05"),
        ("r.0.s", 2.0**-15, "6.10352e-05"),
        ("n.f", -0.5, "0"),
    ],
)
def test_scales_and_factors_that_training_does_not_leave_are_refused(
    name: str, value: float, lowest: str
) -> None:
    match = rf"^bad\.qwave: .*: array '{name}' must hold finite numbers from {lowest}$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(to_bytes(corrupted(name, value)), "bad.qwave")


@pytest.mark.parametrize(
    ("name", "value"), [("n.f", 0.0), ("n.o", -0.5), ("e2.0.b", -0.5), ("e0.0.s", 65504.0)]
)
def test_outermost_values_that_training_leaves_are_read(name: str, value: float) -> None:
    content = to_bytes(corrupted(name, value))
    assert to_bytes(from_bytes(content, "good")) == content


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.25), (-0.125, 0.5), (-0.5, -0.25)])
def test_ranges_of_mutual_information_that_are_none_are_refused(low: float, high: float) -> None:
    model = dataclasses.replace(small_model(*MIXTURE), curiosity_range=(low, high))
    match = "range of mutual information is 0.5 to 0.25$|array 'u' must hold finite .* from 0$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(to_bytes(model), "bad.qwave")


@pytest.mark.parametrize("limits", [(0.0, 0.0), (0.25, 0.25)])
def test_range_of_a_router_that_is_never_unsure_is_read(limits: tuple[float, float]) -> None:
    model = dataclasses.replace(small_model(*MIXTURE), curiosity_range=limits)
    assert from_bytes(to_bytes(model), "good").curiosity_range == limits


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 65536.0])
def test_float_weights_that_are_not_finite_are_refused_with_the_layers_name(value: float) -> None:
    model = small_model(*MIXTURE)
    codes = model.layers["e2.0"].codes.astype("<f4")
    before = codes.tobytes()
    codes[1, 2] = value
    content = to_bytes(model)
    assert content.count(before) == 1
    match = r"^bad\.qwave: not a .*: layer 'e2\.0': a weight is not a code of fp32, or not finite"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content.replace(before, codes.tobytes()), "bad.qwave")


def test_bytes_that_are_no_codes_are_refused_with_the_layers_name() -> None:
    content = to_bytes(small_model("ternary", hidden=()))
    match = r"^bad\.qwave: not a .*: layer 'e0\.0': a byte does not hold codes of ternary$"
    with pytest.raises(PackedFileError, match=match):
        from_bytes(content[:-1] + b"\xff", "bad.qwave")


@pytest.mark.parametrize(
    "text", ["__import__('os').system('true')", "cos\nsystem\n(S'true'\ntR.", "${HOME}", "../../x"]
)
def test_text_of_a_header_is_never_more_than_text(text: str) -> None:
    data = make_data(3, (text, "rain"))
    config = TrialConfig(model=ModelConfig(("int1",), ())).canonical()
    content = to_bytes(make_model(np.random.default_rng(4), config, data))
    assert from_bytes(content, "text").header.class_names == (text, "rain")
    for key in header_to_text(from_bytes(content, "text").header):
        if key != "classes":
            with pytest.raises(PackedFileError, match="^text: not a readable packed model: "):
                from_bytes(changed(content, {key: text}), "text")
