"""The type of the numbers of training that need not be exact: float32 or bfloat16."""

from __future__ import annotations

import ctypes
from typing import Literal, TypeAlias, get_args

import torch

from qwave.config import ConfigError
from qwave.nn.mixture import Mixture

FloatName: TypeAlias = Literal["bfloat16", "float32"]
Precision: TypeAlias = Literal["auto", "bfloat16", "float32"]
# Weights of a fold from which on a compiled step is a fifth shorter with bfloat16. With fewer,
# most of it is spent on inputs.
_PAYS_FROM = 50_000


def resolve_precision(
    precision: Precision, mixture: Mixture, library: ctypes.CDLL | None
) -> FloatName:
    """The precision that a mixture trains with: ``auto`` is decided here, others stay.

    In compiled training ``bfloat16`` is the type of the optimiser's moments (the second is rounded
    stochastically), and the factors of products in a backward pass are rounded to it. ``auto``
    takes it from fifty thousand weights on, on a processor that multiplies bfloat16. On a CUDA
    device gradients are rounded to it before they are multiplied with codes up to 8 bits, and
    ``auto`` takes it where the device multiplies it.

    Args:
        precision: The precision that the caller asked for.
        mixture: The mixture, on the device that trains it.
        library: The compiled library, if the backend is the compiled one.

    Raises:
        ConfigError: There is no such precision, or the backend does not have it.
    """
    if precision not in get_args(Precision):
        allowed = ", ".join(get_args(Precision))
        raise ConfigError(f"precision must be one of {allowed}, but got {precision!r}")
    is_on_cuda = next(mixture.parameters()).is_cuda
    if precision == "bfloat16" and library is None and not is_on_cuda:
        raise ConfigError(
            "precision bfloat16 is for compiled training and CUDA devices; use auto or float32"
        )
    if precision != "auto":
        return precision
    if library is not None:
        n_weights = sum(parameter[0].numel() for parameter in mixture.parameters())
        pays = n_weights >= _PAYS_FROM and library.qwave_has_bfloat16() == 1
    else:
        pays = is_on_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if pays else "float32"
