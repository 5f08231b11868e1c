"""What ``qwave front`` does: it reads the studies of a store and writes their fronts as tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from qwave.config import StoreError
from qwave.report import Column, Table, terminal_width
from qwave.scores import FrontPoint
from qwave.sweep import collect_points, front_of, load_study, study_names
from qwave.text import for_terminal


def show_fronts(arguments: argparse.Namespace) -> int:
    """Run ``qwave front``; returns its exit code."""
    names = [arguments.sweep] if arguments.sweep else study_names(arguments.store)
    if not names:
        raise StoreError(f"--store {arguments.store} holds no study yet; search first")
    fronts = {name: front_of(collect_points(load_study(arguments.store, name))) for name in names}
    if arguments.json:
        values = {name: [as_json(point) for point in front] for name, front in fronts.items()}
        sys.stdout.write(json.dumps(values) + "\n")
    for name, front in fronts.items():
        if arguments.csv:
            sys.stdout.write(front_table(front).csv())
        elif not arguments.json:
            sys.stdout.write(
                f"\n{for_terminal(name)}\n{front_table(front).text(terminal_width(sys.stdout))}\n"
            )
    return 0 if any(fronts.values()) else 1


def front_table(front: Sequence[FrontPoint]) -> Table:
    """One row for each member of the front, in the given order; s.e. is the standard error."""
    columns = (
        Column("trial", "number", 0),
        Column("size", "bytes"),
        Column("accuracy", "share"),
        Column("s.e.", "share"),
        Column("digest"),
        Column("configuration"),
    )
    rows = tuple(
        (
            point.number,
            point.size_bytes,
            point.accuracy,
            point.standard_error,
            point.digest,
            point.label,
        )
        for point in front
    )
    return Table(columns, rows)


def as_json(point: FrontPoint) -> dict[str, object]:
    """A member of a front as ``--json`` writes it."""
    return {
        "accuracy": point.accuracy,
        "standard_error": point.standard_error,
        "size_bytes": point.size_bytes,
        "trial": point.number,
        "label": point.label,
        "digest": point.digest,
        "mlflow_run_id": point.mlflow_run_id,
    }
