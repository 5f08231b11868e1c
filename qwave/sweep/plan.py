"""A sweep checked against its data and the machine, before anything is written."""

from __future__ import annotations

import dataclasses
import os

from qwave.audio import open_data
from qwave.config import ConfigError, SweepConfig
from qwave.data import EmbeddingSet, leave_out, make_folds
from qwave.engine import resolve_device
from qwave.packing import packed_size_bytes
from qwave.processes import require_main_guard
from qwave.space import extreme_configs


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A sweep that has been checked against its data; nothing is written yet.

    Attributes:
        sweep: The sweep.
        data: Its rows.
        device: Where trials train.
        smallest_bytes: Smallest file of the space.
        largest_bytes: Largest file of the space, within the budget or not.
    """

    sweep: SweepConfig
    data: EmbeddingSet
    device: str
    smallest_bytes: int
    largest_bytes: int


def with_absolute_path(sweep: SweepConfig) -> SweepConfig:
    """The same sweep, its data found from any working directory."""
    data = dataclasses.replace(sweep.data, path=absolute_source(sweep.data.path))
    return dataclasses.replace(sweep, base=dataclasses.replace(sweep.base, data=data))


def absolute_source(path: str) -> str:
    """What `data.path` names, found from any working directory; ``esc10`` is no path."""
    return path if path == "esc10" else os.path.abspath(path)


def plan_sweep(sweep: SweepConfig, device: str = "cpu") -> Plan:
    """Check a sweep against its data and the machine, before anything is written.

    Clips are embedded, which may take a while; what is done is kept in the cache. The plan's sweep
    has the absolute path of the data: trials are exported from other working directories.

    Raises:
        QwaveError: The data cannot be used or split, the device is not there, or no
            configuration fits the size budget.
    """
    require_main_guard()
    resolve_device(device)
    source = sweep.data
    data = leave_out(
        open_data(source.path, source.encoder, source.feature_columns), source.holdout_fold
    )
    make_folds(data, sweep.data)
    sizes = sorted(packed_size_bytes(config, data) for config in extreme_configs(sweep))
    if sweep.budget.max_size_bytes < sizes[0]:
        raise ConfigError(
            f"budget.max_size_bytes={sweep.budget.max_size_bytes}: the smallest configuration of "
            f"this space takes {sizes[0]} bytes; allow at least that, or fewer hidden units, bits "
            "or experts"
        )
    return Plan(with_absolute_path(sweep), data, device, sizes[0], sizes[-1])
