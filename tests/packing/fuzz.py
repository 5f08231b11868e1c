"""Hostile files in a process of its own, which may neither wait, nor grow, nor crash.

    python -c "from tests.packing.fuzz import run; print(run('random', 12345, 100_000))"

goes on where `test_packing_fuzz` ends. It needs Linux, as the limit of memory does.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .models import outcome
from .mutations import CORPUS, all_flips, all_truncations, random_mutations

MOST_GROWTH_BYTES = 100 * 2**20  # after every model of the corpus has predicted
MOST_SECONDS = 30  # for one file, on a machine that does other things as well
MOST_FAILURES = 5


def hostile_files(kind: str, which: str | int, n_files: int) -> Iterator[tuple[str, bytes]]:
    if kind == "random":
        return random_mutations(int(which), n_files)
    return {"flips": all_flips, "truncations": all_truncations}[kind](str(which))


def run(kind: str, which: str | int, n_files: int = 0, *, is_traced: bool = False) -> str:
    """Outcomes of all files of a kind, how many of each.

    Args:
        kind: ``random``, ``flips`` or ``truncations``.
        which: A seed, or the name of a model of the corpus.
        n_files: Number of random files.
        is_traced: Also say what the largest file takes; three times slower.

    Raises:
        AssertionError: A file had another outcome than being refused in one line or predicting,
            with its traceback. A file that makes the process wait ends it.
    """
    warnings.simplefilter("error")
    faulthandler.enable()
    for content in CORPUS.values():
        assert outcome(content) == "accepted", "loads all that predictions need"
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (_address_space_bytes() + MOST_GROWTH_BYTES, hard_limit)
    )
    counts: Counter[str] = Counter()
    failures: list[str] = []
    slowest, largest = (0.0, ""), (0, "")
    for what, content in hostile_files(kind, which, n_files):
        signal.alarm(MOST_SECONDS)  # ends the process, also while it is in C
        os.write(2, f"{what}\n".encode())  # the last one, if the process dies
        if is_traced:
            tracemalloc.start()
        start = time.perf_counter()
        try:
            counts[outcome(content)] += 1
        except (Exception, MemoryError):  # any of them is a failure of the file at hand
            failures.append(f"{what}\n{traceback.format_exc()}")
        slowest = max(slowest, (time.perf_counter() - start, what))
        if is_traced:
            largest = max(largest, (tracemalloc.get_traced_memory()[1], what))
            tracemalloc.stop()
    signal.alarm(0)
    assert not failures, f"{len(failures)} files:\n" + "\n".join(failures[:MOST_FAILURES])
    extremes = f"; slowest {slowest}; largest {largest}" if is_traced else ""
    return f"{counts['refused']} refused, {counts['accepted']} accepted{extremes}"


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
