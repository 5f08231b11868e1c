"""Dropout of all folds, whose masks are the same on every device and in compiled training.

Notation: f folds, s steps, m masks, b batch rows, e experts, i inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qwave.nn.fused import fused


class DropMask:
    """Which inputs of a layer are dropped, in every fold: inverted dropout.

    Kept values are divided by the share that is kept. Experts share the masks of a clip: it is
    sent to few of them, and the numbers drawn do not grow with their count.

    Sixteen bits decide about an element, so that rates are multiples of 2^-16. They are a hash of
    the fold's seed, the step, the mask and the element's position, and therefore the same on every
    device, in whatever order they are asked for (`native/codes.h` draws the same ones). Every
    generator that keeps a state is slower, and has another sequence on another device.

    Attributes:
        slot: Number of the mask among the masks of one step.
        drawn: Random bits of every element, int16 [f, b, i]; None where nothing is dropped.
        threshold: Elements whose bits are this value or above are kept.
        factor: Factor of the values that are kept.
    """

    def __init__(self, slot: int, shape: tuple[int, int], rate: float) -> None:
        self.slot, self.shape = slot, shape
        self.factor = 1 / (1 - rate)
        self.threshold = min(round(rate * 2**16), 2**16 - 1) - 2**15
        self.is_on = rate > 0
        self.drawn: Tensor | None = None

    def draw(self, keys: Tensor) -> None:
        """Draw the mask of a step from the keys of the folds, int32 [f, 2]."""
        if not self.is_on:
            return
        n_rows, width = self.shape
        pairs = (width + 1) // 2
        h = _hash(keys, n_rows * pairs)
        self.drawn = h.view(torch.int16).view(len(keys), n_rows, 2 * pairs)[:, :, :width]

    def __call__(self, x: Tensor) -> Tensor:
        """Drop inputs x [f, b, i] or [f, e, b, i]."""
        if not self.is_on:
            return x
        assert self.drawn is not None, "masks are drawn before a step"
        drawn = self.drawn if x.dim() == 3 else self.drawn.unsqueeze(1)
        return _drop(x, drawn, self.threshold, self.factor)


@fused
def _hash(keys: Tensor, n: int) -> Tensor:
    """32 random bits for each of n positions, int32 [f, n]."""
    low, high = keys[:, :1], keys[:, 1:]
    position = torch.arange(n, dtype=torch.int32, device=keys.device)
    h = position * _as_int32(0x9E3779B1) + low
    h = (h ^ _shifted(h, 16)) * _as_int32(0x7FEB352D)
    h = ((h ^ _shifted(h, 15)) + high) * _as_int32(0x846CA68B)
    return h ^ _shifted(h, 16)


@fused
def _drop(x: Tensor, drawn: Tensor, threshold: int, factor: float) -> Tensor:
    return x * (drawn >= threshold).to(x.dtype).mul_(factor)


def _as_int32(x: int) -> int:
    """The int32 with the same lowest 32 bits."""
    return (x + 2**31) % 2**32 - 2**31


def _shifted(x: Tensor, by: int) -> Tensor:
    """Unsigned right shift of int32."""
    return (x >> by) & (2 ** (32 - by) - 1)


def mask_keys(seeds: Sequence[int], steps: Sequence[int], n_masks: int) -> np.ndarray:
    """Keys that masks are drawn from: 64 bits for each step, mask and fold, uint64 [s, m, f]."""
    of_seed = _mix64(np.array(seeds, dtype=np.uint64))
    of_step = _mix64(of_seed + np.array(steps, dtype=np.uint64)[:, None])
    return _mix64(of_step[:, None, :] + np.arange(n_masks, dtype=np.uint64)[:, None])


def _mix64(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), modulo 2^64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Dropout:
    """All masks of one step of a mixture.

    Args:
        experts: Number and dropout rate of the inputs of each layer of an expert, in the order of
            the layers.
        router: Number and dropout rate of the inputs of each layer of the router; empty for a
            single expert.
        n_rows: Number of rows of a batch, with padding.
        seeds: Seed of each fold, on which its masks alone depend.
        device: Where the masks are used; default: the CPU.

    Attributes:
        experts: Masks of the inputs of each layer of an expert.
        router: Masks of the inputs of each layer of the router.
    """

    def __init__(
        self,
        experts: Sequence[tuple[int, float]],
        router: Sequence[tuple[int, float]],
        n_rows: int,
        seeds: Sequence[int],
        device: torch.device | None = None,
    ) -> None:
        self.seeds, self.device = seeds, device or torch.device("cpu")
        masks = tuple(
            DropMask(slot, (n_rows, width), rate)
            for slot, (width, rate) in enumerate((*experts, *router))
        )
        self.experts, self.router = masks[: len(experts)], masks[len(experts) :]

    def keys(self, steps: Sequence[int]) -> Tensor:
        """Keys of the masks of steps, counted from 1: int32 [s, m, f, 2], on the device."""
        keys = mask_keys(self.seeds, steps, len(self.experts) + len(self.router))
        return torch.from_numpy(keys.astype("<u8").view("<i4").reshape(*keys.shape, 2)).to(
            self.device
        )

    def draw(self, keys: Tensor) -> None:
        """Draw all masks of a step from their keys, int32 [m, f, 2]."""
        for mask, own in zip((*self.experts, *self.router), keys, strict=True):
            mask.draw(own)
