"""Recordings become embeddings (extra ``audio``): decoding, encoders, sources, cache."""

from __future__ import annotations

from qwave.audio.clips import AUDIO_SUFFIXES, Clip, ClipTable
from qwave.audio.dataset import open_data
from qwave.audio.decode import fit_length, read_blocks, read_clip
from qwave.audio.encoders import DEFAULT_ENCODER, ENCODERS, embed_waveforms, make_encoder
from qwave.audio.protocol import Encoder, encoder_identity
from qwave.audio.sources import is_source, list_clips, read_source

__all__ = [
    "AUDIO_SUFFIXES",
    "Clip",
    "ClipTable",
    "DEFAULT_ENCODER",
    "ENCODERS",
    "Encoder",
    "embed_waveforms",
    "encoder_identity",
    "fit_length",
    "is_source",
    "list_clips",
    "make_encoder",
    "open_data",
    "read_blocks",
    "read_clip",
    "read_source",
]
