"""The report of `studies.confirm`: one section with text, table and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qwave.report import Cell, Column, Section, SizedEstimate, Table, estimates_png
from qwave.scores import Interval
from qwave.sweep.confirm import Confirmed


def front_section(
    confirmed: Sequence[Confirmed], found: Mapping[str, float], study: str, n_seeds: int
) -> Section:
    """Text, table and picture of the confirmed front.

    Args:
        confirmed: All points.
        found: The numbers of `optimism` about these points.
        study: Name of the search.
        n_seeds: Number of fresh seeds.
    """
    n_dominated = sum(e.score.is_front and e.is_possibly_dominated for e in confirmed)
    text = (
        f"The search saw its front {100 * found['optimism']:+.2f} points above what fresh seeds "
        f"give on average, {100 * found['largest_optimism']:+.2f} at most. Its front of "
        f"{found['front_size_searched']:.0f} has a hypervolume of "
        f"{found['hypervolume_searched']:.4f}; the confirmed front of "
        f"{found['front_size_confirmed']:.0f}, of {found['hypervolume_confirmed']:.4f}. "
        f"{n_dominated} of the confirmed front may be no better than something that is not larger."
        "\n\n"
        f"Confirmed: mean of {n_seeds} seeds, 95 % interval over recordings. On front: "
        "share of resampled recordings in which nothing dominates the model. Possibly dominated: "
        "its lead on the best that is not larger could be chance (5 %, Holm)."
    )
    searched = [
        SizedEstimate(e.point.size_bytes, Interval(*[e.point.accuracy] * 3), "")
        for e in confirmed
        if e.point.is_front
    ]
    fresh = {
        is_front: [
            SizedEstimate(e.point.size_bytes, e.score.accuracy, e.point.label if is_front else "")
            for e in confirmed
            if e.score.is_front == is_front
        ]
        for is_front in (True, False)
    }
    picture = estimates_png(
        {
            "front, as searched": searched,
            "front, fresh seeds": fresh[True],
            "others, fresh seeds": fresh[False],
        },
        title=f"{study}: the front, confirmed",
        subtitle=f"mean of {n_seeds} fresh seeds, 95 % interval over recordings",
    )
    return Section("front", "The front, confirmed", text, confirmed_table(confirmed), picture)


def confirmed_table(confirmed: Sequence[Confirmed]) -> Table:
    """One row for each point, smallest first."""
    has_holdout = any(entry.holdout is not None for entry in confirmed)
    columns = [
        Column("size", "bytes"),
        Column("searched", "share"),
        Column("confirmed", "share"),
        Column("seed deviation", "share"),
        Column("on front", "share", 0),
        Column("front", "yes"),
        Column("possibly dominated", "yes"),
        *([Column("held-out fold", "share")] if has_holdout else []),
        Column("model"),
        Column("digest"),
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            entry.point.size_bytes,
            entry.point.accuracy,
            entry.score.accuracy,
            entry.score.seed_deviation,
            entry.probability,
            entry.score.is_front,
            entry.is_possibly_dominated,
            *([entry.holdout] if has_holdout else []),
            entry.point.label,
            entry.point.digest,
        )
        for entry in confirmed
    ]
    return Table(tuple(columns), tuple(rows))
