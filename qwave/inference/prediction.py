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

_BATCH_WINDOWS = 8  # windows of a long recording that the encoder holds at once


class SoundPrediction(NamedTuple):
    """The prediction of a model for a piece of sound.

    Attributes:
        start_seconds: Start of the piece in the recording; 0 for a whole clip.
        end_seconds: End of the piece in the recording; the length of a whole clip.
        label: Name of the likeliest class; the first one among equals.
        probability: Probability of the likeliest class.
        is_unsure: Whether the probability is below the model's threshold; false where no
            threshold was fitted.
        mutual_information: Curiosity of the router, in nats.
        probabilities: Probability of each class, float32 [c].
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
    """The prediction for a whole clip, looped or cut to the encoder's length as in training.

    Args:
        model: A model that was trained on embeddings of this encoder.
        encoder: The encoder; `qwave.inference.encoder_of` makes the one that a model names.
        file: Path of a recording, or a stream of its bytes.
        name: Name of the recording in errors.

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
    """The predictions for windows of sound, each looped or cut to the encoder's length.

    Args:
        model: A model that was trained on embeddings of this encoder.
        encoder: The encoder; `qwave.inference.encoder_of` makes the one that a model names.
        windows: Windows from `qwave.audio.stream.stream_windows`, at the encoder's rate.
        batch_size: Number of windows that are embedded together; 1 for live sound, whose windows
            are predicted as they arrive. It does not change the predictions.

    Raises:
        AudioError: The windows cannot be decoded.
    """
    names = model.class_names
    threshold = model.packed.header.sure_probability
    num_samples = round(encoder.clip_seconds * encoder.sample_rate)
    remaining = iter(windows)
    while batch := list(itertools.islice(remaining, batch_size)):
        waveforms = np.stack([fit_length(window.waveform, num_samples) for window in batch])
        found = model.examine(embed_waveforms(encoder, waveforms))
        for row, window in enumerate(batch):
            likeliest = int(found.probabilities[row].argmax())
            probability = float(found.probabilities[row, likeliest])
            yield SoundPrediction(
                start_seconds=window.start_seconds,
                end_seconds=window.end_seconds,
                label=names[likeliest],
                probability=probability,
                is_unsure=probability < threshold,
                mutual_information=float(found.mutual_information[row]),
                probabilities=found.probabilities[row],
                gates=found.gates[row],
            )


def top_classes(
    model: PackedClassifier, prediction: SoundPrediction, k: int
) -> list[tuple[str, float]]:
    """The k likeliest classes with their probabilities, the likeliest first; ties in class order.

    Models with fewer than k classes give all of them.
    """
    order = np.argsort(-prediction.probabilities, kind="stable")[:k]
    return [(model.class_names[label], float(prediction.probabilities[label])) for label in order]


def route_of(model: PackedClassifier, prediction: SoundPrediction) -> list[tuple[int, str, float]]:
    """The experts that were used, each as number, scheme and gate; the largest gate first.

    A plain network has no route: the list is then empty.
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
