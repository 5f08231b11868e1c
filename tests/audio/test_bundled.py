"""The embeddings of ESC-10 that ship are what the default encoder says of the recordings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from qwave.audio import embed_waveforms, fit_length, make_encoder, read_clip, read_source
from qwave.data import load_embeddings, normalize_clips

REPOSITORY = Path(__file__).resolve().parents[2]
BESIDE = REPOSITORY.parent / "shared" / "data" / "esc10" / "audio"


@pytest.fixture(scope="module")
def recordings() -> Path:
    """The folder of ESC-10's clips, which do not ship."""
    folder = Path(os.environ.get("QWAVE_ESC10_AUDIO") or BESIDE)
    if not folder.is_dir():
        pytest.skip(f"no recordings of ESC-10 in {folder}; QWAVE_ESC10_AUDIO may name a folder")
    return folder


@pytest.mark.slow
def test_the_bundled_embeddings_are_made_again_from_the_recordings(recordings: Path) -> None:
    bundled, table = load_embeddings("esc10"), read_source(recordings)
    encoder = make_encoder("efficientnet-lite0")
    rows = {Path(name).name: row for row, name in enumerate(bundled.names)}
    assert len(table.clips) == len(rows) == 400
    num_samples = round(encoder.clip_seconds * encoder.sample_rate)
    for clip in table.clips[::4]:  # of every class and fold; all of them take a minute
        row = rows[clip.path.name]
        assert clip.fold is not None
        assert bundled.fold is not None
        assert clip.fold == bundled.fold[row]
        waveform = fit_length(read_clip(clip.path, encoder.sample_rate), num_samples)
        x, shipped = embed_waveforms(encoder, waveform[None])[0], bundled.x[row]
        cosine = x @ shipped / np.linalg.norm(x) / np.linalg.norm(shipped)
        assert cosine >= 0.9999, (clip.name, cosine)
        np.testing.assert_allclose(x, shipped, atol=0.02, err_msg=clip.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("normalization", "least"), [("standard", 0.915), ("layer", 0.92), ("sqrt_layer", 0.93)]
)
def test_logistic_regression_on_the_official_folds_is_as_accurate_as_ever(
    normalization: str, least: float
) -> None:
    data = load_embeddings("esc10")
    assert data.fold is not None
    correct = 0
    for fold in np.unique(data.fold):
        is_test = data.fold == fold
        if normalization == "standard":
            x = StandardScaler().fit(data.x[~is_test]).transform(data.x)
        else:
            x = normalize_clips(data.x, normalization)
        model = LogisticRegression(C=1, max_iter=1000).fit(x[~is_test], data.y[~is_test])
        correct += int((model.predict(x[is_test]) == data.y[is_test]).sum())
    assert correct / len(data.y) >= least
