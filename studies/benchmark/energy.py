"""Energy of a computation, where the machine counts it; never an estimate.

codecarbon (extra `[energy]`) reads the processor's own counters (RAPL). Where there are none, it
would estimate from the processor's rated power and load; then nothing is measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

_JOULES_PER_KWH = 3.6e6


def why_not_measured() -> str | None:
    """Why energy cannot be measured on this machine, or None where it can."""
    if importlib.util.find_spec("codecarbon") is None:
        return "codecarbon is not installed: pip install 'qwave[energy]'"
    from codecarbon.core.cpu import is_rapl_available

    if not is_rapl_available():
        return "the processor's energy counters (RAPL) are not there or may not be read"
    return None


def joules_of(run: Callable[[], object]) -> float:
    """Joules that all processors used while `run` ran; nothing else should run meanwhile.

    Raises:
        RuntimeError: Energy cannot be measured here (`why_not_measured`).
    """
    reason = why_not_measured()
    if reason is not None:
        raise RuntimeError(f"energy cannot be measured: {reason}")
    from codecarbon import OfflineEmissionsTracker

    # The country only matters for grams of carbon dioxide, which are not reported.
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="error", measure_power_secs=1
    )
    tracker.start()
    try:
        run()
    finally:
        tracker.stop()
    return float(tracker.final_emissions_data.cpu_energy) * _JOULES_PER_KWH
