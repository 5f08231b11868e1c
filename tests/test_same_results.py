"""The smoke sweep finds what it found at an earlier commit, byte for byte, on one machine.

Moving code between modules must change no digest, no packed byte and no row of front.csv. Where
a change of results is meant, `REFERENCE` becomes the commit that made it, and the changelog says
why.
Golden files could not do this: processors of different kinds train to different last bits.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = "91392f5"
FEW = ("--smoke", "--trials", "6", "train.epochs=3")


@pytest.mark.slow
def test_the_smoke_sweep_writes_the_bytes_of_the_reference(tmp_path: Path) -> None:
    archive = subprocess.run(
        ["git", "archive", REFERENCE, "qwave", "studies", "sweeps"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"commit {REFERENCE} is not in the history of this checkout")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tmp_path / "before", filter="data")
    before, now = searched(tmp_path / "before", tmp_path), searched(REPOSITORY, tmp_path)
    assert len(before) > 6, before
    assert now == before


def searched(tree: Path, folder: Path) -> dict[str, str]:
    """Digests of front.csv and, for each trial, of its predictions and its packed models."""
    store = folder / f"store of {tree.name}"
    done = subprocess.run(
        [sys.executable, "-m", "studies.moe_pareto", *FEW, "--store", str(store)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (front,) = store.glob("reports/*/front.csv")
    found = {front.name: digest(front)}
    for predictions in store.glob("artifacts/**/predictions.csv"):
        models = sorted(predictions.parent.glob("fold_*/model.qwave"))
        assert len(models) == 5
        found[digest(*models)] = digest(predictions)
    return found


def digest(*files: Path) -> str:
    """SHA-256 of the contents of files, one after another."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
