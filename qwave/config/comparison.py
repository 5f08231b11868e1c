"""Studies that train known configurations with several seeds, and what they ask of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from qwave.config.errors import ConfigError
from qwave.config.sweep import IntDomain, SweepConfig, require_name
from qwave.config.trial import TrialConfig


@dataclass(frozen=True)
class ComparisonConfig:
    """One YAML file: configurations by name, each trained with every seed.

    Attributes:
        name: Of the MLflow experiment and of the report.
        seeds: Distinct; a variant's own seed is replaced by each of them.
        variants: Name to configuration. Of the data section, they may differ in `normalization`.
        workers: Processes that train; None: one for each processor that may be used.
    """

    name: str
    seeds: tuple[int, ...]
    variants: dict[str, TrialConfig]
    workers: int | None = None

    def __post_init__(self) -> None:
        require_name(self.name)
        _require_seeds(self.seeds)
        if not self.variants:
            raise ConfigError("`variants` must name at least one configuration")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"`workers >= 1` must hold, but got workers={self.workers}")
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


@dataclass(frozen=True)
class ConfirmationConfig:
    """One YAML file: a finished study, and how its front is trained again.

    Attributes:
        name: Of the MLflow experiment and of the report.
        study: Name of the sweep whose study the store holds.
        seeds: Fresh: the study's own is refused.
        near_standard_errors: Besides the front, trials are trained again whose accuracy is at most
            that many of their standard errors below the front at their size.
        max_points: Largest number of configurations; besides the front, which is always whole,
            those nearest to it are taken.
        workers: Processes that train; None: one for each processor that may be used.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    study: str
    name: str = "confirm"
    seeds: tuple[int, ...] = (101, 102, 103, 104, 105)
    near_standard_errors: float = 0.5
    max_points: int = 16
    workers: int | None = None

    def __post_init__(self) -> None:
        require_name(self.name)
        _require_seeds(self.seeds)
        if not self.near_standard_errors >= 0 or self.max_points < 1:
            raise ConfigError(
                "`near_standard_errors >= 0` and `max_points >= 1` must hold, but got "
                f"near_standard_errors={self.near_standard_errors}, max_points={self.max_points}"
            )
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"`workers >= 1` must hold, but got workers={self.workers}")


@dataclass(frozen=True)
class MixturesConfig:
    """One YAML file: a search without mixtures and one with them, and how both are confirmed.

    Attributes:
        name: Of the MLflow experiment and of the report.
        one: The search among networks of one expert.
        mixed: The same search with mixtures as well.
        seeds: Fresh: that of the searches is refused.
    """

    name: str
    one: SweepConfig
    mixed: SweepConfig
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        require_name(self.name)
        _require_seeds(self.seeds)
        if self.mixed.base.seed in self.seeds:
            raise ConfigError(
                f"`seeds` must be fresh, but the searches themselves train with "
                f"{self.mixed.base.seed}; choose others"
            )
        counts = _most_experts(self.one), _most_experts(self.mixed)
        if counts[0] != 1 or counts[1] < 2:
            raise ConfigError(
                "one search must have 1 expert and the other up to 2 or more "
                f"(`model.num_experts`), but they have {counts[0]} and {counts[1]}"
            )


@dataclass(frozen=True)
class UncertaintyConfig:
    """One YAML file: configurations whose uncertainty is studied, and classes kept from them.

    Attributes:
        comparison: The configurations and their seeds.
        held_out: Name of a split to the classes that its classifiers never see.
    """

    comparison: ComparisonConfig
    held_out: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        for name, classes in self.held_out.items():
            require_name(name)
            if not classes or len(set(classes)) != len(classes):
                raise ConfigError(
                    f"`held_out.{name}` must name at least one class, each once, but got "
                    f"{list(classes)}"
                )


def _most_experts(sweep: SweepConfig) -> int:
    domain = sweep.search.get("model.num_experts")
    return domain.high if isinstance(domain, IntDomain) else sweep.base.model.num_experts


def _require_seeds(seeds: tuple[int, ...]) -> None:
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise ConfigError(
            f"`seeds` must be distinct whole numbers from 0, at least one, but got {list(seeds)}"
        )
