"""The encoder that a packed model was trained with, and no other.

To a model, embeddings of another encoder, or of other weights, are as good as noise, and nothing
in its predictions would show that.
"""

from __future__ import annotations

import warnings

from qwave.audio import Encoder, encoder_identity
from qwave.audio.encoders import ENCODERS, make_encoder
from qwave.config import AudioError, ConfigError
from qwave.runtime import PackedClassifier


def encoder_of(model: PackedClassifier, spec: str | None = None) -> Encoder:
    """Make the encoder that a model was trained with, and check it. No audio is read.

    Args:
        model: A model, whose header may name its encoder.
        spec: ``NAME``, or ``NAME:FOLDER`` with a folder of weights. None: the name in the model.
            If the model names no encoder, the given one is used with a warning.

    Raises:
        AudioError: The encoder cannot be made, or is not the model's.
        ConfigError: `spec` names another encoder than the model, or neither names one.
    """
    identity = model.packed.header.encoder
    name = identity.partition("@")[0]
    if spec is None:
        if not identity:
            raise ConfigError(
                "the model does not say which encoder made the embeddings that it was trained on; "
                f"name it: --encoder {' | '.join(ENCODERS)}"
            )
        spec = name
    elif identity and spec.partition(":")[0] != name:
        raise ConfigError(
            f"--encoder {spec}: the model was trained on embeddings of {name} ({identity}), and "
            "understands those only"
        )
    encoder = make_encoder(spec)
    require_encoder(model, encoder)
    return encoder


def require_encoder(model: PackedClassifier, encoder: Encoder) -> None:
    """Check that a model was trained on embeddings of this encoder; warn if that is not known.

    Raises:
        AudioError: The model names another encoder, or takes another number of features.
    """
    header = model.packed.header
    found = encoder_identity(encoder)
    if header.encoder and found != header.encoder:
        raise AudioError(
            f"the model was trained on embeddings of {header.encoder}, but the encoder here is "
            f"{found}: other weights, or a version of qwave that computes them in another way; "
            f"{_advice(header.encoder, encoder)}"
        )
    if encoder.num_features != header.in_features:
        raise AudioError(
            f"the model takes {header.in_features} features, but {found} gives "
            f"{encoder.num_features}: the model was trained with another encoder"
        )
    if not header.encoder:
        warnings.warn(
            "the model does not say which encoder it was trained with, so that nothing can tell "
            f"whether {found} is the one",
            UserWarning,
            stacklevel=2,
        )


def _advice(identity: str, encoder: Encoder) -> str:
    name = identity.partition("@")[0]
    if encoder.name != name:
        return f"use --encoder {name}"
    return (
        f"give the weights it was trained with (--encoder {name}:FOLDER, where the encoder takes "
        "a folder), or train it again on embeddings made here (`qwave embed`)"
    )
