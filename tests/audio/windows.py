"""The windows of a whole waveform, cut at once: the plain twin of `qwave.audio.stream`."""

from __future__ import annotations

import itertools

import numpy as np


def slide_windows(
    waveform: np.ndarray, sample_rate: int, window_seconds: float, hop_seconds: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Starts in seconds [w] of the windows of a waveform [s], and the windows."""
    length, hop = round(window_seconds * sample_rate), hop_seconds * sample_rate
    starts = [0]
    for index in itertools.count(1):
        start, heard_to = round(index * hop), round((index - 1) * hop) + length
        if start >= len(waveform):
            break
        n_new = len(waveform) - max(start, heard_to)
        if start + length <= len(waveform) or n_new >= hop / 2:
            starts.append(start)
    windows = [waveform[start : start + length] for start in starts]
    return np.array(starts) / sample_rate, windows
