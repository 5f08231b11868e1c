"""Where a model was made and how fast it is: what the machine itself says."""

from __future__ import annotations

import datetime
import subprocess
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from qwave.export import latency
from qwave.export.latency import measure_latency, processor_name
from qwave.export.provenance import git_commit, present_provenance
from qwave.runtime import PackedClassifier

from ..packing.models import small_model


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def working_copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "-m", "one")
    return folder


def test_a_working_copy_has_a_commit_and_changes_are_said(working_copy: Path) -> None:
    commit = git(working_copy, "log", "-1", "--format=%H")
    assert git_commit(working_copy) == commit
    (working_copy / "file").write_text("two")
    assert git_commit(working_copy) == f"{commit}, with changes that are not committed"


def test_a_folder_inside_somebody_elses_working_copy_has_no_commit(working_copy: Path) -> None:
    inside = working_copy / "site-packages"
    inside.mkdir()
    assert git_commit(inside) is None


def test_a_working_copy_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert git_commit(tmp_path) is None


def test_without_git_there_is_no_commit(
    working_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_commit(working_copy) is None


def test_the_present_provenance_is_of_here_and_now() -> None:
    before = datetime.datetime.now(datetime.UTC).date()
    found = present_provenance()
    after = datetime.datetime.now(datetime.UTC).date()
    assert before <= datetime.date.fromisoformat(found.date) <= after
    assert found.qwave_version == metadata.version("qwave")
    assert found.processor == processor_name() != ""
    assert "Python 3." in found.system


# --- latency ---


def test_every_batch_is_timed_with_as_many_clips_as_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = PackedClassifier(small_model("int1"))
    seen: list[np.ndarray] = []
    monkeypatch.setattr(model, "predict_proba", seen.append)
    monkeypatch.setattr(latency, "_SECONDS", 0.0)
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    assert set(measure_latency(model, x)) == {1, 64}
    assert [len(batch) for batch in seen] == [1] * 6 + [64] * 6  # one run that does not count
    np.testing.assert_array_equal(seen[-1], np.tile(x, (22, 1))[:64])


def test_the_median_is_of_single_runs_in_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    left = [50.0, 3.0, 1.0, 2.0, 9.0, 4.0]  # seconds a run; the first does not count

    def run(x: np.ndarray) -> None:
        nonlocal now
        now += left.pop(0)

    model = PackedClassifier(small_model("int1"))
    monkeypatch.setattr(model, "predict_proba", run)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(latency, "_SECONDS", 0.0)
    monkeypatch.setattr(latency, "BATCHES", (1,))
    assert measure_latency(model, np.zeros((1, 5), dtype=np.float32)) == {1: 3e6}


def test_one_thread_computes_while_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    n_threads: list[int] = []
    model = PackedClassifier(small_model("int1"))
    monkeypatch.setattr(
        model,
        "predict_proba",
        lambda x: n_threads.extend(pool["num_threads"] for pool in threadpool_info()),
    )
    monkeypatch.setattr(latency, "_SECONDS", 0.0)
    with threadpool_limits(2):
        measure_latency(model, np.zeros((2, 5), dtype=np.float32))
    assert set(n_threads) == {1}
