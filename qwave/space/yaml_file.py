"""Reading YAML as a person means it, and no more of it than a person writes.

| written | read as |
|---|---|
| ``10``, ``010``, ``1_000``, ``+5`` | whole numbers in decimal |
| ``.5``, ``1.``, ``1e-3``, ``.inf``, ``.nan`` | numbers |
| ``true``, ``false`` (also ``True``, ``TRUE``) | yes and no; ``on`` and ``yes`` are words |
| ``null``, ``~``, nothing | nothing |
| anything else: ``2024-01-01``, ``0x10``, ``1:30``, ``1,5`` | the text as written |

Where a key holds text, what is unquoted is the text as written; what may be left out is nothing
as ``null``, ``none`` or ``~``.

Every limit is checked while the file is read, before a value is made of it: a short file can name
more values than memory holds by aliases of aliases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from qwave.config import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_VALUES = 10_000
MAX_CHARACTERS = 10_000
MAX_DIGITS = 40

Kind = Literal["value", "text", "optional text"]
# The kind of the values below these keys, outermost first, whatever the values look like.
KindOf = Callable[[tuple[str, ...]], Kind]

_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_FLOAT = re.compile(
    r"[-+]?([0-9]+(_[0-9]+)*\.?([0-9]+(_[0-9]+)*)?|\.[0-9]+(_[0-9]+)*)([eE][-+]?[0-9]+)?"
)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


_NOTHING = ("", "~", "null", "none")


@dataclass(frozen=True, eq=False)
class _Scalar:
    """One value of the file, not yet given a type."""

    text: str
    is_quoted: bool
    line: int


@dataclass(frozen=True, eq=False)
class _List:
    items: list[_Node]


@dataclass(frozen=True, eq=False)
class _Keys:
    """A mapping; its keys are distinct."""

    items: list[tuple[_Scalar, _Node]]


_Node = _Scalar | _List | _Keys


@dataclass(frozen=True, eq=False)
class _Anchored:
    """The node that an alias stands for, its number of values, and how deep they are nested."""

    node: _Node
    n_values: int
    depth: int


def any_value(key_path: tuple[str, ...]) -> Kind:
    """For texts of which no key is known: every value is what it looks like."""
    return "value"


def parse_yaml(
    text: str, source: str, kind_of: KindOf = any_value, key_path: tuple[str, ...] = ()
) -> Any:
    """The value of a YAML text.

    Args:
        text: One document of lists, keys and plain values, without tags and merge keys.
        source: Names the text in errors.
        kind_of: Kind of a key's value, or of the members of a list, by the keys that lead to it.
        key_path: Keys that lead to the text itself. Where there are some, the text is the value of
            a key, which has no comments.

    Raises:
        ConfigError: The text is not YAML, breaks a limit (`MAX_DEPTH`, `MAX_VALUES`,
            `MAX_CHARACTERS`, `MAX_DIGITS`), or a key stands twice. One message, with the line.
    """
    try:
        reader = _Reader(yaml.parse(text, Loader=yaml.SafeLoader))
        node = reader.document()
        if key_path and text[reader.end :].strip():
            raise ConfigError(f"{text[reader.end :].strip()!r} stands after the value")
        return None if node is None else _value(node, key_path, kind_of)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = ord(text[error.position])
        raise ConfigError(
            f"{source} is not YAML: line {line}: the character U+{code:04X} cannot stand in a text"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, OverflowError) as error:  # of escapes such as "\Uffffffff"
        raise ConfigError(f"{source} is not YAML: {error}") from error


def parse_scalar(text: str, line: int | None = None) -> Any:
    """The value of an unquoted word, as the table above has it.

    Raises:
        ConfigError: A number of more than `MAX_DIGITS` digits, or a whole one beyond 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    where = "" if line is None else f"line {line}: "
    is_whole = _INT.fullmatch(text) is not None
    if not is_whole and not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_DIGITS:
        raise ConfigError(
            f"{where}{text[:10]}... is a number of {len(text)} digits; at most {MAX_DIGITS} are "
            "read"
        )
    plain = text.replace("_", "")
    if not is_whole:
        value = float(plain)
        if math.isinf(value):
            raise ConfigError(f"{where}{text} is larger than any number that can be read")
        return value
    number = int(plain)
    if not -(2**63) <= number < 2**63:
        raise ConfigError(
            f"{where}{text} is a whole number beyond 64 bits; where a fraction may stand, write "
            f"{float(number):g}"
        )
    return number


def read_text(text: str, kind: Kind, line: int | None = None) -> Any:
    """The value of an unquoted word by what its key holds.

    Raises:
        ConfigError: As `parse_scalar`.
    """
    if kind == "value" or not text:
        return parse_scalar(text, line)
    return None if kind == "optional text" and text.lower() in _NOTHING else text


def read_yaml(path: Path, kind_of: KindOf = any_value) -> Any:
    """The value of a YAML file, see `parse_yaml`.

    Raises:
        ConfigError: As `parse_yaml`; or there is no regular file of at most `MAX_BYTES` bytes in
            UTF-8, or it cannot be read.
    """
    try:
        if not path.is_file():
            reason = ""
            if path.exists():
                what = "a folder" if path.is_dir() else "not a regular file"
                reason = f" (it is {what})"
            raise ConfigError(f"no such sweep file: {path}{reason}")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path} is too large for a sweep: more than {MAX_BYTES:,} bytes; name a YAML file"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path} is not UTF-8 text: line {line}: {error.reason}; save it as UTF-8"
        ) from error
    return parse_yaml(text, str(path), kind_of)


