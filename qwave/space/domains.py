"""Domains of a search space: from YAML, and whether they make sense for their keys."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from qwave.config import (
    ChoiceDomain,
    ConfigError,
    Domain,
    FloatDomain,
    IntDomain,
    MixDomain,
    SweepConfig,
    TrialConfig,
    nearest,
    scheme_name,
)

_Value = TypeVar("_Value")

# Largest number of experts in a search, and of multisets of schemes at one number of experts:
# all of them are listed in memory to be drawn from.
MAX_EXPERTS = 256
MAX_MIXES = 1_000_000

_KINDS = ("int", "float", "choice", "mix")
_SCHEME_KEYS = ("model.head_scheme", "model.router.scheme")
_UNSEARCHED = (
    *("data.path", "data.encoder", "data.folds", "data.n_folds", "data.drop_overlap"),
    *("data.holdout_fold", "data.fold_seed", "seed"),
)


def parse_domain(value: Any, source: str) -> Domain:
    """One entry of `search`: ``{int: [low, high]}``, ``{float: [low, high], log: true}``,
    ``{choice: [...]}``, ``{choice: {name: value}}`` or ``{mix: [scheme, ...]}``.

    Raises:
        ConfigError: The entry is none of these; `source` names the file and the key.
    """
    kinds = [kind for kind in _KINDS if isinstance(value, Mapping) and kind in value]
    if len(kinds) != 1:
        raise ConfigError(
            f"{source} = {value!r}: expected one of {{int: [low, high]}}, "
            "{float: [low, high], log: true}, {choice: [...]}, {choice: {name: value}}, "
            "{mix: [scheme, ...]}"
        )
    (kind,) = kinds
    options = set(value) - {kind}
    allowed = {"log"} if kind in ("int", "float") else set()
    for option in sorted(map(str, options - allowed)):
        raise ConfigError(
            f"{source}: unknown option {option!r}{nearest(option, allowed)}; "
            f"allowed beside {kind}: {', '.join(allowed) or 'nothing'}"
        )
    if not isinstance(value.get("log", False), bool):
        raise ConfigError(f"{source}: log = {value['log']!r}: true or false")
    body = value[kind]
    try:
        if kind == "int":
            low, high = _bounds(body, (int,), "two whole numbers", source)
            return IntDomain(int(low), int(high), value.get("log", False))
        if kind == "float":
            low, high = _bounds(body, (int, float), "two numbers", source)
            return FloatDomain(float(low), float(high), value.get("log", False))
        if kind == "mix":
            if not isinstance(body, list):
                raise ConfigError(f"mix = {body!r}: a list of schemes")
            return MixDomain(tuple(scheme_name(name) for name in body))
        return _choice(body)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(
            message if message.startswith(source) else f"{source}: {message}"
        ) from error


def _bounds(body: Any, types: tuple[type, ...], what: str, source: str) -> tuple[float, float]:
    is_pair = isinstance(body, list) and len(body) == 2
    if not is_pair or any(isinstance(v, bool) or not isinstance(v, types) for v in body):
        raise ConfigError(f"{source} = {body!r}: expected {what}, [low, high]")
    return body[0], body[1]


def _choice(body: Any) -> ChoiceDomain:
    if isinstance(body, Mapping):
        names, values = list(body), list(body.values())
    elif isinstance(body, list):
        names, values = body, body
    else:
        raise ConfigError(f"choice = {body!r}: a list, or names with their values")
    for name in names:
        if not isinstance(name, str | int | float | bool):
            raise ConfigError(
                f"choice {name!r} is not a plain value: give it a name, as in "
                "{choice: {small: [64]}}"
            )
    frozen = tuple(tuple(v) if isinstance(v, list) else v for v in values)
    return ChoiceDomain(tuple(names), frozen)


def check_search(sweep: SweepConfig, source: str) -> None:
    """Refuse domains whose values their keys cannot hold.

    Raises:
        ConfigError: Names the file, the key, the value and the rule.
    """
    search = sweep.search
    for key in _UNSEARCHED:
        if key in search:
            raise ConfigError(f"{source}: search.{key} cannot be searched; set it once")
    schemes = search.get("model.schemes")
    experts = search.get("model.num_experts")
    if schemes is not None and not isinstance(schemes, MixDomain):
        raise ConfigError(f"{source}: search.model.schemes must be a {{mix: [scheme, ...]}}")
    if experts is not None and (not isinstance(experts, IntDomain) or experts.low < 1):
        raise ConfigError(
            f"{source}: search.model.num_experts must be {{int: [low, high]}} from 1 up"
        )
    if experts is not None and schemes is None:
        raise ConfigError(
            f"{source}: search.model.num_experts needs search.model.schemes: {{mix: [...]}}"
        )
    fewest, most = expert_range(sweep)
    if isinstance(schemes, MixDomain):
        n_mixes = math.comb(most + len(schemes.schemes) - 1, most)
        if n_mixes > MAX_MIXES:
            raise ConfigError(
                f"{source}: search.model.schemes: {most} experts of {len(schemes.schemes)} "
                f"schemes make {n_mixes:,} mixes, and at most {MAX_MIXES:,} can be searched; "
                "allow fewer experts or schemes"
            )
    for key, domain in search.items():
        if key in ("model.schemes", "model.num_experts"):
            continue
        if isinstance(domain, MixDomain):
            raise ConfigError(f"{source}: search.{key}: mix is for model.schemes only")
        values = domain.values if isinstance(domain, ChoiceDomain) else (domain.low, domain.high)
        if key == "model.top_k":
            # Drawn up to the number of experts of each trial, whatever the upper bound says.
            values = values[:1]
        for value in values:
            _check_value(sweep, key, value, most, source)
    top_k = search.get("model.top_k")
    if top_k is not None and not isinstance(top_k, IntDomain):
        raise ConfigError(f"{source}: search.model.top_k must be {{int: [low, high]}}")
    least = top_k.low if isinstance(top_k, IntDomain) else sweep.base.model.top_k
    if most > 1 and least > max(fewest, 2):
        raise ConfigError(
            f"{source}: model.top_k: `top_k <= num_experts` must hold, but got "
            f"top_k={least} with num_experts={max(fewest, 2)}"
        )


def expert_range(sweep: SweepConfig) -> tuple[int, int]:
    """Fewest and most experts that a sweep draws."""
    domain = sweep.search.get("model.num_experts")
    if isinstance(domain, IntDomain):
        return domain.low, domain.high
    return sweep.base.model.num_experts, sweep.base.model.num_experts


def replace_keys(config: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """A configuration with dotted keys replaced; invariants are checked once, at the end."""
    tree = dataclasses.asdict(config)
    for key, value in values.items():
        node = tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
    # JSON in strict mode, as a person's file is read: "3" is not a number, nor 3.0 a whole one.
    return adapter_of(TrialConfig).validate_json(json.dumps(tree), strict=True)


@functools.cache
def adapter_of(kind: type[_Value]) -> TypeAdapter[_Value]:
    """Pydantic's validator of a dataclass: building it takes 3 ms, a thousand times its use."""
    return TypeAdapter(kind)


def _check_value(sweep: SweepConfig, key: str, value: Any, most: int, source: str) -> None:
    """Whether a key can hold a value, among as many experts as the sweep can draw."""
    values = {"model.schemes": ("int8",) * most, key: value}
    if key != "model.top_k":
        values["model.top_k"] = 1
    try:
        if key in _SCHEME_KEYS and value is not None:
            values[key] = scheme_name(value)
        replace_keys(sweep.base, values)
    except ConfigError as error:
        raise ConfigError(f"{source}: search.{key} = {value!r}: {error}") from error
    except ValidationError as error:
        item = error.errors()[0]
        reason = item["ctx"]["error"] if item["type"] == "value_error" else item["msg"].lower()
        raise ConfigError(f"{source}: search.{key} = {value!r}: {reason}") from error
