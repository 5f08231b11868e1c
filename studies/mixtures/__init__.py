"""Does a mixture pay? Fronts without and with mixtures at equal training compute, and routers.

python -m studies.mixtures [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh] [--retry-failed]

One space is searched twice with equal training compute (`studies.equal_compute`): among networks
of one expert, and with mixtures. Both fronts are trained again with fresh seeds and their
hypervolumes compared (`studies.fronts`). Then the best mixtures' routers: who gets which clips,
whether other seeds agree, and whether it matters (`studies.routers`).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from qwave.scores import FrontPoint
from qwave.space import load_mixtures
from qwave.store import check_store
from qwave.sweep import opened_bench, plan_sweep, point_config, write_study
from studies.command_line import add_retry, guarded, split_positionals, study_parser
from studies.equal_compute import equal_searches
from studies.fronts import Reference, confirm_front, hypervolume_difference
from studies.mixtures_report import (
    front_section,
    routers_sections,
    study_metrics,
    verdict_section,
)
from studies.presenting import show_study
from studies.routers import examine

DEFAULT = "sweeps/mixtures.yaml"
MAX_MIXTURES = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `guarded`)."""
    description = "Compare fronts without and with mixtures, at equal training compute."
    parser = study_parser("mixtures", description, DEFAULT)
    add_retry(parser)
    return guarded(run, parser.parse_intermixed_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Search twice, train again, compare, report."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_mixtures(path, overrides, is_smoke=arguments.smoke)
    check_store(arguments.store)
    plans = [plan_sweep(config.one, arguments.device)]
    with warnings.catch_warnings():
        # The data are the same, and so is what there is to say about them.
        warnings.simplefilter("ignore", UserWarning)
        plans.append(plan_sweep(config.mixed, arguments.device))
    data, budget = plans[0].data, config.mixed.budget
    reference = Reference(1 / data.num_classes, budget.max_size_bytes)
    one, mixed = equal_searches(
        plans, arguments.store, is_fresh=arguments.fresh, is_retry=arguments.retry_failed
    )
    mixtures = best_mixtures(mixed.points)
    configs = {point.digest: point_config(one.study, point) for point in one.front}
    for point in (*mixed.front, *mixtures):
        configs[point.digest] = point_config(mixed.study, point)
    with opened_bench(
        config.name,
        data,
        config.mixed.data.path,
        arguments.store,
        device=arguments.device,
        workers=budget.workers,
        is_fresh=arguments.fresh,
    ) as bench:
        repeats = bench.train_seeds(configs, config.seeds)
        fronts = {
            "one expert": confirm_front(one, repeats, data, reference),
            "with mixtures": confirm_front(mixed, repeats, data, reference),
        }
        difference = hypervolume_difference(
            fronts["with mixtures"].scored, fronts["one expert"].scored, reference, data.group
        )
        examined = [examine(point, repeats[point.digest], data) for point in mixtures]
        sections = [
            verdict_section(fronts, difference, reference),
            front_section(fronts, examined, config),
            *routers_sections(examined, config),
        ]
        files = write_study(
            bench,
            config.name,
            title=f"{config.name}: does a mixture pay?",
            summary={
                "searches": f"{config.one.name}, {config.mixed.name}",
                "trained again": f"{len(configs)} models, {len(config.seeds)} fresh seeds each",
                "data": f"{config.mixed.data.path} ({data.digest})",
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
    """Up to `MAX_MIXTURES`: those on the front of these points, then the ones nearest below it.

    Nearest in accuracy, to the best that is not larger. Chosen by the scores of the search, before
    any fresh seed is looked at. Smallest first; none where there are none.
    """

    def below(point: FrontPoint) -> float:
        rivals = [other for other in points if other.size_bytes <= point.size_bytes]
        return max(other.accuracy for other in rivals) - point.accuracy

    mixtures = sorted(
        (point for point in points if point.is_mixture),
        key=lambda point: (not point.is_front, below(point), point.size_bytes, point.number),
    )
    return sorted(mixtures[:MAX_MIXTURES], key=lambda point: (point.size_bytes, point.number))


if __name__ == "__main__":
    sys.exit(main())
