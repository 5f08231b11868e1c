"""Is the uncertainty worth anything? Curiosity beside what costs nothing, and beside an ensemble.

python -m studies.curiosity [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

Curiosity is epistemic uncertainty by MC-dropout: of the router of a mixture, of the prediction of
a plain network. It should find wrong predictions. The largest probability, which is there anyway,
is compared on the same task, and so is the ensemble of all seeds. Every clip is predicted by
models that did not see it in training.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwave.cli.running import run_command
from studies.command_line import study_parser

DEFAULT = "sweeps/curiosity.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    description = "Is curiosity worth anything, beside the largest probability and an ensemble?"
    parser = study_parser("curiosity", description, DEFAULT)
    arguments = parser.parse_intermixed_args(argv)
    # Not above: ``--help`` must not wait for the libraries.
    from studies.curiosity.study import run

    return run_command(run, arguments)
