"""Is the uncertainty worth anything? Curiosity beside what costs nothing, and beside an ensemble.

python -m studies.curiosity [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

Curiosity is epistemic uncertainty by MC-dropout: of the router of a mixture, of the prediction of
a plain network. It is asked to find wrong predictions, clips that are worth a costly expert, and
clips from outside the classes; the largest probability, which is there anyway, is asked the same,
and so is the ensemble of all seeds. Whatever is said of a clip comes from models that did not see
it in training.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager

from qwave.audio import open_data
from qwave.config import ComparisonConfig, ConfigError, UncertaintyConfig, nearest
from qwave.data import EmbeddingSet, leave_out, take_classes
from qwave.report import Column, Section, Table
from qwave.space import load_uncertainty
from qwave.store import check_store
from qwave.sweep import Bench, opened_bench, write_study
from studies.command_line import guarded, split_positionals, study_parser
from studies.curiosity_errors import error_sections
from studies.curiosity_escalation import escalation_sections
from studies.curiosity_measures import Finding, Variant
from studies.curiosity_outsiders import held_out_section, noise_sections
from studies.presenting import show_study

DEFAULT = "sweeps/curiosity.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `guarded`)."""
    description = "Is curiosity worth anything, beside the largest probability and an ensemble?"
    return guarded(
        run, study_parser("curiosity", description, DEFAULT).parse_intermixed_args(argv)
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, with all classes and without some of them; ask; report."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_uncertainty(path, overrides, is_smoke=arguments.smoke)
    comparison = config.comparison
    source = next(iter(comparison.variants.values())).data
    check_store(arguments.store)
    full = open_data(source.path, source.encoder, source.feature_columns, split=source)
    data = leave_out(full, source.holdout_fold)
    reduced = without_classes(data, config)
    # First the splits: the store is open for one data set at a time, and the report belongs to
    # the last one.
    strangers = {}
    for split, known in reduced.items():
        with bench_of(f"{comparison.name}_{split}", known, comparison, arguments) as bench:
            strangers[split] = train(bench, comparison)
    with bench_of(comparison.name, data, comparison, arguments) as bench:
        variants = train(bench, comparison)
        parts = [
            error_sections(variants, data),
            escalation_sections(variants, data),
            noise_sections(variants, data, source),
        ]
        for split, classes in config.held_out.items():
            section, metrics, found = held_out_section(
                split, classes, strangers[split], data, source
            )
            parts.append(([section], metrics, found))
        sections = [
            findings_section([finding for *_, found in parts for finding in found]),
            *(section for found, *_ in parts for section in found),
        ]
        files = write_study(
            bench,
            comparison.name,
            title=f"{comparison.name}: is the uncertainty worth anything?",
            summary={
                "variants": f"{len(variants)}, {len(comparison.seeds)} seeds each",
                "held out": "; ".join(", ".join(names) for names in config.held_out.values())
                or "nothing",
                "data": f"{source.path} ({data.digest})",
            },
            sections=sections,
            params={
                "seeds": list(comparison.seeds),
                "variants": list(comparison.variants),
                "held_out": {split: list(names) for split, names in config.held_out.items()},
            },
            metrics={name: value for _, found, _ in parts for name, value in found.items()},
        )
    show_study(sections, files)
    return 0


def without_classes(data: EmbeddingSet, config: UncertaintyConfig) -> dict[str, EmbeddingSet]:
    """The data without the classes of each split."""
    reduced = {}
    for split, classes in config.held_out.items():
        for name in classes:
            if name not in data.class_names:
                raise ConfigError(
                    f"held_out.{split}: no class {name!r}{nearest(name, data.class_names)}; the "
                    f"classes are {', '.join(data.class_names)}"
                )
        known = [name for name in data.class_names if name not in classes]
        if len(known) < 2:
            raise ConfigError(
                f"held_out.{split} must leave at least 2 classes, but leaves {len(known)}"
            )
        reduced[split] = take_classes(data, known)
    return reduced


def bench_of(
    name: str, data: EmbeddingSet, comparison: ComparisonConfig, arguments: argparse.Namespace
) -> AbstractContextManager[Bench]:
    """Where variants are trained on a data set; `name` is that of the MLflow experiment."""
    return opened_bench(
        name,
        data,
        next(iter(comparison.variants.values())).data.path,
        arguments.store,
        device=arguments.device,
        workers=comparison.workers,
        is_fresh=arguments.fresh,
    )


def findings_section(findings: Sequence[Finding]) -> Section:
    """All questions in one table, and what they come to."""
    texts = []
    for kind, whose in (
        ("networks", "Networks of one expert, whose curiosity is about their own prediction"),
        ("mixtures", "Mixtures, whose curiosity is their router's"),
    ):
        part = [finding for finding in findings if finding.kind == kind]
        if part:
            better = sum(finding.n_ahead_shown for finding in part)
            worse = sum(finding.n_behind_shown for finding in part)
            texts.append(
                f"{whose}: of {sum(finding.n for finding in part)} comparisons with the largest "
                f"probability, curiosity is better beyond chance in {better} and worse beyond "
                f"chance in {worse}. {conclusion(better, worse)}"
            )
    texts.append(
        "Scores are means over the variants; the ensemble is about its own errors. Beyond chance: "
        "5 %, corrected by Holm for all that was compared for the question."
    )
    columns = (
        Column("question"),
        Column("of"),
        Column("curiosity", "share", 1),
        Column("max probability", "share", 1),
        Column("ensemble: mutual information", "share", 1),
        Column("variants", "number", 0),
        Column("ahead", "number", 0),
        Column("beyond chance", "number", 0),
        Column("behind", "number", 0),
        Column("behind beyond chance", "number", 0),
    )
    rows = tuple(dataclasses.astuple(finding) for finding in findings)
    return Section("findings", "Is it worth anything?", "\n\n".join(texts), Table(columns, rows))


def conclusion(better: int, worse: int) -> str:
    """What two counts of differences beyond chance say of curiosity."""
    if not better and not worse:
        return "Nothing shows that either is better; the largest probability costs nothing."
    if not better:
        return "It does not beat what costs nothing."
    if not worse:
        return "It beats what costs nothing."
    count = "even" if better == worse else f"{'for' if better > worse else 'against'} curiosity"
    return f"It depends on the question; the count is {count}."


def train(bench: Bench, comparison: ComparisonConfig) -> list[Variant]:
    """Every variant with every seed."""
    repeats = bench.train_seeds(comparison.variants, comparison.seeds)
    return [
        Variant.of(name, variant, repeats[name]) for name, variant in comparison.variants.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
