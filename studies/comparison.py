"""Studies of known configurations: their arguments, their YAML file, and where they are trained.

A comparison names configurations; each is trained with every seed. `studies.benchmark` and
`studies.curiosity` are comparisons. `studies.confirm` and `studies.mixtures` have files of their
own, read by the same functions.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from qwave.audio import open_data
from qwave.config import ConfigError, DataConfig, TrialConfig, nearest
from qwave.config.sweep import require_name
from qwave.data import EmbeddingSet, leave_out
from qwave.space import parse_config
from qwave.space.parse import TRIAL_KEYS, flatten, shown, validate
from qwave.space.words import expand_home, kind_of, parse_override
from qwave.space.yaml_file import Kind, read_yaml
from qwave.store import Store, check_store
from qwave.sweep import Bench, opened_bench

# `--smoke`: the same path with less work.
SMOKE_EPOCHS, SMOKE_SEEDS = 3, 2
_TEXT_KEYS = ("study",)


@dataclass(frozen=True)
class ComparisonConfig:
    """One YAML file: configurations by name, each trained with every seed.

    Attributes:
        name: Name of the MLflow experiment and of the report.
        seeds: Distinct seeds; they replace the seed of every configuration.
        variants: Configuration by name. Their data sections may differ in `normalization` only.
        workers: Number of training processes; None: one for each processor that may be used.
    """

    name: str
    seeds: tuple[int, ...]
    variants: dict[str, TrialConfig]
    workers: int | None = None

    def __post_init__(self) -> None:
        require_name(self.name)
        require_seeds(self.seeds)
        require_workers(self.workers)
        if not self.variants:
            raise ConfigError("`variants` must name at least one configuration")
        sections = {
            dataclasses.replace(config.data, normalization="raw")
            for config in self.variants.values()
        }
        if len(sections) > 1:
            raise ConfigError(
                "`variants` must agree on the data and its folds (only data.normalization may "
                f"differ), but got {len(sections)} different data sections"
            )
        digests: dict[str, str] = {}
        for name, config in self.variants.items():
            other = digests.setdefault(dataclasses.replace(config, seed=0).digest, name)
            if other != name:
                raise ConfigError(
                    f"`variants` {other!r} and {name!r} are the same configuration; keep one"
                )

    @property
    def data(self) -> DataConfig:
        """Data section of the first configuration; the others differ in `normalization` only."""
        return next(iter(self.variants.values())).data


def require_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds that are missing, negative or repeated."""
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise ConfigError(
            f"`seeds` must be distinct whole numbers from 0, at least one, but got {list(seeds)}"
        )


def require_workers(workers: int | None) -> None:
    """Refuse a number of processes below 1."""
    if workers is not None and workers < 1:
        raise ConfigError(f"`workers >= 1` must hold, but got workers={workers}")


@dataclass(frozen=True)
class _ComparisonFile:
    """The sections of the file, before `fixed` and `variants` are parsed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    name: str
    seeds: tuple[int, ...]
    variants: dict[str, dict[str, Any]]
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    workers: int | None = None


def load_comparison(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> ComparisonConfig:
    """Read a file of configurations to compare.

    Args:
        path: YAML with `name`, `seeds`, `variants` (name to keys of a trial) and optionally
            `data`, `fixed` (keys that all variants share) and `workers`.
        overrides: ``dotted.key=value`` each: `name`, `seeds`, `workers`, or a key of the trial,
            which then holds in every variant.
        is_smoke: Train few epochs with two seeds, under the name ``<name>_smoke``.

    Raises:
        ConfigError: A key is unknown, a value is wrong, or the file cannot be read.
    """
    source = str(path)
    tree, forced = overridden(
        read_study(path), overrides, ("name", "seeds", "workers"), TRIAL_KEYS
    )
    if is_smoke:
        tree = shortened(tree)
        forced = {"train.epochs": SMOKE_EPOCHS} | forced
    file = validate(_ComparisonFile, tree, source)
    shared = flatten(file.fixed, f"{source}: fixed")
    for key in shared:
        if key == "data" or key.startswith("data."):
            raise ConfigError(f"{source}: fixed.{key}: data has a section of its own, `data:`")
    shared |= flatten({"data": dataclasses.asdict(file.data)}, source)
    variants = {}
    for name, keys in file.variants.items():
        where = f"{source}: variants.{name}"
        flat = expand_home({**shared, **flatten(keys, where), **forced})
        variants[name] = parse_config(flat, where)
    try:
        return ComparisonConfig(file.name, file.seeds, variants, file.workers)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def read_study(path: str | Path) -> dict[str, Any]:
    """The keys of a study's YAML file.

    Raises:
        ConfigError: The file cannot be read, or does not hold keys.
    """
    tree = read_yaml(Path(path), _kind_of)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a study is a mapping of keys, but found {shown(tree)}")
    return tree


def _kind_of(keys: tuple[str, ...]) -> Kind:
    """Whether a key of a study's file holds text, given the keys that lead to it."""
    if keys in {(key,) for key in _TEXT_KEYS}:
        return "text"
    return kind_of(keys[2:] if keys[:1] == ("variants",) else keys)


def overridden(
    tree: Mapping[str, Any],
    overrides: Sequence[str],
    sections: Sequence[str],
    trial_keys: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A study's keys with ``key=value`` overrides applied.

    Args:
        tree: Keys of the file.
        overrides: ``key=value`` each, as typed.
        sections: Keys of the file that may be overridden.
        trial_keys: Dotted keys of a trial that may be overridden.

    Returns:
        The changed keys of the file, and the overridden keys of the trial.

    Raises:
        ConfigError: A key is neither of both.
    """
    result: dict[str, Any] = {**tree}
    forced: dict[str, Any] = {}
    keys = (*sections, *trial_keys)
    for override in overrides:
        key, value = parse_override(override, _TEXT_KEYS)
        if key not in keys:
            raise ConfigError(
                f"override {override!r}: unknown key {key!r}{nearest(key, keys)}; allowed: "
                f"{', '.join(keys)}"
            )
        (result if key in sections else forced)[key] = value
    return result, forced


def shortened(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a study for `--smoke`: the first seeds, under the name ``<name>_smoke``."""
    short = {**tree}
    if "name" in tree:
        short["name"] = f"{tree['name']}_smoke"
    if isinstance(tree.get("seeds"), list):
        short["seeds"] = tree["seeds"][:SMOKE_SEEDS]
    return short


def bench_of(
    name: str,
    data: EmbeddingSet,
    path: str,
    workers: int | None,
    arguments: argparse.Namespace,
) -> AbstractContextManager[Bench]:
    """Open the store of the command line for training; `path` says where the data came from."""
    return opened_bench(
        name,
        data,
        path,
        Store(arguments.store),
        device=arguments.device,
        workers=workers,
        is_fresh=arguments.fresh,
    )


def comparison_bench(
    config: ComparisonConfig, arguments: argparse.Namespace
) -> AbstractContextManager[Bench]:
    """Open the data of a comparison, without the held-out fold, and the store."""
    check_store(Store(arguments.store))
    source = config.data
    full = open_data(source.path, source.encoder, source.feature_columns, split=source)
    data = leave_out(full, source.holdout_fold)
    return bench_of(config.name, data, source.path, config.workers, arguments)
