"""Which keys hold text, and how an override ``key=value`` is read.

A file name is text whatever it looks like: ``2024-01-01``, ``my set #2.npz`` and ``[rec] 1.npz``
are no date, no comment and no list. Which keys hold text is read from the types of the
dataclasses that they fill.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Collection, Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from qwave.config import ConfigError, SweepConfig, TrialConfig
from qwave.space.yaml_file import Kind, parse_yaml, read_text
from qwave.text import expanded, typed_encoder

# Names out of a list: blanks and quotes around them mean nothing, as around a number.
_NAMES = ("model.head_scheme", "model.router.scheme")


def kind_of(key_path: tuple[str, ...]) -> Kind:
    """The kind of value that a key of a sweep's file holds, by the keys that lead to it."""
    if key_path[:1] == ("fixed",):
        key_path = key_path[1:]
    return _KINDS.get(".".join(key_path), "value")


def parse_override(override: str, text_keys: Collection[str] = ()) -> tuple[str, Any]:
    """The key and the value of ``dotted.key=value``.

    A path, an encoder, a name (`data.path`, `data.encoder`, `name`) is the text as typed,
    whatever stands in it; where there may be none, ``null``, ``none`` and nothing are None. Of
    every other key, ``[...]`` and ``{...}`` are lists and keys as YAML writes them in one line,
    and anything else is one word or number; nothing is a comment.

    Args:
        override: The text that a person typed.
        text_keys: Further keys that hold text.

    Raises:
        ConfigError: There is no ``=``, a text is empty, or the value is not YAML.
    """
    key, equals, text = override.partition("=")
    source = f"override {override!r}"
    if not equals:
        raise ConfigError(f"{source} must have the form dotted.key=value")
    key_path = tuple(key.split("."))
    if key_path[0] == "search" and len(key_path) > 1:
        key_path = ("search", ".".join(key_path[1:]))
    kind: Kind = "text" if key in text_keys else kind_of(key_path)
    is_typed = kind != "value" and key.removeprefix("fixed.") in (*_OPEN_KEYS, *text_keys)
    if is_typed and kind == "text" and not text:
        raise ConfigError(f"{source}: {key} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{source} is not UTF-8 text") from error
    if is_typed:
        return key, read_text(text, kind)
    word = text.strip()
    if word[:1] in tuple("[{'\""):
        return key, parse_yaml(word, source, kind_of, key_path)
    try:
        return key, read_text(word, kind)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def expand_home(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys of a trial with ``~`` replaced in the path of the data and of an encoder."""
    changed = dict(flat)
    path, encoder = flat.get("data.path"), flat.get("data.encoder")
    if isinstance(path, str):
        changed["data.path"] = expanded(path)
    if isinstance(encoder, str):
        changed["data.encoder"] = typed_encoder(encoder)
    return changed


def number_hint(value: Any) -> str:
    """What to write instead of a text that stands where a number must: ``; write ...``, or the
    empty string."""
    if not isinstance(value, str):
        return ""
    word = value.strip()
    if re.fullmatch(r"[-+]?[0-9]*,[0-9]+", word):
        return f"; write {word.replace(',', '.')}"
    if re.fullmatch(r"[-+]?0([xX][0-9a-fA-F]{1,12}|[bB][01]{1,40}|[oO][0-7]{1,12})", word):
        return f"; write {int(word, 0)}"
    if re.fullmatch(r"[-+]?[0-9]+(:[0-9.]+)+", word):
        return "; write one number, without a colon"
    if re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", word):
        return "; write it without quotes"
    return ""


def _text_kind(hint: Any) -> Kind:
    """What a field of this type holds, or the members of its list."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [_text_kind(part) for part in get_args(hint) if part is not type(None)]
        is_text = bool(kinds) and all(kind == "text" for kind in kinds)
        return "optional text" if is_text else "value"
    if get_origin(hint) is tuple:
        return _text_kind(get_args(hint)[0])
    is_word = get_origin(hint) is Literal and all(isinstance(a, str) for a in get_args(hint))
    return "text" if hint is str or is_word else "value"


def _fields(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and types of the fields of a dataclass, and of those in it."""
    for name, hint in get_type_hints(kind).items():
        if name.startswith("__"):
            continue
        member = get_args(hint)[0] if get_origin(hint) is tuple else hint
        if dataclasses.is_dataclass(member) and isinstance(member, type):
            yield from _fields(member, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


_TYPES = {
    key: hint
    for part in (SweepConfig, TrialConfig)
    for key, hint in _fields(part)
    if not key.startswith("base.")  # the trial of a sweep, whose keys stand alone in files
}
_KINDS: dict[str, Kind] = {key: _text_kind(hint) for key, hint in _TYPES.items()}
# Whose text is any text: no list of texts, no choice of words.
_OPEN_KEYS = tuple(
    key for key, hint in _TYPES.items() if hint in (str, str | None) and key not in _NAMES
)
