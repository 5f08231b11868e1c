"""Channels become one waveform: their mean, or one of them where the mean cancels the sound.

One channel of a stereo recording is the other's opposite where a cable is soldered the wrong way
round, and in some exports of "wide" sound. Their mean is silence, which no listener hears there.

Shapes: s frames, c channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

# Frames between two decisions: the same grid for files and for sound that is still arriving.
_GRID = 4096
# The mean counts as cancelled where its level is below a tenth of the channels'. That of channels
# that have nothing in common is 1 / sqrt(c) of it, so that the limit falls with c.
_CANCELLED_POWER = 0.1**2
_AS_LOUD = 0.9  # of the loudest channel's power: rounding alone chooses no channel
# Below this share of the energy what varies is rounding: an offset, and no sound.
_LEAST_SHARE = 1e-9


def mix_down(blocks: Iterable[np.ndarray], name: str) -> Iterator[np.ndarray]:
    """A recording of any number of channels as mono: float32 [s, c] in blocks to float32 [s].

    The mean of the channels is taken, except while it has cancelled their sound up to the current
    frame: then the loudest channel (the first of equally loud ones) is taken, with a warning. The
    choice depends on the frames up to the current one alone, not on how they are cut into blocks,
    nor on what follows. A constant offset is no sound.

    Args:
        blocks: Finite samples, all blocks with the same number of channels. One channel passes
            unchanged; with several, up to 4095 frames are held back.
        name: Name of the recording in the warning.
    """
    energy: _Energy | None = None
    rest = np.zeros((0, 0), dtype=np.float32)
    for block in blocks:
        if block.shape[1] == 1:
            yield block[:, 0]
            continue
        if energy is None:
            energy, rest = _Energy(block.shape[1], name), block[:0]
        held = np.concatenate((rest, block))
        end = len(held) - len(held) % _GRID
        rest = held[end:]
        yield _mixed([energy.mix(held[at : at + _GRID]) for at in range(0, end, _GRID)])
    if energy is not None:
        yield _mixed([energy.mix(rest)] if len(rest) else [])


def _mixed(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)


class _Energy:
    """Energy so far of each channel and, in the last column, of their mean."""

    def __init__(self, num_channels: int, name: str) -> None:
        self._name, self._num_channels = name, num_channels
        self._n_frames = 0
        self._sums = np.zeros(num_channels + 1)
        self._squares = np.zeros(num_channels + 1)
        self._channel: int | None = None  # taken instead of the mean; once chosen, it is kept

    def mix(self, frames: np.ndarray) -> np.ndarray:
        """The next frames [s, c], at least one, as mono [s]."""
        mean: np.ndarray = frames.mean(axis=1)
        heard = np.column_stack((frames, mean)).astype(np.float64)
        self._n_frames += len(heard)
        self._sums += heard.sum(axis=0)
        self._squares += (heard * heard).sum(axis=0)
        power = self._squares - self._sums**2 / self._n_frames
        channels = power[:-1]
        is_sound = channels.sum() > _LEAST_SHARE * self._squares[:-1].sum()
        limit = _CANCELLED_POWER * 2 / self._num_channels * channels.mean()
        if not is_sound or power[-1] >= limit:
            return mean
        if self._channel is None:
            self._channel = int((channels >= _AS_LOUD * channels.max()).argmax())
            warnings.warn(
                f"{self._name}: its {self._num_channels} channels cancel each other out (one is "
                f"the opposite of another); channel {self._channel + 1} alone is heard",
                UserWarning,
                stacklevel=2,
            )
        return np.ascontiguousarray(frames[:, self._channel])
