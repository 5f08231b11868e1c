"""Which points are trained again, and how their scores are shown; see `studies.confirm`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from qwave.config import ConfigError
from qwave.config.sweep import require_name
from qwave.space.parse import validate
from qwave.space.sweep_file import split_positionals
from qwave.store import Store, made_report_folder
from qwave.sweep import write_study
from qwave.sweep.confirm import FRESH_SEEDS, find_candidates, optimism, train_candidates
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
    seeds: tuple[int, ...] = FRESH_SEEDS
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
    found = find_candidates(
        config.study,
        arguments.store,
        config.seeds,
        config.near_standard_errors,
        config.max_points,
    )
    data = found.data.searched
    with bench_of(config.name, data, found.source, config.workers, arguments) as bench:
        # Made before training: the search may have been stopped before its report.
        beside = made_report_folder(Store(arguments.store), config.study) / "front_confirmed.csv"
        confirmed = train_candidates(found, bench, config.seeds, arguments.device)
        metrics = optimism(confirmed, found.reference)
        sections = [front_section(confirmed, metrics, config.study, len(config.seeds))]
        files = write_study(
            bench,
            config.name,
            title=f"{config.study}: the front, confirmed",
            summary={
                "study": config.study,
                "points": f"{len(found.points)}, {len(config.seeds)} fresh seeds each",
                "data": f"{found.source} ({data.digest})",
            },
            sections=sections,
            params=dataclasses.asdict(config),
            metrics=metrics,
        )
        beside.write_text(confirmed_table(confirmed).csv(), encoding="utf-8")
    show_study(sections, (*files, beside))
    return 0
