"""What a model says of sound is what it says of the embeddings of that sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from qwave.audio.decode import read_clip
from qwave.audio.encoders import embed_waveforms
from qwave.audio.stream import Window, stream_windows
from qwave.inference import predict_clip, predict_windows, route_of, top_classes
from qwave.runtime import PackedClassifier
from tests.inference.examples import (
    CLASS_NAMES,
    RATE,
    Bands,
    tone,
    train_model,
    with_header,
    write_tones,
)

ENCODER = Bands()


@pytest.fixture
def model() -> PackedClassifier:
    return PackedClassifier(train_model())


def windows_of(waveform: np.ndarray, window: float, hop: float) -> list[Window]:
    return list(stream_windows([waveform], RATE, window, hop))


def test_a_clip_is_the_examination_of_its_embedding(
    model: PackedClassifier, tmp_path: Path
) -> None:
    path = write_tones(tmp_path / "tone.wav", [1])
    x = embed_waveforms(ENCODER, read_clip(path, RATE)[None])
    expected, said = model.examine(x), predict_clip(model, ENCODER, path)
    np.testing.assert_array_equal(said.probabilities, expected.probabilities[0])
    np.testing.assert_array_equal(said.gates, expected.gates[0])
    assert said.mutual_information == expected.mutual_information[0]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.6])
def test_clips_are_looped_or_cut_as_in_training(
    model: PackedClassifier, tmp_path: Path, seconds: float
) -> None:
    sound = tone(0, seconds, np.random.default_rng(3))
    path = tmp_path / "clip.wav"
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    said = predict_clip(model, ENCODER, path)
    heard = np.tile(sound, 4)[:RATE]
    expected = model.predict_proba(embed_waveforms(ENCODER, heard[None]))[0]
    np.testing.assert_array_equal(said.probabilities, expected)
    assert said.end_seconds == pytest.approx(seconds)


def test_each_window_is_predicted_as_if_it_were_a_clip(
    model: PackedClassifier, tmp_path: Path
) -> None:
    rng = np.random.default_rng(8)
    sound = np.concatenate([tone(label, 1.0, rng) for label in (0, 2, 1)])[:2800]
    found = list(predict_windows(model, ENCODER, windows_of(sound, 1.0, 0.5)))
    assert [window.start_seconds for window in found] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found[-1].end_seconds == 2.8
    for window in found:
        start, end = round(window.start_seconds * RATE), round(window.end_seconds * RATE)
        path = tmp_path / "piece.wav"
        soundfile.write(path, sound[start:end], RATE, subtype="FLOAT")
        alone = predict_clip(model, ENCODER, path)
        np.testing.assert_array_equal(window.probabilities, alone.probabilities)
        assert window.mutual_information == alone.mutual_information


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_change_nothing(model: PackedClassifier, batch_size: int) -> None:
    sound = np.random.default_rng(1).normal(size=9000).astype(np.float32)
    windows = windows_of(sound, 1.0, 0.7)
    expected = list(predict_windows(model, ENCODER, windows))
    found = list(predict_windows(model, ENCODER, windows, batch_size=batch_size))
    assert len(found) == len(expected) == len(windows)
    for one, other in zip(found, expected, strict=True):
        assert one[:6] == other[:6]
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        np.testing.assert_array_equal(one.gates, other.gates)


def test_unsure_is_what_lies_below_the_threshold(tmp_path: Path) -> None:
    path = write_tones(tmp_path / "tone.wav", [0])
    packed = train_model()
    probability = predict_clip(PackedClassifier(packed), ENCODER, path).probability
    for threshold, expected in [
        (0.0, False),
        (probability - 1e-6, False),
        (probability, False),
        (probability + 1e-6, True),
        (1 - 2**-16, True),
    ]:
        model = PackedClassifier(with_header(packed, sure_probability=threshold))
        said = predict_clip(model, ENCODER, path)
        assert said.is_unsure is expected, f"{threshold=} {probability=}"


def test_top_classes_are_the_likeliest_first(model: PackedClassifier, tmp_path: Path) -> None:
    said = predict_clip(model, ENCODER, write_tones(tmp_path / "tone.wav", [1]))
    everything = top_classes(model, said, 99)
    assert [name for name, _ in everything][0] == said.label
    shares = [share for _, share in everything]
    assert shares == sorted(shares, reverse=True)
    assert dict(everything) == dict(zip(CLASS_NAMES, said.probabilities.tolist(), strict=True))
    assert top_classes(model, said, 2) == everything[:2]


@pytest.mark.parametrize(
    ("schemes", "top_k", "n_used"),
    [(("int8",), 1, 0), (("int1", "int4"), 1, 1), (("int1", "int4"), 2, 2)],
)
def test_the_route_names_the_experts_that_were_used(
    schemes: tuple[str, ...], top_k: int, n_used: int, tmp_path: Path
) -> None:
    model = PackedClassifier(train_model(schemes, top_k))
    said = predict_clip(model, ENCODER, write_tones(tmp_path / "tone.wav", [0]))
    route = route_of(model, said)
    assert len(route) == n_used
    assert sum(gate for _, _, gate in route) == pytest.approx(1.0 if n_used else 0.0)
    assert [gate for _, _, gate in route] == sorted((g for *_, g in route), reverse=True)
    for expert, scheme, gate in route:
        assert schemes[expert] == scheme
        assert said.gates[expert] == gate
