"""The point of a front: one finished trial with its objectives, and the staircase of a front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FrontPoint:
    """One complete trial: its two objectives and what is needed to find it again.

    Attributes:
        number: The Optuna trial number, from 0.
        accuracy: Cross-validated accuracy, 0..1.
        standard_error: Standard error of ``accuracy`` over the recordings of the data, in the same
            unit; clips of one recording are not independent of each other.
        size_bytes: Bytes of the saved model file, at least 1.
        is_front: Whether no other complete trial is better in both objectives.
        num_experts: Experts in the model; 1 is a plain network without a router.
        label: Short text for the picture, e.g. ``"int1+ternary, 64, top-1"``.
        configuration: Flat dotted keys of the trial's configuration and their values.
        digest: Digest of the configuration.
        mlflow_run_id: Id of the MLflow run that holds the record of the trial.

    Raises:
        ValueError: If a number is outside its range or not finite.
    """

    number: int
    accuracy: float
    standard_error: float
    size_bytes: int
    is_front: bool
    num_experts: int
    label: str
    configuration: Mapping[str, object] = field(repr=False)
    digest: str
    mlflow_run_id: str

    def __post_init__(self) -> None:
        # Written as `not (in range)` so that NaN, which fails every comparison, is refused too.
        if not 0.0 <= self.accuracy <= 1.0:
            raise ValueError(f"`accuracy` must lie in 0..1, but got {self.accuracy}")
        if not 0.0 <= self.standard_error < math.inf:
            raise ValueError(
                f"`standard_error` must be finite and >= 0, but got {self.standard_error}"
            )
        if self.size_bytes < 1:
            raise ValueError(f"`size_bytes` must be at least 1, but got {self.size_bytes}")
        if self.num_experts < 1:
            raise ValueError(f"`num_experts` must be at least 1, but got {self.num_experts}")

    @property
    def is_mixture(self) -> bool:
        """Whether the model has more than one expert."""
        return self.num_experts > 1


def front_members(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The points on the front, smallest file first; ties by accuracy, then by trial number."""
    members = [point for point in points if point.is_front]
    return sorted(members, key=lambda p: (p.size_bytes, p.accuracy, p.number))


def attainment_staircase(points: Sequence[FrontPoint]) -> tuple[list[int], list[float]]:
    """The best accuracy reachable at or below each size.

    Args:
        points: All points; only the members of the front are used.

    Returns:
        Sizes in bytes, strictly increasing, and the accuracy that holds from each size up to the
        next, strictly increasing too: a member that adds nothing (a duplicate, or one of equal
        accuracy and larger file) makes no step. Both are empty without a front.
    """
    sizes: list[int] = []
    accuracies: list[float] = []
    for point in front_members(points):
        if accuracies and point.accuracy <= accuracies[-1]:
            continue
        if sizes and point.size_bytes == sizes[-1]:
            accuracies[-1] = point.accuracy
            continue
        sizes.append(point.size_bytes)
        accuracies.append(point.accuracy)
    return sizes, accuracies
