"""What every pool of worker processes needs: how many, a quiet start, and an end with the process
that asks.
"""

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
from typing import Any, TypeVar

from qwave.config import ConfigError

T = TypeVar("T")

GUARD = 'if __name__ == "__main__":'


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


def why_no_worker_began() -> str:
    """What to tell a person whose workers all ended before one was ready."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    return (
        f"the worker processes ended before they were ready. {_guard_advice(program)}. If it "
        "does, what they printed says more; they also end so where memory is short"
    )


def submitted(pool: ProcessPoolExecutor, work: Callable[..., T], *arguments: Any) -> Future[T]:
    """Work for a pool; where its processes have ended, a future that says so."""
    try:
        return pool.submit(work, *arguments)
    except BrokenExecutor as error:
        lost: Future[T] = Future()
        lost.set_exception(error)
        return lost


def _guard_advice(program: str | None) -> str:
    return (
        f"Each worker begins by importing the program that started it ({program or 'unknown'}): "
        f"what starts a search there, or embeds clips, must stand below `{GUARD}`"
    )


@contextmanager
def spawning() -> Iterator[None]:
    """While workers are started: they inherit that Ctrl-C, which is for their parent, is ignored.

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
