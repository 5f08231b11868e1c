"""Processes that train: one thread each, deaf to Ctrl-C, which is for the process that asks.

Threads inside one small training step fight each other and lose to any other process on the
machine; processes do not.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from qwave.config import TrialConfig
from qwave.crossval import cross_validate
from qwave.data import EmbeddingSet
from qwave.packing import to_bytes
from qwave.sweep.record import FinishedTrial


class WorkerLostError(RuntimeError):
    """A training process was ended from outside."""


@contextmanager
def training_pool(n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that import torch at once; on exit those that still train are ended."""
    # A worker that is still importing when Ctrl-C comes would print a traceback: it inherits that
    # the signal is ignored.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pool = ProcessPoolExecutor(
            n_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare
        )
        for _ in range(n_workers):
            pool.submit(os.getpid)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield pool
    finally:
        # Nothing is waited for: on a normal end nothing runs any more, and what runs when a
        # person stops a study is queued again.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


def run_trial(config: TrialConfig, data: EmbeddingSet, device: str) -> FinishedTrial:
    """One trial, as a worker runs it."""
    result = cross_validate(config, data, device=device)
    packed = tuple(to_bytes(model.packed) for model in result.models)
    return FinishedTrial(dataclasses.replace(result, models=()), packed)


def worker_count(wanted: int | None, device: str) -> int:
    """Processes to train with: as wanted, else one for each processor, or one on a GPU."""
    if wanted is not None:
        return wanted
    if not device.startswith("cpu"):
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


def _prepare() -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What make_folds warns of was shown once, when the study began.
    warnings.simplefilter("ignore", UserWarning)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that asks is killed: it would train for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are child processes"
    parent.join()
    os._exit(1)
