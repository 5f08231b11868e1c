"""Channels to one: their mean, or the louder one where they cancel."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from qwave.audio import read_clip
from qwave.audio.mono import mix_down
from qwave.audio.stream import wav_blocks

Noise = Callable[..., np.ndarray]
Encode = Callable[..., bytes]

CANCEL = "^clip: its 2 channels cancel each other out .*; channel 1 alone is heard$"


def _mixed(frames: np.ndarray, block: int = 100_000) -> np.ndarray:
    """Frames [s, c] as mono [s], given in blocks."""
    blocks = (frames[at : at + block] for at in range(0, len(frames), block))
    return np.concatenate(list(mix_down(blocks, "clip")))


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


@pytest.mark.parametrize("channels", [1, 2, 64])
@pytest.mark.parametrize("frames", [1, 4095, 4096, 30_000])
def test_ordinary_channels_are_their_mean_bit_for_bit(
    noise: Noise, channels: int, frames: int
) -> None:
    x = noise(frames, channels)
    np.testing.assert_array_equal(_mixed(x), x.mean(axis=1))


@pytest.mark.parametrize("gain", [-0.92, -1.0, -1.04])
def test_of_channels_that_cancel_one_is_heard(noise: Noise, gain: float) -> None:
    x = noise(20_000)
    opposite = np.hstack([x, np.float32(gain) * x])
    with pytest.warns(UserWarning, match=CANCEL):
        heard = _mixed(opposite)
    np.testing.assert_array_equal(heard, x[:, 0])


def test_the_louder_one_is_heard(noise: Noise) -> None:
    x = noise(20_000)
    with pytest.warns(UserWarning, match="; channel 2 alone is heard$"):
        heard = _mixed(np.hstack([x, -1.15 * x]).astype(np.float32))
    np.testing.assert_array_equal(heard, np.float32(-1.15 * x[:, 0]))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_heard_does_not_depend_on_the_blocks(noise: Noise, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = noise(30_000, seed=seed), noise(30_000, 2, seed=seed + 1)
    start = int(rng.integers(0, 15_000))  # from here on the channels are like any others
    frames = np.where(np.arange(30_000)[:, None] < start, np.hstack([x, -x]), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = _mixed(frames)
        for block in (1 + int(rng.integers(0, 9_000)), 257):
            np.testing.assert_array_equal(_mixed(frames, block), whole, err_msg=f"seed {seed}")
    # Once the mean is no longer cancelled it is heard again.
    np.testing.assert_array_equal(whole[-4096:], frames[-4096:].mean(axis=1), f"seed {seed}")


def test_silence_and_offsets_are_no_sound_that_could_cancel() -> None:
    for left, right in itertools.product((0.0, 0.25), (0.0, -0.25)):
        frames = np.tile(np.array([left, right], np.float32), (10_000, 1))
        np.testing.assert_array_equal(_mixed(frames), frames.mean(axis=1))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_file_and_a_stream_of_it_are_the_same(noise: Noise, encode: Encode, rate: int) -> None:
    x = noise(3 * 4096 + 17)
    data = encode(np.hstack([x, -x]), rate)
    with pytest.warns(UserWarning, match="its 2 channels cancel"):
        heard = read_clip(io.BytesIO(data), 16_000)
    with pytest.warns(UserWarning, match="its 2 channels cancel"):
        streamed = np.concatenate(list(wav_blocks(io.BytesIO(data), 16_000)))
    np.testing.assert_array_equal(heard, streamed)
    assert _rms(heard) == pytest.approx(_rms(x), rel=0.1)
