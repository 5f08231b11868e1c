"""The data of a study, whatever ``data.path`` names: embeddings as they are, clips embedded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qwave.audio import open_data
from qwave.audio.embed import embed_source, save_embeddings
from qwave.config import DataError
from qwave.exporting.record import Search
from qwave.space import load_sweep, parse_config
from qwave.sweep import plan_sweep
from qwave.sweep.searched import load_searched
from studies.moe_pareto import main as moe_pareto
from tests.here import workers_here

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of clips in two official folds, in a folder whose cache knows them all."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for row in range(12):
        file = root / "clips" / "ab"[row % 2] / f"{1 + row // 6}-{row}-A-{row % 2}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, rng.normal(scale=0.1, size=400), 8000)
    with pytest.MonkeyPatch.context() as patch, workers_here():
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        embedded = embed_source(root / "clips", encoder="logmel", workers=1)
        save_embeddings(root / "some.npz", embedded)
    return root


@pytest.fixture
def place(warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that, in the working folder: clips, some.npz, and the cache."""
    shutil.copytree(warm, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_clips_are_what_their_file_of_embeddings_is(place: Path) -> None:
    from_clips = open_data("clips", "logmel")
    from_file = open_data("some.npz")
    assert from_clips.digest == from_file.digest
    assert from_clips.encoder == from_file.encoder
    assert from_clips.encoder.startswith("logmel@")
    assert from_clips.fold is not None
    assert sorted(set(from_clips.fold.tolist())) == [1, 2]


def test_a_file_of_the_encoder_that_is_asked_for_is_taken(place: Path) -> None:
    assert open_data("some.npz", "logmel").digest == open_data("some.npz").digest
    arrays = dict(np.load("some.npz"))
    np.savez("hub.npz", **{**arrays, "encoder": "clip-vit-b32@01234567"})
    assert open_data("hub.npz", "clip-vit-b32:some/folder").encoder == "clip-vit-b32@01234567"


def test_a_file_of_another_encoder_is_refused(place: Path) -> None:
    identity = open_data("some.npz").encoder
    message = (
        f"data.encoder=efficientnet-lite0, but the rows of some.npz were made by {identity}; "
        "leave data.encoder out, or embed the clips again with `qwave embed --encoder "
        "efficientnet-lite0`"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        open_data("some.npz", "efficientnet-lite0")


def test_a_file_that_does_not_name_its_encoder_is_refused_where_one_is_asked_for(
    place: Path,
) -> None:
    arrays = dict(np.load("some.npz"))
    np.savez("unnamed.npz", x=arrays["x"], y=arrays["y"])
    message = (
        "data.encoder=logmel, but unnamed.npz does not say which encoder made its rows; leave "
        "data.encoder out, or embed the clips again with `qwave embed`"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        open_data("unnamed.npz", "logmel")
    assert open_data("unnamed.npz").encoder == ""


@pytest.mark.slow
def test_reading_embeddings_loads_no_encoder(fresh_python: Callable[..., str]) -> None:
    code = (
        "import sys\n"
        "from qwave.audio import open_data\n"
        "open_data('esc10')\n"
        "print({'torch', 'soundfile', 'sqlite3', 'qwave.audio.embed'} & set(sys.modules))\n"
    )
    assert fresh_python(code).splitlines()[-1] == "set()"


# --- what takes data.path ---

FEW = ["data.path=clips", "data.encoder=logmel", "data.n_folds=2"]


def test_an_export_finds_the_rows_of_clips_and_says_when_they_have_changed(place: Path) -> None:
    config = parse_config({"data": {"path": "clips", "encoder": "logmel", "n_folds": 2}})
    search = Search("some", "0" * 16, open_data("some.npz").digest, 1)
    assert load_searched(config, search.name, search.data_digest).full.digest == search.data_digest
    next((place / "clips" / "a").iterdir()).unlink()
    with pytest.raises(DataError, match="clips has changed since the search"):
        load_searched(config, search.name, search.data_digest)
    shutil.rmtree("clips")
    with pytest.raises(DataError, match="no such file: clips .* put the file back"):
        load_searched(config, search.name, search.data_digest)
    Path("clips").mkdir()
    with pytest.raises(DataError, match="clips holds no clips.* put the file back"):
        load_searched(config, search.name, search.data_digest)


def test_clips_that_cannot_be_split_are_refused_before_any_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label in "abc":
        (tmp_path / "clips" / label).mkdir(parents=True)
        (tmp_path / "clips" / label / "1-7-A-0.wav").write_bytes(b"is not even decoded")
    few = [f"data.path={tmp_path / 'clips'}", "data.encoder=logmel"]
    for overrides, message in (
        (few, "these 3 clips of 3 classes cannot be split into folds: all 3 clips are in fold 1"),
        ([*few, "data.holdout_fold=2"], "data.holdout_fold=2 must be an official fold"),
        ([*few, "data.folds=official"], "these 3 clips of 3 classes cannot be split"),
    ):
        sweep = load_sweep(f"{REPOSITORY}/sweeps/moe_pareto.yaml", overrides)
        with pytest.raises(DataError, match=f"^{re.escape(message)}"):
            plan_sweep(sweep)
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:2 of 13 clips equal another one:UserWarning")
def test_the_main_job_searches_on_a_folder_of_clips(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = f"{REPOSITORY}/sweeps/moe_pareto.yaml"
    few = [*FEW, "train.epochs=1", "train.distillation=0", "model.hidden=[]", "--trials", "2"]
    assert moe_pareto([sweep, *few, "--dry-run"]) == 0
    assert "12 clips x 384 features, 2 classes, 2 folds" in capsys.readouterr().out
    assert moe_pareto([sweep, *few, "--json"]) == 0
    assert '"complete": 2' in capsys.readouterr().out
    # An added clip is other data.
    shutil.copy("clips/a/1-0-A-0.wav", "clips/a/1-99-A-0.wav")
    assert moe_pareto([sweep, *few]) == 2
    said = capsys.readouterr().err
    assert "the rows of data.path have changed: clips were added, removed or replaced" in said
    assert "search under another name (name=OTHER) or in another --store" in said
