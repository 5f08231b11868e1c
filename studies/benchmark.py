"""What do bits cost? Known networks and mixtures, every scheme, measured in the same way.

python -m studies.benchmark [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

Every variant is trained with every seed. Its scores are means over the seeds, with intervals over
recordings; its file and what one prediction reads of it are exact; its latency is that of the
packed model on one thread. Seconds and memory of training are those of a worker beside
others; energy is measured where the machine counts it, in a run of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from qwave.audio import open_data
from qwave.config import ComparisonConfig, TrialConfig
from qwave.data import EmbeddingSet, leave_out
from qwave.engine.crossval import cross_validate
from qwave.report import Cell, Column, Section, SizedEstimate, Table, estimates_png
from qwave.runtime import PackedClassifier
from qwave.scores import Interval, bootstrap_difference, equivalence, holm
from qwave.scores.evaluate import score_intervals
from qwave.space import load_comparison
from qwave.store import check_store
from qwave.sweep import Repeat, opened_bench, write_study
from studies.command_line import guarded, split_positionals, study_parser
from studies.energy import joules_of, why_not_measured
from studies.presenting import metric_name, show_study

DEFAULT = "sweeps/benchmark.yaml"
RESAMPLE_SEED = 0
# Of differences: the smallest p-value is two in ten thousand, before Holm.
N_RESAMPLES = 9999
MARGIN = 0.01
N_LATENCY_CALLS = 200
SCORES = ("accuracy", "balanced_accuracy", "weighted_f1")


@dataclasses.dataclass(frozen=True, eq=False)
class Variant:
    """One row.

    Attributes:
        name: In the YAML file.
        config: As the file has it.
        hits: Share of the seeds that were right about each clip, [n].
        scores: With 95 % intervals over recordings.
        size_bytes: Length of the file.
        active_bytes: Bytes that one prediction reads, on average.
        latency: Microseconds of a prediction of one clip: median and 95th percentile.
        train_seconds: Median over the seeds.
        peak_memory_bytes: Largest over the seeds.
        joules: Energy of one cross-validation, or None where it cannot be measured.
        kernels: What computed the networks while the latency was measured.
    """

    name: str
    config: TrialConfig
    hits: np.ndarray
    scores: Mapping[str, Interval]
    size_bytes: int
    active_bytes: float
    latency: tuple[float, float]
    train_seconds: float
    peak_memory_bytes: int
    joules: float | None
    kernels: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `guarded`)."""
    description = "Compare schemes, normalisations and mixtures on the same folds."
    return guarded(
        run, study_parser("benchmark", description, DEFAULT).parse_intermixed_args(argv)
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, measure, report."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_comparison(path, overrides, is_smoke=arguments.smoke)
    source = next(iter(config.variants.values())).data
    check_store(arguments.store)
    full = open_data(source.path, source.encoder, source.feature_columns, split=source)
    data = leave_out(full, source.holdout_fold)
    with opened_bench(
        config.name,
        data,
        source.path,
        arguments.store,
        device=arguments.device,
        workers=config.workers,
        is_fresh=arguments.fresh,
    ) as bench:
        repeats = bench.train_seeds(config.variants, config.seeds)
        reason = why_not_measured()
        variants = [
            measured(
                name,
                variant,
                repeats[name],
                data,
                joules=None if reason else energy_of(variant, data, arguments.device),
            )
            for name, variant in config.variants.items()
        ]
        sections = report(variants, config, data, reason)
        files = write_study(
            bench,
            config.name,
            title=f"{config.name}: what bits cost",
            summary={
                "variants": f"{len(variants)}, {len(config.seeds)} seeds each",
                "data": f"{source.path} ({data.digest})",
                "energy": "measured" if reason is None else f"not measured: {reason}",
            },
            sections=sections,
            params={"seeds": list(config.seeds), "variants": list(config.variants)},
            metrics={
                f"accuracy/{metric_name(variant.name)}": variant.scores["accuracy"].estimate
                for variant in variants
            },
        )
    show_study(sections, files)
    return 0


def measured(
    name: str,
    config: TrialConfig,
    repeats: Sequence[Repeat],
    data: EmbeddingSet,
    *,
    joules: float | None,
) -> Variant:
    """What the seeds of one variant came to."""
    predicted = np.array([repeat.predictions.predicted for repeat in repeats])
    model = repeats[0].models()[0]
    clips = data.x[: min(len(data.x), N_LATENCY_CALLS)]
    return Variant(
        name=name,
        config=config,
        hits=(predicted == data.y).mean(axis=0),
        scores=score_intervals(data.y, predicted, data.group, seed=RESAMPLE_SEED),
        size_bytes=int(repeats[0].scores["size_bytes"]),
        active_bytes=float(np.mean([repeat.scores["active_bytes"] for repeat in repeats])),
        latency=latency_of(model, clips),
        train_seconds=float(np.median([repeat.train_seconds for repeat in repeats])),
        peak_memory_bytes=max(repeat.peak_memory_bytes for repeat in repeats),
        joules=joules,
        kernels=model.kernels,
    )


def latency_of(model: PackedClassifier, clips: np.ndarray) -> tuple[float, float]:
    """Median and 95th percentile of the microseconds of one clip's prediction, on one thread."""
    with threadpool_limits(1):
        model.predict_proba(clips[:1])
        seconds = []
        for row in range(len(clips)):
            start = time.perf_counter()
            model.predict_proba(clips[row : row + 1])
            seconds.append(time.perf_counter() - start)
    median, late = np.quantile(seconds, [0.5, 0.95])
    return 1e6 * float(median), 1e6 * float(late)


def energy_of(config: TrialConfig, data: EmbeddingSet, device: str) -> float:
    """Joules of one cross-validation in this process; nothing of the study runs beside it."""
    return joules_of(lambda: cross_validate(config, data, device=device))


def report(
    variants: Sequence[Variant], config: ComparisonConfig, data: EmbeddingSet, reason: str | None
) -> list[Section]:
    """Tables, picture and words."""
    energy = "Energy was measured." if reason is None else f"Energy was not measured: {reason}."
    seeds = f"Mean of {len(config.seeds)} seeds, 95 % interval over recordings."
    names = [variant.name for variant in variants]
    sections = [
        Section(
            "variants",
            "All variants",
            f"{seeds} File: length of the packed file. Read: bytes that one prediction reads. "
            "Latency: of one clip by the packed model, one thread, computed in "
            f"{kernels_text(variants)}. {energy}",
            variants_table(variants),
            picture(variants, config),
        )
    ]
    if len(variants) > 1:
        baseline = variants[0]
        sections.append(
            Section(
                "against_first",
                f"Against {names[0]}",
                "Difference of accuracies on the same clips, paired bootstrap over recordings; "
                "p-value of no difference, corrected by Holm. As good: the 90 % interval of the "
                f"difference lies within {100 * MARGIN:.0f} point (TOST).",
                differences_table([(v, baseline) for v in variants[1:]], data),
            )
        )
    pairs = pairs_by_mode(variants)
    if pairs:
        sections.append(
            Section(
                "qat_against_ptq",
                "Trained with quantization, against quantized afterwards",
                "The same configuration, but for `train.mode`. As above.",
                differences_table(pairs, data),
            )
        )
    return sections


def kernels_text(variants: Sequence[Variant]) -> str:
    """What computed the latencies: ``C``, or ``C and numpy`` where there are several."""
    names = {"compiled": "C", "numkong": "NumKong", "numpy": "numpy"}
    used = {kernel for variant in variants for kernel in variant.kernels}
    return " and ".join(name for kernel, name in names.items() if kernel in used)


def variants_table(variants: Sequence[Variant]) -> Table:
    """Everything measured, a row a variant."""
    columns = (
        Column("variant"),
        Column("accuracy", "share"),
        Column("balanced accuracy", "share"),
        Column("weighted F1", "share"),
        Column("file", "bytes"),
        Column("read", "bytes"),
        Column("latency (us)", "number", 1),
        Column("95th percentile (us)", "number", 1),
        Column("training (s)", "number", 1),
        Column("peak memory", "bytes"),
        Column("energy (J)", "number", 0),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            variant.name,
            *(variant.scores[score] for score in SCORES),
            variant.size_bytes,
            variant.active_bytes,
            *variant.latency,
            variant.train_seconds,
            variant.peak_memory_bytes,
            variant.joules,
        )
        for variant in variants
    ]
    return Table(columns, tuple(rows))


