"""What every pool of worker processes needs: how many, and an end with the process that asks."""

from __future__ import annotations

import multiprocessing
import os
import threading


def processor_count() -> int:
    """Processors that this process may run on; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


def end_with_parent() -> None:
    """From now on, end this worker when its parent is killed: it would work for nobody."""
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are child processes"
    parent.join()
    os._exit(1)
