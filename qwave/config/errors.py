"""Errors that a person's input can cause.

Whoever calls qwave catches `QwaveError`; the studies turn it into one message and exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args


class QwaveError(ValueError):
    """Base of every error that a person's input can cause."""


class ConfigError(QwaveError):
    """A sweep file, an override or a configuration says something impossible."""


class DataError(QwaveError):
    """An embeddings file cannot be used."""


class AudioError(QwaveError):
    """A recording cannot be decoded, or an encoder cannot be had."""


class StoreError(QwaveError):
    """A store cannot be opened, is of another version, or holds another study."""


class DeviceError(QwaveError):
    """The device that was asked for is not there."""


class PackedFileError(QwaveError):
    """A packed model file is damaged, of another version, or not one at all."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for a misspelt name: `` (did you mean 'x'?)``, or the empty string."""
    candidates = [str(item) for item in allowed]
    matches = difflib.get_close_matches(str(name), candidates, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def require_choice(value: str, kind: Any, key: str) -> None:
    """Refuse a value that a `Literal` type does not list.

    Raises:
        ConfigError: Names the key, what is allowed and the nearest allowed value.
    """
    allowed = get_args(kind)
    if value not in allowed:
        raise ConfigError(
            f"`{key}` must be one of {', '.join(allowed)}, but got {value!r}"
            f"{nearest(str(value), allowed)}"
        )


def require(condition: bool, rule: str, key: str, value: object) -> None:
    """Refuse a value that breaks a rule.

    Args:
        condition: Whether the rule holds.
        rule: The rule with ``{}`` in place of the key, such as ``0 <= {} < 1``.
        key: The dotted key of the value.
        value: The value.

    Raises:
        ConfigError: The condition is false; names the rule and the value.
    """
    if not condition:
        name = key.rpartition(".")[2]
        raise ConfigError(f"`{rule.format(key)}` must hold, but got {name}={value!r}")
