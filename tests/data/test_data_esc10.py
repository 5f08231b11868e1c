"""The bundled ESC-10 embeddings are the published set, and every clip is attributed."""

from __future__ import annotations

import csv
import importlib.resources

import numpy as np
import pytest

from qwave.data import EmbeddingSet, load_embeddings


@pytest.fixture(scope="module")
def esc10() -> EmbeddingSet:
    return load_embeddings("esc10")


def test_esc10_has_400_clips_40_a_class_80_a_fold_and_304_recordings(esc10: EmbeddingSet) -> None:
    assert esc10.x.shape == (400, 1280)
    assert esc10.x.dtype == np.float32
    assert np.isfinite(esc10.x).all()
    assert esc10.y.dtype == np.int64
    assert esc10.num_classes == len(set(esc10.class_names)) == 10
    assert np.bincount(esc10.y).tolist() == [40] * 10
    assert esc10.fold is not None
    values, counts = np.unique(esc10.fold, return_counts=True)
    assert values.tolist() == [1, 2, 3, 4, 5]
    assert counts.tolist() == [80] * 5
    assert len(set(esc10.names)) == 400
    assert esc10.group is not None
    assert len(set(esc10.group.tolist())) == 304


def test_no_recording_of_esc10_spans_two_folds(esc10: EmbeddingSet) -> None:
    assert esc10.group is not None
    assert esc10.fold is not None
    for recording in set(esc10.group.tolist()):
        assert len(set(esc10.fold[esc10.group == recording].tolist())) == 1, recording


def test_folds_and_recordings_of_esc10_are_those_in_its_published_names(
    esc10: EmbeddingSet,
) -> None:
    assert esc10.fold is not None
    assert esc10.group is not None
    for name, fold, recording in zip(esc10.names, esc10.fold, esc10.group, strict=True):
        parts = name.split("-")
        assert parts[0] == str(fold), name
        assert parts[1] == str(recording), name


def test_the_digest_of_esc10_is_pinned(esc10: EmbeddingSet) -> None:
    assert esc10.digest == "6057068d5b2afda1"
    assert load_embeddings().digest == esc10.digest


def test_each_clip_of_esc10_is_attributed_and_nothing_else_is(esc10: EmbeddingSet) -> None:
    folder = importlib.resources.files("qwave.data") / "esc10"
    text = (folder / "attribution.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    stem = [row["clip"].rsplit(".", 1)[0] for row in rows]
    ours = [name.rsplit(".", 1)[0] for name in esc10.names]
    assert sorted(stem) == sorted(ours)
    for row in rows:
        assert row["author"], row
        assert row["licence"], row
        assert row["source"].startswith("http"), row
