"""Errors whose message is for a person: wrong input, and runs that cannot go on.

Whoever calls qwave from Python catches `QwaveError`; a command prints its message and ends with
its `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar, get_args


class QwaveError(ValueError):
    """Base of every error whose message is for a person.

    Attributes:
        exit_code: Exit code of a command that the error ends: 2 wrong input, 1 no result, 130
            stopped by a person.
    """

    exit_code: ClassVar[int] = 2


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


class WorkerLostError(QwaveError):
    """A training process was ended from outside."""

    exit_code = 1


class TrialFailedError(QwaveError):
    """Trials that a study cannot do without ended in errors; what was trained is kept."""

    exit_code = 1


class StudyStoppedError(QwaveError):
    """A person stopped the study; what was trained is kept."""

    exit_code = 130


def unknown_rule(backend: str, rule: str, value: object) -> NotImplementedError:
    """The error of a backend that has no arithmetic for a rule of a grid or a normalisation.

    Not a `QwaveError`: a rule was added to the configuration and not yet to every backend.

    Args:
        backend: Name of the backend: ``the numpy runtime``, ``the ONNX graph``.
        rule: The kind of rule, such as ``Grid.scale``.
        value: The rule's value that the backend does not know.
    """
    return NotImplementedError(
        f"{backend} has no arithmetic for {rule}={value!r}: write it there, as in "
        "`qwave.nn.quantizers` (grids) or `qwave.data.normalization` (normalisations)"
    )


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
