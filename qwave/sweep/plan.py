"""A sweep checked against its data and the machine, before anything is written."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from qwave.audio import open_data
from qwave.config import ConfigError, SweepConfig
from qwave.data import (
    EmbeddingSet,
    Fold,
    find_leaks,
    holdout_split,
    leave_out,
    make_folds,
    resolve_folds,
)
from qwave.engine import resolve_device
from qwave.packing import packed_size_bytes
from qwave.processes import require_main_guard
from qwave.space import extreme_configs


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A sweep that has been checked against its data; nothing is written yet.

    Attributes:
        sweep: The sweep; its number of folds is settled (`qwave.data.resolve_folds`).
        data: Rows that are searched, without those of the held-out fold.
        folds: The folds of every trial.
        device: Where trials train.
        smallest_bytes: Smallest file of the space.
        largest_bytes: Largest file of the space, within the budget or not.
        notes: Warnings about the data, the folds and the scores: every UserWarning of loading and
            splitting, and every leak that was found.
    """

    sweep: SweepConfig
    data: EmbeddingSet
    folds: tuple[Fold, ...] = dataclasses.field(repr=False)
    device: str
    smallest_bytes: int
    largest_bytes: int
    notes: tuple[str, ...] = ()


def absolute_source(path: str) -> str:
    """`data.path` as an absolute path; ``esc10``, which is no path, stays."""
    return path if path == "esc10" else os.path.abspath(path)


def plan_sweep(sweep: SweepConfig, device: str = "cpu") -> Plan:
    """Check a sweep against its data and the machine, before anything is written.

    Clips are embedded, which may take a while; the cache keeps what is done. They are refused
    before that if they cannot be split. The plan's sweep has the absolute path of the data: trials
    are exported from other working directories.

    Raises:
        QwaveError: The data cannot be used or split, the device is not there, or no
            configuration fits the size budget.

    Warns:
        UserWarning: Every note of the plan, once.
    """
    require_main_guard()
    resolve_device(device)
    source = sweep.data
    with _noted() as notes:
        full = open_data(source.path, source.encoder, source.feature_columns, split=source)
        data = leave_out(full, source.holdout_fold)
        folds = make_folds(data, source)
        if source.holdout_fold is not None:
            holdout_split(full, source)
        for leak in find_leaks(data, folds):
            warnings.warn(leak, UserWarning, stacklevel=2)
    path = absolute_source(source.path)
    resolved = dataclasses.replace(resolve_folds(data, source), path=path)
    sweep = dataclasses.replace(sweep, base=dataclasses.replace(sweep.base, data=resolved))
    sizes = sorted(packed_size_bytes(config, data) for config in extreme_configs(sweep))
    if sweep.budget.max_size_bytes < sizes[0]:
        raise ConfigError(
            f"budget.max_size_bytes={sweep.budget.max_size_bytes}: the smallest configuration of "
            f"this space takes {sizes[0]} bytes; allow at least that, or fewer hidden units, bits "
            "or experts"
        )
    return Plan(sweep, data, folds, device, sizes[0], sizes[-1], tuple(notes))


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Collect the texts of UserWarnings, each once; at the end all warnings are shown."""
    notes: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            # Whatever a person's filters hide: notes are for the report and the card as well.
            warnings.filterwarnings("always", category=UserWarning)
            yield notes
    finally:
        shown: set[tuple[str, type[Warning]]] = set()
        for entry in caught:
            text = str(entry.message)
            if (text, entry.category) in shown:
                continue
            shown.add((text, entry.category))
            if issubclass(entry.category, UserWarning):
                notes.append(text)
            warnings.warn_explicit(
                entry.message, entry.category, entry.filename, entry.lineno, source=entry.source
            )
