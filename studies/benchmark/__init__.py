"""What do bits cost? Known networks and mixtures, every scheme, measured in the same way.

python -m studies.benchmark [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

Every variant is trained with every seed. Scores are means over the seeds, with intervals over
recordings; the size of the file and the bytes that one prediction reads are exact; latency is
that of the packed model on one thread. Seconds and memory of training are those of one worker
while the other workers train too.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwave.cli.running import run_command
from studies.command_line import study_parser

DEFAULT = "sweeps/benchmark.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    description = "Compare schemes, normalisations and mixtures on the same folds."
    parser = study_parser("benchmark", description, DEFAULT)
    arguments = parser.parse_intermixed_args(argv)
    # Not above: ``--help`` must not wait for the libraries.
    from studies.benchmark.study import run

    return run_command(run, arguments)