def differences_table(pairs: Sequence[tuple[Variant, Variant]], data: EmbeddingSet) -> Table:
    """The first of each pair against the second."""
    found = [
        bootstrap_difference(
            one.hits, other.hits, data.group, n_resamples=N_RESAMPLES, seed=RESAMPLE_SEED
        )
        for one, other in pairs
    ]
    adjusted = holm([difference.p_value for difference in found])
    rows: list[tuple[Cell, ...]] = []
    for (one, other), difference, p in zip(pairs, found, adjusted, strict=True):
        equal = equivalence(one.hits, other.hits, data.group, MARGIN, seed=RESAMPLE_SEED)
        estimate = difference.interval
        rows.append((one.name, other.name, estimate, float(p), equal.is_equivalent))
    columns = (
        Column("variant"),
        Column("against"),
        Column("difference", "share"),
        Column("p (Holm)", "number", 3),
        Column("as good", "yes"),
    )
    return Table(columns, tuple(rows))


def pairs_by_mode(variants: Sequence[Variant]) -> list[tuple[Variant, Variant]]:
    """Variants trained with quantization, each with its twin that is quantized afterwards."""
    by_digest = {variant.config.digest: variant for variant in variants}
    pairs = []
    for variant in variants:
        train = variant.config.canonical().train
        if train.mode == "ptq":
            qat = dataclasses.replace(train, mode="qat")
            twin = by_digest.get(dataclasses.replace(variant.config, train=qat).digest)
            if twin is not None:
                pairs.append((twin, variant))
    return pairs


def picture(variants: Sequence[Variant], config: ComparisonConfig) -> bytes:
    """Accuracy against file size, by kind of variant."""
    series: dict[str, list[SizedEstimate]] = {
        "one network, trained with quantization": [],
        "one network, quantized afterwards": [],
        "mixture": [],
    }
    plain, afterwards, mixtures = series.values()
    for variant in variants:
        is_mixture = variant.config.model.num_experts > 1
        is_afterwards = variant.config.train.mode == "ptq"
        kind = mixtures if is_mixture else afterwards if is_afterwards else plain
        accuracy = variant.scores["accuracy"]
        kind.append(SizedEstimate(variant.size_bytes, accuracy))
    return estimates_png(
        series,
        title=f"{config.name}: what bits cost",
        subtitle=f"mean of {len(config.seeds)} seeds, 95 % interval over recordings",
    )


if __name__ == "__main__":
    sys.exit(main())
