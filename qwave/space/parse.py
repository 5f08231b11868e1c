"""What a person writes becomes the dataclasses of `qwave.config`, or an error that helps.

Pydantic validates here and nowhere else. Every message names the file, the key, the value that was
found and what is allowed, and for an unknown key the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError

from qwave.config import (
    Budget,
    ConfigError,
    DataConfig,
    Domain,
    IntDomain,
    Objective,
    SamplerConfig,
    SweepConfig,
    TrialConfig,
    nearest,
    scheme_name,
)
from qwave.config.trial import RETIRED_TRAIN_KEYS
from qwave.space.domains import MAX_EXPERTS, adapter_of, check_search, parse_domain
from qwave.space.words import expand_home, kind_of, number_hint, parse_override
from qwave.space.yaml_file import read_yaml

_Value = TypeVar("_Value")
_SECTIONS = ("data", "objectives", "budget", "sampler", "fixed", "search")
TRIAL_KEYS = tuple(TrialConfig().flat())

# Of one file, in one message.
_MAX_MISTAKES = 20
_MAX_SHOWN = 200

# `--smoke`: the same path, less of it.
_SMOKE = {"train.epochs": 3, "budget.n_trials": 16}

# Searched where a file fixes none: which one serves depends on what made the embeddings. Linear
# int8 networks on ESC-10, official folds: on a network's 1280 features (not negative, skewed)
# `sqrt_layer` is 5 points ahead and needs no constants; on 384 log-mel statistics `standard` is
# 10 points ahead.
_NORMALIZATIONS = ("sqrt_layer", "standard")


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
    """One trial's configuration from nested or dotted keys, as in a sweep's `fixed` section.

    Keys that are left out hold their defaults; `model.num_experts` may be given and must then
    equal the number of schemes; schemes go by any of their names.

    Raises:
        ConfigError: A key is unknown, a value has the wrong type, or a combination is impossible.
    """
    flat = flatten(tree, source)
    _drop_retired(flat, source)
    num_experts = flat.pop("model.num_experts", None)
    _rename_schemes(flat, source)
    config = validate(TrialConfig, _nest(flat), source)
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
        overrides: ``dotted.key=value`` each, see `qwave.space.words.parse_override`. A key of the
            trial (``train.epochs=20``) becomes fixed and is no longer searched; others name a
            section (``budget.n_trials=10``, ``search.model.top_k={int: [1, 2]}``).
        is_smoke: A few short trials under the name ``<name>_smoke``.

    Raises:
        ConfigError: As `parse_config`.
    """
    return sweep_from(read_yaml(Path(path), kind_of), str(path), overrides, is_smoke=is_smoke)


