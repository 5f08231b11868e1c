"""Versions of the format: what only one of them has, and what is of none."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from qwave.config import ConfigError, ModelConfig, PackedFileError, TrialConfig
from qwave.packing import FORMAT_VERSION, Header, from_bytes, make_header, to_bytes
from qwave.packing.header import header_from_text, header_to_text

from .models import (
    ENCODERS,
    MIXTURE,
    PLAIN,
    as_stored,
    changed,
    draw_model,
    join,
    make_data,
    small_model,
    split,
)

DATA, CONFIG = "da7a" * 4, "c0f1" * 4
LINEAR = ModelConfig(("int1",), (), input_dropout=0.25)
HEADER = Header(LINEAR, "sqrt_layer", 1280, ("Dog bark", "Rain"), 0x0123ABCD, DATA, CONFIG)
MODERN = dataclasses.replace(HEADER, encoder="mel-stats@1a2b3c4d", sure_probability=0.75)
FIRST = {
    "qwave": "1",
    "classes": "Dog bark,Rain",
    "features": "1280",
    "normalization": "sqrt_layer",
    "schemes": "int1",
    "mc": "20,0123abcd,4000",
    "data": DATA,
    "config": CONFIG,
}


def refused(text: dict[str, str], match: str) -> None:
    with pytest.raises(PackedFileError, match=match):
        header_from_text(text)


# --- of no version ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [str(FORMAT_VERSION + 1), "0", "", "01", "1.0", " 1", "1\n"])
def test_other_versions_are_refused_with_those_that_are_read(version: str) -> None:
    match = f"^{re.escape(f'format version {version!r}')}; this qwave reads versions 1 and 2$"
    content = to_bytes(small_model(*PLAIN))
    header, rest = split(content)
    # Whatever else a later version says.
    for text in ({**header["__metadata__"], "qwave": version}, {"qwave": version, "later": "?"}):
        refused(text, match)
        with pytest.raises(PackedFileError, match=f"^odd: not a readable .*: {match[1:]}"):
            from_bytes(join({**header, "__metadata__": text}, rest), "odd")


def test_missing_version_is_refused() -> None:
    text = header_to_text(small_model(*MIXTURE).header)
    del text["qwave"]
    refused(text, "^format version None; this qwave reads versions 1 and 2$")


# --- the first ----------------------------------------------------------------------------------


def test_first_version_is_read_without_an_encoder_and_never_unsure() -> None:
    assert header_from_text(FIRST) == HEADER
    assert list(header_to_text(HEADER, 1).items()) == list(FIRST.items())
    # Where a header says more than it has room for, it is left out.
    assert header_to_text(MODERN, 1) == FIRST


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("features", "1280,mel@01234567", "^features='1280,mel@01234567' .* would be '1280'$"),
        ("sure", "0000", "^sure='0000' in the header, which would be None$"),
        ("digests", f"{DATA},{CONFIG}", "^digests='.*' in the header, which would be None$"),
    ],
)
def test_first_version_has_no_place_for_what_came_later(key: str, value: str, match: str) -> None:
    refused({**FIRST, key: value}, match)


@pytest.mark.parametrize("key", ["normalization", "data", "config"])
def test_first_version_always_has_its_keys(key: str) -> None:
    refused({k: v for k, v in FIRST.items() if k != key}, f"^the header has no '{key}'$")


# --- the second ---------------------------------------------------------------------------------


def test_second_version_is_the_one_written_by_hand() -> None:
    wanted = {
        "qwave": "2",
        "classes": "Dog bark,Rain",
        "features": "1280,mel-stats@1a2b3c4d",
        "schemes": "int1",
        "mc": "20,0123abcd,4000",
        "sure": "c000",
        "digests": f"{DATA},{CONFIG}",
    }
    assert list(header_to_text(MODERN).items()) == list(wanted.items())
    assert header_from_text(wanted) == MODERN
    wanted["features"], wanted["sure"] = "1280", "0000"
    assert header_to_text(HEADER) == wanted
    assert header_from_text(wanted) == HEADER


@pytest.mark.parametrize("seed", range(8))
def test_encoder_and_sureness_survive_a_file_and_sureness_costs_no_byte(seed: int) -> None:
    _, _, model = draw_model(7000 + seed)
    content = to_bytes(model)
    found = from_bytes(content, f"seed {seed}").header
    assert found == as_stored(model.header), f"seed {seed}"
    for sure_probability in (0.0, 2**-17, 1 / 3, 1 - 2**-16, 1 - 2**-53):
        header = dataclasses.replace(model.header, sure_probability=sure_probability)
        other = to_bytes(dataclasses.replace(model, header=header))
        assert len(other) == len(content), f"seed {seed}"
        assert from_bytes(other, f"seed {seed}").header == as_stored(header), f"seed {seed}"


@pytest.mark.parametrize("encoder", ENCODERS)
def test_header_takes_the_encoder_of_the_data(encoder: str) -> None:
    data = make_data(5, ("dog", "rain"), encoder)
    header = make_header(TrialConfig(model=LINEAR), data)
    assert (header.encoder, header.sure_probability) == (encoder, 0.0)


@pytest.mark.parametrize(
    "encoder",
    [
        *("mel", "mel@", "@01234567", "mel@0123456", "mel@012345678", "mel@0123456G"),
        *("Mel@01234567", "mel @01234567", "mel@01234567\n", "mel@ABCDEF01", "a@b@01234567"),
        *("x" * 65 + "@01234567", "mel,x@01234567", 'mel"@01234567', "é@01234567"),
    ],
)
def test_other_names_of_encoders_are_refused_before_training_and_when_read(encoder: str) -> None:
    match = "an encoder must be `name@digest`, a name of 1 to 64 .* and 8 hex.*, but got '"
    with pytest.raises(ConfigError, match=f"^{match}"):
        make_header(TrialConfig(model=LINEAR), make_data(5, ("dog", "rain"), encoder))
    content = changed(to_bytes(small_model(*PLAIN)), {"features": f"5,{encoder}"})
    with pytest.raises(PackedFileError, match=f"^odd: not a .*: impossible model: {match}"):
        from_bytes(content, "odd")


@pytest.mark.parametrize("value", [1.0, -(2**-16), math.nan, math.inf])
def test_probabilities_that_are_none_below_one_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"^`0 <= sure_probability < 1` must hold, but got "):
        dataclasses.replace(HEADER, sure_probability=value)
