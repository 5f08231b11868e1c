"""How fast is a trial? The engine against the plain loop, side by side on this machine.

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
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TextIO

from qwave.config import QwaveError
from qwave.engine import resolve_device
from qwave.text import for_terminal
from studies.timing import SHAPES, Shape, Timing, engine_seconds, measure, phase_seconds

ROUNDS = 3
PHASES = {
    "prepare": "folds, parameters",
    "steps": "training steps",
    "evaluate": "held-out scores",
    "pack": "packing",
    "predict": "predictions, curiosity",
    "score": "scores",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.speed", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--quick", action="store_true", help="ESC-50's shape only, few epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    arguments = parser.parse_args(argv)
    try:
        resolve_device(arguments.device)
    except QwaveError as error:
        print(f"error: {for_terminal(error, keeps_lines=True)}", file=sys.stderr)
        return 2
    stream = sys.stderr if arguments.json else sys.stdout
    found = compare(SHAPES[1:2] if arguments.quick else SHAPES, arguments.device, stream)
    if not arguments.quick:
        show_phases(SHAPES[0], arguments.device, 60, stream)
        show_phases(SHAPES[1], arguments.device, 20, stream, widths=((640, 320),))
        base = dataclasses.replace(SHAPES[1], engine_epochs=3)
        show_growth(growing(base), arguments.device, stream)
    if arguments.json:
        print(json.dumps(summary(found["ESC-50"], arguments.device)))
    return 0


def compare(shapes: Sequence[Shape], device: str, stream: TextIO) -> dict[str, Timing]:
    """Both ways, seconds a trial of 100 epochs."""
    print(
        f"{'shape':13} {'plain':>9} {'threads':>7} {'on each':>9}   {'engine':9} {'seconds':>8} "
        f"{'ratio':>7} {'on each':>8} {'memory':>9}",
        file=stream,
    )
    found = {}
    for shape in shapes:
        timing = found[shape.name] = measure(shape, device, ROUNDS)
        plain = (
            f"{shape.name:13} {timing.plain_seconds:7.1f} s {timing.best_threads:7} "
            f"{timing.plain_on_each_seconds:7.1f} s"
        )
        for precision in timing.engine:
            print(
                f"{plain}   {precision:9} {timing.engine_seconds(precision):6.1f} s "
                f"{timing.ratio(precision):6.1f}x {timing.ratio_on_each(precision):7.1f}x "
                f"{timing.peak_bytes[precision] / 2**20:5.0f} MiB",
                file=stream,
                flush=True,
            )
            plain = " " * len(plain)
    return found


def show_phases(
    shape: Shape,
    device: str,
    n_epochs: int,
    stream: TextIO,
    widths: Sequence[tuple[int, ...]] = ((), (64,), (640, 320)),
) -> None:
    """Where the seconds of a whole trial go."""
    print(f"\nshares of a trial, {shape.name}, {n_epochs} epochs, one process", file=stream)
    for hidden in widths:
        seconds = phase_seconds(dataclasses.replace(shape, hidden=hidden), device, n_epochs)
        total = sum(seconds.values())
        shares = ", ".join(
            f"{label} {seconds[phase] / total:.1%}" for phase, label in PHASES.items()
        )
        name = "-".join(map(str, hidden)) or "linear"
        print(f"{name:8} {total:6.2f} s: {shares}", file=stream, flush=True)


def growing(base: Shape) -> dict[str, list[Shape]]:
    """Shapes that differ from this one in one size each."""
    widths = ((160, 80), (320, 160), (640, 320), (1280, 640))
    return {
        "clips": [dataclasses.replace(base, n_clips=n) for n in (1000, 2000, 4000)],
        "experts": [dataclasses.replace(base, schemes=base.schemes * n) for n in (1, 2, 4)],
        "folds": [dataclasses.replace(base, n_folds=n) for n in (3, 5, 10)],
        "hidden": [dataclasses.replace(base, hidden=hidden) for hidden in widths],
    }


def show_growth(variants: dict[str, list[Shape]], device: str, stream: TextIO) -> None:
    """Seconds a trial of 100 epochs, as one size grows."""
    print("\nseconds a trial as the work grows", file=stream)
    for name, shapes in variants.items():
        parts = []
        for shape in shapes:
            size = {
                "clips": str(shape.n_clips),
                "experts": str(len(shape.schemes)),
                "folds": str(shape.n_folds),
                "hidden": "-".join(map(str, shape.hidden)),
            }[name]
            parts.append(f"{size}: {engine_seconds(shape, device):.1f} s")
        print(f"{name:8} {'   '.join(parts)}", file=stream, flush=True)


def summary(timing: Timing, device: str) -> dict[str, object]:
    """The comparison at ESC-50's shape, at the engine's fastest, for programs."""
    fastest = next(iter(timing.engine))
    return {
        "ratio": timing.ratio(fastest),
        "ratio_float32": timing.ratio("float32"),
        "ratio_at_equal_processes": timing.ratio_on_each(fastest),
        "plain_seconds": timing.plain_seconds,
        "plain_seconds_at_equal_processes": timing.plain_on_each_seconds,
        "engine_seconds": timing.engine_seconds(fastest),
        "engine_seconds_float32": timing.engine_seconds("float32"),
        "engine_peak_bytes": max(timing.peak_bytes.values()),
        "shape": "ESC-50",
        "device": device,
    }


if __name__ == "__main__":
    sys.exit(main())
