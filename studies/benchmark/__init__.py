"""What do bits cost? Known networks and mixtures, every scheme, measured in the same way.

python -m studies.benchmark [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

Every variant is trained with every seed. Scores are means over the seeds, with intervals over
recordings; the size of the file and the bytes that one prediction reads are exact; latency is
that of the packed model on one thread. Seconds and memory of training are those of a worker beside
others; energy is measured in a run of its own, where the machine counts it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.crossval import cross_validate
from qwave.runtime import PackedClassifier
from qwave.scores import Interval
from qwave.scores.evaluate import score_intervals
from qwave.sweep import Repeat, write_study
from studies.benchmark.energy import joules_of, why_not_measured
from studies.command_line import guarded, split_positionals, study_parser
from studies.comparison import comparison_bench, load_comparison
from studies.presenting import RESAMPLE_SEED, metric_name, show_study

DEFAULT = "sweeps/benchmark.yaml"
N_LATENCY_CALLS = 200


@dataclass(frozen=True, eq=False)
class Variant:
    """One configuration and what was measured of it.

    Attributes:
        name: Name in the YAML file.
        config: Configuration as the file has it.
        hits: Share of the seeds that classified each clip rightly, [n].
        scores: Scores with 95 % intervals over recordings.
        size_bytes: Length of the packed file.
        active_bytes: Bytes of the file that one prediction reads, on average.
        latency: Microseconds of a prediction of one clip: median and 95th percentile.
        train_seconds: Seconds of training, median over the seeds.
        peak_memory_bytes: Memory of the training process, largest over the seeds.
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
    """Train, measure, report; returns 0."""
    from studies.benchmark.report import report_sections

    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_comparison(path, overrides, is_smoke=arguments.smoke)
    with comparison_bench(config, arguments) as bench:
        data = bench.data
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
        sections = report_sections(variants, config, data, reason)
        files = write_study(
            bench,
            config.name,
            title=f"{config.name}: what bits cost",
            summary={
                "variants": f"{len(variants)}, {len(config.seeds)} seeds each",
                "data": f"{config.data.path} ({data.digest})",
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
    """Scores, bytes, latency and cost of training of one configuration, from its repeats."""
    predicted = np.array([repeat.predictions.predicted for repeat in repeats])
    model = repeats[0].models()[0]
    return Variant(
        name=name,
        config=config,
        hits=(predicted == data.y).mean(axis=0),
        scores=score_intervals(data.y, predicted, data.group, seed=RESAMPLE_SEED),
        size_bytes=int(repeats[0].scores["size_bytes"]),
        active_bytes=float(np.mean([repeat.scores["active_bytes"] for repeat in repeats])),
        latency=latency_of(model, data.x[:N_LATENCY_CALLS]),
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
    """Joules of one cross-validation in this process, with nothing of the study beside it."""
    return joules_of(lambda: cross_validate(config, data, device=device))
