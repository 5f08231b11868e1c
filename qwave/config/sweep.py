"""The configuration of a sweep: objectives, budget, sampler, and the search space."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from qwave.config.errors import ConfigError, nearest, require_choice
from qwave.config.schemes import require_scheme
from qwave.config.trial import DataConfig, TrialConfig, digest_of

Direction = Literal["maximize", "minimize"]
SamplerName = Literal["tpe", "nsga2", "random", "gp"]

# Direction in which each score is better; `qwave.scores.evaluate` and `qwave.engine.crossval`
# compute them.
SCORE_DIRECTIONS: dict[str, Direction] = {
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
    "weighted_f1": "maximize",
    "macro_f1": "maximize",
    "nll": "minimize",
    "brier": "minimize",
    "ece": "minimize",
    "roc_auc": "maximize",
    "size_bytes": "minimize",
    "active_bytes": "minimize",
}


def require_name(name: str) -> None:
    """Refuse a name that MLflow, Optuna or a folder cannot have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise ConfigError(
            f"`name` must be 1 to 100 letters, digits, '_', '-' or '.', but got {name!r}"
        )


@dataclass(frozen=True)
class IntDomain:
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high or (self.log and self.low < 1):
            raise ConfigError(
                f"`low <= high` (and low >= 1 with log) must hold, but got int: "
                f"[{self.low}, {self.high}], log: {self.log}"
            )


@dataclass(frozen=True)
class FloatDomain:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise ConfigError(
                f"`low <= high` (and low > 0 with log) must hold, but got float: "
                f"[{self.low}, {self.high}], log: {self.log}"
            )


@dataclass(frozen=True)
class ChoiceDomain:
    """Named choices: Optuna stores the name, the configuration gets the value."""

    names: tuple[str | int | float | bool, ...]
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        # As values and as text: 1 equals true, and a dashboard shows "1" like 1.
        distinct = min(len(set(self.names)), len(set(map(str, self.names))))
        if not self.names or distinct != len(self.names):
            raise ConfigError(f"`choice` needs distinct choices, but got {list(self.names)}")
        if len(self.names) != len(self.values):
            raise ConfigError(
                f"`choice` needs a value for each name, but got {len(self.names)} names and "
                f"{len(self.values)} values"
            )


@dataclass(frozen=True)
class MixDomain:
    """All multisets of schemes, as many as there are experts."""

    schemes: tuple[str, ...]

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            require_scheme(scheme, "mix")
        if not self.schemes or len(set(self.schemes)) != len(self.schemes):
            raise ConfigError(f"`mix` needs distinct schemes, but got {list(self.schemes)}")


Domain = IntDomain | FloatDomain | ChoiceDomain | MixDomain


@dataclass(frozen=True)
class Objective:
    """One score to optimise; sizes are in bytes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    score: str
    direction: Direction

    def __post_init__(self) -> None:
        if self.score not in SCORE_DIRECTIONS:
            raise ConfigError(
                f"unknown score {self.score!r}{nearest(self.score, SCORE_DIRECTIONS)}; "
                f"allowed: {', '.join(SCORE_DIRECTIONS)}"
            )
        if self.direction != SCORE_DIRECTIONS[self.score]:
            raise ConfigError(
                f"`direction` of {self.score} must be {SCORE_DIRECTIONS[self.score]}, "
                f"but got {self.direction}"
            )


@dataclass(frozen=True)
class Budget:
    """What a study may spend.

    Attributes:
        n_trials: Trials with a result. Configurations above `max_size_bytes` do not count.
        max_size_bytes: Largest packed file; anything larger is recorded but never trained.
        workers: Processes that train; None: one for each processor that may be used, one on a GPU.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    n_trials: int = 60
    max_size_bytes: int = 4_000_000
    workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("n_trials", "max_size_bytes", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"`budget.{name} >= 1` must hold, but got {name}={value}")


@dataclass(frozen=True)
class SamplerConfig:
    """Optuna's sampler.

    Attributes:
        name: ``tpe``, ``nsga2``, ``random`` or ``gp``.
        seed: Base seed; each trial's own is derived from it and the trial's number.
        in_flight: Trials asked before the oldest of them is told. The same on every machine, so
            that what is asked does not depend on how many processors train.
        baselines: Ask first for plain networks, one expert of each scheme and of each shape. They
            are what a mixture has to beat, and they hold the small end of the front, which a
            sampler finds by luck: without them, TPE with seed 7 spent 6 of 60 trials on int1
            networks with 8 hidden units and none on the linear one, 94 bytes larger and 5 points
            better.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    name: SamplerName = "tpe"
    seed: int = 0
    in_flight: int = 4
    baselines: bool = True

    def __post_init__(self) -> None:
        require_choice(self.name, SamplerName, "sampler.name")
        if self.seed < 0 or self.in_flight < 1:
            raise ConfigError(
                f"`sampler.seed >= 0` and `sampler.in_flight >= 1` must hold, but got "
                f"seed={self.seed}, in_flight={self.in_flight}"
            )


@dataclass(frozen=True)
class SweepConfig:
    """One YAML file: one study, one MLflow experiment.

    Attributes:
        base: The trial that every draw starts from: the defaults and the file's `fixed` values.
        search: Dotted keys of the trial configuration to what may be drawn for them.
    """

    name: str
    objectives: tuple[Objective, ...]
    budget: Budget
    sampler: SamplerConfig
    base: TrialConfig
    search: dict[str, Domain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_name(self.name)
        scores = [objective.score for objective in self.objectives]
        if scores.count("accuracy") != 1 or scores.count("size_bytes") != 1:
            raise ConfigError(
                "`objectives` must name accuracy and size_bytes once each (further scores may "
                f"follow): the front is drawn over these two, but got {scores}"
            )
        if len(set(scores)) != len(scores):
            raise ConfigError(f"`objectives` must be distinct scores, but got {scores}")

    @property
    def data(self) -> DataConfig:
        """Where the rows come from and how they are split: the same for every trial."""
        return self.base.data

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of what a study's trials have in common.

        The number of trials and of workers, and the sampler, may change between two starts of one
        study without making its trials incomparable; they are left out.
        """
        base = self.base.tree_without_source()
        search = {
            key: {"kind": type(domain).__name__, **dataclasses.asdict(domain)}
            for key, domain in sorted(self.search.items())
        }
        objectives = [dataclasses.asdict(objective) for objective in self.objectives]
        return digest_of(
            {
                "name": self.name,
                "base": base,
                "search": search,
                "objectives": objectives,
                "max_size_bytes": self.budget.max_size_bytes,
            }
        )
