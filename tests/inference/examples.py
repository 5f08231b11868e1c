"""A small encoder, tones of three classes, and models that were trained to tell them apart."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from qwave.audio import encoder_identity
from qwave.config import CuriosityConfig, DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.packing import PackedModel

RATE = 1000
CLASS_NAMES = ("low", "middle", "high")
TONES_HZ = (50.0, 150.0, 300.0)


@dataclass(frozen=True)
class Bands:
    """Encoder: the shares of a clip's energy in bands of equal width."""

    num_features: int = 8
    clip_seconds: float = 1.0
    weights_digest: str = ""

    @property
    def name(self) -> str:
        return "bands"

    @property
    def sample_rate(self) -> int:
        return RATE

    @property
    def parameters(self) -> Mapping[str, object]:
        return {"num_features": self.num_features}

    def encode(self, waveforms: np.ndarray) -> np.ndarray:
        assert waveforms.shape[1:] == (round(self.clip_seconds * RATE),)
        energy = np.abs(np.fft.rfft(waveforms, axis=1)[:, 1:]) ** 2
        bands = np.stack([b.sum(axis=1) for b in np.array_split(energy, self.num_features, 1)], 1)
        shares: np.ndarray = bands / np.maximum(bands.sum(axis=1, keepdims=True), 1e-9)
        return shares.astype(np.float32)


def tone(label: int, seconds: float, rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """A tone of a class in some noise, float32 [s]."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = TONES_HZ[label] * rng.uniform(0.9, 1.1)
    noise = 0.05 * rng.normal(size=len(time))
    return (0.5 * np.sin(2 * np.pi * pitch * time) + noise).astype(np.float32)


def write_tones(path: Path, labels: list[int], seconds: float = 1.0, rate: int = 4000) -> Path:
    """A recording of tones that follow each other."""
    rng = np.random.default_rng(len(labels))
    sound = np.concatenate([tone(label, seconds, rng, rate) for label in labels])
    soundfile.write(path, sound, rate)
    return path


@functools.cache
def train_model(
    schemes: tuple[str, ...] = ("int1", "int4"), top_k: int = 2, encoder: Bands | None = None
) -> PackedModel:
    """Of 20 tones a class; it knows the encoder, and has no threshold."""
    encoder = encoder or Bands()
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 20)
    x = encoder.encode(np.stack([tone(label, encoder.clip_seconds, rng) for label in y.tolist()]))
    identity = encoder_identity(encoder)
    names = tuple(f"clip {row}" for row in range(len(y)))
    data = EmbeddingSet(x, y, None, None, CLASS_NAMES, names, "0123456789abcdef", identity)
    config = TrialConfig(
        data=DataConfig(normalization="raw"),
        model=ModelConfig(
            schemes,
            top_k=min(top_k, len(schemes)),
            input_dropout=0.2,
            curiosity=CuriosityConfig(mc_samples=20),
        ),
        train=TrainConfig(epochs=150, learning_rate=0.03),
    )
    return fit_model(config, data).packed


def with_header(model: PackedModel, **changes: object) -> PackedModel:
    """The model with other values in its header."""
    header = dataclasses.replace(model.header, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(model, header=header)
