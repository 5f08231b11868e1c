"""Log-mel spectrograms beside the same sums written out, and the encoder of their statistics."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch

from qwave.audio.logmel import LogMel, LogMelStatistics, log_mel, mel_filterbank
from qwave.config import QwaveError

SMALL = LogMel(
    sample_rate=8000, n_fft=256, win_length=128, hop_length=40, n_mels=20, f_min=50, f_max=4000
)


def levels_of(waveform: np.ndarray, settings: LogMel) -> np.ndarray:
    filterbank = torch.from_numpy(mel_filterbank(settings))
    return log_mel(torch.tensor(waveform), settings, filterbank).numpy()


def noise_of(seed: int, num_samples: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=num_samples) * rng.uniform(0.01, 1)).astype(np.float32)


def plain_filterbank(settings: LogMel) -> np.ndarray:
    """One band and one frequency after the other."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    step = (mel(settings.f_max) - mel(settings.f_min)) / (settings.n_mels + 1)
    edges = [
        700 * (10 ** ((mel(settings.f_min) + i * step) / 2595) - 1)
        for i in range(settings.n_mels + 2)
    ]
    filters = np.zeros((settings.n_mels, settings.n_fft // 2 + 1))
    for band in range(settings.n_mels):
        low, centre, high = edges[band : band + 3]
        for place in range(filters.shape[1]):
            hertz = place * settings.sample_rate / settings.n_fft
            if low < hertz <= centre:
                filters[band, place] = (hertz - low) / (centre - low)
            elif centre < hertz < high:
                filters[band, place] = (high - hertz) / (high - centre)
    return filters


def plain_log_mel(waveform: np.ndarray, settings: LogMel) -> np.ndarray:
    """Frame by frame, the Fourier sums written out, in float64."""
    half = settings.win_length // 2
    samples = [float(value) for value in waveform]
    padded = samples[half:0:-1] + samples + samples[-2 : -half - 2 : -1]
    positions = np.arange(settings.win_length)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * positions / settings.win_length)
    bins = np.arange(settings.n_fft // 2 + 1)[:, None]
    wave = np.exp(-2j * np.pi * bins * positions / settings.n_fft)
    columns = []
    for start in range(0, len(samples) + 1, settings.hop_length):
        spectrum = wave @ (np.array(padded[start : start + settings.win_length]) * window)
        power = plain_filterbank(settings) @ np.abs(spectrum) ** 2
        columns.append([10 * math.log10(max(value, 1e-10)) for value in power])
    level = np.array(columns).T
    return np.maximum(level - level.max() + settings.top_db, 0) / settings.top_db


@pytest.mark.parametrize("settings", [SMALL, LogMel()], ids=["small", "default"])
def test_the_filters_are_the_triangles_of_a_plain_loop(settings: LogMel) -> None:
    filters = mel_filterbank(settings)
    assert filters.dtype == np.float32
    assert filters.shape == (settings.n_mels, settings.n_fft // 2 + 1)
    np.testing.assert_allclose(filters, plain_filterbank(settings), atol=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_the_levels_are_those_of_plain_fourier_sums(seed: int) -> None:
    waveform = noise_of(seed, 400 + 7 * seed)
    levels = levels_of(waveform, SMALL)
    assert levels.shape == (20, 1 + len(waveform) // 40), seed
    np.testing.assert_allclose(
        levels, plain_log_mel(waveform, SMALL), atol=2e-5, err_msg=f"{seed=}"
    )


def test_the_levels_of_a_whole_clip_are_those_of_scipys_transform() -> None:
    settings, waveform = LogMel(), noise_of(1, 160_000)
    length = settings.win_length
    _, _, spectrum = scipy.signal.stft(
        np.pad(waveform.astype(np.float64), length // 2, mode="reflect"),
        window="hann",
        nperseg=length,
        noverlap=length - settings.hop_length,
        nfft=settings.n_fft,
        boundary=None,
        padded=False,
    )
    power = np.abs(spectrum * scipy.signal.get_window("hann", length).sum()) ** 2
    level = 10 * np.log10(np.maximum(plain_filterbank(settings) @ power, 1e-10))
    wanted = np.maximum(level - level.max() + 80, 0) / 80
    assert wanted.shape == (128, 501)
    np.testing.assert_allclose(levels_of(waveform, settings), wanted, atol=2e-5)


def test_silence_is_as_loud_as_its_loudest_part() -> None:
    assert (levels_of(np.zeros(2000, np.float32), SMALL) == 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_length": 0}, "hop_length must be positive, but got 0"),
        ({"top_db": -1.0}, "top_db must be positive, but got -1.0"),
        ({"win_length": 512}, "at most n_fft, but got win_length=512, n_fft=256"),
        ({"win_length": 127}, "win_length must be even"),
        ({"f_max": 4001.0}, "f_max <= sample_rate / 2 must hold, but got f_min=50, f_max=4001.0"),
        ({"f_min": 4000.0}, "0 <= f_min < f_max"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QwaveError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_bands_narrower_than_the_transform_resolves_are_refused() -> None:
    with pytest.raises(QwaveError, match=r"\d+ of 128 mel bands lie between .* larger n_fft"):
        mel_filterbank(dataclasses.replace(SMALL, n_mels=128))


@pytest.mark.parametrize("seed", range(3))
def test_the_statistics_are_those_of_numpy(seed: int) -> None:
    encoder = LogMelStatistics(SMALL, clip_seconds=0.25)
    waveforms = np.stack([noise_of(seed, 2000), noise_of(seed + 100, 2000)])
    embeddings = encoder.encode(waveforms)
    assert embeddings.shape == (2, encoder.num_features) == (2, 60)
    for waveform, embedding in zip(waveforms, embeddings, strict=True):
        levels = levels_of(waveform, SMALL).astype(np.float64)
        deltas = levels[:, 1:] - levels[:, :-1]
        wanted = [levels.mean(1), levels.std(1), deltas.std(1)]
        np.testing.assert_allclose(
            embedding, np.concatenate(wanted), atol=1e-6, err_msg=f"{seed=}"
        )
