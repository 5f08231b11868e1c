"""Where a model was made and how fast it is: what the machine itself says."""

from __future__ import annotations

import datetime
import subprocess
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from qwave.exporting import facts
from qwave.exporting.facts import git_commit, measure_latency, present_provenance, processor_name
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


def test_the_median_is_of_single_runs_in_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    left = [50.0, 3.0, 1.0, 2.0, 9.0, 4.0]  # seconds a run; the first does not count

    def run(x: np.ndarray) -> None:
        nonlocal now
        now += left.pop(0)

    model = PackedClassifier(small_model("int1"))
    monkeypatch.setattr(model, "predict_proba", run)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(facts, "_SECONDS", 0.0)
    monkeypatch.setattr(facts, "BATCHES", (1,))
    assert measure_latency(model, np.zeros((1, 5), dtype=np.float32)) == {1: 3e6}
