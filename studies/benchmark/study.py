"""What is measured of every variant, and how it is shown; see `studies.benchmark`."""

from __future__ import annotations

import argparse

from qwave.space.sweep_file import split_positionals
from qwave.sweep import write_study
from studies.benchmark import DEFAULT
from studies.benchmark.measure import measured
from studies.benchmark.report import report_sections
from studies.comparison import comparison_bench, load_comparison
from studies.presenting import metric_name, show_study


def run(arguments: argparse.Namespace) -> int:
    """Train, measure, report; returns 0."""
    path, overrides = split_positionals(arguments.arguments, DEFAULT)
    config = load_comparison(path, overrides, is_smoke=arguments.smoke)
    with comparison_bench(config, arguments) as bench:
        data = bench.data
        repeats = bench.train_seeds(config.variants, config.seeds)
        variants = [
            measured(name, variant, repeats[name], data)
            for name, variant in config.variants.items()
        ]
        sections = report_sections(variants, config, data)
        files = write_study(
            bench,
            config.name,
            title=f"{config.name}: what bits cost",
            summary={
                "variants": f"{len(variants)}, {len(config.seeds)} seeds each",
                "data": f"{config.data.path} ({data.digest})",
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
