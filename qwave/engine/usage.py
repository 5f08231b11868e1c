"""Wall time by phase, and memory, of a trial."""

from __future__ import annotations

import contextlib
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch

# As proc(5) has them, on Linux.
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PhaseClock:
    """Wall time by phase.

    Attributes:
        seconds: Seconds of each phase so far, in the order in which the phases first ended.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        """Add the time since the last stop to a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Memory:
    """Highest resident memory of a process.

    Attributes:
        private: Bytes of the process alone.
        shared: Bytes of files that other processes may map too.
    """

    private: int
    shared: int


def reset_peak_memory(device: torch.device) -> None:
    """Forget what was used before now, where the system lets a process do that.

    Elsewhere, and in containers that forbid it, the peak is that since the start.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _RESET.exists():
        with contextlib.suppress(PermissionError):
            _RESET.write_text("5")


def peak_memory(device: torch.device) -> Memory:
    """Highest resident memory of this process; on a CUDA device, highest allocation there."""
    if device.type == "cuda":
        return Memory(int(torch.cuda.max_memory_allocated(device)), 0)
    if not _STATUS.exists():
        return Memory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, 0)
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    peak, of_files = (int(lines[name].split()[0]) * 1024 for name in ("VmHWM", "RssFile"))
    return Memory(peak - of_files, of_files)
