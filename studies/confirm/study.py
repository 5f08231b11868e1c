"""Which points are trained again, and how their scores are shown; see `studies.confirm`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optuna.study import Study

from qwave.audio import open_data
from qwave.config import ConfigError, DataError, TrialConfig
from qwave.config.sweep import require_name
from qwave.data import EmbeddingSet, leave_out
from qwave.export import DATA_ADVICE
from qwave.scores import FrontPoint
from qwave.space.parse import validate
from qwave.space.sweep_file import split_positionals
from qwave.store import Store, made_report_folder
from qwave.sweep import collect_points, front_of, load_study, point_config, write_study
from studies.comparison import (
    bench_of,
    overridden,
    read_study,
    require_seeds,
    require_workers,
    shortened,
)
from studies.confirm import DEFAULT
from studies.confirm.report import confirmed_table, front_section
from studies.confirm.scores import confirm, optimism, with_holdout
from studies.presenting import show_study


@dataclass(frozen=True)
class ConfirmationConfig:
    """One YAML file: a finished study, and how its front is trained again.

    Attributes:
        study: Name of the sweep whose study the store holds.
        name: Name of the MLflow experiment and of the report.
        seeds: Fresh seeds; the study's own seed is refused.
        near_standard_errors: Besides the front, points are trained again whose accuracy is at
            most that many of their standard errors below the front at their size.
        max_points: Largest number of points. The front is always taken whole, then the points
            nearest to it.
        workers: Number of training processes; None: one for each processor that may be used.
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
        require_seeds(self.seeds)
        require_workers(self.workers)
        if not self.near_standard_errors >= 0 or self.max_points < 1:
            raise ConfigError(
                "`near_standard_errors >= 0` and `max_points >= 1` must hold, but got "
                f"near_standard_errors={self.near_standard_errors}, max_points={self.max_points}"
            )


def load_confirmation(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> ConfirmationConfig:
    """Read a file that says how the front of a finished study is trained again.

    Args:
        path: YAML with the keys of `ConfirmationConfig`.
        overrides: ``key=value`` each.
        is_smoke: Two seeds, of the study ``<study>_smoke``, under the name ``<name>_smoke``.

    Raises:
        ConfigError: A key is unknown, a value is wrong, or the file cannot be read.
    """
    keys = tuple(field.name for field in dataclasses.fields(ConfirmationConfig))
    tree, _ = overridden(read_study(path), overrides, keys)
    if is_smoke:
        defaults = {"name": ConfirmationConfig.name, "seeds": list(ConfirmationConfig.seeds)}
        tree = shortened({**defaults, **tree})
        if isinstance(tree.get("study"), str):
            tree["study"] = f"{tree['study']}_smoke"
    return validate(ConfirmationConfig, tree, str(path))


def run(arguments: argparse.Namespace) -> int:
    """Choose points, train them again, score, report; returns 0."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_confirmation(path, overrides, is_smoke=arguments.smoke)
    study = load_study(arguments.store, config.study)
    points = near_front(collect_points(study), config)
    configs = {point.digest: point_config(study, point) for point in points}
    refuse_stale(configs, config.seeds)
    source = next(iter(configs.values())).data
    full, data = searched_data(next(iter(configs.values())), study)
    with bench_of(config.name, data, source.path, config.workers, arguments) as bench:
        # Made before training: the search may have been stopped before its report.
        beside = made_report_folder(Store(arguments.store), config.study) / "front_confirmed.csv"
        repeats = bench.train_seeds(configs, config.seeds)
        confirmed = confirm(points, repeats, data)
        if source.holdout_fold is not None:
            confirmed = with_holdout(confirmed, configs, config.seeds, full, arguments.device)
        found = optimism(confirmed, study.user_attrs)
        sections = [front_section(confirmed, found, config.study, len(config.seeds))]
        files = write_study(
            bench,
            config.name,
            title=f"{config.study}: the front, confirmed",
            summary={
                "study": config.study,
                "points": f"{len(points)}, {len(config.seeds)} fresh seeds each",
                "data": f"{source.path} ({data.digest})",
            },
            sections=sections,
            params=dataclasses.asdict(config),
            metrics=found,
        )
        beside.write_text(confirmed_table(confirmed).csv(), encoding="utf-8")
    show_study(sections, (*files, beside))
    return 0


def near_front(points: Sequence[FrontPoint], config: ConfirmationConfig) -> list[FrontPoint]:
    """The front and the points closely below it, smallest first."""
    front = front_of(points)
    if not front:
        raise ConfigError(f"the study {config.study!r} has no complete trial yet")

    def below(point: FrontPoint) -> float:
        """Distance in standard errors to the best point that is not larger."""
        best = max(other.accuracy for other in front if other.size_bytes <= point.size_bytes)
        gap = best - point.accuracy
        if gap == 0:
            return 0.0
        return gap / point.standard_error if point.standard_error > 0 else float("inf")

    members = {point.digest for point in front}
    others = [
        point
        for point in points
        if point.digest not in members and below(point) <= config.near_standard_errors
    ]
    others.sort(key=lambda point: (below(point), point.size_bytes, point.number))
    chosen = [*front, *others[: max(0, config.max_points - len(front))]]
    return sorted(chosen, key=lambda point: (point.size_bytes, point.number))


def refuse_stale(configs: Mapping[str, TrialConfig], seeds: Sequence[int]) -> None:
    """Refuse seeds that the search trained with: they are not fresh."""
    stale = sorted({config.seed for config in configs.values()} & set(seeds))
    if stale:
        raise ConfigError(
            f"`seeds` must be fresh, but the search itself trained with {stale[0]}; choose others"
        )


def searched_data(config: TrialConfig, study: Study) -> tuple[EmbeddingSet, EmbeddingSet]:
    """All rows, and the rows that the search was given.

    Raises:
        ConfigError: The data cannot be read, or have changed since the search.
    """
    source = config.data
    try:
        full = open_data(source.path, source.encoder, source.feature_columns)
        data = leave_out(full, source.holdout_fold)
    except DataError as error:
        raise ConfigError(f"{error}; {DATA_ADVICE}") from error
    expected = study.user_attrs["data_digest"]
    if data.digest != expected:
        raise ConfigError(
            f"{config.data.path} has changed since the search: its digest was {expected} and is "
            f"{data.digest}; search again"
        )
    return full, data
