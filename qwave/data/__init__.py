"""Embeddings with labels, folds and recordings; how they are read, split and normalised."""

from qwave.data.arrays import embeddings_from_arrays
from qwave.data.embeddings import EmbeddingSet, arrays_of, require_embeddings, take_rows
from qwave.data.files import load_embeddings
from qwave.data.fold_choice import FoldChoice, choose_folds
from qwave.data.folds import (
    Fold,
    folds_and_notes,
    holdout_split,
    leave_out,
    make_folds,
    resolve_config,
    resolve_folds,
)
from qwave.data.leaks import find_leaks
from qwave.data.names import ClipName, parse_clip_name
from qwave.data.normalization import Normalizer, fit_normalizer, normalize_clips
from qwave.data.tables import embeddings_from_frame

__all__ = [
    "ClipName",
    "EmbeddingSet",
    "Fold",
    "FoldChoice",
    "Normalizer",
    "arrays_of",
    "choose_folds",
    "embeddings_from_arrays",
    "embeddings_from_frame",
    "find_leaks",
    "fit_normalizer",
    "folds_and_notes",
    "holdout_split",
    "leave_out",
    "load_embeddings",
    "make_folds",
    "normalize_clips",
    "parse_clip_name",
    "require_embeddings",
    "resolve_config",
    "resolve_folds",
    "take_rows",
]
