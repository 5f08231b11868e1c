"""What MLflow is told of a run's origin: its user, its program, its commit."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from qwave.store import Store, Tracker

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    shutil.copy(empty_database, store)
    return store


def test_a_user_without_a_name_has_the_other_tags(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    for key in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    nameless = Tracker(Store(store))
    run_id = nameless.start_run(nameless.experiment("sweep"), "run")
    tags = nameless._client.get_run(run_id).data.tags
    assert tags["mlflow.user"] == "unknown"
    assert {"mlflow.source.name", "mlflow.source.type"} <= set(tags)


SCRIPT = """
import sys
from pathlib import Path
from qwave.store import Store, Tracker

tracker = Tracker(Store(Path(sys.argv[1])))
print(tracker.start_run(tracker.experiment("sweep"), "x"))
"""


@pytest.mark.slow
def test_a_run_carries_the_commit_of_the_program_that_made_it(store: Path, tmp_path: Path) -> None:
    repository = tmp_path / "program"
    repository.mkdir()
    (repository / "program.py").write_text(SCRIPT)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=repository, check=True, timeout=20)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True
    ).stdout.strip()
    done = subprocess.run(
        [sys.executable, "program.py", str(store)],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip()
    tags = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}").get_run(run_id).data.tags
    assert tags["mlflow.source.git.commit"] == commit
    assert tags["mlflow.source.name"].endswith("program.py")
