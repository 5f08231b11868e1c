"""What the tests of this folder share: configurations that train in a moment, and points."""

from __future__ import annotations

from qwave.config import (
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.figures import FrontPoint

DATA = DataConfig(normalization="standard", n_folds=3)
TRAIN = TrainConfig(epochs=3, batch_size=16, learning_rate=0.02, distillation=0.0)


def config_of(model: ModelConfig, *, data: DataConfig = DATA) -> TrialConfig:
    """A short training of a model."""
    return TrialConfig(data=data, model=model, train=TRAIN)


LINEAR = ModelConfig(("int4",), (), input_dropout=0.2)
CURIOUS = ModelConfig(
    ("int1", "int4", "int8"),
    (6,),
    top_k=1,
    router=RouterConfig(0, "int8", 0.4),
    curiosity=CuriosityConfig(alpha=3.0, mc_samples=6),
)


def point(number: int, accuracy: float, size_bytes: int) -> FrontPoint:
    """A member of a front that nobody trained."""
    return FrontPoint(
        number, accuracy, 0.01, size_bytes, True, 1, f"model {number}", {}, f"{number:016x}", "run"
    )
