"""How fast is a trial? The engine against a plain PyTorch loop, side by side on this machine.

python -m studies.speed [--device cpu|cuda] [--quick] [--json]

Four experts of 1, 2, 4 and 16 bits, top-1, 640 and 320 hidden units, batch 64, 100 epochs, at the
shapes of three data sets, filled with random numbers. A few epochs are run, and their time scaled
to 100 (on a GPU the engine runs them all). The plain loop runs alone, at its best number of
threads; the engine as in a study, a trial on each processor at once, one thread each, with the
optimiser's moments in bfloat16 and in float32. Because that comparison favours the engine, the
plain loop is also run as a process on each processor ("on each"). All take turns for several
rounds, and medians are shown: processors and memory that are shared with others are faster at some
times than at others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qwave.cli.running import add_talk, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    parser = argparse.ArgumentParser(prog="python -m studies.speed", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--quick", action="store_true", help="ESC-50's shape only, few epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    add_talk(parser)
    arguments = parser.parse_args(argv)
    # Not above: ``--help`` must not wait for the libraries.
    from studies.speed.study import run

    return run_command(run, arguments)
