"""The plain loop and the engine side by side; see `studies.speed`."""

from __future__ import annotations

import argparse
import json
import sys

from qwave.engine import resolve_device
from studies.speed.timing import SHAPES, Timing, measure

ROUNDS = 3


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns 0."""
    resolve_device(arguments.device)
    stream = sys.stderr if arguments.json else sys.stdout
    print(
        f"{'shape':13} {'plain':>9} {'threads':>7} {'on each':>9}   {'engine':9} {'seconds':>8} "
        f"{'ratio':>7} {'on each':>8} {'memory':>9}",
        file=stream,
    )
    timings = {}
    for shape in SHAPES[1:2] if arguments.quick else SHAPES:
        timing = timings[shape.name] = measure(shape, arguments.device, ROUNDS)
        print(text_of(shape.name, timing), file=stream, flush=True)
    if arguments.json:
        print(json.dumps(summary(timings["ESC-50"], arguments.device)))
    return 0


def text_of(name: str, timing: Timing) -> str:
    """Seconds of a trial of 100 epochs, one line for each precision of the engine."""
    plain = (
        f"{name:13} {timing.plain_seconds:7.1f} s {timing.best_threads:7} "
        f"{timing.plain_on_each_seconds:7.1f} s"
    )
    lines = [
        f"   {precision:9} {timing.engine_seconds(precision):6.1f} s "
        f"{timing.ratio(precision):6.1f}x {timing.ratio_on_each(precision):7.1f}x "
        f"{timing.peak_bytes[precision] / 2**20:5.0f} MiB"
        for precision in timing.engine
    ]
    return plain + f"\n{' ' * len(plain)}".join(lines)


def summary(timing: Timing, device: str) -> dict[str, object]:
    """The comparison at ESC-50's shape, with the engine at its fastest, for `--json`."""
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
