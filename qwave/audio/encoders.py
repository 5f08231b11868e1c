"""Encoders by name. A new one is a function here and a line in the table below them.

Shapes: n clips, s samples, d features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from qwave.audio.protocol import Encoder
from qwave.config import AudioError, nearest

# The most accurate per millisecond, and per byte of a model, in `studies.encoders`.
DEFAULT_ENCODER = "efficientnet-lite0-320"

# Torch is imported where an encoder is made: listing their names takes no time.


def _efficientnet_lite0_320(folder: str | None) -> Encoder:
    from qwave.audio.lite import small_lite0_encoder

    return small_lite0_encoder(DEFAULT_ENCODER)


def _efficientnet_lite0(folder: str | None) -> Encoder:
    from qwave.audio.lite import efficientnet_lite_encoder

    return efficientnet_lite_encoder("efficientnet-lite0")


def _logmel(folder: str | None) -> Encoder:
    from qwave.audio.logmel import LogMelStatistics

    return LogMelStatistics()


def _efficientnet_b3(folder: str | None) -> Encoder:
    from qwave.audio.hub import EFFICIENTNET_B3, hub_encoder

    return hub_encoder(EFFICIENTNET_B3, folder)


def _clip_vit_b32(folder: str | None) -> Encoder:
    from qwave.audio.hub import CLIP_VIT_B32, hub_encoder

    return hub_encoder(CLIP_VIT_B32, folder)


class _Entry(NamedTuple):
    """How an encoder is made.

    Attributes:
        make: Makes the encoder; its argument is a folder of weights, or None.
        takes_folder: Whether a folder of weights may replace those of the Hugging Face hub.
    """

    make: Callable[[str | None], Encoder]
    takes_folder: bool


_ENTRIES = {
    DEFAULT_ENCODER: _Entry(_efficientnet_lite0_320, takes_folder=False),
    "efficientnet-lite0": _Entry(_efficientnet_lite0, takes_folder=False),
    "logmel": _Entry(_logmel, takes_folder=False),
    "efficientnet-b3": _Entry(_efficientnet_b3, takes_folder=True),
    "clip-vit-b32": _Entry(_clip_vit_b32, takes_folder=True),
}
ENCODERS = tuple(_ENTRIES)


def make_encoder(spec: str) -> Encoder:
    """An encoder with its weights, ready to encode.

    Args:
        spec: A name in `ENCODERS`, or ``NAME:FOLDER`` for an encoder of the Hugging Face hub
            whose weights are in a folder, as ``save_pretrained`` writes them.

    Raises:
        AudioError: The name is unknown, the encoder takes no folder, or its weights or the
            library that reads them cannot be had.
    """
    name, has_folder, folder = spec.partition(":")
    if name not in _ENTRIES:
        raise AudioError(
            f"no encoder {name!r}{nearest(name, ENCODERS)}; there are {', '.join(ENCODERS)}"
        )
    entry = _ENTRIES[name]
    if has_folder and not entry.takes_folder:
        takers = ", ".join(known for known, other in _ENTRIES.items() if other.takes_folder)
        raise AudioError(f"encoder {name!r} takes no folder, but got {spec!r}; these do: {takers}")
    if has_folder and not folder:
        raise AudioError(f"encoder {spec!r}: no folder after the colon")
    return entry.make(folder or None)


def embed_waveforms(encoder: Encoder, waveforms: np.ndarray) -> np.ndarray:
    """Embeddings of waveforms as they are stored: float [n, s] to float32 [n, d].

    Values are rounded to float16, so that an embedding from a file and a live one are the same
    numbers. No waveforms give no rows.

    Raises:
        AudioError: Waveforms of another shape than [n, s] or of another length than the
            encoder's, samples that are not finite, or features that float16 cannot hold.
    """
    with np.errstate(over="ignore"):
        waveforms = np.asarray(waveforms, dtype=np.float32)
    num_samples = round(encoder.clip_seconds * encoder.sample_rate)
    if waveforms.ndim != 2 or waveforms.shape[1] != num_samples:
        raise AudioError(
            f"{encoder.name} takes waveforms of shape [clips, {num_samples}] "
            f"({encoder.clip_seconds} s at {encoder.sample_rate} Hz), but got "
            f"{list(waveforms.shape)}"
        )
    _check_finite(waveforms, "waveform", "sample")
    with np.errstate(over="ignore"):
        embeddings = encoder.encode(waveforms).astype(np.float16).astype(np.float32)
    _check_finite(embeddings, f"the embedding by {encoder.name} of waveform", "feature")
    return embeddings


def _check_finite(rows: np.ndarray, what: str, column: str) -> None:
    is_finite = np.isfinite(rows)
    if not is_finite.all():
        row, number = np.argwhere(~is_finite)[0]
        raise AudioError(f"{what} {row}: {column} {number} is not a finite number")
