"""Sound in, answers out: a packed model and its encoder on clips, long recordings, live sound."""

from __future__ import annotations

from qwave.inference.encoder import encoder_of, require_encoder
from qwave.inference.prediction import (
    SoundPrediction,
    predict_clip,
    predict_windows,
    route_of,
    top_classes,
)
from qwave.inference.timeline import Segment, audacity_labels, find_segments, window_parts

__all__ = [
    "Segment",
    "SoundPrediction",
    "audacity_labels",
    "encoder_of",
    "find_segments",
    "predict_clip",
    "predict_windows",
    "require_encoder",
    "route_of",
    "top_classes",
    "window_parts",
]
