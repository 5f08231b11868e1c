"""Embeddings with labels, folds and recordings; how they are read, split and normalised."""

from qwave.data.embeddings import EmbeddingSet, load_embeddings
from qwave.data.folds import Fold, inner_split, make_folds
from qwave.data.names import ClipName, parse_clip_name
from qwave.data.normalization import Normalizer, fit_normalizer, normalize_clips

__all__ = [
    "ClipName",
    "EmbeddingSet",
    "Fold",
    "Normalizer",
    "fit_normalizer",
    "inner_split",
    "load_embeddings",
    "make_folds",
    "normalize_clips",
    "parse_clip_name",
]
