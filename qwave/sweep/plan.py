"""A sweep checked against its data and the machine, before anything is written."""

from __future__ import annotations

import dataclasses

from qwave.audio import open_data
from qwave.config import ConfigError, SweepConfig
from qwave.data import EmbeddingSet, leave_out, make_folds
from qwave.engine import resolve_device
from qwave.packing import packed_size_bytes
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


def plan_sweep(sweep: SweepConfig, device: str = "cpu") -> Plan:
    """Check a sweep against its data and the machine, before anything is written.

    Clips are embedded, which may take a while; what is done is kept in the cache.

    Raises:
        QwaveError: The data cannot be used or split, the device is not there, or no
            configuration fits the size budget.
    """
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
    return Plan(sweep, data, device, sizes[0], sizes[-1])
