"""Points of a search as the studies' tests make them up."""

from __future__ import annotations

from collections.abc import Sequence

from qwave.scores import FrontPoint


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether (accuracy, size) a is no worse than b in both and better in one."""
    return a[0] >= b[0] and a[1] <= b[1] and a != b


def front_points(values: Sequence[tuple[float, int]], errors: Sequence[float]) -> list[FrontPoint]:
    """Points of these (accuracy, bytes) and standard errors, by trial number."""
    return [
        FrontPoint(
            number=number,
            accuracy=accuracy,
            standard_error=errors[number],
            size_bytes=size,
            is_front=not any(dominates(other, (accuracy, size)) for other in values),
            num_experts=1,
            label=f"model {number}",
            configuration={},
            digest=f"digest{number:02d}",
            mlflow_run_id=f"run{number}",
        )
        for number, (accuracy, size) in enumerate(values)
    ]
