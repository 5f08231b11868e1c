"""What do bits cost? Networks and mixtures of every scheme, measured alike.

python -m studies.benchmark [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

Every variant is trained with every seed. Scores are means over the seeds, with intervals over
recordings; the size of the file and the bytes that one prediction reads are exact; latency is
that of the packed model on one thread. Seconds and memory of training are those of one worker
while the other workers train too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qwave.cli.running import run_command
from qwave.space.sweep_file import split_positionals
from qwave.sweep import write_study
from studies.benchmark.measure import measured
from studies.benchmark.report import report_sections
from studies.comparison import comparison_bench, load_comparison, study_parser
from studies.presenting import metric_name, show_study

DEFAULT = "sweeps/benchmark.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    description = "Compare schemes, normalisations and mixtures on the same folds."
    return run_command(
        run, study_parser("benchmark", description, DEFAULT).parse_intermixed_args(argv)
    )


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
