"""Thousands of hostile files: each is refused in one line, or predicts.

All bits of some files, all beginnings of them, and random mutations of the golden files. They run
in processes of their own, with little memory: a crash or an endless loop ends one of these.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from qwave.packing import FORMAT_VERSION

from . import fuzz
from .models import outcome
from .mutations import CORPUS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")

N_RANDOM = 1_500
# Kind, which, number of files: linear models, a hidden layer of floats, a mixture.
pytestmark = pytest.mark.slow

CHUNKS: list[tuple[str, str | int, int]] = [
    *(("random", seed, N_RANDOM) for seed in range(8)),
    *(
        (kind, name, n_each * len(CORPUS[name]))
        for kind, n_each in (("flips", 9), ("truncations", 1))
        for name in (
            "v2/linear_int1",
            "v2/linear_ternary",
            "v2/hidden_fp32",
            "v2/linear_router",
            "v2/encoder",
            "v1/linear_int2",
        )
    ),
]


def test_there_are_more_than_20_000_files() -> None:
    assert sum(n_files for _, _, n_files in CHUNKS) > 20_000
    for kind, which, n_files in CHUNKS:
        assert sum(1 for _ in fuzz.hostile_files(kind, which, n_files)) == n_files


@pytest.mark.parametrize(("kind", "which", "n_files"), CHUNKS, ids=str)
def test_hostile_files_are_refused_or_predict(
    kind: str, which: str | int, n_files: int, fresh_python: Callable[..., str]
) -> None:
    code = f"from tests.packing.fuzz import run; print(run({kind!r}, {which!r}, {n_files}))"
    found = re.fullmatch("([0-9]+) refused, ([0-9]+) accepted", fresh_python(code, **ONE_THREAD))
    assert found is not None
    n_refused, n_accepted = map(int, found.groups())
    assert n_refused + n_accepted == n_files
    assert n_refused > n_files / 2
    # Other codes are another model: hostile files do reach the runtime.
    assert (n_accepted > n_files / 50) == (kind != "truncations")


ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_corpus_is_that_of_the_golden_files_of_every_version() -> None:
    versions = {name.split("/")[0] for name in CORPUS}
    assert versions == {f"v{version}" for version in range(1, FORMAT_VERSION + 1)}
    for content in CORPUS.values():
        assert outcome(content) == "accepted"


# --- the judge itself: what it must not let pass ---


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('some key')", "KeyError: 'some key'"),
        ("bytearray(2**28)", "MemoryError"),
        ("import ctypes; ctypes.string_at(0)", "Segmentation fault"),
        ("import time; time.sleep(9)", "returncode=-14"),  # SIGALRM
        ("import warnings; warnings.warn('overflow')", "UserWarning: overflow"),
    ],
    ids=["exception", "memory", "crash", "endless", "warning"],
)
def test_fuzzer_notices(body: str, says: str, fresh_python: Callable[..., str]) -> None:
    code = f"""
from tests.packing import fuzz
corpus, judge = set(fuzz.CORPUS.values()), fuzz.outcome
def outcome(content):
    if content in corpus:  # which is tried before limits are set
        return judge(content)
    {body}
    return "refused"
fuzz.outcome, fuzz.MOST_SECONDS = outcome, 1
fuzz.run("random", 0, 40)
"""
    with pytest.raises(AssertionError) as caught:
        fresh_python(code)
    assert says in str(caught.value)
    assert "file 0 of seed 0" in str(caught.value), "the file is named"
