"""Long and live recordings, in pieces: windows of sound without the whole of it in memory.

What `qwave.audio.decode.read_blocks` gives of a file, `wav_blocks` and `raw_blocks` give of sound
that is still arriving; `stream_windows` cuts any of them into windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from qwave.audio.mono import mix_down
from qwave.audio.wav import SAMPLE_RATES, Pcm, read_samples, read_wav_header
from qwave.config import AudioError


class Window(NamedTuple):
    """A piece of a recording.

    Attributes:
        start_seconds, end_seconds: Its place. The last window may end early.
        waveform: Mono float32 [s], as long as its place.
    """

    start_seconds: float
    end_seconds: float
    waveform: np.ndarray


def stream_windows(
    blocks: Iterable[np.ndarray], sample_rate: int, window_seconds: float, hop_seconds: float
) -> Iterator[Window]:
    """Windows that start at 0, one hop, two hops and so on, each as soon as it is complete.

    The end of the waveform cuts the last window, and drops it where it adds less than half a hop
    of new sound, unless it is the only one.

    Args:
        blocks: A waveform in blocks, mono float32 [s]; some may be empty. Of one without samples
            there are no windows.
        sample_rate: In hertz.
        window_seconds: Length of a window, at least a sample.
        hop_seconds: From start to start, at least a sample. A hop longer than a window leaves
            gaps, of which nothing is kept.

    Raises:
        AudioError: A length is below a sample or not finite; or what the blocks raise.
    """
    for key, seconds in (("window_seconds", window_seconds), ("hop_seconds", hop_seconds)):
        if not (math.isfinite(seconds * sample_rate) and round(seconds * sample_rate) >= 1):
            raise AudioError(
                f"{key} must be at least one sample (1/{sample_rate} s), but got {seconds}"
            )
    length, hop = round(window_seconds * sample_rate), hop_seconds * sample_rate
    held = np.zeros(0, dtype=np.float32)
    first = 0  # place of its first sample in the recording
    start = index = 0  # of the next window

    def cut(end: int) -> Window:
        waveform = held[start - first : end - first].copy()
        return Window(start / sample_rate, end / sample_rate, waveform)

    for block in blocks:
        held = np.concatenate((held, block))
        while start + length <= first + len(held):
            yield cut(start + length)
            index += 1
            start = round(index * hop)
        passed = min(max(start - first, 0), len(held))
        held, first = held[passed:], first + passed
    end = first + len(held)
    heard_to = round((index - 1) * hop) + length if index else 0
    n_new = end - max(start, heard_to)
    if n_new > 0 and (index == 0 or n_new >= hop / 2):
        yield cut(end)


def wav_blocks(stream: BinaryIO, sample_rate: int, *, name: str = "stdin") -> Iterator[np.ndarray]:
    """The waveform of a WAV stream as it arrives: mono float32 [s] at a rate in hertz.

    Raises:
        AudioError: This is no WAV stream, or one that cannot be read: see `qwave.audio.wav`.
    """
    pcm, n_bytes = read_wav_header(stream, name)
    samples = read_samples(stream, pcm, n_bytes, name)
    yield from _resampled(samples, pcm.sample_rate, sample_rate, name)


def raw_blocks(
    stream: BinaryIO, raw_rate: int, sample_rate: int, *, name: str = "stdin"
) -> Iterator[np.ndarray]:
    """The waveform of bare 16-bit little-endian mono samples, as they arrive: float32 [s].

    Args:
        stream: Samples from its first byte to its end.
        raw_rate: Their rate in hertz, which nothing in the stream tells.
        sample_rate: The rate that is asked for.
        name: What errors call the stream.

    Raises:
        AudioError: `raw_rate` is no rate of sound.
    """
    least, most = SAMPLE_RATES
    if not least <= raw_rate <= most:
        raise AudioError(f"{name}: {raw_rate} samples a second (allowed: {least} to {most})")
    samples = read_samples(stream, Pcm(raw_rate, 1, 16), None, name)
    yield from _resampled(samples, raw_rate, sample_rate, name)


def _resampled(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int, name: str
) -> Iterator[np.ndarray]:
    """Blocks [frames, channels] as mono at another rate; the resampler keeps its state."""
    try:
        import soxr
    except ImportError as error:
        raise AudioError(f"resampling needs soxr ({error}): pip install 'qwave[audio]'") from error
    resampler = soxr.ResampleStream(from_rate, to_rate, 1)
    for mono in mix_down(blocks, name):
        yield resampler.resample_chunk(mono)
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
