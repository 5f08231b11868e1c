"""The report of `studies.benchmark`: all variants, their differences, and a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from qwave.data import EmbeddingSet
from qwave.report import Cell, Column, Section, SizedEstimate, Table, estimates_png
from qwave.scores import bootstrap_difference, equivalence, holm
from qwave.sweep.confirm import RESAMPLE_SEED
from studies.benchmark.measure import Variant
from studies.comparison import ComparisonConfig

# With 9999 resamples the smallest p-value is 0.0002, before Holm's correction.
N_RESAMPLES = 9999
MARGIN = 0.01
SCORES = ("accuracy", "balanced_accuracy", "weighted_f1")
_KERNELS = {"compiled": "C", "numpy": "numpy"}


def report_sections(
    variants: Sequence[Variant], config: ComparisonConfig, data: EmbeddingSet
) -> list[Section]:
    """The sections of the report, in order."""
    first = variants[0]
    sections = [
        Section(
            "variants",
            "All variants",
            f"Mean of {len(config.seeds)} seeds, 95 % interval over recordings. File: length of "
            "the packed file. Read: bytes that one prediction reads. Latency: of one clip by the "
            f"packed model, one thread, computed in {kernels_text(variants)}.",
            variants_table(variants),
            picture(variants, config),
        )
    ]
    if len(variants) > 1:
        sections.append(
            Section(
                "against_first",
                f"Against {first.name}",
                "Difference of accuracies on the same clips, paired bootstrap over recordings; "
                "p-value of no difference, corrected by Holm. As good: the 90 % interval of the "
                f"difference lies within {100 * MARGIN:.0f} point (TOST).",
                differences_table([(v, first) for v in variants[1:]], data),
            )
        )
    pairs = pairs_by_mode(variants)
    if pairs:
        sections.append(
            Section(
                "qat_against_ptq",
                "Trained with quantization, against quantized afterwards",
                "The same configuration with two values of `train.mode`; columns as in the table "
                "above.",
                differences_table(pairs, data),
            )
        )
    return sections


def kernels_text(variants: Sequence[Variant]) -> str:
    """What computed the latencies: ``C``, or ``C and numpy`` where there are several."""
    used = {kernel for variant in variants for kernel in variant.kernels}
    return " and ".join(name for kernel, name in _KERNELS.items() if kernel in used)


def variants_table(variants: Sequence[Variant]) -> Table:
    """Everything that was measured, one row for each variant."""
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
        )
        for variant in variants
    ]
    return Table(columns, tuple(rows))


def differences_table(pairs: Sequence[tuple[Variant, Variant]], data: EmbeddingSet) -> Table:
    """Accuracy of the first variant of each pair less that of the second, tested."""
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
        rows.append((one.name, other.name, difference.interval, float(p), equal.is_equivalent))
    columns = (
        Column("variant"),
        Column("against"),
        Column("difference", "share"),
        Column("p (Holm)", "number", 3),
        Column("as good", "yes"),
    )
    return Table(columns, tuple(rows))


def pairs_by_mode(variants: Sequence[Variant]) -> list[tuple[Variant, Variant]]:
    """Variants trained with quantization, each with the same one quantized afterwards."""
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
    """Accuracy against file size: networks of both training modes, and mixtures."""
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
