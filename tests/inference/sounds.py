"""Sounds of three classes, clips of them, and models on the encoder `logmel`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from qwave.audio import encoder_identity
from qwave.audio.decode import fit_length, read_clip
from qwave.audio.encoders import embed_waveforms, make_encoder
from qwave.config import CuriosityConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.packing import PackedModel

RATE = 16_000
CLASS_NAMES = ("hum", "whistle", "noise")


def make_sound(label: int, seconds: float, seed: int) -> np.ndarray:
    """A hum, a whistle or noise, each in a little noise of its own."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hiss = rng.normal(size=len(time))
    if label == 2:
        return (0.2 * hiss).astype(np.float32)
    pitch = (120.0, 2500.0)[label] * rng.uniform(0.9, 1.1)
    return (0.4 * np.sin(2 * np.pi * pitch * time) + 0.01 * hiss).astype(np.float32)


def make_clip(path: Path, label: int, *, seed: int, seconds: float = 2.0) -> None:
    """A recording of one sound."""
    soundfile.write(path, make_sound(label, seconds, seed), RATE)


def write_clip(path: Path, *labels: int, seconds: float = 5.0) -> Path:
    sound = [make_sound(label, seconds, 100 + place) for place, label in enumerate(labels)]
    soundfile.write(path, np.concatenate(sound), RATE)
    return path


def train(schemes: tuple[str, ...]) -> PackedModel:
    encoder = make_encoder("logmel")
    y = np.repeat(np.arange(3), 6)
    n_samples = round(encoder.clip_seconds * encoder.sample_rate)
    rows = []
    for seed, label in enumerate(y.tolist()):
        stream = io.BytesIO()
        soundfile.write(stream, make_sound(label, 5.0, seed), RATE, format="WAV")
        rows.append(fit_length(read_clip(stream, encoder.sample_rate), n_samples))
    x = embed_waveforms(encoder, np.stack(rows))
    names = tuple(f"clip {row}" for row in range(len(y)))
    identity = encoder_identity(encoder)
    data = EmbeddingSet(x, y, None, None, CLASS_NAMES, names, "0123456789abcdef", identity)
    curiosity = CuriosityConfig(mc_samples=10)
    model = ModelConfig(schemes, top_k=len(schemes), input_dropout=0.2, curiosity=curiosity)
    return fit_model(TrialConfig(model=model, train=TrainConfig(epochs=80)), data).packed
