"""Words as words and numbers as people mean them, on the command line and in files alike."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from qwave.config import ConfigError, SweepConfig
from qwave.space import load_sweep
from qwave.space.words import parse_override
from studies.comparison import load_comparison

Load = Callable[..., SweepConfig]

TEXTS = (
    "my set #2.npz",
    "# x.npz",
    "2024-01-01",
    "2024-01-01 12:00:00",
    "20240101_1200",
    "[rec] 1.npz",
    "{a}.npz",
    "a: b.npz",
    "- a.npz",
    "null",
    "~x~",
    "true",
    "falsey.npz",
    "1e5",
    "010",
    "0x10",
    "1:30",
    ".inf",
    "9" * 5000,
    " leading and trailing ",
    "'quoted'",
    '"half',
    "a=b=c.npz",
    "=",
    "&a",
    "*a",
    "!!python/name:os.system",
    "%TAG",
    "@x",
    "`x`",
    "<<",
    "a\tb",
    "a\nb.npz",
    "two  blanks",
    "ünï/日本.npz",
    "C:\\data\\x.npz",
    "|",
    "---",
    "...",
    "?",
)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str) -> SweepConfig:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep(path, overrides)

    return load


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
def test_a_path_and_an_encoder_are_the_text_as_typed(
    load: Load, tmp_path: Path, text: str
) -> None:
    assert load("name: a", f"data.path={text}").data.path == text
    if text != "null":
        assert load("name: a", f"data.encoder={text}").data.encoder == text
    comparison = tmp_path / "comparison.yaml"
    comparison.write_text("name: a\nseeds: [0]\nvariants: {a: {}}")
    study = load_comparison(comparison, [f"data.path={text}"])
    assert study.variants["a"].data.path == text


@pytest.mark.parametrize("text", ["2024-05-01", "010", "null", "true", "1e5", "0x10", "007"])
def test_a_name_is_the_text_as_typed_and_as_written(load: Load, text: str) -> None:
    assert load("name: a", f"name={text}").name == text
    assert load(f"name: {text}").name == text
    assert load(f"name: a\ndata: {{path: {text}}}").data.path == text
    assert load(f"name: a\ndata:\n  path: {text}  # of May\n").data.path == text


@pytest.mark.parametrize("nothing", ["null", "none", "None", "NULL", "~", ""])
def test_where_there_may_be_no_encoder_a_word_says_so(load: Load, nothing: str) -> None:
    text = "name: a\ndata: {encoder: logmel}"
    assert load(text).data.encoder == "logmel"
    assert load(text, f"data.encoder={nothing}").data.encoder is None
    assert load(f"name: a\ndata: {{encoder: {nothing}}}").data.encoder is None
    head = load("name: a\nfixed: {model.head_scheme: int8}", f"model.head_scheme={nothing}")
    assert head.base.model.head_scheme is None
    assert load('name: a\ndata: {encoder: "null"}').data.encoder == "null"


@pytest.mark.parametrize("key", ["data.path", "name"])
def test_a_text_that_must_be_there_is_not_empty(load: Load, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^override '{key}=': {key} is empty$"):
        load("name: a", f"{key}=")


def test_the_home_folder_is_written_out_in_paths_alone(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(tmp_path / "home")
    monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    for sweep in (
        load("name: a", "data.path=~/my clips"),
        load("name: a\ndata: {path: ~/my clips}"),
        load("name: a\ndata: {path: esc10}", "data={path: ~/my clips}"),
    ):
        assert sweep.data.path == f"{home}/my clips"
    assert load("name: a", "data.path=~").data.path == home
    assert load("name: a", "data.path=a/~/b").data.path == "a/~/b"
    assert load("name: a", "data.path=~no_such_user/x").data.path == "~no_such_user/x"
    root = os.path.expanduser("~root")
    assert load("name: a", "data.path=~root/x").data.path == f"{root}/x"
    spec = load("name: a", "data.encoder=clip-vit-b32:~/weights").data.encoder
    assert spec == f"clip-vit-b32:{home}/weights"
    (tmp_path / "~odd.npz").touch()
    assert load("name: a", "data.path=~odd.npz").data.path == "~odd.npz"
    comparison = tmp_path / "comparison.yaml"
    comparison.write_text("name: a\nseeds: [0]\ndata: {path: ~/x}\nvariants: {a: {}}")
    assert load_comparison(comparison).variants["a"].data.path == f"{home}/x"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("010", 10),
        ("08", 8),
        ("+5", 5),
        ("5 ", 5),
        (" 5", 5),
        ("1_000", 1000),
        ("000", 0),
    ],
)
def test_whole_numbers_are_decimal(load: Load, text: str, number: int) -> None:
    for sweep in (
        load("name: a", f"seed={text}"),
        load(f"name: a\nfixed: {{seed: {text}}}"),
        load(f"name: a\nfixed:\n  seed: {text}\n"),
    ):
        assert sweep.base.seed == number
        assert type(sweep.base.seed) is int


@pytest.mark.parametrize(
    ("text", "number"), [("00.5", 0.5), ("1_0.5", 10.5), ("1.", 1.0), ("+.5", 0.5), ("01e-1", 0.1)]
)
def test_numbers_with_a_fraction_are_decimal(load: Load, text: str, number: float) -> None:
    assert load("name: a", f"train.weight_decay={text}").base.train.weight_decay == number
    written = load(f"name: a\nfixed: {{train.weight_decay: {text}}}")
    assert written.base.train.weight_decay == number


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1:30", "; write one number, without a colon"),
        ("1:30:00", "; write one number, without a colon"),
        ("0x10", "; write 16"),
        ("0b101", "; write 5"),
        ("0o17", "; write 15"),
        ("1_", ""),
        ("_1", ""),
        ("1__0", ""),
        ("--5", ""),
        ("1 000", ""),
        ("20 #30", ""),
        ("\N{FULLWIDTH DIGIT FIVE}", ""),
        ("\N{MINUS SIGN}5", ""),
        ("nan", ""),
        ("inf", ""),
        ("2024-01-01", ""),
        ("ten", ""),
    ],
)
def test_what_is_no_number_to_people_is_refused(load: Load, text: str, hint: str) -> None:
    message = f"fixed: seed = {text!r}: input should be a valid integer{hint}"
    with pytest.raises(ConfigError, match=f"{re.escape(message)}$"):
        load("name: a", f"seed={text}")
    if "#" not in text:
        with pytest.raises(ConfigError, match=f"{re.escape(message)}$"):
            load(f"name: a\nfixed:\n  seed: {text}\n")


def test_a_decimal_comma_is_refused_with_what_to_write(load: Load) -> None:
    message = r"train.weight_decay = '1,5': input should be a valid number; write 1\.5$"
    with pytest.raises(ConfigError, match=message):
        load("name: a", "train.weight_decay=1,5")
    with pytest.raises(ConfigError, match=message):
        load("name: a\nfixed:\n  train.weight_decay: 1,5")


def test_digits_in_quotes_are_refused_with_what_to_write(load: Load) -> None:
    with pytest.raises(ConfigError, match="valid integer; write it without quotes$"):
        load("name: a\nfixed: {seed: '3'}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9" * 5000, "9999999999... is a number of 5000 digits; at most 40 are read"),
        ("0." + "9" * 5000, "0.99999999... is a number of 5002 digits; at most 40 are read"),
        (str(2**63), "9223372036854775808 is a whole number beyond 64 bits; where a fraction"),
        ("1e999", "1e999 is larger than any number that can be read"),
    ],
    ids=lambda text: text[:12],
)
def test_numbers_without_measure_are_refused(
    load: Load, tmp_path: Path, text: str, message: str
) -> None:
    override = f"train.weight_decay={text}"
    with pytest.raises(ConfigError, match=re.escape(f"override '{override}': {message}")):
        load("name: a", override)
    place = f"{tmp_path / 'sweep.yaml'}: line 3: {message}"
    with pytest.raises(ConfigError, match=f"^{re.escape(place)}"):
        load(f"name: a\nfixed:\n  train.weight_decay: {text}")
    assert load("name: a", f"train.weight_decay={float(2**63)!r}").base.train.weight_decay > 9e18


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden=[8] # x", "'# x' stands after the value"),
        ("model.hidden=[8]]", "is not YAML"),
        ("budget={n_trials: 3} {", "is not YAML"),
        ("model.head_scheme='int8' x", "is not YAML"),
    ],
)
def test_nothing_of_a_value_is_cut_off(load: Load, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(f'override {override!r}')}.*{message}"):
        load("name: a", override)


def test_texts_within_lists_and_keys_of_an_override_are_texts() -> None:
    assert parse_override("model.schemes=[1, 010]") == ("model.schemes", ["1", "010"])
    assert parse_override("data={path: 2024, n_folds: 010}")[1] == {"path": "2024", "n_folds": 10}
    assert parse_override("fixed={model: {head_scheme: 8}}")[1] == {"model": {"head_scheme": "8"}}
    assert parse_override("search.model.router.hidden={choice: [1, 2]}")[1] == {"choice": [1, 2]}
    named = parse_override("search={model.hidden: {choice: {1: [8], a: [4]}}}")[1]
    assert named == {"model.hidden": {"choice": {1: [8], "a": [4]}}}


def test_what_is_not_unicode_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8 text$"):
        load("name: a", "data.path=caf\udce9.npz")
    with pytest.raises(ConfigError, match="is not Unicode text$"):
        load('name: "\\ud800"')
