"""Strangers' data, from nothing to a model that predicts, by the commands that a person pastes.

Each road runs in a folder of its own, far from the repository, with paths that hold spaces; the
commands after the search are those that the search printed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qwave
from tests.inference.sounds import make_clip

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
QWAVE = "import sys; from qwave.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="session", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for all roads: what C code needs to be compiled is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def run(folder: Path, *words: str) -> str:
    """Run a command in a folder; what it prints, stdout and stderr."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "80",
    }
    if words[0] == "qwave":
        words = (sys.executable, "-c", QWAVE, *words[1:])
    elif words[0] == "python":
        words = (sys.executable, *words[1:])
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def search(folder: Path, *words: str) -> str:
    """A short search with the default sweep, as a person would start it."""
    few = ["--smoke", "--trials", "2", "budget.workers=1", "train.distillation=0"]
    return run(folder, "python", "-m", "studies.moe_pareto", *few, *words)


def printed(text: str, purpose: str) -> list[str]:
    """The words of a command that was printed behind a purpose."""
    found = re.search(rf"^{purpose}: +(.*)$", text, re.MULTILINE)
    assert found, text
    return shlex.split(found.group(1))


def test_32_clips_in_4_classes_named_like_those_of_esc_50(tmp_path: Path) -> None:
    folder = tmp_path / "a stranger's place"
    for label, name in enumerate(("dog bark", "Fließgewässer", "None", "<b>car | horn</b>")):
        (folder / "my clips" / name).mkdir(parents=True)
        for take in range(8):
            file = folder / "my clips" / name / f"1-{10 * label + take + 100}-A-{label}.wav"
            make_clip(file, label % 3, seed=50 * label + take, seconds=1 + label)
    said = search(folder, "name=clips", "data.path=my clips", "--store", "my store")
    assert "official" in said, "a note says why the folds that the names give do not serve"
    export = printed(said, "hand over a model")
    run(tmp_path, *export, "--out", str(folder / "my model.qwave"))
    clip = folder / "my clips" / "dog bark" / "1-100-A-0.wav"
    answer = run(folder, "qwave", "predict", "my model.qwave", str(clip))
    assert "1-100-A-0.wav" in answer
    card = next((folder / "my store" / "models").rglob("model_card.md")).read_text()
    assert "<b>" not in card


def test_a_csv_exported_by_a_european_excel(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    label = np.array(["Straße", "NA", "Möwe, laut"])[np.arange(60) % 3]
    frame = pd.DataFrame({"label": label})
    for column in range(24):
        frame[f"x{column}"] = rng.normal(size=60) + (np.arange(60) % 3 == column % 3)
    text = frame.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
    file = tmp_path / "Mappe 1.csv"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    said = search(tmp_path, "name=mappe", f"data.path={file.name}", "--store", "store")
    run(tmp_path, *printed(said, "hand over a model"), "--out", "model.qwave")
    model = qwave.load_packed(tmp_path / "model.qwave")
    assert set(model.class_names) == {"Straße", "NA", "Möwe, laut"}
    answers = model.predict_proba(frame.drop(columns="label").to_numpy())
    hits = answers.argmax(axis=1) == [model.class_names.index(name) for name in label]
    assert hits.mean() > 0.5, hits.mean()


def test_a_frame_of_float64(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    y = np.arange(60) % 3
    frame = pd.DataFrame(rng.normal(size=(60, 12)) + y[:, None], columns=list("abcdefghijkl"))
    labelled = frame.assign(label=np.array(["hum", "whistle", "noise"])[y])
    data = qwave.embeddings_from_frame(labelled)
    # The classes differ in their means, which `sqrt_layer` takes from each clip.
    config = qwave.parse_config(
        {"data": {"normalization": "standard"}, "model": {"schemes": ["int8"]}}
    )
    with pytest.warns(UserWarning, match="clips of one recording may stand on both sides"):
        assert qwave.cross_validate(config, data).scores["accuracy"] > 0.6
    fitted = qwave.QuantizedMoEClassifier(epochs=30, random_state=0).fit(frame, labelled["label"])
    fitted.save(tmp_path / "fitted.qwave")
    loaded = qwave.load_packed(tmp_path / "fitted.qwave")
    np.testing.assert_array_equal(loaded.predict_proba(frame), fitted.predict_proba(frame))
    labelled.to_parquet(tmp_path / "frame.parquet")
    said = search(tmp_path, "name=frame", "data.path=frame.parquet", "--store", "store")
    run(tmp_path, *printed(said, "hand over a model"), "--out", "model.qwave")
    assert qwave.load_packed(tmp_path / "model.qwave").predict_proba(frame).shape == (60, 3)


def test_a_store_that_was_moved_goes_on_at_its_new_place(tmp_path: Path) -> None:
    old, new = tmp_path / "old place" / "store", tmp_path / "new place" / "store"
    search(tmp_path, "--store", str(old))
    new.parent.mkdir()
    shutil.move(old, new)
    said = search(tmp_path, "--trials", "3", "--store", str(new))
    run(tmp_path, *printed(said, "hand over a model"))
    run(
        *(tmp_path, "python", "-m", "studies.confirm", "--smoke"),
        *("seeds=[1, 2]", "max_points=1", "workers=1", "--store", str(new)),
    )
    assert list((new / "models").rglob("model.qwave"))
    assert not old.exists()
