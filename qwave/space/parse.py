"""What a person writes becomes the dataclasses of `qwave.config`, or an error that helps.

Pydantic validates here and nowhere else. Every message names the file, the key, the value that was
found and what is allowed, and for an unknown key the nearest valid one.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import TypeAdapter, ValidationError

from qwave.config import (
    Budget,
    ConfigError,
    DataConfig,
    Domain,
    Objective,
    SamplerConfig,
    SweepConfig,
    TrialConfig,
    nearest,
    scheme_name,
)
from qwave.space.domains import check_search, parse_domain
from qwave.space.yaml_file import parse_yaml, read_yaml

_Value = TypeVar("_Value")
_SECTIONS = ("data", "objectives", "budget", "sampler", "fixed", "search")
TRIAL_KEYS = tuple(TrialConfig().flat())

# `--smoke`: the same path, less of it.
_SMOKE = {"fixed.train.epochs": 3, "budget.n_trials": 12}


@dataclasses.dataclass(frozen=True)
class _SweepFile:
    """The sections of a sweep file, before `fixed` and `search` are looked into."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    name: str
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    objectives: tuple[Objective, ...] = (
        Objective("accuracy", "maximize"),
        Objective("size_bytes", "minimize"),
    )
    budget: Budget = dataclasses.field(default_factory=Budget)
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    search: dict[str, Any] = dataclasses.field(default_factory=dict)


def parse_config(tree: Mapping[str, Any], source: str = "configuration") -> TrialConfig:
    """One trial's configuration from nested keys, as in a sweep's `fixed` section.

    Keys that are left out hold their defaults; `model.num_experts` may be given and must then
    equal the number of schemes; schemes go by any of their names.

    Raises:
        ConfigError: A key is unknown, a value has the wrong type, or a combination is impossible.
    """
    tree = _expand(tree, source)
    model = tree.get("model", {})
    num_experts = model.pop("num_experts", None) if isinstance(model, dict) else None
    config = _validate(TrialConfig, tree, source, "")
    if num_experts is not None and num_experts != config.model.num_experts:
        raise ConfigError(
            f"{source}: `model.num_experts == len(model.schemes)` must hold, but got "
            f"num_experts={num_experts!r}, schemes={list(config.model.schemes)}"
        )
    return config


