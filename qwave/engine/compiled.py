"""Training on one core of a CPU, in C: each clip through the experts that it is sent to.

Stacked products (`qwave.engine.stacked`) compute all experts for all clips, hold every gradient
in memory, and spend 5 to 100 microseconds on each of some 300 operations a step. Here a fold's
step is one loop over the layers of the experts that are used, and a weight's gradient never leaves
the registers (`native/updates.h`).

Losses and gradients are those of stacked steps to rounding, with the same dropout masks.

Notation: f folds, s steps, b batch rows, d features, c classes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qwave.compiler import compiled, require_sizes
from qwave.config import SCHEMES, Grid
from qwave.engine import structures
from qwave.engine.precision import FloatName
from qwave.engine.structures import Inputs, Layer, array_of, pointer
from qwave.engine.task import Examples, TrainingTask
from qwave.nn.dropout import DropMask
from qwave.nn.mixture import StackedLinear

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_SOURCE = Path(__file__).with_name("native") / "training.c"


def training_library() -> ctypes.CDLL | None:
    """The compiled part of the engine; None without a C compiler that works.

    Raises:
        RuntimeError: A C structure and its mirror in Python have different sizes.
    """
    library = compiled(_SOURCE)
    if library is not None:
        require_sizes(library, structures.MIRRORS, _SOURCE)
    return library


class CompiledTrainer:
    """Trains all folds of a mixture, one after another.

    Args:
        library: The library that `training_library` returned.
        task: Mixtures and data, on the CPU; dropout masks are drawn in C.
        precision: Type of AdamW's moments and of gradients in products
            (`qwave.engine.precision`).
    """

    def __init__(self, library: ctypes.CDLL, task: TrainingTask, *, precision: FloatName) -> None:
        self.library = library
        self.n_steps = 0
        self.n_classes = task.n_classes
        self.n_rows = task.dropout.experts[0].shape[0]
        self.weight_decay = task.weight_decay
        has_short_moments = precision == "bfloat16"
        self.folds = [
            _CompiledFold(fold, task, has_short_moments=has_short_moments)
            for fold in range(len(task.dropout.seeds))
        ]

    def train(self, examples: Examples, learning_rates: Sequence[float]) -> np.ndarray:
        """See `Trainer.train`."""
        n_folds, n_steps, n_rows = examples.row.shape
        assert (n_folds, n_rows) == (len(self.folds), self.n_rows), "C reads so many rows"
        assert examples.target.shape[3] == self.n_classes, "C reads as many classes"
        assert len(learning_rates) == n_steps, "a learning rate a step"
        given = [tensor.contiguous() for tensor in examples]
        rates = torch.tensor(learning_rates, dtype=torch.float32)
        options = structures.AdamW(*_BETAS, self.weight_decay, _EPSILON)
        losses = torch.empty(n_folds, n_steps)
        for fold, parameters in enumerate(self.folds):
            failed = self.library.qwave_train(
                ctypes.byref(parameters.structure),
                ctypes.c_int64(self.n_steps + 1),
                ctypes.c_int64(n_steps),
                ctypes.byref(structures.Examples(*(pointer(tensor[fold]) for tensor in given))),
                ctypes.c_void_p(pointer(rates)),
                ctypes.byref(options),
                ctypes.c_void_p(pointer(losses[fold])),
            )
            if failed:
                raise MemoryError(f"no memory for batches of {n_rows} rows")
        self.n_steps += n_steps
        return losses.numpy()

    def predict(self, index: Tensor) -> Tensor:
        """See `Trainer.predict`."""
        index = index.contiguous()
        logits = torch.empty(*index.shape, self.n_classes)
        for fold, parameters in enumerate(self.folds):
            failed = self.library.qwave_predict(
                ctypes.byref(parameters.structure),
                ctypes.c_int64(index.shape[1]),
                ctypes.c_void_p(pointer(index[fold])),
                ctypes.c_void_p(pointer(logits[fold])),
            )
            if failed:
                raise MemoryError(f"no memory for predictions of {index.shape[1]} rows")
        return logits


class _CompiledFold:
    """One fold's mixture and data as C sees them, and everything that this points to."""

    def __init__(self, fold: int, task: TrainingTask, *, has_short_moments: bool) -> None:
        mixture, rows, dropout = task.mixture, task.rows, task.dropout
        self.fold, self.is_quantized = fold, task.is_quantized
        self.has_short_moments = has_short_moments
        self.sources: dict[tuple[Grid | None, bool, DropMask], Inputs] = {}
        self.experts = [
            [
                self._layer(layer, member, mask, is_first=mask is dropout.experts[0])
                for layer, mask in zip(group.layers, dropout.experts, strict=True)
            ]
            for group in mixture.groups
            for member in range(group.layers[0].weight.shape[1])
        ]
        routers = () if mixture.router is None else mixture.router.layers
        self.router = [
            self._layer(layer, 0, mask, is_first=mask is dropout.router[0])
            for layer, mask in zip(routers, dropout.router, strict=True)
        ]
        offset = factor = None
        if rows.offset is not None and rows.factor is not None:
            offset, factor = rows.offset[fold], rows.factor[fold]
        self.data = rows.x, offset, factor
        self._layers = [array_of([layer.fill() for layer in chain]) for chain in self.experts]
        self._router = array_of([layer.fill() for layer in self.router]) if self.router else None
        self._networks = array_of([structures.fill_network(layers) for layers in self._layers])
        self._sources = array_of([inputs.fill_source() for inputs in self.sources.values()])
        self.structure = structures.Fold(
            rows.x.shape[1],
            task.n_classes,
            len(self.experts),
            mixture.top_k,
            dropout.experts[0].shape[0],
            structures.address(self._networks),
            structures.fill_network(self._router),
            len(self._sources),
            structures.address(self._sources),
            *map(pointer, self.data),
            task.load_balance_weight,
            dropout.seeds[fold],
        )

    def _layer(
        self, layer: StackedLinear, member: int, mask: DropMask, *, is_first: bool
    ) -> Layer:
        scheme = SCHEMES[layer.scheme if self.is_quantized else "fp32"]
        if is_first:
            # Experts of one grid share the encoded inputs of their first layers.
            key = (scheme.activations, structures.is_narrow(scheme), mask)
            if key not in self.sources:
                self.sources[key] = Inputs.empty(scheme, mask)
            inputs = self.sources[key]
        else:
            inputs = Inputs.empty(scheme, mask)
        weight, bias = layer.weight.data[self.fold, member], layer.bias.data[self.fold, member]
        return Layer.of(
            *(weight, bias, scheme, inputs),
            is_first=is_first,
            has_short_moments=self.has_short_moments,
        )
