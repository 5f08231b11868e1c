"""Where trials run: the protocol that the loop and the studies of known configurations rest on.

To run trials elsewhere, write a class with these members and pass it as `launcher` to `run_sweep`
or `opened_bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, Self

from qwave.config import TrialConfig
from qwave.engine.crossval import TrialResult


@dataclass(frozen=True, eq=False)
class FinishedTrial:
    """A result as it comes from a launcher.

    Attributes:
        result: Scores, predictions and losses; without models, which take a hundred megabytes
            where the mixture is large.
        packed: The packed file of each fold's model, about four megabytes for such a mixture.
    """

    result: TrialResult
    packed: tuple[bytes, ...]


class Launcher(Protocol):
    """Trains configurations on one data set.

    A context manager: what trains starts when it is entered; on exit all of it has ended, and
    trials that still run are dropped.
    """

    @property
    def n_parallel(self) -> int:
        """How many trials can run at a time, at least 1."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def submit(self, config: TrialConfig) -> Future[FinishedTrial]:
        """Queue a trial.

        The future raises `concurrent.futures.BrokenExecutor` if what trained it was ended from
        outside, and any other error that training raised.
        """

    def run(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Queue a call of an importable function that works on files of the store.

        Workers that do not see these files leave it to this process.
        """

    def why_lost(self, option: str) -> str:
        """What to tell a person after a `BrokenExecutor`.

        Args:
            option: The key that sets the number of workers, ``budget.workers`` or ``workers``.
        """
