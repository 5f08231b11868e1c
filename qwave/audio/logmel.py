"""Log-mel spectrograms, and an encoder of their statistics.

Shapes: n clips, s samples, f frames, m mel bands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from qwave.config import AudioError

_POWER_FLOOR = 1e-10


@dataclass(frozen=True)
class LogMel:
    """Settings of a log-mel spectrogram, under torchaudio's names.

    Attributes:
        sample_rate: Rate of the waveform, in hertz.
        n_fft: Length of the Fourier transform, in samples; the window is padded with zeros.
        win_length: Length of the Hann window, in samples; even.
        hop_length: Distance from one frame to the next, in samples.
        n_mels: Number of mel bands, m.
        f_min: Lower edge of the lowest band, in hertz.
        f_max: Upper edge of the highest band, in hertz.
        top_db: Range of levels that is kept, in decibels below a clip's loudest level; lower
            levels are raised to its end.
    """

    sample_rate: int = 32_000
    n_fft: int = 2048
    win_length: int = 1024
    hop_length: int = 320
    n_mels: int = 128
    f_min: float = 50.0
    f_max: float = 16_000.0
    top_db: float = 80.0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels", "top_db"):
            if getattr(self, name) <= 0:
                raise AudioError(f"{name} must be positive, but got {getattr(self, name)}")
        if self.win_length > self.n_fft or self.win_length % 2:
            raise AudioError(
                f"win_length must be even and at most n_fft, but got win_length="
                f"{self.win_length}, n_fft={self.n_fft}"
            )
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise AudioError(
                f"0 <= f_min < f_max <= sample_rate / 2 must hold, but got f_min={self.f_min}, "
                f"f_max={self.f_max}, sample_rate={self.sample_rate}"
            )


def mel_filterbank(settings: LogMel) -> np.ndarray:
    """Triangular filters, equally wide on the HTK mel scale: float32 [m, n_fft // 2 + 1].

    Each filter rises from the centre of the band below to 1 at the centre of its own band, and
    falls to the centre of the band above. Filters are not normalised by area.

    Raises:
        AudioError: A band lies between two frequencies of the transform.

    References:
        Young et al., The HTK Book (version 3.4), section 5.4, equation 5.13.
    """
    frequencies = np.linspace(0, settings.sample_rate / 2, settings.n_fft // 2 + 1)
    lowest, highest = (2595 * np.log10(1 + f / 700) for f in (settings.f_min, settings.f_max))
    mels = np.linspace(lowest, highest, settings.n_mels + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    widths = np.diff(edges)[:, None]
    distances = frequencies - edges[:, None]
    rising = distances[:-2] / widths[:-1]
    falling = -distances[2:] / widths[1:]
    filters = np.maximum(0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.max(axis=1) == 0)
    if len(empty):
        raise AudioError(
            f"{len(empty)} of {settings.n_mels} mel bands lie between two frequencies of a "
            f"transform of {settings.n_fft} samples: the lowest is band {empty[0]}, around "
            f"{edges[empty[0] + 1]:.0f} Hz; take a larger n_fft, or a smaller n_mels"
        )
    return filters.astype(np.float32)


def log_mel(waveform: torch.Tensor, settings: LogMel, filterbank: torch.Tensor) -> torch.Tensor:
    """Mel levels of a waveform, relative to its loudest: float32 [s] to float32 [m, f].

    The loudest cell is 1, a cell `top_db` or more below it is 0, and decibels are linear in
    between. Frame t is centred on sample ``t * hop_length``, f is ``1 + s // hop_length``; the
    waveform is reflected at its ends. Silence is 1 everywhere, as loud as its loudest part.

    Args:
        waveform: Samples [s], more than half a window.
        settings: Settings of the spectrogram.
        filterbank: `mel_filterbank` of the settings, [m, n_fft // 2 + 1].
    """
    length, hop = settings.win_length, settings.hop_length
    window = torch.hann_window(length)
    padded = torch.nn.functional.pad(waveform[None], (length // 2, length // 2), mode="reflect")
    # `torch.stft` pads each window to n_fft before it multiplies, and takes four times as long;
    # powers do not depend on where in the transform the window lies.
    spectrum = torch.fft.rfft(padded[0].unfold(0, length, hop) * window, n=settings.n_fft)
    power = spectrum.real.square() + spectrum.imag.square()
    level = 10 * torch.log10((power @ filterbank.T).clamp_min(_POWER_FLOOR))
    relative = (level - level.max()).clamp_min(-settings.top_db)
    return (relative / settings.top_db + 1).T


@dataclass(frozen=True)
class LogMelStatistics:
    """Encoder without a network: how loud each mel band is, how much that varies, and how fast.

    The features are the mean and the standard deviation of each band's levels over time, and the
    standard deviation of their changes from one frame to the next (deltas).

    Attributes:
        settings: Settings of the spectrogram.
        clip_seconds: Length of the waveforms that the encoder takes.
    """

    settings: LogMel = LogMel()
    clip_seconds: float = 5.0

    @property
    def name(self) -> str:
        return "logmel"

    @property
    def sample_rate(self) -> int:
        return self.settings.sample_rate

    @property
    def num_features(self) -> int:
        return 3 * self.settings.n_mels

    @property
    def parameters(self) -> Mapping[str, object]:
        return {
            "clip_seconds": self.clip_seconds,
            "log_mel": dataclasses.asdict(self.settings),
            "statistics": ["mean", "std", "delta_std"],
        }

    @property
    def weights_digest(self) -> str:
        return ""

    def encode(self, waveforms: np.ndarray) -> np.ndarray:
        """Statistics of waveforms: float32 [n, s] to float32 [n, 3 m], all between 0 and 1."""
        # A copy: where numpy's memory begins, and with it the last bits of products, varies.
        filterbank = torch.tensor(mel_filterbank(self.settings))
        embeddings = np.empty((len(waveforms), self.num_features), np.float32)
        for waveform, embedding in zip(waveforms, embeddings, strict=True):
            levels = log_mel(torch.tensor(waveform), self.settings, filterbank)
            deltas = levels.diff(dim=1)
            spreads = (levels.std(1, correction=0), deltas.std(1, correction=0))
            embedding[:] = torch.cat((levels.mean(1), *spreads))
        return embeddings