class _Reader:
    """Makes nodes of a parser's events, and stops at the first limit that is broken."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self.events = events
        self.n_values = 0
        self.end = 0  # of the document's value, in characters
        # None: the node is still being read.
        self.anchors: dict[str, _Anchored | None] = {}

    def document(self) -> _Node | None:
        """The one document of the text; None if there is none."""
        next(self.events)  # the stream's start
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        node, _ = self._node(next(self.events), 1)
        next(self.events)  # the document's end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise ConfigError(f"line {_line(event)}: a second document begins; keep one")
        return node

    def _node(self, event: yaml.Event, depth: int) -> tuple[_Node, int]:
        """The node that begins with this event, and how many levels it has."""
        self.end = _end(event)
        self._count(1, event)
        if depth > MAX_DEPTH:
            raise ConfigError(f"line {_line(event)}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event, depth)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent), event
        if event.tag is not None and event.tag != "!":
            raise ConfigError(
                f"line {_line(event)}: the tag {_shown_tag(event.tag)} is not read; write the "
                "value alone"
            )
        before, anchor = self.n_values, event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node, n_levels = _scalar(event), 1
        elif isinstance(event, yaml.SequenceStartEvent):
            node, n_levels = self._list(depth)
        else:
            node, n_levels = self._keys(depth)
        if anchor is not None:
            self.anchors[anchor] = _Anchored(node, self.n_values - before + 1, n_levels)
        return node, n_levels

    def _list(self, depth: int) -> tuple[_List, int]:
        items: list[_Node] = []
        deepest = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            item, n_levels = self._node(event, depth + 1)
            items.append(item)
            deepest = max(deepest, n_levels)
        self.end = _end(event)
        return _List(items), deepest + 1

    def _keys(self, depth: int) -> tuple[_Keys, int]:
        items: list[tuple[_Scalar, _Node]] = []
        seen: set[str] = set()
        deepest = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, _ = self._node(event, depth + 1)
            line = _line(event)
            if not isinstance(key, _Scalar):
                raise ConfigError(f"line {line}: a key must be a word, not a list or keys")
            if key.text == "<<" and not key.is_quoted:
                raise ConfigError(f"line {line}: merge keys (<<) are not read; write the keys out")
            if key.text in seen:
                raise ConfigError(f"line {line}: the key {key.text!r} stands twice")
            seen.add(key.text)
            value, n_levels = self._node(next(self.events), depth + 1)
            items.append((key, value))
            deepest = max(deepest, n_levels)
        self.end = _end(event)
        return _Keys(items), deepest + 1

    def _aliased(self, event: yaml.AliasEvent, depth: int) -> tuple[_Node, int]:
        name, line = event.anchor, _line(event)
        if name not in self.anchors:
            raise ConfigError(f"line {line}: *{name} stands for nothing: no &{name} is above it")
        anchored = self.anchors[name]
        if anchored is None:
            raise ConfigError(f"line {line}: &{name} holds itself")
        self._count(anchored.n_values - 1, event)
        if depth + anchored.depth - 1 > MAX_DEPTH:
            raise ConfigError(f"line {line}: nested deeper than {MAX_DEPTH} levels")
        return anchored.node, anchored.depth

    def _count(self, number: int, event: yaml.Event) -> None:
        self.n_values += number
        if self.n_values > MAX_VALUES:
            raise ConfigError(
                f"line {_line(event)}: more than {MAX_VALUES:,} values and keys, those of aliases "
                "among them"
            )


def _scalar(event: yaml.ScalarEvent) -> _Scalar:
    text, line = event.value, _line(event)
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"line {line}: a value of {len(text):,} characters; at most {MAX_CHARACTERS:,} are "
            "read"
        )
    if "\0" in text:
        raise ConfigError(f"line {line}: the character U+0000 cannot stand in a text")
    # `event.implicit`: whether the value may be anything but text, which a quoted one may not.
    return _Scalar(text, not event.implicit[0], line)


def _value(node: _Node, key_path: tuple[str, ...], kind_of: KindOf) -> Any:
    if isinstance(node, _List):
        return [_value(item, key_path, kind_of) for item in node.items]
    if isinstance(node, _Scalar):
        return node.text if node.is_quoted else read_text(node.text, kind_of(key_path), node.line)
    # Names of choices have a type, which a study keeps; all other keys are words.
    is_typed = key_path[:1] == ("search",) and key_path[-1:] == ("choice",)
    values = {}
    for key, item in node.items:
        name = key.text
        if is_typed and not key.is_quoted:
            name = parse_scalar(key.text, key.line)
        if name in values:
            raise ConfigError(f"line {key.line}: the key {key.text!r} stands twice")
        values[name] = _value(item, (*key_path, key.text), kind_of)
    return values


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:100]


def _line(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line + 1


def _end(event: yaml.Event) -> int:
    return 0 if event.end_mark is None else event.end_mark.index
