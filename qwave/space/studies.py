"""The YAML files of studies other than sweeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from qwave.config import (
    ComparisonConfig,
    ConfigError,
    ConfirmationConfig,
    DataConfig,
    MixDomain,
    MixturesConfig,
    TrialConfig,
    UncertaintyConfig,
    nearest,
)
from qwave.space.parse import TRIAL_KEYS, flatten, parse_config, shown, sweep_from, validate
from qwave.space.words import expand_home, kind_of, parse_override
from qwave.space.yaml_file import read_yaml

_Study = TypeVar("_Study", ComparisonConfig, MixturesConfig, UncertaintyConfig)

# `--smoke`: the same path, less of it.
_SMOKE_EPOCHS, _SMOKE_SEEDS = 3, 2


@dataclasses.dataclass(frozen=True)
class _ComparisonFile:
    """The sections of the file, before `fixed` and `variants` are looked into."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    name: str
    seeds: tuple[int, ...]
    variants: dict[str, dict[str, Any]]
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    workers: int | None = None


@dataclasses.dataclass(frozen=True)
class _Seeds:
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _HeldOut:
    held_out: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def load_comparison(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> ComparisonConfig:
    """Read a file of configurations that are to be compared.

    Args:
        path: YAML with `name`, `seeds`, `variants` (name to keys of a trial) and optionally
            `data`, `fixed` (keys that all variants share) and `workers`.
        overrides: ``dotted.key=value`` each, see `qwave.space.words.parse_override`: a section,
            or a key of the trial, which then holds in every variant.
        is_smoke: Few epochs and seeds, under the name ``<name>_smoke``.

    Raises:
        ConfigError: As `qwave.space.load_sweep`.
    """
    return _comparison(_read(path), str(path), overrides, is_smoke)


def load_uncertainty(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> UncertaintyConfig:
    """Read a file of configurations whose uncertainty is studied.

    Args:
        path: YAML as of `load_comparison`, and optionally `held_out`: name of a split to the
            names of the classes that its classifiers never see.
        overrides: As of `load_comparison`, and ``held_out={...}``.
        is_smoke: As of `load_comparison`, and only the first split.

    Raises:
        ConfigError: As `load_comparison`; or `held_out` is not what it should be.
    """
    source = str(path)
    tree, given, of_comparison = _set_apart(_read(path), "held_out", overrides)
    held_out = validate(_HeldOut, given, source).held_out
    comparison = _comparison(tree, source, of_comparison, is_smoke)
    kept = dict(list(held_out.items())[:1]) if is_smoke else held_out
    return _build(UncertaintyConfig, source, comparison, kept)


def load_confirmation(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> ConfirmationConfig:
    """Read a file that says how the front of a finished study is trained again.

    Args:
        path: YAML with the keys of `ConfirmationConfig`.
        overrides: ``key=value`` each, see `qwave.space.words.parse_override`.
        is_smoke: Two seeds, of the study ``<study>_smoke``, under the name ``<name>_smoke``.

    Raises:
        ConfigError: As `qwave.space.load_sweep`.
    """
    allowed = tuple(field.name for field in dataclasses.fields(ConfirmationConfig))
    tree, _ = _overridden(_read(path), overrides, allowed, are_trial_keys_allowed=False)
    if is_smoke:
        defaults = {"name": ConfirmationConfig.name, "seeds": list(ConfirmationConfig.seeds)}
        tree = _smoke({**defaults, **tree})
        if isinstance(tree.get("study"), str):
            tree["study"] = f"{tree['study']}_smoke"
    return validate(ConfirmationConfig, tree, str(path))


def load_mixtures(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> MixturesConfig:
    """Read a sweep with mixtures, and make the sweep without them out of it.

    Args:
        path: YAML as of `qwave.space.load_sweep`, and `seeds`.
        overrides: As of `load_sweep`, and ``seeds=[...]``.
        is_smoke: A few short trials and two seeds, under the name ``<name>_smoke``.

    Raises:
        ConfigError: As `qwave.space.load_sweep`; or the schemes are not searched.
    """
    source = str(path)
    tree, given, of_sweep = _set_apart(_read(path), "seeds", overrides)
    seeds = validate(_Seeds, given, source).seeds
    mixed = sweep_from(tree, source, of_sweep, is_smoke=is_smoke)
    if not isinstance(mixed.search.get("model.schemes"), MixDomain):
        raise ConfigError(
            f"{source}: search.model.schemes must be a {{mix: [scheme, ...]}}: networks of one "
            "expert are drawn from it too"
        )
    alone = [*of_sweep, "model.top_k=1", "model.num_experts=1"]
    one = sweep_from(tree, source, alone, is_smoke=is_smoke)
    return _build(
        MixturesConfig,
        source,
        mixed.name,
        dataclasses.replace(one, name=f"{one.name}_one"),
        dataclasses.replace(mixed, name=f"{mixed.name}_mix"),
        seeds[:_SMOKE_SEEDS] if is_smoke else seeds,
    )


def _comparison(
    tree: Mapping[str, Any], source: str, overrides: Sequence[str], is_smoke: bool
) -> ComparisonConfig:
    tree, forced = _overridden(tree, overrides, ("name", "seeds", "workers"))
    if is_smoke:
        tree = _smoke(tree)
        forced = {"train.epochs": _SMOKE_EPOCHS} | forced
    file = validate(_ComparisonFile, tree, source)
    shared = flatten(file.fixed, f"{source}: fixed")
    for key in shared:
        if key == "data" or key.startswith("data."):
            raise ConfigError(f"{source}: fixed.{key}: data has a section of its own, `data:`")
    shared |= flatten({"data": dataclasses.asdict(file.data)}, source)
    variants: dict[str, TrialConfig] = {}
    for name, keys in file.variants.items():
        place = f"{source}: variants.{name}"
        flat = expand_home({**shared, **flatten(keys, place), **forced})
        variants[name] = parse_config(flat, place)
    return _build(ComparisonConfig, source, file.name, file.seeds, variants, file.workers)


def _read(path: str | Path) -> dict[str, Any]:
    tree = read_yaml(Path(path), kind_of)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a study is a mapping of keys, but found {shown(tree)}")
    return tree


def _set_apart(
    tree: Mapping[str, Any], key: str, overrides: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The other sections; this one, if the file or an override has it; the other overrides."""
    given = {key: tree[key]} if key in tree else {}
    others = []
    for override in overrides:
        name, value = parse_override(override)
        if name == key:
            given = {key: value}
        else:
            others.append(override)
    return {name: part for name, part in tree.items() if name != key}, given, others


def _overridden(
    tree: Mapping[str, Any],
    overrides: Sequence[str],
    sections: Sequence[str],
    *,
    are_trial_keys_allowed: bool = True,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree with its overrides, and those of a trial's keys, dotted, on their own."""
    result, forced = {**tree}, {}
    keys = (*sections, *(TRIAL_KEYS if are_trial_keys_allowed else ()))
    for override in overrides:
        key, value = parse_override(override)
        if key not in keys:
            raise ConfigError(
                f"override {override!r}: unknown key {key!r}{nearest(key, keys)}; allowed: "
                f"{', '.join(keys)}"
            )
        if key in sections:
            result[key] = value
        else:
            forced[key] = value
    return result, forced


def _smoke(tree: dict[str, Any]) -> dict[str, Any]:
    smoke = {**tree}
    if "name" in tree:
        smoke["name"] = f"{tree['name']}_smoke"
    if isinstance(tree.get("seeds"), list):
        smoke["seeds"] = tree["seeds"][:_SMOKE_SEEDS]
    return smoke


def _build(kind: type[_Study], source: str, *values: Any) -> _Study:
    try:
        return kind(*values)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
