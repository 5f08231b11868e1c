"""The protocol of encoders: waveforms of one rate and length become embeddings.

Shapes: n clips, s samples, d features.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Protocol

import numpy as np


class Encoder(Protocol):
    """A pretrained network, or plain statistics, behind one function.

    Attributes:
        name: Name of the encoder, as ``--encoder`` takes it.
        sample_rate: Rate of the waveforms that it takes, in hertz.
        clip_seconds: Length of the waveforms that it takes.
        num_features: Number of features of an embedding, d.
        parameters: Everything besides the weights that decides an embedding; JSON-able.
        weights_digest: 16 hexadecimal digits over the weights; empty where there are none.
    """

    @property
    def name(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def clip_seconds(self) -> float: ...
    @property
    def num_features(self) -> int: ...
    @property
    def parameters(self) -> Mapping[str, object]: ...
    @property
    def weights_digest(self) -> str: ...

    def encode(self, waveforms: np.ndarray) -> np.ndarray:
        """Embeddings of mono waveforms: float32 [n, s] to float32 [n, d].

        s is ``round(clip_seconds * sample_rate)``. A clip has the same embedding, bit for bit,
        alone and among others. `embed_waveforms` checks what goes in and what comes out.
        """
        ...


def encoder_identity(encoder: Encoder) -> str:
    """``name@digest``: equal where the same waveform gets the same embedding.

    Eight hexadecimal digits over name, parameters and weights.
    """
    text = json.dumps(
        [encoder.name, dict(encoder.parameters), encoder.weights_digest], sort_keys=True
    )
    return f"{encoder.name}@{sha256(text.encode()).hexdigest()[:8]}"


def digest_weights(tensors: Iterable[np.ndarray]) -> str:
    """16 hexadecimal digits over a network's tensors; their order and names do not matter.

    The values are digested and not a file: the same weights lie in files of several layouts, and
    libraries rename tensors from one version to the next.
    """
    digests = sorted(
        sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).digest()
        for array in tensors
    )
    return sha256(b"".join(digests)).hexdigest()[:16]
