"""Is the front of a finished search real? Its members, trained again with fresh seeds.

python -m studies.confirm [STUDY.yaml] [key=value ...] [--store DIR] [--device cpu|cuda|mps]
    [--smoke] [--fresh]

The best of many noisy scores is too high (the winner's curse). Fresh seeds were not used in the
search: reported are their mean, its interval, and how often each model would be on the front if
the recordings were others. Where the search left an official fold out (`data.holdout_fold`), its
front is scored once on that fold as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwave.cli.running import run_command
from studies.command_line import study_parser

DEFAULT = "sweeps/confirm.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    description = "Train the front of a finished search again, with fresh seeds."
    parser = study_parser("confirm", description, DEFAULT)
    arguments = parser.parse_intermixed_args(argv)
    # Not above: ``--help`` must not wait for the libraries.
    from studies.confirm.study import run

    return run_command(run, arguments)
