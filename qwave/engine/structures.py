"""C structures of ``native``, filled with tensors.

Fields stand in the order of `native/*.h` and `native/training.c`. A pointer does not keep
alive what it points to: whoever holds a structure holds the tensors.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure
from dataclasses import dataclass

import torch
from torch import Tensor

from qwave.config import Grid, Scheme, unknown_rule
from qwave.nn.dropout import DropMask
from qwave.nn.quantizers import quantize

_FLOAT, _DOUBLE, _INT, _LONG = ctypes.c_float, ctypes.c_double, ctypes.c_int32, ctypes.c_int64
_POINTER, _SEED = ctypes.c_void_p, ctypes.c_uint64
_NARROW, _WIDE = 127, 32767  # highest codes of int8 and int16


def _structure(name: str, **fields: type) -> type[Structure]:
    return type(name, (Structure,), {"_fields_": list(fields.items())})


AdamW = _structure(
    "AdamW",
    beta1=_DOUBLE,
    beta2=_DOUBLE,
    weight_decay=_FLOAT,
    epsilon=_FLOAT,
    learning_rate=_FLOAT,
    correction1=_FLOAT,
    correction2=_FLOAT,
    noise=_INT,
)
_Grid = _structure(
    "_Grid",
    spacing=_INT,
    highest=_INT,
    is_absmax=_INT,
    denominator=_FLOAT,
    scale_factor=_FLOAT,
)
_Mask = _structure("_Mask", slot=_INT, threshold=_INT, factor=_FLOAT)
_Inputs = _structure("_Inputs", values=_POINTER, narrow=_POINTER, scale=_POINTER)
_Layer = _structure(
    "_Layer",
    n_inputs=_LONG,
    n_outputs=_LONG,
    weights=_Grid,
    activations=_Grid,
    weight=_POINTER,
    mean=_POINTER,
    square=_POINTER,
    words=_POINTER,
    bias=_POINTER,
    bias_mean=_POINTER,
    bias_square=_POINTER,
    codes=_POINTER,
    scale=_POINTER,
    code_sum=_POINTER,
    into=_Inputs,
    mask=_Mask,
    normal=_POINTER,
    slope=_POINTER,
    rstd=_POINTER,
)
_Network = _structure("_Network", n_layers=_LONG, layers=_POINTER)
_Source = _structure("_Source", mask=_Mask, activations=_Grid, to=_Inputs)
Fold = _structure(
    "Fold",
    n_features=_LONG,
    n_classes=_LONG,
    n_experts=_LONG,
    top_k=_LONG,
    n_rows=_LONG,
    experts=_POINTER,
    router=_Network,
    n_sources=_LONG,
    sources=_POINTER,
    x=_POINTER,
    offset=_POINTER,
    factor=_POINTER,
    balance_weight=_FLOAT,
    seed=_SEED,
)
Examples = _structure(
    "Examples",
    rows=_POINTER,
    partners=_POINTER,
    shares=_POINTER,
    targets=_POINTER,
    weights=_POINTER,
)
MIRRORS: dict[str, type[Structure]] = {
    "adamw": AdamW,
    "grid": _Grid,
    "mask": _Mask,
    "inputs": _Inputs,
    "layer": _Layer,
    "network": _Network,
    "source": _Source,
    "fold": Fold,
    "examples": Examples,
}
"""Each C structure by name, with its mirror; loading the library compares their sizes."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Encoded inputs of a layer, overwritten by every batch.

    Attributes:
        grid: Grid of the codes; None for floats.
        mask: Dropout mask of the inputs.
        values: Codes, or floats as they are, float32 [b, i].
        narrow: Codes + 128, uint8 [b, i]; None where products are of floats.
        scale: Value of one code of each row, float32 [b].
    """

    grid: Grid | None
    mask: DropMask
    values: Tensor
    narrow: Tensor | None
    scale: Tensor

    @classmethod
    def empty(cls, scheme: Scheme, mask: DropMask) -> Inputs:
        """Tensors for the inputs of a layer of this scheme."""
        narrow = torch.empty(mask.shape, dtype=torch.uint8) if is_narrow(scheme) else None
        return cls(
            scheme.activations, mask, torch.empty(mask.shape), narrow, torch.empty(mask.shape[0])
        )

    def fill(self) -> Structure:
        """The C structure."""
        return _Inputs(pointer(self.values), pointer(self.narrow), pointer(self.scale))

    def fill_source(self) -> Structure:
        """The C structure that says how they are computed from clips."""
        return _Source(_mask(self.mask), _grid(self.grid), self.fill())


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of one network of one fold.

    Attributes:
        weight: The weight, float32 [o, i], contiguous; updated in place.
        bias: The bias, float32 [o], contiguous; updated in place.
        scheme: Grids of weights and activations.
        inputs: Encoded inputs of the layer.
        codes: Codes of the current weight, int8 or int16 [o, i]; empty for floats.
        scale: Scale of each row of the weight, float32 [o], exact in float16; empty for floats.
        code_sum: Sum of each row of codes, int32 [o].
        moments: Moments of the weight, [o, i]: two tensors of float32, or one of int32 whose
            halves hold both as bfloat16.
        bias_mean: First moment of the bias, [o].
        bias_square: Second moment of the bias, [o].
        made: Standardised outputs of the layer before [b, i], derivatives of ReLU and mask [b, i]
            and reciprocal deviations [b], for the backward pass; empty for a first layer.
    """

    weight: Tensor
    bias: Tensor
    scheme: Scheme
    inputs: Inputs
    codes: Tensor
    scale: Tensor
    code_sum: Tensor
    moments: tuple[Tensor | None, Tensor | None, Tensor | None]
    bias_mean: Tensor
    bias_square: Tensor
    made: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(
        cls,
        weight: Tensor,
        bias: Tensor,
        scheme: Scheme,
        inputs: Inputs,
        *,
        is_first: bool,
        has_short_moments: bool,
    ) -> Layer:
        """A layer before its first step."""
        codes = scale = code_sum = torch.empty(0)
        if scheme.weights is not None:
            _grid(scheme.weights)  # refused by this backend's own name, before torch makes codes
            with torch.no_grad():
                exact, scale = quantize(weight, scheme.weights)
            codes = exact.to(torch.int8 if is_narrow(scheme) else torch.int16)
            code_sum = codes.sum(dim=1, dtype=torch.int32)
        shape = (0, 0) if is_first else inputs.values.shape
        return cls(
            *(weight, bias, scheme, inputs, codes, scale.flatten(), code_sum),
            moments=(None, None, torch.zeros_like(weight, dtype=torch.int32))
            if has_short_moments
            else (torch.zeros_like(weight), torch.zeros_like(weight), None),
            bias_mean=torch.zeros_like(bias),
            bias_square=torch.zeros_like(bias),
            made=(torch.empty(shape), torch.empty(shape), torch.empty(shape[0])),
        )

    def fill(self) -> Structure:
        """The C structure."""
        return _Layer(
            self.weight.shape[1],
            self.weight.shape[0],
            _grid(self.scheme.weights),
            _grid(self.scheme.activations),
            pointer(self.weight),
            *map(pointer, self.moments),
            *(pointer(self.bias), pointer(self.bias_mean), pointer(self.bias_square)),
            *(pointer(self.codes), pointer(self.scale), pointer(self.code_sum)),
            self.inputs.fill(),
            _mask(self.inputs.mask),
            *map(pointer, self.made),
        )


