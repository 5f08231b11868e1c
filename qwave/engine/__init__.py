"""Training of all folds of one configuration together. Needs torch, numpy, scikit-learn only."""

from qwave.engine.batches import SoftTargets
from qwave.engine.device import fold_generator, fold_seed, resolve_device
from qwave.engine.pack import pack_fold
from qwave.engine.precision import Precision
from qwave.engine.teacher import teacher_key, train_teacher
from qwave.engine.train import Checkpoint, TrainedFolds, train_folds

__all__ = [
    "Checkpoint",
    "Precision",
    "SoftTargets",
    "TrainedFolds",
    "fold_generator",
    "fold_seed",
    "pack_fold",
    "resolve_device",
    "teacher_key",
    "train_folds",
    "train_teacher",
]
