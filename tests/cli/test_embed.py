"""``qwave embed``: what it writes and says, and that nothing is lost when it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from qwave.audio.embed import embed_source
from qwave.audio.encoders import DEFAULT_ENCODER
from qwave.cli import main
from qwave.data import load_embeddings
from tests.here import workers_here

N_CLIPS = 90
HAS_PROC = Path("/proc/self/task").is_dir()


class Place(NamedTuple):
    """Clips, a cache of its own, and the file that is to be written."""

    clips: Path
    cache: Path
    out: Path

    def command(self, *options: str) -> list[str]:
        """A process that embeds."""
        code = "import sys; from qwave.cli import main; sys.exit(main(sys.argv[1:]))"
        arguments = [str(self.clips), "--out", str(self.out), "--encoder", "logmel"]
        return [sys.executable, "-c", code, "embed", *arguments, "--json", *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start to embed."""
        return subprocess.Popen(
            self.command(*options),
            env={**os.environ, "XDG_CACHE_HOME": str(self.cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> dict[str, Any]:
        """Embed to the end; returns what was said."""
        process = self.start()
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        found: dict[str, Any] = json.loads(said)
        return found

    def kept(self) -> int:
        """Embeddings in the cache."""
        file = self.cache / "qwave" / "embeddings.db"
        with contextlib.suppress(sqlite3.OperationalError), closing(sqlite3.connect(file)) as db:
            return int(db.execute("SELECT count(*) FROM embeddings").fetchone()[0])
        return 0  # not made yet

    def wait_for(self, n: int, process: subprocess.Popen[str]) -> None:
        """Until so many clips are done."""
        end = time.monotonic() + 60
        while self.kept() < n:
            assert time.monotonic() < end, "no clip is done"
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)


def workers_of(pid: int) -> list[int]:
    """The processes that a process embeds in."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many short clips of three classes, in official folds."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for row in range(N_CLIPS):
        file = root / "clips" / "abc"[row % 3] / f"{1 + row % 4}-{row // 2}-A-{row}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, rng.normal(scale=0.1, size=400), 8000)
    return root / "clips"


@pytest.fixture
def place(clips: Path, tmp_path: Path) -> Place:
    return Place(clips, tmp_path / "cache", tmp_path / "some.npz")


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What a run that nothing stops leaves."""
    root = tmp_path_factory.mktemp("whole")
    place = Place(clips, root / "cache", root / "some.npz")
    assert place.finish()["num_embedded_now"] == N_CLIPS
    assert place.kept() == N_CLIPS
    return place


@pytest.fixture(scope="module")
def known(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that knows all clips, filled without processes."""
    cache = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch, workers_here():
        patch.setenv("XDG_CACHE_HOME", str(cache))
        embed_source(clips, encoder="logmel", workers=1)
    return cache


@pytest.fixture
def cached(clips: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clips, whose embeddings are in the cache of this process."""
    shutil.copytree(known, tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return clips


# --- stopped, and started again ---


def goes_on(place: Place, whole: Place) -> None:
    """Check that the next start makes what is missing and no more, and writes the same file."""
    n_kept = place.kept()
    assert 0 < n_kept < N_CLIPS
    assert not place.out.exists()
    assert place.finish()["num_embedded_now"] == N_CLIPS - n_kept
    assert place.kept() == N_CLIPS
    assert place.out.read_bytes() == whole.out.read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PROC, reason="finds processes in /proc")
def test_a_killed_run_goes_on_and_leaves_no_process_behind(place: Place, whole: Place) -> None:
    process = place.start("--workers", "2")
    place.wait_for(5, process)
    workers = workers_of(process.pid)
    process.kill()
    process.communicate(timeout=60)
    assert len(workers) == 2
    end = time.monotonic() + 30
    while any(map(is_running, workers)):
        assert time.monotonic() < end, "processes embed for nobody"
        time.sleep(0.01)
    goes_on(place, whole)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PROC, reason="finds processes in /proc")
def test_a_killed_worker_is_an_error_and_what_was_done_is_kept(place: Place, whole: Place) -> None:
    process = place.start("--workers", "1")
    place.wait_for(5, process)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == ""
    message = (
        r"error: a process that embeds was ended from outside \(for want of memory\?\), (\d+) "
        rf"clips before the end; it was at ({re.escape(str(place.clips))}/\S+)\. What was "
        r"done is kept: start again, and if it ends at the same clip, leave that one out\n"
    )
    found = re.search(message, errors)
    assert found, errors
    assert place.kept() == N_CLIPS - int(found[1])
    assert Path(found[2]).is_file()
    goes_on(place, whole)


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_what_was_done_is_kept(place: Place) -> None:
    process = place.start("--workers", "1")
    place.wait_for(5, process)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert said == ""
    assert errors.endswith("stopped\n")
    assert "Traceback" not in errors
    assert 5 <= place.kept() < N_CLIPS
    assert not place.out.exists()


@pytest.mark.slow
def test_two_runs_at_once_write_the_same_file(place: Place, whole: Place) -> None:
    other = place._replace(out=place.out.with_name("other.npz"))
    running = [one.start("--workers", "1") for one in (place, other)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "note:" not in errors
    assert place.kept() == N_CLIPS
    for one in (place, other):
        assert one.out.read_bytes() == whole.out.read_bytes()


# --- what it says ---


def test_the_end_says_what_was_written_and_what_comes_next(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "a b.npz"
    assert main(["embed", str(cached), "--out", str(out), "--encoder", "logmel"]) == 0
    data = load_embeddings(out)
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 90 clips x {data.x.shape[1]} features, 3 classes, 4 official folds, 45 "
        "recordings",
        f"{data.encoder}, layout folders: 0 embedded now, 90 from the cache, 0 left out, 0 silent",
        f"search on them:  qwave search name=a_b 'data.path={out}'",
    ]


def test_json_holds_the_same(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "some.npz"
    assert main(["embed", str(cached), "--out", str(out), "--encoder", "logmel", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    data = load_embeddings(out)
    assert said.pop("seconds") >= 0
    assert re.fullmatch("[0-9a-f]{16}", said.pop("clips_digest"))
    assert said == {
        "file": str(out),
        "layout": "folders",
        "encoder": data.encoder,
        "num_clips": 90,
        "num_features": data.x.shape[1],
        "classes": {"a": 30, "b": 30, "c": 30},
        "folds": [1, 2, 3, 4],
        "num_recordings": 45,
        "skipped": [],
        "silent": [],
        "num_embedded_now": 0,
        "data_digest": data.digest,
    }


def test_what_is_not_known_is_said_and_bad_clips_are_counted(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = tmp_path / "named"
    for number, clip in enumerate(sorted(cached.rglob("*.wav"))):
        file = named / clip.parent.name / f"clip {number}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, file)
    (named / "a" / "bad.wav").symlink_to(tmp_path / "nowhere")
    arguments = ["embed", str(named), "--out", str(tmp_path / "some.npz")]
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as outside of these tests
        assert main([*arguments, "--encoder", "logmel"]) == 0
    said, errors = capsys.readouterr()
    assert errors.startswith(
        f"{named}: looking for clips\nnote: 1 of 91 clips cannot be used and are left out:\n  "
    )
    first, second, third = said.splitlines()
    assert first.endswith("3 classes, no official folds, recordings not known")
    assert second.endswith("0 embedded now, 90 from the cache, 1 left out, 0 silent")
    assert third.endswith(".npz")
    assert main([*arguments, "--encoder", "logmel", "--strict", "-q"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {named / 'a' / 'bad.wav'} cannot be read: ")


# --- wrong input ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "some.csv"], "--out must be a file that ends in .npz, but got some.csv"),
        (["--out", "folder.npz"], "--out must be a file that ends in .npz, but got folder.npz"),
        (["--out", "file/some.npz"], "--out file/some.npz: its folder cannot be made: File exi"),
        (["--out", "a.npz", "--workers", "0"], "`workers >= 1` must hold, but got workers=0"),
        (["--out", "a.npz", "--encoder", "log-mel"], "no encoder 'log-mel' (did you mean 'logm"),
    ],
)
def test_wrong_input_is_one_message(
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    assert main(["embed", "-q", str(clips), *options]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_source_that_is_not_there_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ["embed", "-q", str(tmp_path / "none"), "--out", str(tmp_path / "a.npz")]
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'} does not exist")


def test_help_names_the_default_encoder_and_loads_nothing_heavy(
    fresh_python: Callable[..., str],
) -> None:
    code = (
        "import sys\n"
        "from qwave.cli import main\n"
        "try:\n"
        "    main(['embed', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(sorted({'torch', 'numpy', 'soundfile', 'sqlite3', 'tqdm'} & set(sys.modules)))\n"
    )
    said = fresh_python(code)
    assert f"default: {DEFAULT_ENCODER}" in said
    assert said.splitlines()[-1] == "[]"
