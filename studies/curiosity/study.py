"""What the uncertainties find, and how it is shown; see `studies.curiosity`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from qwave.report import Column, Section, Table
from qwave.space.sweep_file import split_positionals
from qwave.sweep import write_study
from studies.comparison import comparison_bench, load_comparison
from studies.curiosity import DEFAULT
from studies.curiosity.errors import error_sections
from studies.curiosity.measures import Finding, Variant
from studies.presenting import show_study


def run(arguments: argparse.Namespace) -> int:
    """Train, compare uncertainties, report; returns 0."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_comparison(path, overrides, is_smoke=arguments.smoke)
    with comparison_bench(config, arguments) as bench:
        repeats = bench.train_seeds(config.variants, config.seeds)
        variants = [
            Variant.of(name, variant, repeats[name]) for name, variant in config.variants.items()
        ]
        sections, metrics, findings = error_sections(variants, bench.data)
        sections = [findings_section(findings), *sections]
        files = write_study(
            bench,
            config.name,
            title=f"{config.name}: is the uncertainty worth anything?",
            summary={
                "variants": f"{len(variants)}, {len(config.seeds)} seeds each",
                "data": f"{config.data.path} ({bench.data.digest})",
            },
            sections=sections,
            params={"seeds": list(config.seeds), "variants": list(config.variants)},
            metrics=metrics,
        )
    show_study(sections, files)
    return 0


def findings_section(findings: Sequence[Finding]) -> Section:
    """The answer: how well curiosity and the largest probability find errors."""
    texts = []
    for kind, description in (
        ("networks", "Networks of one expert, whose curiosity is about their own prediction"),
        ("mixtures", "Mixtures, whose curiosity is their router's"),
    ):
        for finding in findings:
            if finding.kind == kind:
                better, worse = finding.n_ahead_shown, finding.n_behind_shown
                texts.append(
                    f"{description}: of {finding.n} comparisons with the largest probability, "
                    f"curiosity is better beyond chance in {better} and worse beyond chance in "
                    f"{worse}. {conclusion(better, worse)}"
                )
    texts.append(
        "AUROC of finding wrong predictions, mean over the variants; the ensemble is about its "
        "own errors. Beyond chance: 5 %, corrected by Holm over all comparisons."
    )
    columns = (
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
    """One sentence from the numbers of comparisons in which curiosity is shown better or worse."""
    if not better and not worse:
        return "Nothing shows that either is better; the largest probability costs nothing."
    if not better:
        return "It does not beat what costs nothing."
    if not worse:
        return "It beats what costs nothing."
    count = "even" if better == worse else f"{'for' if better > worse else 'against'} curiosity"
    return f"It depends on the variant; the count is {count}."
