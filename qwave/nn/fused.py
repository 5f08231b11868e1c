"""Chains of small operations, as one kernel where a GPU runs them."""

from __future__ import annotations

import functools
import importlib.util
import logging
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger(__name__)
# Kernels of one function: for dimensions that are 1 or not, schemes, and tensors that are there or
# not. Beyond its own limit of 8, PyTorch would run the rest operation by operation.
_MOST_KERNELS = 64


def fused(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function of tensors that `torch.compile` makes one kernel of, on CUDA devices.

    Without Triton, or without the C compiler that Triton needs, operations run one by one, the
    same to rounding. On a CPU they always do: training is compiled as a whole there
    (`qwave.engine.compiled`), and PyTorch's compiler takes seconds for each function.

    Args:
        function: The function; its first argument is a tensor, whose sizes may differ from call
            to call.
    """

    @functools.cache
    def compiled() -> Callable[_P, _R]:
        # Sizes as variables: configurations of all widths share a kernel.
        return torch.compile(function, dynamic=True)

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        first = args[0]
        assert isinstance(first, Tensor), "the device is that of the first argument"
        if first.is_cuda and can_fuse(first.device):
            with torch._dynamo.config.patch(recompile_limit=_MOST_KERNELS):
                return compiled()(*args, **kwargs)
        return function(*args, **kwargs)

    return call


@functools.cache
def can_fuse(device: torch.device) -> bool:
    """Whether a kernel can be made for a CUDA device; if not, the log says why, once."""
    if importlib.util.find_spec("triton") is None:
        _log.warning("no Triton: operations on the GPU run one by one, which takes longer")
        return False
    try:
        with warnings.catch_warnings():
            # PyTorch warns once a process; nothing that is fused is a product.
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
            torch.compile(lambda x: x + 1, dynamic=True)(torch.zeros(2, device=device))
    except torch._dynamo.exc.TorchDynamoException as error:
        lines = str(error).strip().splitlines()
        reason = next((line for line in lines if not line.endswith(":")), type(error).__name__)
        _log.warning("operations on the GPU run one by one, which takes longer: %s", reason)
        return False
    return True
