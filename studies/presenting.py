"""How studies score models trained with fresh seeds, and print their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qwave.data import EmbeddingSet
from qwave.report import Section
from qwave.scores import FrontPoint, Interval, bootstrap_means
from qwave.scores.pareto import non_dominated
from qwave.sweep import Repeat
from qwave.text import for_terminal

LEVEL = 0.05
RESAMPLE_SEED = 0
# Longer tables would push the answer out of the window.
MAX_ROWS = 30


class FreshScore(NamedTuple):
    """Accuracy of one point of a search, trained again with seeds that the search did not use.

    Attributes:
        hits: Share of the seeds that classified each clip rightly, [n].
        accuracy: Mean over clips and seeds, with its 95 % interval over recordings.
        seed_deviation: Standard deviation of the seeds' accuracies; None with one seed.
        is_front: Whether no other of the scored points dominates this one.
    """

    hits: np.ndarray
    accuracy: Interval
    seed_deviation: float | None
    is_front: bool


def fresh_scores(
    points: Sequence[FrontPoint], repeats: Mapping[str, Sequence[Repeat]], data: EmbeddingSet
) -> list[FreshScore]:
    """Score points by their repeats with fresh seeds; `repeats` are by digest."""
    rights = [
        np.array([repeat.predictions.predicted == data.y for repeat in repeats[point.digest]])
        for point in points
    ]
    hits = np.array([right.mean(axis=0) for right in rights])
    intervals = bootstrap_means(hits, data.group, seed=RESAMPLE_SEED)
    is_front = non_dominated(
        [interval.estimate for interval in intervals], [point.size_bytes for point in points]
    )
    return [
        FreshScore(
            hits[index],
            intervals[index],
            float(right.mean(axis=1).std(ddof=1)) if len(right) > 1 else None,
            bool(is_front[index]),
        )
        for index, right in enumerate(rights)
    ]


def show_study(sections: Sequence[Section], files: Iterable[Path]) -> None:
    """Print the text and tables of a study, and the paths of its files.

    Tables of more than `MAX_ROWS` rows are not printed; their file is named.
    """
    for section in sections:
        text = "\n".join(map(for_terminal, section.text.split("\n")))
        print(f"\n{for_terminal(section.heading)}\n{text}")
        if section.table is not None and len(section.table.rows) > MAX_ROWS:
            print(f"\n({len(section.table.rows)} rows in {section.name}.csv)")
        elif section.table is not None:
            print(f"\n{section.table.text()}")
    print()
    for file in files:
        print(f"  {for_terminal(file)}")


def metric_name(name: str) -> str:
    """A name without the characters that MLflow refuses in names of metrics."""
    return "".join(c if c.isalnum() or c in "_-. /" else " " for c in name)
