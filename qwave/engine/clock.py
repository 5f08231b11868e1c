"""Where the seconds of a trial go."""

from __future__ import annotations

import time


class PhaseClock:
    """Wall time by phase.

    Attributes:
        seconds: Of each phase so far, in the order of their first ends.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        """What has gone by since the last stop was this phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now
