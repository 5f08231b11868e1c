"""Recordings become embeddings (extra ``audio``): decoding, encoders, sources, cache."""

from __future__ import annotations

from qwave.audio.protocol import Encoder, encoder_identity

__all__ = ["Encoder", "encoder_identity"]
