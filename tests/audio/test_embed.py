"""Clips become embeddings: those of a plain loop, each made once, and what is said of bad ones."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from qwave.audio import fit_length, read_clip
from qwave.audio.embed import Embedded, embed_source, parted_twins, save_embeddings
from qwave.audio.encoders import embed_waveforms, make_encoder
from qwave.audio.protocol import encoder_identity
from qwave.audio.workers import _embed_clip
from qwave.config import AudioError, ConfigError
from qwave.data import EmbeddingSet, load_embeddings
from tests.here import workers_here

NAMES = ["cat/0.wav", "cat/1.flac", "cat/2.ogg", "dog/0.wav", "dog/1.flac", "dog/2.ogg"]


class Warm(NamedTuple):
    """A folder of clips, what came of it, and the cache that was left."""

    clips: Path
    embedded: Embedded
    cache: Path


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, noise: Callable[..., np.ndarray]) -> Warm:
    """Six clips of two classes, embedded by this process."""
    root = tmp_path_factory.mktemp("warm")
    for seed, name in enumerate(NAMES):
        file = root / "clips" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, noise(400 + 50 * seed, channels=1 + seed % 2, seed=seed), 8000)
    with pytest.MonkeyPatch.context() as patch, workers_here():
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        embedded = embed_source(root / "clips", encoder="logmel", workers=1)
    return Warm(root / "clips", embedded, root / "cache")


@pytest.fixture
def clips(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the clips, to be changed, beside a copy of the cache, which knows them."""
    shutil.copytree(warm.cache, tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(warm.clips, tmp_path / "clips"))


def embed(source: Path, **options: object) -> Embedded:
    return embed_source(source, encoder="logmel", **options)  # type: ignore[arg-type]


# --- what comes out ---


def test_embeddings_are_those_of_a_plain_loop(warm: Warm) -> None:
    encoder = make_encoder("logmel")
    data = warm.embedded.data
    assert data.names == tuple(NAMES)
    assert data.class_names == ("cat", "dog")
    assert data.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert (data.fold, data.group) == (None, None)
    assert data.encoder == encoder_identity(encoder)
    for row, name in enumerate(NAMES):
        waveform = read_clip(warm.clips / name, encoder.sample_rate)
        waveform = fit_length(waveform, round(encoder.clip_seconds * encoder.sample_rate))
        expected = embed_waveforms(encoder, waveform[None])[0]
        np.testing.assert_array_equal(data.x[row], expected, err_msg=name)
    assert len(np.unique(data.x, axis=0)) == len(NAMES)


