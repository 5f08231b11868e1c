"""Sound to predictions: a waveform, a clip, or the windows of a long recording.

Shapes: n waveforms, s samples, c classes, e experts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from qwave.audio import Encoder
from qwave.audio.decode import fit_length, read_clip
from qwave.audio.encoders import embed_waveforms
from qwave.audio.stream import Window
from qwave.runtime import PackedClassifier

# Of a long recording: bounds what the encoder holds at once.
_BATCH_WINDOWS = 8


class SoundPrediction(NamedTuple):
    """What a model says of a piece of sound.

    Attributes:
        start_seconds, end_seconds: Its place in the recording; of a clip, 0 and its length.
        label: Name of the likeliest class; among equals the first.
        probability: Of that class.
        is_unsure: Whether the probability is below the model's threshold; never where none was
            fitted.
        mutual_information: Curiosity, in nats.
        probabilities: Of all classes, float32 [c].
        gates: Weight of each expert, float32 [e].
    """

    start_seconds: float
    end_seconds: float
    label: str
    probability: float
    is_unsure: bool
    mutual_information: float
    probabilities: np.ndarray
    gates: np.ndarray


def predict_clip(
    model: PackedClassifier,
    encoder: Encoder,
    file: Path | str | BinaryIO,
    *,
    name: str | None = None,
) -> SoundPrediction:
    """What a model says of a clip, looped or cut to the encoder's length as in training.

    Args:
        model: Trained on embeddings of this encoder: see `qwave.inference.encoder_of`.
        encoder: It.
        file: A recording, or the bytes of one.
        name: Of the recording, for errors.

    Raises:
        AudioError: The clip cannot be decoded.
    """
    waveform = read_clip(file, encoder.sample_rate, name=name)
    piece = Window(0.0, len(waveform) / encoder.sample_rate, waveform)
    (prediction,) = predict_windows(model, encoder, [piece])
    return prediction


def predict_windows(
    model: PackedClassifier,
    encoder: Encoder,
    windows: Iterable[Window],
    *,
    batch_size: int = _BATCH_WINDOWS,
) -> Iterator[SoundPrediction]:
    """What a model says of each window, looped or cut to the encoder's length.

    Args:
        model: Trained on embeddings of this encoder.
        encoder: It.
        windows: As `qwave.audio.stream.stream_windows` gives them, at the encoder's rate.
        batch_size: Windows taken before the first of them is answered: 1 for live sound. The
            answers are the same.

    Raises:
        AudioError: As the windows raise it.
    """
    names = model.class_names
    threshold = model.packed.header.sure_probability
    num_samples = round(encoder.clip_seconds * encoder.sample_rate)
    remaining = iter(windows)
    while batch := list(itertools.islice(remaining, batch_size)):
        waveforms = np.stack([fit_length(window.waveform, num_samples) for window in batch])
        said = model.examine(embed_waveforms(encoder, waveforms))
        for row, window in enumerate(batch):
            likeliest = int(said.probabilities[row].argmax())
            probability = float(said.probabilities[row, likeliest])
            yield SoundPrediction(
                start_seconds=window.start_seconds,
                end_seconds=window.end_seconds,
                label=names[likeliest],
                probability=probability,
                is_unsure=probability < threshold,
                mutual_information=float(said.mutual_information[row]),
                probabilities=said.probabilities[row],
                gates=said.gates[row],
            )


def top_classes(
    model: PackedClassifier, prediction: SoundPrediction, k: int
) -> list[tuple[str, float]]:
    """The k likeliest classes and their probabilities, the likeliest first; ties in class order.

    All classes where there are fewer than k.
    """
    order = np.argsort(-prediction.probabilities, kind="stable")[:k]
    return [(model.class_names[label], float(prediction.probabilities[label])) for label in order]


def route_of(model: PackedClassifier, prediction: SoundPrediction) -> list[tuple[int, str, float]]:
    """The experts that were used: number, scheme and gate, the largest gate first.

    Empty for a plain network, which has no route.
    """
    schemes = model.packed.header.model.schemes
    if len(schemes) == 1:
        return []
    order = np.argsort(-prediction.gates, kind="stable")
    return [
        (int(expert), schemes[expert], float(prediction.gates[expert]))
        for expert in order
        if prediction.gates[expert] > 0
    ]
