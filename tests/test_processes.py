"""Worker processes: how many there may be, and that none outlives the process that asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from qwave.processes import processor_count

PARENT = """
import multiprocessing, os, time
from qwave.processes import end_with_parent

def work(pipe):
    end_with_parent()
    pipe.send(os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("fork").Process(target=work, args=(there,)).start()
    print(here.recv(), flush=True)
    time.sleep(60)
"""


def test_as_many_as_this_process_may_run_on(fresh_python: Callable[..., str]) -> None:
    assert processor_count() >= 1
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("processes cannot be bound to processors here")
    code = (
        "import os\nfrom qwave.processes import processor_count\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(processor_count())"
    )
    assert fresh_python(code) == "1"


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it is there
        parent.send_signal(signal.SIGKILL)
        parent.wait(timeout=30)
        for _ in range(300):
            if not is_running(worker):
                return
            time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker went on for 30 s without its parent")


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()[:1] not in ("Z", "")  # of a killed parent nobody collects children
