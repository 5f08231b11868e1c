"""What the tests of this folder share: configurations that train in a moment, and points."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from qwave.config import (
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.exporting.facts import Provenance
from qwave.scores import FrontPoint

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


HERE = Provenance("0.1.0", "abc123", "A Processor", "Linux x86_64, Python 3.12.1", "2026-02-28")
CARDS = {
    "linear": config_of(LINEAR),
    "curious": config_of(CURIOUS),
    "two at once": config_of(dataclasses.replace(CURIOUS, top_k=2)),
    "held out": config_of(LINEAR, data=dataclasses.replace(DATA, n_folds=2, holdout_fold=1)),
}
SWEEP = """
name: small
data: {path: PATH, normalization: layer, n_folds: 3}
budget: {n_trials: 7, max_size_bytes: 100000, workers: 1}
sampler: {name: random, seed: 3}
fixed:
  train: {epochs: 3, batch_size: 16, distillation: 0.0, learning_rate: 0.02}
  model: {curiosity: {mc_samples: 3, alpha: 1.0}, top_k: 1}
search:
  model.num_experts: {int: [1, 3]}
  model.schemes: {mix: [int1, int4, int8]}
  model.hidden: {choice: {linear: [], small: [16]}}
"""


class Swept(NamedTuple):
    store: Path
    points: list[FrontPoint]
    front: list[FrontPoint]
    over_budget: int
    repeat: int
    cut_off: int

    @property
    def beside_front(self) -> FrontPoint:
        numbers = {point.number for point in self.front}
        return next(point for point in self.points if point.number not in numbers)

    @property
    def curious(self) -> FrontPoint:
        """A mixture whose uncertain clips are tilted toward experts with more bits."""
        tilted = [p for p in self.points if p.num_experts > 1 and " + " in p.label]
        return next(p for p in tilted if p.configuration["model.curiosity.alpha"] == 1.0)


def rows_of(card: str, heading: str) -> dict[str, list[str]]:
    """First cell to the other cells of a section's tables."""
    section = card.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [
        [cell.strip().replace("\\|", "|") for cell in line.strip("| ").split(" | ")]
        for line in lines
    ]
    return {row[0]: row[1:] for row in cells}


def section_of(card: str, heading: str) -> str:
    return card.split(f"\n## {heading}\n")[1].split("\n## ")[0]