@pytest.mark.slow
def test_the_number_of_processes_does_not_show(
    warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    together = embed(warm.clips, workers=2)
    assert together.n_made == 6
    save_embeddings(tmp_path / "one.npz", warm.embedded)
    save_embeddings(tmp_path / "two.npz", together)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_what_is_in_the_cache_is_not_made_again(warm: Warm, clips: Path, tmp_path: Path) -> None:
    again = embed(clips)
    assert again.n_made == 0
    save_embeddings(tmp_path / "one.npz", again)
    save_embeddings(tmp_path / "two.npz", warm.embedded)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.slow
def test_a_renamed_clip_is_not_made_again_and_an_added_one_is(
    warm: Warm, clips: Path, noise: Callable[..., np.ndarray]
) -> None:
    (clips / "cat" / "0.wav").rename(clips / "cat" / "9.wav")
    renamed = embed(clips)
    assert renamed.n_made == 0
    assert renamed.data.names[:3] == ("cat/1.flac", "cat/2.ogg", "cat/9.wav")
    np.testing.assert_array_equal(renamed.data.x[2], warm.embedded.data.x[0])
    assert renamed.clips_digest != warm.embedded.clips_digest
    soundfile.write(clips / "dog" / "9.wav", noise(300, seed=9), 8000)
    added = embed(clips)
    assert added.n_made == 1
    np.testing.assert_array_equal(added.data.x[:6], renamed.data.x)
    assert added.data.digest != renamed.data.digest


# --- the file ---


def test_a_file_gives_back_what_was_embedded(warm: Warm, tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    save_embeddings(path, warm.embedded)
    data = load_embeddings(path)
    for field in dataclasses.fields(EmbeddingSet):
        got, expected = getattr(data, field.name), getattr(warm.embedded.data, field.name)
        np.testing.assert_array_equal(got, expected, err_msg=field.name)
    with zipfile.ZipFile(path) as archive:  # equal embeddings give equal bytes: no dates
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["x"].dtype == np.float16
        assert str(arrays["data_digest"]) == data.digest
        assert str(arrays["clips_digest"]) == warm.embedded.clips_digest
        assert set(arrays) == {
            *("x", "y", "names", "class_names", "encoder", "encoder_parameters"),
            *("weights_digest", "data_digest", "clips_digest", "layout"),
        }


def test_a_file_that_is_there_is_replaced_and_nothing_else_is_left(
    warm: Warm, tmp_path: Path
) -> None:
    path = tmp_path / "some.npz"
    path.write_bytes(b"something else")
    save_embeddings(path, warm.embedded)
    assert load_embeddings(path).digest == warm.embedded.data.digest
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_an_error(warm: Warm, tmp_path: Path) -> None:
    path = tmp_path / "none" / "some.npz"
    message = f"{path} cannot be written: No such file or directory"
    with pytest.raises(AudioError, match=f"^{re.escape(message)}$"):
        save_embeddings(path, warm.embedded)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(AudioError, match=r"folder\.npz cannot be written: Is a directory$"):
        save_embeddings(tmp_path / "folder.npz", warm.embedded)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.npz"]


# --- clips that cannot be used ---


@pytest.mark.slow
def test_bad_clips_are_left_out_and_named(warm: Warm, clips: Path) -> None:
    (clips / "cat" / "8.wav").write_bytes(b"no sound at all")
    (clips / "dog" / "7.wav").touch()
    (clips / "dog" / "8.wav").touch()
    (clips / "dog" / "9.wav").symlink_to(clips / "nowhere")
    with pytest.warns(UserWarning, match="4 of 10 clips cannot be used and are left out:\n") as w:
        embedded = embed(clips)
    assert embedded.data.digest == warm.embedded.data.digest
    assert embedded.n_made == 0
    for fault, name in zip(embedded.skipped, ("cat/8", "dog/7", "dog/8", "dog/9"), strict=True):
        assert fault.startswith(f"{clips / name}.wav "), fault
        assert fault in str(w[0].message)
    assert "cannot be read: No such file or directory" in embedded.skipped[3]
    # What is put right is embedded at the next start.
    shutil.copy(clips / "cat" / "0.wav", clips / "cat" / "8.wav")
    for place in (7, 8, 9):
        (clips / "dog" / f"{place}.wav").unlink()
    with pytest.warns(UserWarning, match="1 recordings stand under several names"):
        assert len(embed(clips).data.y) == 7


@pytest.mark.slow
def test_one_bad_clip_is_fatal_where_it_must_be(clips: Path) -> None:
    (clips / "cat" / "8.wav").write_bytes(b"no sound at all")
    with pytest.raises(AudioError, match=f"^{re.escape(str(clips / 'cat' / '8.wav'))} is not wav"):
        embed(clips, is_strict=True)
    (clips / "cat" / "8.wav").unlink()
    (clips / "cat" / "8.wav").symlink_to(clips / "nowhere")
    with pytest.raises(AudioError, match=r"8\.wav cannot be read: No such file"):
        embed(clips, is_strict=True)


def test_a_class_that_is_left_without_clips_is_fatal(clips: Path) -> None:
    for place in range(3):
        next((clips / "dog").glob(f"{place}.*")).unlink()
        (clips / "dog" / f"{place}.wav").symlink_to(clips / "nowhere")
    message = (
        "class 'dog' is left without clips: none of its 3 can be used; the first: "
        f"{clips / 'dog' / '0.wav'} cannot be read: No such file or directory"
    )
    with pytest.raises(AudioError, match=f"^{re.escape(message)}$"):
        embed(clips)


def test_a_clip_that_changes_while_it_is_read_is_not_kept_under_its_old_content(
    clips: Path,
) -> None:
    clip = clips / "cat" / "0.wav"
    with pytest.raises(AudioError, match=r"0\.wav has changed while it was read; start again$"):
        _embed_clip("logmel", clip, hashlib.sha256(b"before").hexdigest())
    with pytest.raises(AudioError, match=r"none\.wav cannot be read: No such file or directory$"):
        _embed_clip("logmel", clips / "none.wav", "")
    kept = _embed_clip("logmel", clip, hashlib.sha256(clip.read_bytes()).hexdigest())
    assert kept.x.dtype == np.float16
    assert not kept.is_silent


# --- silence, and clips that stand twice ---


@pytest.mark.slow
def test_silent_clips_are_embedded_and_named(clips: Path) -> None:
    soundfile.write(clips / "cat" / "7.wav", np.zeros(400), 8000)
    soundfile.write(clips / "cat" / "8.wav", np.zeros(1), 8000)
    with pytest.warns(UserWarning, match="2 clips are silent: all of their samples are zero:"):
        embedded = embed(clips)
    assert embedded.silent == ("cat/7.wav", "cat/8.wav")
    assert np.isfinite(embedded.data.x).all()
    assert len(embedded.data.y) == 8
    # The cache knows it, too.
    with pytest.warns(UserWarning, match="2 clips are silent"):
        again = embed(clips)
    assert (again.n_made, again.silent) == (0, embedded.silent)


@pytest.mark.parametrize(
    ("y", "fold", "group", "expected"),
    [
        ([0, 0], [1, 1], None, []),
        ([0, 0], [1, 2], None, ["clip 0 (class 0, fold 1) = clip 1 (class 0, fold 2)"]),
        ([0, 1], [1, 1], None, ["clip 0 (class 0, fold 1) = clip 1 (class 1, fold 1)"]),
        ([0, 0], None, ["a", "a"], []),
        ([0, 0], None, ["a", "b"], ["clip 0 (class 0) = clip 1 (class 0)"]),
        ([0, 0], None, None, ["clip 0 (class 0) = clip 1 (class 0)"]),
    ],
)
def test_twins_are_named_where_a_class_or_a_split_parts_them(
    make_set: Callable[..., EmbeddingSet],
    y: list[int],
    fold: list[int] | None,
    group: list[str] | None,
    expected: list[str],
) -> None:
    columns = {
        key: None if value is None else np.array([*value, value[0]])
        for key, value in (("fold", fold), ("group", group))
    }
    data = make_set(np.zeros((3, 2)), np.array([*y, 1]), **columns)
    assert parted_twins(data, ["same", "same", "other"]) == expected
    assert parted_twins(data, ["one", "two", "three"]) == []


# --- processes ---


def test_at_least_one_process_is_needed(clips: Path) -> None:
    with pytest.raises(ConfigError, match="`workers >= 1` must hold, but got workers=0"):
        embed(clips, workers=0)
