"""Is the front of a finished search real? Its members, trained again with fresh seeds.

python -m studies.confirm [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

The best of many noisy scores is too good (the winner's curse). Scores of fresh seeds were not
chosen by anybody: their mean, its interval, and how often each model would be on the front if the
recordings were others. Where the search left an official fold out (`data.holdout_fold`), its front
is scored on that fold as well, once.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.study import Study

from qwave.audio import open_data
from qwave.config import ConfigError, ConfirmationConfig, DataError, TrialConfig
from qwave.data import EmbeddingSet, leave_out
from qwave.engine.refit import predict_holdout
from qwave.export import DATA_ADVICE
from qwave.report import Cell, Column, Section, SizedEstimate, Table, estimates_png
from qwave.scores import (
    FrontPoint,
    Interval,
    bootstrap_difference,
    bootstrap_means,
    front_probability,
    holm,
)
from qwave.scores.pareto import hypervolume, non_dominated
from qwave.space import load_confirmation
from qwave.store import made_report_folder
from qwave.sweep import (
    Repeat,
    collect_points,
    front_of,
    load_study,
    opened_bench,
    point_config,
    write_study,
)
from studies.command_line import guarded, split_positionals, study_parser
from studies.presenting import show_study

DEFAULT = "sweeps/confirm.yaml"
LEVEL = 0.05
RESAMPLE_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Confirmed:
    """A point of the search and what fresh seeds made of it.

    Attributes:
        point: As the search found it.
        hits: Share of the seeds that were right about each clip, [n].
        accuracy: Mean over clips and seeds, with its 95 % interval over recordings.
        seed_deviation: Standard deviation of the seeds' accuracies; NaN with one seed.
        probability: How likely the point is on the front if the recordings were others, 0..1.
        is_front: Whether none of the confirmed is at least as good in both, and better in one.
        is_possibly_dominated: Whether nothing shows that it is better than the best that is not
            larger: the difference's p-value, corrected by Holm, is above 5 %.
        holdout: Accuracy on the fold that the search never saw, with its interval, or None.
    """

    point: FrontPoint
    hits: np.ndarray
    accuracy: Interval
    seed_deviation: float
    probability: float
    is_front: bool
    is_possibly_dominated: bool
    holdout: Interval | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `guarded`)."""
    description = "Train the front of a finished search again, with fresh seeds."
    parser = study_parser("confirm", description, DEFAULT)
    return guarded(run, parser.parse_intermixed_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Choose, train, score, report."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_confirmation(path, overrides, is_smoke=arguments.smoke)
    study = load_study(arguments.store, config.study)
    points = near_front(collect_points(study), config)
    configs = {point.digest: point_config(study, point) for point in points}
    refuse_stale(configs, config.seeds)
    any_config = next(iter(configs.values()))
    full, data = searched_data(any_config, study)
    with opened_bench(
        config.name,
        data,
        any_config.data.path,
        arguments.store,
        device=arguments.device,
        workers=config.workers,
        is_fresh=arguments.fresh,
    ) as bench:
        # Before anything is trained: the search may never have come to its report.
        beside = made_report_folder(arguments.store, config.study) / "front_confirmed.csv"
        repeats = bench.train_seeds(configs, config.seeds)
        confirmed = confirm(points, repeats, data)
        if any_config.data.holdout_fold is not None:
            confirmed = with_holdout(confirmed, configs, config.seeds, full, arguments.device)
        sections = report(confirmed, study, config)
        files = write_study(
            bench,
            config.name,
            title=f"{config.study}: the front, confirmed",
            summary={
                "study": config.study,
                "points": f"{len(points)}, {len(config.seeds)} fresh seeds each",
                "data": f"{any_config.data.path} ({data.digest})",
            },
            sections=sections,
            params=dataclasses.asdict(config),
            metrics=optimism(confirmed, study),
        )
        beside.write_text(confirmed_table(confirmed).csv(), encoding="utf-8")
    show_study(sections, (*files, beside))
    return 0


def near_front(points: Sequence[FrontPoint], config: ConfirmationConfig) -> list[FrontPoint]:
    """The front, and the points that are nearly on it, smallest first."""
    front = front_of(points)
    if not front:
        raise ConfigError(f"the study {config.study!r} has no complete trial yet")

    def below(point: FrontPoint) -> float:
        """Standard errors below the best that is not larger."""
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
    """Seeds that the search trained with are not fresh."""
    stale = sorted({config.seed for config in configs.values()} & set(seeds))
    if stale:
        raise ConfigError(
            f"`seeds` must be fresh, but the search itself trained with {stale[0]}; choose others"
        )


def searched_data(config: TrialConfig, study: Study) -> tuple[EmbeddingSet, EmbeddingSet]:
    """All rows, and those that the search had."""
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


def confirm(
    points: Sequence[FrontPoint], repeats: Mapping[str, Sequence[Repeat]], data: EmbeddingSet
) -> list[Confirmed]:
    """What fresh seeds say about each point."""
    rights = [
        np.array([repeat.predictions.predicted == data.y for repeat in repeats[point.digest]])
        for point in points
    ]
    hits = np.array([right.mean(axis=0) for right in rights])
    sizes = np.array([point.size_bytes for point in points])
    intervals = bootstrap_means(hits, data.group, seed=RESAMPLE_SEED)
    probability = front_probability(hits, sizes, data.group, seed=RESAMPLE_SEED)
    means = [interval.estimate for interval in intervals]
    is_front = non_dominated(means, sizes)
    is_better = better_than_smaller(hits, sizes, data.group)
    return [
        Confirmed(
            point,
            hits[place],
            interval,
            float(right.mean(axis=1).std(ddof=1)) if len(right) > 1 else float("nan"),
            float(probability[place]),
            bool(is_front[place]),
            not is_better[place],
        )
        for place, (point, interval, right) in enumerate(
            zip(points, intervals, rights, strict=True)
        )
    ]


def better_than_smaller(
    hits: np.ndarray, sizes: np.ndarray, group: np.ndarray | None
) -> list[bool]:
    """Whether each model [m] is shown to be better than the best other that is not larger.

    One test a model, corrected by Holm. The smallest has nothing to beat.
    """
    means = hits.mean(axis=1)
    p_values = []
    for place, size in enumerate(sizes):
        rivals = [other for other in range(len(sizes)) if other != place and sizes[other] <= size]
        if not rivals:
            p_values.append(0.0)
            continue
        best = max(rivals, key=lambda other: means[other])
        difference = bootstrap_difference(hits[place], hits[best], group, seed=RESAMPLE_SEED)
        p_values.append(difference.p_value if difference.estimate > 0 else 1.0)
    return [bool(p <= LEVEL) for p in holm(p_values)]


def with_holdout(
    confirmed: Sequence[Confirmed],
    configs: Mapping[str, TrialConfig],
    seeds: Sequence[int],
    full: EmbeddingSet,
    device: str,
) -> list[Confirmed]:
    """Score the confirmed front on the fold that the search never saw.

    Only the front: to choose among more by these scores would be to search on them.
    """
    front = [entry for entry in confirmed if entry.is_front]
    seeded = [
        dataclasses.replace(configs[entry.point.digest], seed=seed)
        for entry in front
        for seed in seeds
    ]
    rows, predicted = predict_holdout(seeded, full, device=device)
    hits = (predicted == full.y[rows]).reshape(len(front), len(seeds), -1).mean(axis=1)
    group = None if full.group is None else full.group[rows]
    intervals = bootstrap_means(hits, group, seed=RESAMPLE_SEED)
    found = {
        entry.point.digest: interval for entry, interval in zip(front, intervals, strict=True)
    }
    return [
        dataclasses.replace(entry, holdout=found.get(entry.point.digest)) for entry in confirmed
    ]


def optimism(confirmed: Sequence[Confirmed], study: Study) -> dict[str, float]:
    """How much better the search's front looked than it is."""
    members = [entry for entry in confirmed if entry.point.is_front]
    gaps = [entry.point.accuracy - entry.accuracy.estimate for entry in members]

    def volume(accuracy: Sequence[float], entries: Sequence[Confirmed]) -> float:
        return hypervolume(
            accuracy,
            [entry.point.size_bytes for entry in entries],
            reference_accuracy=study.user_attrs["reference_accuracy"],
            reference_bytes=study.user_attrs["reference_bytes"],
        )

    return {
        "optimism": float(np.mean(gaps)),
        "largest_optimism": float(np.max(gaps)),
        "hypervolume_searched": volume([entry.point.accuracy for entry in members], members),
        "hypervolume_confirmed": volume(
            [entry.accuracy.estimate for entry in confirmed], confirmed
        ),
        # As the search counts them: equal points once.
        "front_size_searched": float(
            len({(e.point.accuracy, e.point.size_bytes) for e in members})
        ),
        "front_size_confirmed": float(sum(entry.is_front for entry in confirmed)),
    }


def report(
    confirmed: Sequence[Confirmed], study: Study, config: ConfirmationConfig
) -> list[Section]:
    """Table, picture and words."""
    found = optimism(confirmed, study)
    dominated = sum(e.is_front and e.is_possibly_dominated for e in confirmed)
    text = (
        f"The search saw its front {100 * found['optimism']:+.2f} points above what fresh seeds "
        f"give on average, {100 * found['largest_optimism']:+.2f} at most. Its front of "
        f"{found['front_size_searched']:.0f} has a hypervolume of "
        f"{found['hypervolume_searched']:.4f}; the confirmed front of "
        f"{found['front_size_confirmed']:.0f}, of {found['hypervolume_confirmed']:.4f}. "
        f"{dominated} of the confirmed front may be no better than something that is not larger."
        "\n\n"
        f"Confirmed: mean of {len(config.seeds)} seeds, 95 % interval over recordings. On front: "
        "share of resampled recordings in which nothing dominates the model. Possibly dominated: "
        "its lead on the best that is not larger could be chance (5 %, Holm)."
    )
    searched = [
        SizedEstimate(e.point.size_bytes, Interval(*[e.point.accuracy] * 3), "")
        for e in confirmed
        if e.point.is_front
    ]
    kept = [e for e in confirmed if e.is_front]
    rest = [e for e in confirmed if not e.is_front]
    picture = estimates_png(
        {
            "front, as searched": searched,
            "front, fresh seeds": [
                SizedEstimate(e.point.size_bytes, e.accuracy, e.point.label) for e in kept
            ],
            "others, fresh seeds": [SizedEstimate(e.point.size_bytes, e.accuracy) for e in rest],
        },
        title=f"{config.study}: the front, confirmed",
        subtitle=f"mean of {len(config.seeds)} fresh seeds, 95 % interval over recordings",
    )
    return [Section("front", "The front, confirmed", text, confirmed_table(confirmed), picture)]


def confirmed_table(confirmed: Sequence[Confirmed]) -> Table:
    """One row a point, smallest first."""
    has_holdout = any(entry.holdout is not None for entry in confirmed)
    columns = [
        Column("size", "bytes"),
        Column("searched", "share"),
        Column("confirmed", "share"),
        Column("seed deviation", "share"),
        Column("on front", "share", 0),
        Column("front", "yes"),
        Column("possibly dominated", "yes"),
        *([Column("held-out fold", "share")] if has_holdout else []),
        Column("model"),
        Column("digest"),
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            entry.point.size_bytes,
            entry.point.accuracy,
            entry.accuracy,
            None if np.isnan(entry.seed_deviation) else entry.seed_deviation,
            entry.probability,
            entry.is_front,
            entry.is_possibly_dominated,
            *([entry.holdout] if has_holdout else []),
            entry.point.label,
            entry.point.digest,
        )
        for entry in confirmed
    ]
    return Table(tuple(columns), tuple(rows))


if __name__ == "__main__":
    sys.exit(main())