def load_sweep(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> SweepConfig:
    """Read a sweep file.

    Args:
        path: A YAML file.
        overrides: ``dotted.key=value`` each, the value in YAML. A key of the trial
            (``train.epochs=20``) becomes fixed and is no longer searched; others name a section
            (``budget.n_trials=10``, ``search.model.top_k={int: [1, 2]}``).
        is_smoke: A few small, short trials under the name ``<name>_smoke``.

    Raises:
        ConfigError: As `parse_config`.
    """
    source = str(path)
    tree = read_yaml(Path(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: a sweep is a mapping of keys, but found {tree!r}")
    tree = copy.deepcopy(tree)
    if is_smoke:
        for key, value in _SMOKE.items():
            _assign(tree, key, value, source)
        tree["name"] = f"{tree.get('name')}_smoke"
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r} must have the form dotted.key=value")
        _assign(tree, key, parse_yaml(text, f"override {override!r}"), f"override {override!r}")
    return _build(_validate(_SweepFile, tree, source, ""), source)


def _build(file: _SweepFile, source: str) -> SweepConfig:
    fixed = _expand(file.fixed, f"{source}: fixed")
    if "data" in fixed:
        raise ConfigError(f"{source}: fixed.data: data has a section of its own, `data:`")
    for key in file.search:
        if key not in TRIAL_KEYS:
            raise ConfigError(
                f"{source}: search: unknown key {key!r}{nearest(key, TRIAL_KEYS)}; allowed: "
                f"{', '.join(TRIAL_KEYS)}"
            )
        if _has(fixed, key):
            raise ConfigError(f"{source}: {key} stands in `fixed` and in `search`; keep one")
    search: dict[str, Domain] = {
        key: parse_domain(value, f"{source}: search.{key}") for key, value in file.search.items()
    }
    model = fixed.get("model", {})
    if "num_experts" in model and "model.schemes" in search and "schemes" not in model:
        # As many experts as said; which ones is searched.
        num_experts = model.pop("num_experts")
        if not isinstance(num_experts, int) or num_experts < 1:
            raise ConfigError(
                f"{source}: fixed.model.num_experts must be 1 or more, but got {num_experts!r}"
            )
        model["schemes"] = ["int8"] * num_experts
    base = parse_config({**fixed, "data": dataclasses.asdict(file.data)}, f"{source}: fixed")
    sweep = SweepConfig(file.name, file.objectives, file.budget, file.sampler, base, search)
    check_search(sweep, source)
    return sweep


def _assign(tree: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key, in the section that it names or, for a trial's key, in `fixed`."""
    section, _, rest = key.partition(".")
    if key == "name":
        tree["name"] = value
        return
    if key in TRIAL_KEYS and section != "data":
        search = tree.get("search")
        if isinstance(search, dict):
            search.pop(key, None)
        section, rest = "fixed", key
    if key in _SECTIONS:
        tree[key] = value
        return
    if section not in _SECTIONS or not rest:
        sections = [f"{s}.*" for s in _SECTIONS]
        raise ConfigError(
            f"{source}: unknown key {key!r}{nearest(key, (*TRIAL_KEYS, *_SECTIONS))}; allowed: "
            f"{', '.join((*TRIAL_KEYS, *sections))}"
        )
    parents = [section] if section == "search" else [section, *rest.split(".")[:-1]]
    node = tree
    for parent in parents:
        if not isinstance(node.setdefault(parent, {}), dict):
            raise ConfigError(f"{source}: {parent!r} holds {node[parent]!r}, not keys")
        node = node[parent]
    node[rest if section == "search" else rest.split(".")[-1]] = value


def _expand(tree: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A deep copy in which dotted keys are nested and schemes go by their own names."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source}: expected keys, but found {tree!r}")
    nested: dict[str, Any] = {}
    for key, value in tree.items():
        node = nested
        *parents, last = str(key).split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        if isinstance(value, Mapping):
            node.setdefault(last, {}).update(_expand(value, f"{source}: {key}"))
        else:
            node[last] = copy.deepcopy(value)
    model = nested.get("model")
    if isinstance(model, dict):
        _rename_schemes(model, source)
    return nested


def _rename_schemes(model: dict[str, Any], source: str) -> None:
    try:
        if isinstance(model.get("schemes"), list | tuple):
            model["schemes"] = [scheme_name(name) for name in model["schemes"]]
        if model.get("head_scheme") is not None:
            model["head_scheme"] = scheme_name(model["head_scheme"])
        router = model.get("router")
        if isinstance(router, dict) and "scheme" in router:
            router["scheme"] = scheme_name(router["scheme"])
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _has(tree: Mapping[str, Any], key: str) -> bool:
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _validate(kind: type[_Value], tree: Any, source: str, prefix: str) -> _Value:
    try:
        text = json.dumps(tree)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: {error}") from error
    try:
        # JSON in strict mode: "3" is not a number and 3 not a string, yet lists become tuples.
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        lines = [_message(kind, item, prefix) for item in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from error


def _message(kind: type, item: Any, prefix: str) -> str:
    key = prefix + ".".join(str(part) for part in item["loc"])
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        allowed = _field_names(kind, item["loc"][:-1])
        hint = nearest(str(item["loc"][-1]), allowed)
        return f"unknown key {key!r}{hint}; allowed: {', '.join(allowed)}"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] in ("missing", "missing_argument"):
        return f"{key} is missing"
    return f"{key} = {item['input']!r}: {item['msg'].lower()}"


def _field_names(kind: Any, loc: Sequence[Any]) -> list[str]:
    """Names that a (nested) dataclass has at a place in the tree."""
    for part in loc:
        if part == "objectives":
            kind = Objective
        for entry in dataclasses.fields(kind) if isinstance(part, str) else ():
            if entry.name == part and callable(entry.default_factory):
                kind = type(entry.default_factory())
    return [f.name for f in dataclasses.fields(kind)]
