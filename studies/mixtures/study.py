"""Two searches, their fronts and the routers of mixtures; see `studies.mixtures`."""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qwave.config import ConfigError, IntDomain, MixDomain, SweepConfig
from qwave.config.sweep import require_name
from qwave.scores import FrontPoint
from qwave.space.parse import sweep_from, validate
from qwave.space.sweep_file import split_positionals
from qwave.store import Store, check_store
from qwave.sweep import plan_sweep, point_config, write_study
from studies.comparison import SMOKE_SEEDS, bench_of, overridden, read_study, require_seeds
from studies.mixtures import DEFAULT
from studies.mixtures.equal_compute import equal_searches
from studies.mixtures.fronts import Reference, confirm_front, hypervolume_difference
from studies.mixtures.report import (
    front_section,
    routers_sections,
    study_metrics,
    verdict_section,
)
from studies.mixtures.routers import examine
from studies.presenting import show_study

MAX_MIXTURES = 6


@dataclass(frozen=True)
class MixturesConfig:
    """One YAML file: a search without mixtures and one with them, and how both are confirmed.

    Attributes:
        name: Name of the MLflow experiment and of the report.
        one: The search among networks of one expert.
        mixed: The search with the same settings, and mixtures as well.
        seeds: Fresh seeds; the seed that the searches train with is refused.
    """

    name: str
    one: SweepConfig
    mixed: SweepConfig
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        require_name(self.name)
        require_seeds(self.seeds)
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


def _most_experts(sweep: SweepConfig) -> int:
    domain = sweep.search.get("model.num_experts")
    return domain.high if isinstance(domain, IntDomain) else sweep.base.model.num_experts


@dataclass(frozen=True)
class _Seeds:
    seeds: tuple[int, ...]


def load_mixtures(
    path: str | Path, overrides: Sequence[str] = (), *, is_smoke: bool = False
) -> MixturesConfig:
    """Read a sweep with mixtures, and derive the sweep without them from it.

    Args:
        path: YAML of a sweep, with `seeds` besides.
        overrides: ``key=value`` each, as for a sweep, and ``seeds=[...]``.
        is_smoke: A few short trials and two seeds, under the name ``<name>_smoke``.

    Raises:
        ConfigError: A key is unknown, a value is wrong, the schemes are not searched, or the file
            cannot be read.
    """
    source = str(path)
    of_seeds = [text for text in overrides if text.partition("=")[0] == "seeds"]
    of_sweep = [text for text in overrides if text not in of_seeds]
    tree, _ = overridden(read_study(path), of_seeds, ("seeds",))
    given = {"seeds": tree.pop("seeds")} if "seeds" in tree else {}
    seeds = validate(_Seeds, given, source).seeds
    mixed = sweep_from(tree, source, of_sweep, is_smoke=is_smoke)
    if not isinstance(mixed.search.get("model.schemes"), MixDomain):
        raise ConfigError(
            f"{source}: search.model.schemes must be a {{mix: [scheme, ...]}}: networks of one "
            "expert are drawn from it too"
        )
    alone = [*of_sweep, "model.top_k=1", "model.num_experts=1"]
    one = sweep_from(tree, source, alone, is_smoke=is_smoke)
    try:
        return MixturesConfig(
            mixed.name,
            dataclasses.replace(one, name=f"{one.name}_one"),
            dataclasses.replace(mixed, name=f"{mixed.name}_mix"),
            seeds[:SMOKE_SEEDS] if is_smoke else seeds,
        )
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def run(arguments: argparse.Namespace) -> int:
    """Search twice, train again, compare, report; returns 0."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_mixtures(path, overrides, is_smoke=arguments.smoke)
    store = Store(arguments.store)
    check_store(store)
    plans = [plan_sweep(config.one, arguments.device)]
    with warnings.catch_warnings():
        # Both plans have the same data, and the first has already warned about them.
        warnings.simplefilter("ignore", UserWarning)
        plans.append(plan_sweep(config.mixed, arguments.device))
    data, budget = plans[0].data, config.mixed.budget
    reference = Reference(1 / data.num_classes, budget.max_size_bytes)
    one, mixed = equal_searches(
        plans, store, is_fresh=arguments.fresh, is_retry=arguments.retry_failed
    )
    mixtures = best_mixtures(mixed.points)
    configs = {point.digest: point_config(one.study, point) for point in one.front}
    for point in (*mixed.front, *mixtures):
        configs[point.digest] = point_config(mixed.study, point)
    source = config.mixed.data.path
    with bench_of(config.name, data, source, budget.workers, arguments) as bench:
        repeats = bench.train_seeds(configs, config.seeds)
        fronts = {
            "one expert": confirm_front(one, repeats, data, reference),
            "with mixtures": confirm_front(mixed, repeats, data, reference),
        }
        difference = hypervolume_difference(
            fronts["with mixtures"].models, fronts["one expert"].models, reference, data.group
        )
        examined = [examine(point, repeats[point.digest], data) for point in mixtures]
        sections = [
            verdict_section(fronts, difference, reference),
            front_section(fronts, examined, config.name, len(config.seeds)),
            *routers_sections(examined, config.name, len(config.seeds)),
        ]
        files = write_study(
            bench,
            config.name,
            title=f"{config.name}: does a mixture pay?",
            summary={
                "searches": f"{config.one.name}, {config.mixed.name}",
                "trained again": f"{len(configs)} models, {len(config.seeds)} fresh seeds each",
                "data": f"{source} ({data.digest})",
            },
            sections=sections,
            params={
                "seeds": list(config.seeds),
                "sampler.seed": config.mixed.sampler.seed,
                "sweep_digest_one": plans[0].sweep.digest,
                "sweep_digest_mixed": plans[1].sweep.digest,
            },
            metrics=study_metrics(fronts, difference, examined),
        )
    show_study(sections, files)
    return 0


def best_mixtures(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """Up to `MAX_MIXTURES` mixtures: members of the front, then those nearest below it.

    Nearest in accuracy to the best point that is not larger. They are chosen by the scores of the
    search, before any fresh seed is trained. Smallest first; empty where there is no mixture.
    """

    def below(point: FrontPoint) -> float:
        rivals = [other for other in points if other.size_bytes <= point.size_bytes]
        return max(other.accuracy for other in rivals) - point.accuracy

    mixtures = sorted(
        (point for point in points if point.is_mixture),
        key=lambda point: (not point.is_front, below(point), point.size_bytes, point.number),
    )
    return sorted(mixtures[:MAX_MIXTURES], key=lambda point: (point.size_bytes, point.number))
