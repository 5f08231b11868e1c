"""Recordings made by the tests: encoded bytes, and folders of short clips."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def noise() -> Callable[..., np.ndarray]:
    """Band-limited noise, float32 [frames, channels], well below full scale."""

    def make(frames: int = 4000, channels: int = 1, *, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        white = rng.normal(scale=0.1, size=(frames + 7, channels))
        smooth = np.apply_along_axis(np.convolve, 0, white, np.ones(8) / 8, mode="valid")
        return smooth.astype(np.float32)

    return make


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """The bytes of a recording: format and subtype as soundfile names them."""

    def make(
        waveform: np.ndarray,
        rate: int = 16_000,
        format: str = "WAV",
        subtype: str | None = None,
        **options: Any,
    ) -> bytes:
        stream = io.BytesIO()
        soundfile.write(stream, waveform, rate, subtype, format=format, **options)
        return stream.getvalue()

    return make


@pytest.fixture
def write_clips(tmp_path: Path, noise: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """A folder of recordings, 0.05 s each; every name gives other noise."""

    def write(names: Iterable[str], folder: str = "clips") -> Path:
        for seed, name in enumerate(names):
            file = tmp_path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, noise(400, seed=seed), 8000)
        return tmp_path / folder

    return write
