"""Does a mixture pay? Fronts without and with mixtures at equal training compute, and routers.

python -m studies.mixtures [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh] [--retry-failed]

One space is searched twice with equal training compute (`studies.mixtures.equal_compute`): among
networks of one expert, and with mixtures. Both fronts are trained again with fresh seeds and their
hypervolumes compared (`studies.mixtures.fronts`). Then the routers of the best mixtures are
compared with routers that know nothing (`studies.mixtures.routers`).
"""

from __future__ import annotations

from collections.abc import Sequence

from qwave.cli.running import add_retry, run_command
from studies.command_line import study_parser

DEFAULT = "sweeps/mixtures.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    description = "Compare fronts without and with mixtures, at equal training compute."
    parser = study_parser("mixtures", description, DEFAULT)
    add_retry(parser)
    arguments = parser.parse_intermixed_args(argv)
    # Not above: ``--help`` must not wait for the libraries.
    from studies.mixtures.study import run

    return run_command(run, arguments)
