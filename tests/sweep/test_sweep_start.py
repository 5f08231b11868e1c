"""Starting workers: from threads, from programs without a guard, from standard input."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from qwave.config import ConfigError, DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.processes import require_main_guard, spawning
from qwave.sweep.pool import TrainingPool
from qwave.sweep.stop import stop_requests

REPOSITORY = Path(__file__).resolve().parents[2]
TRIAL = TrialConfig(
    data=DataConfig("some.npz", "layer", 3),
    model=ModelConfig(("int1",), ()),
    train=TrainConfig(epochs=1, distillation=0.0),
)
# A program as a person writes it first: it trains, and nothing stands below a guard.
PROGRAM = """
import numpy as np
from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.config import WorkerLostError
from qwave.sweep.pool import TrainingPool

rng = np.random.default_rng(0)
y = np.repeat(np.arange(2), 8)
x = rng.normal(size=(16, 4)).astype(np.float32)
data = EmbeddingSet(x, y, None, np.arange(16), ("a", "b"), tuple(map(str, y)), "0" * 16)
config = TrialConfig(
    data=DataConfig("some.npz", "layer", 2),
    model=ModelConfig(("int1",), ()),
    train=TrainConfig(epochs=1, distillation=0.0),
)
with TrainingPool(1, data, "cpu") as pool:
    future = pool.submit(config)
    if future.exception() is not None:
        raise WorkerLostError(pool.why_lost("workers"))
    print("trained", future.result().result.size_bytes > 0, __file__)
"""
EMBED = """
from pathlib import Path
from qwave.audio.embed import embed_source
embed_source(Path("clips"), encoder="logmel", workers=1)
"""


def run(arguments: list[str], folder: Path, program: str | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        input=program,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_program_without_a_guard_is_told_which_line_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(PROGRAM)
    code, out, said = run(["search.py"], tmp_path)
    assert code == 1
    assert out == ""
    last = said.strip().splitlines()[-1]
    lost = "qwave.config.errors.WorkerLostError: the worker processes ended before"
    assert last.startswith(lost)
    assert 'must stand below `if __name__ == "__main__":`' in last
    assert "search.py" in last
    assert "out of memory" not in said


@pytest.mark.slow
def test_a_program_from_standard_input_needs_no_guard(tmp_path: Path) -> None:
    code, out, said = run(["-"], tmp_path, PROGRAM)
    assert (code, out) == (0, "trained True <stdin>\n"), said


@pytest.mark.slow
def test_a_program_that_embeds_without_a_guard_is_told_too(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "clips" / "a").mkdir(parents=True)
    soundfile.write(tmp_path / "clips" / "a" / "1.wav", [0.0, 0.5] * 8000, 16000)
    (tmp_path / "clips" / "b").mkdir()
    soundfile.write(tmp_path / "clips" / "b" / "2.wav", [0.5, 0.1] * 8000, 16000)
    (tmp_path / "embed.py").write_text(EMBED)
    code, _, said = run(["embed.py"], tmp_path)
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert 'must stand below `if __name__ == "__main__":`' in last
    assert "for want of memory" not in last


def test_a_worker_that_imports_the_main_program_starts_no_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_main_guard()
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match='below `if __name__ == "__main__":`'):
        require_main_guard()
    with pytest.raises(ConfigError, match='below `if __name__ == "__main__":`'), spawning():
        raise AssertionError("no worker may be started")


@pytest.mark.slow
def test_a_pool_works_in_a_thread_and_leaves_other_processes_alone(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    other = multiprocessing.get_context("spawn").Process(target=signal.pause)
    other.start()
    before = signal.getsignal(signal.SIGINT)
    found: list[object] = []

    def work() -> None:
        try:
            with TrainingPool(1, gaussians(0), "cpu") as pool, stop_requests() as is_stopped:
                found.append(pool.submit(TRIAL).result().result.size_bytes)
                found.append(is_stopped())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    try:
        assert len(found) == 2, found
        assert found[1] is False
        assert signal.getsignal(signal.SIGINT) is before
        assert other.is_alive()
    finally:
        other.terminate()
        other.join()


@pytest.mark.slow
def test_a_pool_whose_workers_ended_answers_with_futures(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    with TrainingPool(1, gaussians(0), "cpu") as pool:
        pool.submit(TRIAL).result()
        for process in pool.workers._pool._processes.values():
            process.kill()
        assert pool.submit(TRIAL).exception() is not None
        message = pool.why_lost("budget.workers")
    assert "out of memory?" in message
    assert "budget.workers=1" in message
