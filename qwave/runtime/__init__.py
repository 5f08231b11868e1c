"""Packed model to predictions, without torch."""

from qwave.runtime.classifier import (
    PackedClassifier,
    Prediction,
    expert_cost,
    load_packed,
    normalized_curiosity,
    save_packed,
)
from qwave.runtime.inputs import as_float32
from qwave.runtime.kernels import Kernel

__all__ = [
    "Kernel",
    "PackedClassifier",
    "Prediction",
    "as_float32",
    "expert_cost",
    "load_packed",
    "normalized_curiosity",
    "save_packed",
]
