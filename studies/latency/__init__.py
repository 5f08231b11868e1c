"""How fast does a packed model predict? All schemes beside PyTorch and onnxruntime.

python -m studies.latency [--hidden 640-320] [--quick] [--json]

One network on the bundled ESC-10 embeddings, trained for a few epochs in float32 and quantized
afterwards, so that all have the same weights; one thread; raw embeddings in, probabilities out.
All ways take turns, for a fraction of a second at a time. Shown are the median and the 95th
percentile of all calls, and how many times as fast as PyTorch in float32 the median is. Then: a
process that opens a file and makes one prediction, in seconds and memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TextIO

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from qwave.config import SCHEMES
from qwave.data import EmbeddingSet, load_embeddings
from qwave.export import require_onnx
from qwave.packing import to_bytes
from qwave.runtime.compiled import forward_library
from qwave.text import for_terminal
from studies import contenders
from studies.cold_start import ColdStart, cold_starts
from studies.contenders import Layer, Predict

BATCHES = (1, 8, 64)
BASELINE = "torch fp32"
EPOCHS = 5


class Effort(NamedTuple):
    """How long is measured: rounds, and seconds of one way at one batch size in each."""

    rounds: int
    seconds: float


THOROUGH, QUICK = Effort(9, 0.25), Effort(3, 0.05)


class Latency(NamedTuple):
    """Microseconds a call: median and 95th percentile."""

    median: float
    p95: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.latency", description=__doc__)
    parser.add_argument("--hidden", default="640-320", help="widths, or linear; default 640-320")
    parser.add_argument("--quick", action="store_true", help="fewer calls: half a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    arguments = parser.parse_args(argv)
    try:
        hidden = parse_hidden(arguments.hidden)
        require_onnx("studies.latency")
    except ValueError as error:  # a QwaveError is one
        print(f"error: {for_terminal(error, keeps_lines=True)}", file=sys.stderr)
        return 2
    stream = sys.stderr if arguments.json else sys.stdout
    torch.set_num_threads(1)
    with threadpool_limits(1):
        data = load_embeddings("esc10")
        layers = contenders.float_layers(data, hidden, EPOCHS)
        ways, sizes = all_ways(layers, data)
        effort = QUICK if arguments.quick else THOROUGH
        found = measure(ways, data.x, effort)
    shape = f"{data.x.shape[1]} features, {arguments.hidden}, {data.num_classes} classes"
    print(shape, file=stream)
    show_latencies(found, sizes, stream)
    starts = cold_starts(layers, data, n_rounds=effort.rounds)
    show_starts(starts, stream)
    if arguments.json:
        print(json.dumps(summary(found, starts)))
    return 0


def parse_hidden(text: str) -> tuple[int, ...]:
    """``640-320`` or ``linear`` to widths.

    Raises:
        ValueError: The text is neither.
    """
    if text == "linear":
        return ()
    widths = text.split("-")
    if not all(width.isdecimal() and int(width) > 0 for width in widths):
        raise ValueError(f"--hidden must be widths such as 640-320, or linear, not {text!r}")
    return tuple(map(int, widths))


def all_ways(
    layers: Sequence[Layer], data: EmbeddingSet
) -> tuple[dict[str, Predict], dict[str, int]]:
    """Every way by name, and the bytes of the files of this package's."""
    ways = {
        BASELINE: contenders.torch_float(layers),
        "torch dynamic int8": contenders.torch_int8(layers),
        "onnxruntime fp32": contenders.onnx_float(layers),
        "onnxruntime dynamic int8": contenders.onnx_int8(layers),
        "onnxruntime MatMulNBits 4 bits": contenders.onnx_4_bits(layers),
    }
    models = {scheme: contenders.packed_model(layers, scheme, data) for scheme in SCHEMES}
    kernels = {"compiled": forward_library() is not None, "numpy": True}
    sizes = {}
    for kernel in (name for name, is_there in kernels.items() if is_there):
        for scheme, packed in models.items():
            name = f"qwave {scheme}, {kernel}"
            ways[name] = contenders.qwave_runtime(packed, kernel)  # type: ignore[arg-type]
            sizes[name] = len(to_bytes(packed))
    for scheme, packed in models.items():
        ways[f"qwave {scheme}, model.onnx"] = contenders.exported(packed)
    return ways, sizes


def measure(
    ways: Mapping[str, Predict], x: np.ndarray, effort: Effort
) -> dict[str, dict[int, Latency]]:
    """Latency of every way at every batch size, over all calls of all rounds."""
    calls: dict[str, dict[int, list[float]]] = {n: {b: [] for b in BATCHES} for n in ways}
    for _ in range(effort.rounds):
        for batch in BATCHES:
            clips = np.ascontiguousarray(x[:: len(x) // batch][:batch])
            for name, predict in ways.items():
                predict(clips)  # what the others left in the caches
                end = time.perf_counter() + effort.seconds
                while (start := time.perf_counter()) < end:
                    predict(clips)
                    calls[name][batch].append(time.perf_counter() - start)
    return {
        name: {batch: _latency(values) for batch, values in by_batch.items()}
        for name, by_batch in calls.items()
    }


def _latency(seconds: Sequence[float]) -> Latency:
    return Latency(*(1e6 * np.quantile(seconds, (0.5, 0.95))).tolist())


def ratio(found: Mapping[str, Mapping[int, Latency]], name: str, batch: int) -> float:
    """How many times as fast as the baseline."""
    return found[BASELINE][batch].median / found[name][batch].median


def show_latencies(
    found: Mapping[str, Mapping[int, Latency]], sizes: Mapping[str, int], stream: TextIO
) -> None:
    """One line a way."""
    heads = "".join(f"{f'batch {batch}: median':>18} {'p95':>7} {'ratio':>7}" for batch in BATCHES)
    print(f"\nmicroseconds a call {'':12} {'bytes':>9}{heads}", file=stream)
    for name, by_batch in found.items():
        size = f"{sizes[name]:,}" if name in sizes else ""
        cells = "".join(
            f"{value.median:18.1f} {value.p95:7.1f} {ratio(found, name, batch):6.1f}x"
            for batch, value in by_batch.items()
        )
        print(f"{name:32} {size:>9}{cells}", file=stream)


def show_starts(starts: Sequence[ColdStart], stream: TextIO) -> None:
    """One line a process."""
    heads = f"{'to the prediction':>18} {'process':>9} {'memory':>9}"
    print(f"\nfrom a file to the first prediction, a process each {'':6} {heads}", file=stream)
    for start in starts:
        print(
            f"{start.name:58} {start.seconds:16.2f} s {start.process_seconds:7.2f} s "
            f"{start.peak_bytes / 2**20:5.0f} MiB",
            file=stream,
        )


def summary(
    found: Mapping[str, Mapping[int, Latency]], starts: Sequence[ColdStart]
) -> dict[str, object]:
    """Everything, for programs."""
    return {
        "microseconds": {
            name: {str(batch): value._asdict() for batch, value in by_batch.items()}
            for name, by_batch in found.items()
        },
        "ratio": {
            name: {str(batch): ratio(found, name, batch) for batch in by_batch}
            for name, by_batch in found.items()
        },
        "cold_start": [start._asdict() for start in starts],
    }


if __name__ == "__main__":
    sys.exit(main())
