"""Worker processes: how many, a pool of them that starts quietly and ends with its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from qwave.config import ConfigError

T = TypeVar("T")

GUARD = 'if __name__ == "__main__":'


def processor_count() -> int:
    """Processors that this process may run on; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


def end_with_parent() -> None:
    """From now on, end this worker when its parent is killed: nobody would collect its results."""
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are child processes"
    parent.join()
    os._exit(1)


def is_main_thread() -> bool:
    """Whether this is the thread that may set signal handlers."""
    return threading.current_thread() is threading.main_thread()


def require_main_guard() -> None:
    """Refuse to start workers from a worker that is importing the program that started it.

    A worker begins by importing the main program. A program that starts a search while it is
    imported would start it again in every worker.

    Raises:
        ConfigError: This process is such a worker; names the line that the program lacks.
    """
    # Set by `multiprocessing.spawn` while a new process imports the main program.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        program = getattr(sys.modules.get("__mp_main__"), "__file__", None)
        raise ConfigError(_guard_advice(program))


class WorkerPool:
    """Spawned processes that ignore Ctrl-C, which is for their parent, and end with it.

    A context manager: the processes start when it is entered. Threads inside one small
    computation fight each other and lose to any other process on the machine; processes do not.
    """

    def __init__(
        self,
        n_workers: int,
        prepare: Callable[[], None] | None = None,
        *,
        is_work_dropped: bool = False,
    ) -> None:
        """Describe the pool; nothing is started.

        Args:
            n_workers: Number of processes, at least 1.
            prepare: Called in each process before its first work.
            is_work_dropped: On exit, end the work that is running instead of waiting for it.
        """
        self.n_workers, self._prepare, self._is_work_dropped = n_workers, prepare, is_work_dropped

    def __enter__(self) -> Self:
        """Start the processes.

        Raises:
            ConfigError: As `require_main_guard`.
        """
        with spawning():
            self._pool = ProcessPoolExecutor(
                self.n_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._prepare,),
            )
            self._ready = [self.submit(os.getpid) for _ in range(self.n_workers)]
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes, and drop the work that has not begun."""
        if self._is_work_dropped:
            # The processes of this pool: the program around may have others.
            for child in list((self._pool._processes or {}).values()):
                child.terminate()
        # The pool's thread is waited for: left to the end of the interpreter, it may find its
        # pipes closed, and says so on the terminal.
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Queue work; where the processes have ended, the future says so."""
        try:
            return self._pool.submit(work, *arguments)
        except BrokenExecutor as error:
            lost: Future[T] = Future()
            lost.set_exception(error)
            return lost

    def why_none_began(self) -> str | None:
        """What to tell a person if all processes ended before one was ready; None if one was."""
        if not all(future.done() and future.exception() for future in self._ready):
            return None
        program = getattr(sys.modules["__main__"], "__file__", None)
        return (
            f"the worker processes ended before they were ready. {_guard_advice(program)}. If it "
            "does, what they printed says more; they also end so where memory is short"
        )


def _begin(prepare: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    if prepare is not None:
        prepare()


def _guard_advice(program: str | None) -> str:
    return (
        f"Each worker begins by importing the program that started it ({program or 'unknown'}): "
        f"what starts a search there, or embeds clips, must stand below `{GUARD}`"
    )


@contextmanager
def spawning() -> Iterator[None]:
    """Ignore Ctrl-C while workers are started: it is for their parent, and they inherit that.

    A worker that is still importing when Ctrl-C comes would print a traceback. Only the main
    thread may set what a signal does; started from another one, workers ignore it once they are
    ready.

    A program that was read from standard input cannot be imported, and workers need nothing of
    it: meanwhile it has no file.

    Raises:
        ConfigError: As `require_main_guard`.
    """
    require_main_guard()
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    is_hidden = file is not None and getattr(main, "__spec__", None) is None
    is_hidden = is_hidden and not Path(str(file)).exists()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main_thread() else None
    if is_hidden:
        del main.__file__
    try:
        yield
    finally:
        if is_hidden:
            main.__file__ = file
        if is_main_thread():
            signal.signal(signal.SIGINT, before)