def is_narrow(scheme: Scheme) -> bool:
    """Whether both sides of a layer's product are codes that fit int8."""
    grids = scheme.weights, scheme.activations
    return all(grid is not None and grid.highest <= _NARROW for grid in grids)


def array_of(structures: list[Structure]) -> ctypes.Array[Structure]:
    """A C array of structures of one type, at least one."""
    return (type(structures[0]) * len(structures))(*structures)


def fill_network(layers: ctypes.Array[Structure] | None) -> Structure:
    """The C structure of a chain of layers; without layers, of no network."""
    return _Network(0, None) if layers is None else _Network(len(layers), address(layers))


def address(array: ctypes.Array[Structure]) -> int:
    """Address of an array."""
    return ctypes.addressof(array)


def pointer(tensor: Tensor | None) -> int | None:
    """Address of the values of a contiguous tensor."""
    if tensor is None:
        return None
    assert tensor.is_contiguous(), "C code takes rows to lie one after another"
    return tensor.data_ptr()


def _grid(grid: Grid | None) -> Structure:
    if grid is None:
        return _Grid(1, 0, 0, 1.0, 1.0)
    known = {"spacing": (1, 2), "scale": ("absmax", "absmean"), "highest": range(1, _WIDE + 1)}
    for rule, values in known.items():
        if getattr(grid, rule) not in values:
            raise unknown_rule("the compiled engine", f"Grid.{rule}", getattr(grid, rule))
    is_absmax = int(grid.scale == "absmax")
    return _Grid(grid.spacing, grid.highest, is_absmax, grid.denominator, grid.scale_factor)


def _mask(mask: DropMask) -> Structure:
    return _Mask(mask.slot if mask.is_on else -1, mask.threshold, mask.factor)