def sweep_from(
    tree: Any, source: str, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> SweepConfig:
    """A sweep from the value of its file, as of `load_sweep`; `source` names it in errors."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: a sweep is a mapping of keys, but found {shown(tree)}")
    tree = {**tree, "fixed": flatten(tree.get("fixed") or {}, f"{source}: fixed")}
    if is_smoke:
        for key, value in _SMOKE.items():
            _assign(tree, key, value, source)
        if "name" in tree:
            tree["name"] = f"{tree['name']}_smoke"
    for override in overrides:
        key, value = parse_override(override)
        _assign(tree, key, value, f"override {override!r}")
    file = validate(_SweepFile, _with_normalizations(tree), source)
    try:
        return _build(file, source)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(
            message if message.startswith(source) else f"{source}: {message}"
        ) from error


def _with_normalizations(tree: dict[str, Any]) -> dict[str, Any]:
    """A copy of a tree in which `data.normalization` is searched, if the file does not fix it."""
    data, search = tree.get("data", {}), tree.get("search", {})
    if not isinstance(data, Mapping) or not isinstance(search, Mapping):
        return tree  # which validation refuses
    if "normalization" in data or "data.normalization" in search:
        return tree
    choice = {"choice": list(_NORMALIZATIONS)}
    return {**tree, "search": {**search, "data.normalization": choice}}


def _build(file: _SweepFile, source: str) -> SweepConfig:
    fixed = dict(file.fixed)
    for key in fixed:
        if key == "data" or key.startswith("data."):
            raise ConfigError(f"{source}: fixed.{key}: data has a section of its own, `data:`")
    for key in file.search:
        if key not in TRIAL_KEYS:
            raise ConfigError(
                f"{source}: search: unknown key {key!r}{nearest(key, TRIAL_KEYS)}; allowed: "
                f"{', '.join(TRIAL_KEYS)}"
            )
        if key in fixed:
            raise ConfigError(f"{source}: {key} stands in `fixed` and in `search`; keep one")
    search: dict[str, Domain] = {
        key: parse_domain(value, f"{source}: search.{key}") for key, value in file.search.items()
    }
    if "model.schemes" in search:
        # Which schemes is searched: stand-ins, as many as there can be.
        number = fixed.pop("model.num_experts", 1)
        experts = search.get("model.num_experts")
        if isinstance(experts, IntDomain):
            number = experts.high
        if type(number) is not int or number < 1:
            raise ConfigError(
                f"{source}: model.num_experts must be a whole number from 1, but got {number!r}"
            )
        if number > MAX_EXPERTS:
            raise ConfigError(
                f"{source}: model.num_experts may be up to {MAX_EXPERTS} in a search, but got "
                f"{number}"
            )
        fixed["model.schemes"] = ["int8"] * number
    data = expand_home(flatten({"data": dataclasses.asdict(file.data)}, source))
    base = parse_config({**fixed, **data}, f"{source}: fixed")
    sweep = SweepConfig(file.name, file.objectives, file.budget, file.sampler, base, search)
    check_search(sweep, source)
    return sweep


def _assign(tree: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key, in the section that it names or, for a trial's key, in `fixed`."""
    section, _, rest = key.partition(".")
    if key == "name" or (key in _SECTIONS and key != "fixed"):
        tree[key] = value
        return
    is_trial = any(k == key or k.startswith(f"{key}.") for k in TRIAL_KEYS) and section != "data"
    if is_trial:
        section, rest = "fixed", key
    if section not in _SECTIONS or not rest:
        sections = [f"{s}.*" for s in _SECTIONS]
        raise ConfigError(
            f"{source}: unknown key {key!r}{nearest(key, (*TRIAL_KEYS, *_SECTIONS))}; allowed: "
            f"{', '.join((*TRIAL_KEYS, *sections))}"
        )
    node = tree.setdefault(section, {})
    if not isinstance(node, dict):
        raise ConfigError(f"{source}: {section!r} holds {shown(node)}, not keys")
    search = tree.get("search")
    if section != "fixed":
        tree[section] = {**node, rest: value}
        if section == "data" and isinstance(search, dict):
            tree["search"] = {k: v for k, v in search.items() if k != key}
        return
    for full, part in flatten({rest: value}, source).items():
        node[full] = part
        if isinstance(search, dict):
            tree["search"] = search = {k: v for k, v in search.items() if k != full}


def flatten(tree: Any, source: str, prefix: str = "") -> dict[str, Any]:
    """Nested and dotted keys alike as one level of dotted keys.

    Raises:
        ConfigError: Not a mapping, or a key is given twice, or with a value and with parts.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source}: expected keys, but found {shown(tree)}")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        full = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            parts = flatten(value, source, f"{full}.")
        else:
            parts = {full: value}
        for name in parts:
            if name in flat:
                raise ConfigError(f"{source}: {name} is given twice")
        flat.update(parts)
    for name in flat:
        parts_of = name.split(".")
        for length in range(1, len(parts_of)):
            whole = ".".join(parts_of[:length])
            if whole in flat:
                raise ConfigError(f"{source}: {whole} is given a value and, in {name}, parts")
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        node = nested
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return nested


def _drop_retired(flat: dict[str, Any], source: str) -> None:
    """Leave out keys of early stopping, which stored configurations hold switched off."""
    for name, off in RETIRED_TRAIN_KEYS.items():
        value = flat.pop(key := f"train.{name}", off)
        if value != off:
            raise ConfigError(
                f"{source}: {key}={shown(value)}: early stopping is gone, every fold trains all "
                "`train.epochs`; leave this key out"
            )


def _rename_schemes(flat: dict[str, Any], source: str) -> None:
    """Replace the names of schemes by their own."""
    try:
        if isinstance(flat.get("model.schemes"), list | tuple):
            flat["model.schemes"] = [scheme_name(name) for name in flat["model.schemes"]]
        for key in ("model.head_scheme", "model.router.scheme"):
            if flat.get(key) is not None:
                flat[key] = scheme_name(flat[key])
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def validate(kind: type[_Value], tree: Any, source: str) -> _Value:
    try:
        text = json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{source}: {shown(error.object)} is not Unicode text") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: {error}") from error
    try:
        # JSON in strict mode: "3" is not a number and 3 not a string, yet lists become tuples.
        # mypy does not take the class that a type variable stands for as hashable.
        adapter = adapter_of(kind)  # type: ignore[arg-type]
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        found = list(dict.fromkeys(_message(kind, item, tree) for item in error.errors()))
        lines = found[:_MAX_MISTAKES]
        if len(found) > _MAX_MISTAKES:
            lines.append(f"and {len(found) - _MAX_MISTAKES} more mistakes")
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from error


def _message(kind: type, item: Any, tree: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if "feature_columns" in item["loc"]:  # of two types, each of which has errors of its own
        end = item["loc"].index("feature_columns") + 1
        found = functools.reduce(lambda node, part: node[part], item["loc"][:end], tree)
        return (
            f"{'.'.join(map(str, item['loc'][:end]))} = {found!r}: must be a list of columns' "
            "names, or one text that they begin with; numbers in quotes, such as ['0', '1']"
        )
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        allowed = _field_names(kind, item["loc"][:-1])
        hint = nearest(str(item["loc"][-1]), allowed)
        return f"unknown key {key!r}{hint}; allowed: {', '.join(allowed)}"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] in ("missing", "missing_argument"):
        return f"{key} is missing"
    hint = number_hint(item["input"]) if item["type"].startswith(("int", "float")) else ""
    return f"{key} = {shown(item['input'])}: {item['msg'].lower()}{hint}"


def shown(value: object) -> str:
    """A value as Python writes it, cut off where it would fill the window."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _field_names(kind: Any, loc: Sequence[Any]) -> list[str]:
    """Names of the fields of a dataclass, or of one nested in it, to which these keys lead."""
    for part in loc:
        if part == "objectives":
            kind = Objective
        for entry in dataclasses.fields(kind) if isinstance(part, str) else ():
            if entry.name == part and callable(entry.default_factory):
                kind = type(entry.default_factory())
    return [f.name for f in dataclasses.fields(kind)]
