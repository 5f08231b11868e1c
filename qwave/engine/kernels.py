"""The optimiser's step fused with quantization: compiled where there is a C compiler.

PyTorch's own operations take 3 ms for the step of 4.8 million weights and 3 ms more for their
codes; one pass over each row takes 4 ms for both, at the speed of memory. `torch.compile` makes
such a pass as well, but anew for every shape and in every process, 10 s and more each time: a
study meets a new shape in every other trial. This file compiles once a machine, in half a second.

Without a compiler `step_and_codes` does the same with PyTorch's operations, in two passes.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from qwave.config import Grid
from qwave.quant import quantize

_log = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("kernels.c")
# Sums may be taken in any order; NaN stays NaN.
_FLAGS = (
    *("-O3", "-march=native", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-signed-zeros", "-fassociative-math"),
)
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class _AdamW(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_float)
        for name in (
            *("learning_rate", "weight_decay", "beta1", "beta2", "epsilon"),
            *("correction1", "correction2"),
        )
    ]


class _Grid(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("spacing", "highest", "is_absmax", "is_int8")),
        *((name, ctypes.c_float) for name in ("denominator", "scale_factor")),
    ]


@dataclass(eq=False)
class WeightState:
    """One weight matrix, its moments, and the codes of its next forward pass.

    Attributes:
        weight: float32 [o, i], contiguous; updated in place.
        grid: Levels; None for float weights, which have no codes.
        codes: int8 or float32 [o, i]; empty without a grid.
        scale: float32 [o], exact in float16; empty without a grid.
        mean: First moment, [o, i].
        square: Second moment, [o, i].
    """

    weight: Tensor
    grid: Grid | None
    codes: Tensor
    scale: Tensor
    mean: Tensor
    square: Tensor


def weight_state(weight: Tensor, grid: Grid | None, code_dtype: torch.dtype) -> WeightState:
    """The state of a weight matrix before its first step, with codes."""
    shape = weight.shape if grid is not None else (0, 0)
    state = WeightState(
        weight,
        grid,
        torch.empty(shape, dtype=code_dtype),
        torch.empty(shape[:1]),
        torch.zeros_like(weight),
        torch.zeros_like(weight),
    )
    write_codes(state)
    return state


def write_codes(state: WeightState) -> None:
    """Codes and scale of the weight as it is, by `qwave.quant`."""
    if state.grid is not None:
        with torch.no_grad():
            codes, scale = quantize(state.weight, state.grid)
        state.codes.copy_(codes)
        state.scale.copy_(scale.squeeze(-1))


def step_and_codes(
    state: WeightState, gradient: Tensor, step: int, learning_rate: float, weight_decay: float
) -> None:
    """One AdamW step (arXiv 1711.05101), and the codes of the new weight.

    Args:
        state: Updated in place.
        gradient: float32 or bfloat16 [o, i].
        step: Counted from 1.
        learning_rate: Of this step.
        weight_decay: Decoupled.
    """
    library = compiled()
    if library is None:
        _plain_step(state, gradient, step, learning_rate, weight_decay)
        write_codes(state)
        return
    options = _AdamW(
        learning_rate,
        weight_decay,
        *_BETAS,
        _EPSILON,
        *(1.0 - beta**step for beta in _BETAS),
    )
    rows, width = state.weight.shape
    library.qwave_adamw(
        rows,
        width,
        state.weight.data_ptr(),
        gradient.contiguous().data_ptr(),
        int(gradient.dtype == torch.bfloat16),
        state.mean.data_ptr(),
        state.square.data_ptr(),
        ctypes.byref(options),
        ctypes.byref(_grid(state)),
        state.codes.data_ptr(),
        state.scale.data_ptr(),
    )


def _grid(state: WeightState) -> _Grid:
    grid, is_int8 = state.grid, int(state.codes.dtype == torch.int8)
    if grid is None:
        return _Grid(1, 0, 0, is_int8, 1.0, 1.0)
    is_absmax = int(grid.scale == "absmax")
    return _Grid(
        grid.spacing, grid.highest, is_absmax, is_int8, grid.denominator, grid.scale_factor
    )


def _plain_step(
    state: WeightState, gradient: Tensor, step: int, learning_rate: float, weight_decay: float
) -> None:
    with torch.no_grad():
        adamw(
            [state.weight],
            [gradient.to(torch.float32)],
            [state.mean],
            [state.square],
            [],
            [torch.tensor(float(step - 1))],
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=learning_rate,
            weight_decay=weight_decay,
            eps=_EPSILON,
            maximize=False,
        )


@functools.cache
def compiled() -> ctypes.CDLL | None:
    """The compiled kernels; None where there is no C compiler, or one that fails (a warning).

    The library lies in the user's cache folder, under a name that follows from its source and
    this processor: it is built for the processor that it runs on.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    key = hashlib.sha256()
    for part in (_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), _processor(), compiler.encode()):
        key.update(part)
    folder = _cache_folder()
    library = folder / f"kernels-{key.hexdigest()[:16]}.so"
    if not library.exists():
        # Two processes may compile at once: each writes its own file, and renames it whole.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                _log.warning(
                    "%s could not compile %s; training goes on without it, slower: %s",
                    compiler,
                    _SOURCE.name,
                    done.stderr.strip() or f"exit code {done.returncode}",
                )
                return None
            made.replace(library)
    loaded = ctypes.CDLL(str(library))
    pointer, size, whole = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    loaded.qwave_adamw.argtypes = [
        *(size, size, pointer, pointer, whole, pointer, pointer),
        *(pointer, pointer, pointer, pointer),
    ]
    loaded.qwave_adamw.restype = None
    return loaded


def _cache_folder() -> Path:
    """The user's cache folder; one for this process alone where that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwave"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        _log.info("%s cannot be made (%s): compiled anew in this process", folder, error)
        return Path(tempfile.mkdtemp(prefix="qwave-"))
    return folder


def _processor() -> bytes:
    """What tells this kind of processor from others."""
    described = Path("/proc/cpuinfo")
    if not described.exists():
        return " ".join(os.uname()).encode()
    lines = described.read_bytes().splitlines()
    return b"\n".join(sorted({line for line in lines if line.startswith((b"flags", b"model"))}))
