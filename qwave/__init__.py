"""qwave: how accurate a classifier of recordings can be at every size, and that classifier.

Names are loaded when they are first used: `load_packed` does not import torch, and nothing at all
happens on import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwave.audio.embed import embed as embed
    from qwave.classifier import QuantizedMoEClassifier as QuantizedMoEClassifier
    from qwave.config import QwaveError as QwaveError
    from qwave.data import EmbeddingSet as EmbeddingSet
    from qwave.data import embeddings_from_arrays as embeddings_from_arrays
    from qwave.data import embeddings_from_frame as embeddings_from_frame
    from qwave.data import load_embeddings as load_embeddings
    from qwave.engine.crossval import TrialResult as TrialResult
    from qwave.engine.crossval import cross_validate as cross_validate
    from qwave.exporting.models import export as export
    from qwave.packing import packed_size_bytes as packed_size_bytes
    from qwave.runtime import load_packed as load_packed
    from qwave.runtime import save_packed as save_packed
    from qwave.space import load_sweep as load_sweep
    from qwave.space import parse_config as parse_config
    from qwave.sweep.confirm import confirm as confirm
    from qwave.sweep.search import search as search

__version__ = "0.1.0"

_HOMES = {
    "QuantizedMoEClassifier": "classifier",
    "QwaveError": "config",
    "TrialResult": "engine.crossval",
    "cross_validate": "engine.crossval",
    "EmbeddingSet": "data",
    "confirm": "sweep.confirm",
    "embed": "audio.embed",
    "export": "exporting.models",
    "search": "sweep.search",
    "embeddings_from_arrays": "data",
    "embeddings_from_frame": "data",
    "load_embeddings": "data",
    "packed_size_bytes": "packing",
    "load_packed": "runtime",
    "save_packed": "runtime",
    "load_sweep": "space",
    "parse_config": "space",
}

__all__ = [
    "EmbeddingSet",
    "QuantizedMoEClassifier",
    "QwaveError",
    "TrialResult",
    "confirm",
    "cross_validate",
    "embed",
    "embeddings_from_arrays",
    "embeddings_from_frame",
    "export",
    "load_embeddings",
    "load_packed",
    "load_sweep",
    "packed_size_bytes",
    "parse_config",
    "save_packed",
    "search",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'qwave' has no attribute {name!r}")
    return getattr(importlib.import_module(f"qwave.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
