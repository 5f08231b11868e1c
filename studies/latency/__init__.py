"""How fast does a packed model predict? All schemes beside PyTorch and onnxruntime.

python -m studies.latency [--hidden 640-320] [--quick] [--json]

One network on the bundled ESC-10 embeddings, trained for a few epochs in float32 and quantized
afterwards, so that all runtimes have the same weights; one thread; raw embeddings in,
probabilities out. The runtimes take turns, for a fraction of a second at a time. Shown are the
median and the 95th percentile of all calls, and how many times as fast as PyTorch in float32 the
median is. Then: seconds and memory of a process that opens a file and makes one prediction.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qwave.cli.running import add_talk, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `run_command`)."""
    parser = argparse.ArgumentParser(prog="python -m studies.latency", description=__doc__)
    parser.add_argument("--hidden", default="640-320", help="widths, or linear; default 640-320")
    parser.add_argument("--quick", action="store_true", help="fewer calls: half a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    add_talk(parser)
    arguments = parser.parse_args(argv)
    # Not above: ``--help`` must not wait for the libraries.
    from studies.latency.study import run

    return run_command(run, arguments)
