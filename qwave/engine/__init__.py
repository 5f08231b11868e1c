"""Training of all folds of one configuration together. Needs torch, numpy, scikit-learn only."""

from qwave.engine.clock import PhaseClock
from qwave.engine.device import fold_generator, fold_seed, resolve_device
from qwave.engine.lessons import Lessons
from qwave.engine.pack import pack_fold
from qwave.engine.precision import Precision
from qwave.engine.teacher import lessons_key, teach
from qwave.engine.train import Checkpoint, TrainedFolds, train_folds

__all__ = [
    "Checkpoint",
    "Lessons",
    "PhaseClock",
    "Precision",
    "TrainedFolds",
    "fold_generator",
    "fold_seed",
    "lessons_key",
    "pack_fold",
    "resolve_device",
    "teach",
    "train_folds",
]
