"""From nothing to the first prediction: seconds and memory of a process that does only that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from qwave.data import EmbeddingSet
from qwave.runtime import save_packed
from studies.latency.contenders import Layer, packed_model

_FIRST_START = "qwave int4, compiled, first start on a machine"
# VmHWM is the peak of this process alone; `ru_maxrss` includes the process that started it.
_REPORT = """
import json
seconds = time.perf_counter() - start
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak_bytes": 1024 * peak, "sum": float(found.sum())}))
"""
_QWAVE = """
import sys, time
start = time.perf_counter()
import qwave
import numpy as np
found = qwave.load_packed(sys.argv[1], kernel=sys.argv[3]).predict_proba(np.load(sys.argv[2]))
"""
_TORCH = """
import sys, time
start = time.perf_counter()
import numpy as np
import torch
from torch.nn import functional
layers = torch.load(sys.argv[1], weights_only=True)
with torch.inference_mode():
    x = torch.from_numpy(np.load(sys.argv[2])).sqrt()
    x = functional.layer_norm(x, x.shape[1:])
    for index, (weight, bias) in enumerate(layers):
        if index > 0:
            x = torch.relu(functional.layer_norm(x, x.shape[1:]))
        x = functional.linear(x, weight, bias)
    found = torch.softmax(x, dim=-1).numpy()
"""


class ColdStart(NamedTuple):
    """Cost of a process that makes one prediction.

    Attributes:
        name: The runtime and the kernel that the process ran.
        seconds: Seconds from its first import to the prediction.
        process_seconds: Seconds of the whole process, with the start of Python.
        peak_bytes: Highest resident memory.
    """

    name: str
    seconds: float
    process_seconds: float
    peak_bytes: int


def cold_starts(layers: Sequence[Layer], data: EmbeddingSet, n_rounds: int) -> list[ColdStart]:
    """Medians over rounds in which all take turns; the system has cached the files by then.

    The first start of `compiled` on a machine compiles C; it is measured with an empty cache.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, weights, clip = (Path(folder) / name for name in ("m.qwave", "m.pt", "x.npy"))
        save_packed(packed_model(layers, "int4", data), model)
        torch.save([tuple(map(torch.from_numpy, layer)) for layer in layers], weights)
        np.save(clip, data.x[:1])
        commands: dict[str, tuple[str, list[object]]] = {
            f"qwave int4, {kernel}": (_QWAVE, [model, clip, kernel])
            for kernel in ("compiled", "numpy")
        }
        commands[_FIRST_START] = commands["qwave int4, compiled"]
        commands["torch fp32"] = (_TORCH, [weights, clip])
        found: dict[str, list[ColdStart]] = {name: [] for name in commands}
        for _ in range(n_rounds):
            for name, (code, arguments) in commands.items():
                with tempfile.TemporaryDirectory() as cache:
                    variables = {"XDG_CACHE_HOME": cache} if name == _FIRST_START else {}
                    found[name].append(_run(name, code, arguments, variables))
    return [
        ColdStart(name, *np.median([run[1:] for run in runs], axis=0).tolist())
        for name, runs in found.items()
    ]


def _run(
    name: str, code: str, arguments: Sequence[object], variables: Mapping[str, str]
) -> ColdStart:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + _REPORT, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()}")
    values = json.loads(done.stdout)
    return ColdStart(name, values["seconds"], seconds, values["peak_bytes"])
