"""Files that mean harm or are just odd: one message each, with the line, and at once."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from qwave.config import ConfigError
from qwave.space import load_sweep
from qwave.space.yaml_file import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_yaml
from studies.comparison import load_comparison
from studies.confirm.study import load_confirmation
from studies.mixtures.study import load_mixtures

SWEEPS = sorted((Path(__file__).resolve().parents[2] / "sweeps").glob("*.yaml"))
LOADERS = (load_sweep, load_comparison, load_confirmation, load_mixtures)
BOMB = "name: a\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


class Odd(NamedTuple):
    """What stands in a file, and the message after the file's name."""

    text: str
    message: str


ODD = {
    "aliases of aliases": Odd(BOMB, ": line 6: more than 10,000 values and keys"),
    "lists without end": Odd("[" * 100_000, f": line 1: nested deeper than {MAX_DEPTH} levels"),
    "keys without end": Odd("{a: " * 100_000, f": line 1: nested deeper than {MAX_DEPTH} levels"),
    "steps without end": Odd(
        "".join(f"{' ' * n}a:\n" for n in range(1000)), ": line 50: nested deeper than 50 levels"
    ),
    "dashes without end": Odd("- " * 50_000, ": line 1: nested deeper than 50 levels"),
    "depth by aliases": Odd(
        "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30,
        ": line 2: nested deeper than 50 levels",
    ),
    "a list that holds itself": Odd("name: &a [*a]", ": line 1: &a holds itself"),
    "keys that hold themselves": Odd("a: &b\n  c: *b", ": line 2: &b holds itself"),
    "an alias of nothing": Odd("name: *a", ": line 1: *a stands for nothing: no &a is above"),
    "many values": Odd("- 1\n" * 20_000, f": line {MAX_VALUES}: more than 10,000 values"),
    "a long value": Odd(f"name: {'x' * 20_000}", ": line 1: a value of 20,000 characters; at"),
    "a long number": Odd(f"seed: {'1' * 5000}", ": line 1: 1111111111... is a number of 5000"),
    "a bell": Odd("name: a\nseed: \a", " is not YAML: line 2: the character U+0007 cannot stand"),
    "a NUL": Odd("name: \0", " is not YAML: line 1: the character U+0000 cannot stand"),
    "an escaped NUL": Odd('name: "\\0"', ": line 1: the character U+0000 cannot stand"),
    "an escape beyond Unicode": Odd('name: "\\Uffffffff"', " is not YAML: "),
    "a Python object": Odd(
        "name: a\nx: !!python/object/apply:os.system [ls]",
        ": line 2: the tag !!python/object/apply:os.system is not read; write the value alone",
    ),
    "a name of Python": Odd("name: !!python/name:os.system a", ": line 1: the tag !!python/name"),
    "bytes": Odd("name: !!binary aGk=", ": line 1: the tag !!binary is not read"),
    "a set": Odd("!!set {a, b}", ": line 1: the tag !!set is not read"),
    "a tag of its own": Odd("name: !x a", ": line 1: the tag !x is not read"),
    "a list as key": Odd("? [a]: 1", ": line 1: a key must be a word, not a list or keys"),
    "keys as key": Odd("{{a: 1}: 2}", ": line 1: a key must be a word, not a list or keys"),
    "a merge": Odd("a: &a {b: 1}\nc:\n  <<: *a", ": line 3: merge keys (<<) are not read"),
    "a key twice": Odd("name: a\nname: b", ": line 2: the key 'name' stands twice"),
    "a choice twice": Odd(
        "name: a\nsearch: {model.hidden: {choice: {1: [1], 01: [2]}}}",
        ": line 2: the key '01' stands twice",
    ),
    "two documents": Odd("name: a\n---\nname: b", ": line 2: a second document begins; keep one"),
    "experts without end": Odd(
        "name: a\nfixed: {model.num_experts: 1000000000}\nsearch: {model.schemes: {mix: [1, 8]}}",
        ": model.num_experts may be up to 256 in a search, but got 1000000000",
    ),
    "keys nobody knows": Odd(
        "name: a\nfixed:\n" + "".join(f"  k{n}: 1\n" for n in range(4000)), ": fixed: unknown key"
    ),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
def test_an_odd_file_is_named_with_its_line(tmp_path: Path, odd: Odd) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(odd.text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}{odd.message}')}") as caught:
        load_sweep(path)
    assert len(str(caught.value)) < 10_000


def test_mixes_that_memory_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    search = "{model.num_experts: {int: [1, 60]}, model.schemes: {mix: [1, 2, 4, 8, 16, 32]}}"
    path.write_text(f"name: a\nsearch: {search}")
    message = "search.model.schemes: 60 experts of 6 schemes make 8,259,888 mixes, and at most"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_sweep(path)


def test_anchors_within_limits_are_read() -> None:
    text = "a: &x {b: [1, 2]}\nc: *x\nd: [*x, *x]"
    one = {"b": [1, 2]}
    assert parse_yaml(text, "here") == {"a": one, "c": one, "d": [one, one]}
    assert parse_yaml("\ufeffa: 1", "here") == {"a": 1}


@pytest.mark.parametrize("text", ["", "\n", "# nothing", "---", "--- # nothing\n...\n"])
def test_a_file_without_a_value_says_what_it_should_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="a sweep is a mapping of keys, but found None"):
        load_sweep(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: a\nx: \xe9", r"is not UTF-8 text: line 2: .*; save it as UTF-8$"),
        ("name: a".encode("utf-16"), r"is not UTF-8 text: line 1: .*; save it as UTF-8$"),
        ("name: a".encode("utf-16-le"), r"is not YAML: line 1: the character U\+0000"),
        (b"#" * (MAX_BYTES + 1), r"too large for a sweep: more than 1,000,000 bytes"),
        (b"PK\x03\x04" + bytes(100), r"is not YAML: line 1: the character U\+0003"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))} .*{message}|{message}"):
        load_sweep(path)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such sweep file: .* \(it is a folder\)$"):
        load_sweep(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.yaml")  # to open it would wait for ever
        (tmp_path / "zero.yaml").symlink_to("/dev/zero")
        for name in ("pipe.yaml", "zero.yaml"):
            with pytest.raises(ConfigError, match=r"\(it is not a regular file\)$"):
                load_sweep(tmp_path / name)
    (tmp_path / "nowhere.yaml").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"no such sweep file: .*nowhere\.yaml$"):
        load_sweep(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        load_sweep(tmp_path / ("x" * 300))


PIECES = (
    *(
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "&a ",
        "*a",
        "!!set ",
        "? ",
        "\n",
        "  ",
        "#",
        "'",
        '"',
        "\\",
    ),
    *("|\n", ">\n", "%", "@", "<<: *a", "---\n", "null", "true", ".nan", "-1", "1e9", "9" * 50),
    *("\x00", "\x07", "\ud7ff", "\ufeff", "\x85", "\u2028", "ü", "name", "model", "search", "int"),
)


def _mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 0, 1, 3, 20]))
        kind = rng.random()
        if kind < 0.6:
            new = rng.choice(PIECES) * rng.choice([1, 1, 1, 2, 60])
        elif kind < 0.8:
            new = text[(at := rng.randrange(len(text))) : at + rng.randint(1, 40)]
        else:
            new = chr(rng.randrange(0xD800))
        text = text[:start] + new + text[end:]
    return text


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_whatever_a_file_says_nothing_but_a_config_error_leaves(
    tmp_path: Path, path: Path
) -> None:
    original = path.read_text(encoding="utf-8")
    file = tmp_path / "mutated.yaml"
    loaders: tuple[Callable[..., object], ...] = LOADERS
    for seed in range(25):
        text = _mutated(original, random.Random(f"{path.stem}/{seed}"))
        file.write_text(text, encoding="utf-8")
        for load in loaders:
            try:
                load(file)
            except ConfigError:
                continue
            except Exception as error:
                raise AssertionError(f"{path.stem}, seed {seed}: {text}") from error
