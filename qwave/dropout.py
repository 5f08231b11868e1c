"""Dropout of all folds, whose masks are the same on every device and in compiled training.

Notation: f folds, b batch rows, e experts, i inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qwave.config import ModelConfig


class DropMask:
    """Which inputs of a layer are dropped, in every fold: inverted dropout.

    Kept values are divided by the share that is kept. Experts share the masks of a clip: it is
    sent to few of them, and the numbers drawn do not grow with their count.

    Sixteen bits decide about an element, so that rates are multiples of 2^-16. They are a hash of
    the fold's seed, the step, the mask and the element's place, and therefore the same on every
    device, in whatever order they are asked for (`native/codes.h` draws the same ones). Every
    generator that keeps a state is slower, and has another sequence on another device.

    Attributes:
        slot: Tells the masks of one step from each other.
        drawn: int16 [f, b, i]; None where nothing is dropped.
        threshold: Values from here on are kept.
        factor: What kept values are multiplied with.
    """

    def __init__(self, slot: int, shape: tuple[int, int], rate: float) -> None:
        self.slot, self.shape = slot, shape
        self.factor = 1 / (1 - rate)
        self.threshold = min(round(rate * 2**16), 2**16 - 1) - 2**15
        self.is_on = rate > 0
        self.drawn: Tensor | None = None

    def draw(self, seeds: Sequence[int], step: int, device: torch.device) -> None:
        """The masks of a step, counted from 1."""
        if not self.is_on:
            return
        n_rows, width = self.shape
        keys = [mask_key(seed, step, self.slot) for seed in seeds]
        low, high = (
            torch.tensor([_as_int32(key >> shift) for key in keys], device=device).view(-1, 1)
            for shift in (0, 32)
        )
        pairs = (width + 1) // 2
        place = torch.arange(n_rows * pairs, dtype=torch.int32, device=device)
        h = place * _as_int32(0x9E3779B1) + low.to(torch.int32)
        h = (h ^ _shifted(h, 16)) * _as_int32(0x7FEB352D)
        h = ((h ^ _shifted(h, 15)) + high.to(torch.int32)) * _as_int32(0x846CA68B)
        h = h ^ _shifted(h, 16)
        self.drawn = h.view(torch.int16).view(len(keys), n_rows, 2 * pairs)[:, :, :width]

    def __call__(self, x: Tensor) -> Tensor:
        """Drop inputs x [f, b, i] or [f, e, b, i]."""
        if not self.is_on:
            return x
        assert self.drawn is not None, "masks are drawn before a step"
        drawn = self.drawn if x.dim() == 3 else self.drawn.unsqueeze(1)
        return x * (drawn >= self.threshold).to(x.dtype).mul_(self.factor)


def mask_key(seed: int, step: int, slot: int) -> int:
    """64 bits that a mask hangs on."""
    return _mix64(_mix64(_mix64(seed) + step) + slot)


def _mix64(x: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x %= 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def _as_int32(x: int) -> int:
    """The int32 with the same lowest 32 bits."""
    return (x + 2**31) % 2**32 - 2**31


def _shifted(x: Tensor, by: int) -> Tensor:
    """Unsigned right shift of int32."""
    return (x >> by) & (2 ** (32 - by) - 1)


class Dropout:
    """All masks of a mixture's step.

    Attributes:
        seeds: One a fold: its masks are the same whether it trains alone or in a stack.
        experts: Of the inputs of each layer of an expert.
        router: Of the inputs of each layer of the router; empty for a single expert.
    """

    def __init__(
        self,
        config: ModelConfig,
        in_features: int,
        n_rows: int,
        seeds: Sequence[int],
        device: torch.device | None = None,
    ) -> None:
        self.seeds, self.device = seeds, device or torch.device("cpu")
        widths = (in_features, *config.hidden)
        rates = (config.input_dropout, *(config.dropout for _ in config.hidden))
        self.experts = tuple(
            DropMask(slot, (n_rows, width), rate)
            for slot, (width, rate) in enumerate(zip(widths, rates, strict=True))
        )
        self.router = tuple(
            DropMask(slot, (n_rows, width), config.router.dropout)
            for slot, width in enumerate(config.router_widths(in_features)[:-1], len(widths))
        )

    def draw(self, step: int) -> None:
        """The masks of a step, counted from 1."""
        for mask in (*self.experts, *self.router):
            mask.draw(self.seeds, step, self.device)
