"""`studies.encoders`: probes that see what they may, a choice that is not made on what it is
reported on, and the study itself on a small folder."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression

from qwave.scores.evaluate import clustered_standard_error
from studies import encoders
from studies.encoders import study
from studies.encoders.linear_probe import choose, choose_by_fold, probe


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three overlapping classes in four folds: x [48, 60], y, fold."""
    rng = np.random.default_rng(5)
    y = np.tile(np.arange(3), 16)
    x = rng.normal(size=(3, 60))[y] * 0.5 + rng.normal(size=(48, 60))
    return x, y, np.repeat([1, 2, 4, 7], 12)


def test_probes_are_those_of_a_plain_loop(
    clouds: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, fold = clouds
    hits = probe(x, y, fold)
    values = [1, 2, 4, 7]
    for a, b in itertools.permutations(range(4), 2):
        is_train = (fold != values[a]) & (fold != values[b])
        model = LogisticRegression(C=1.0, max_iter=1000).fit(x[is_train], y[is_train])
        is_b = fold == values[b]
        expected = model.predict(x[is_b]) == y[is_b]
        np.testing.assert_array_equal(hits.inner[a, is_b], expected)
    for a, value in enumerate(values):
        is_a = fold == value
        model = LogisticRegression(C=1.0, max_iter=1000).fit(x[~is_a], y[~is_a])
        np.testing.assert_array_equal(hits.outer[is_a], model.predict(x[is_a]) == y[is_a])
        assert np.isnan(hits.inner[a, is_a]).all()
    assert 0.4 < hits.outer.mean() < 1, "neither chance nor certainty: something can go wrong"


def test_inner_scores_know_nothing_of_their_fold(
    clouds: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, fold = clouds
    before = probe(x, y, fold)
    is_first = fold == 1
    x[is_first] = np.random.default_rng(6).normal(size=(12, 60))
    after = probe(x, y, fold)
    np.testing.assert_array_equal(before.inner[0], after.inner[0])
    assert not np.array_equal(before.inner[1], after.inner[1], equal_nan=True)


def test_the_fastest_within_one_standard_error_is_chosen() -> None:
    best = np.ones(100)
    best[:3] = 0
    close, far = np.ones(100), best.copy()
    close[-5:] = 0  # behind by 0.02, with a standard error of 0.028
    far[-5:] = 0  # by 0.05, with one of 0.022
    milliseconds = np.array([30.0, 20.0, 10.0])
    assert clustered_standard_error(best - close, None) == pytest.approx(0.0283, abs=1e-4)
    assert clustered_standard_error(best - far, None) == pytest.approx(0.0219, abs=1e-4)
    assert choose(np.stack([best, close, far]), milliseconds, None) == 1
    assert choose(np.stack([best, far, close]), milliseconds, None) == 2
    assert choose(np.stack([far, best, far]), milliseconds, None) == 1


def test_clips_of_one_recording_count_as_one() -> None:
    best, other = np.ones(100), np.ones(100)
    other[:4] = 0
    inner, milliseconds = np.stack([best, other]), np.array([2.0, 1.0])
    assert choose(inner, milliseconds, None) == 0, "0.04, two standard errors of 0.02"
    assert choose(inner, milliseconds, np.arange(100) // 4) == 1, "one recording of 25"


def test_among_equals_the_fastest_is_chosen_and_then_the_first() -> None:
    same = np.tile(np.arange(10) % 2, (3, 1)).astype(float)
    assert choose(same, np.array([3.0, 1.0, 1.0]), None) == 1


def test_a_fold_is_not_asked_what_to_choose_for_it() -> None:
    fold = np.repeat([1, 2], 50)
    # The slow variant is right, the fast one wrong, on fold 1 alone.
    inner = np.ones((2, 2, 100))
    inner[1, :, fold == 1] = 0
    milliseconds = np.array([2.0, 1.0])
    assert choose_by_fold(inner, milliseconds, fold, None) == [1, 0]


@pytest.fixture
def esc10(tmp_path: Path) -> Path:
    """Three classes of hums, of other pitches, in the published layout of ESC-10."""
    rng = np.random.default_rng(3)
    time = np.arange(8000) / 16_000
    for label, (name, pitch) in enumerate([("Low", 200.0), ("Middle", 900.0), ("High", 4000.0)]):
        folder = tmp_path / "esc10" / f"{label + 1:03d} - {name}"
        folder.mkdir(parents=True)
        for fold, take in itertools.product(range(1, 4), range(3)):
            sound = np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time)
            sound += 0.1 * rng.normal(size=len(time))
            file = folder / f"{fold}-{1000 * label + 10 * fold + take}-A.wav"
            soundfile.write(file, 0.3 * sound, 16_000)
    return tmp_path / "esc10"


@pytest.mark.slow
def test_the_study_runs_and_a_second_time_embeds_nothing(
    esc10: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ["logmel", "lite0, 96x256, 60 dB, last block"]
    arguments = [str(esc10), "--variants", *names, "--store", str(tmp_path / "store"), "--json"]
    assert encoders.main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert list(first["variants"]) == names
    assert first["chosen"] in names
    assert len(first["chosen_by_fold"]) == 3
    assert 0.5 < first["nested_accuracy"] <= 1
    assert first["variants"]["logmel"]["num_features"] == 384
    small = first["variants"][names[1]]
    assert small["num_features"] == 320
    assert 320 * 3 / 8 < small["size_bytes"] < 1000
    assert small["milliseconds"] > 0
    table = (tmp_path / "store" / "reports" / "encoders" / "encoders.csv").read_text()
    assert table.count("\n") == 3
    assert "its accuracy" in table.splitlines()[0].replace("_", " ")

    def refuse(*_: object) -> np.ndarray:
        raise AssertionError("everything is in the cache")

    monkeypatch.setattr(study, "milliseconds_of", lambda *_: 1.0)
    monkeypatch.setattr(study, "embed_waveforms", refuse)
    assert encoders.main(arguments) == 0
    second = json.loads(capsys.readouterr().out)
    for name in names:
        assert (
            second["variants"][name]["inner_accuracy"]
            == (first["variants"][name]["inner_accuracy"])
        )


def test_an_unknown_variant_is_named(esc10: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encoders.main([str(esc10), "--variants", "logmell"]) == 2
    assert "no variant 'logmell' (did you mean 'logmel'?)" in capsys.readouterr().err


def test_clips_without_folds_are_refused(
    esc10: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place, file in enumerate(sorted(esc10.rglob("*.wav"))):
        file.rename(file.with_name(f"clip{place}.wav"))
    assert encoders.main([str(esc10), "--variants", "logmel"]) == 2
    assert "CLIPS must have official folds, three or more" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists(), "it was found out before a clip was embedded"


def test_a_variant_without_weights_is_left_out(
    esc10: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = [str(esc10), "--store", str(tmp_path / "store"), "--variants"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert encoders.main([*arguments, "lite2"]) == 2
    printed = capsys.readouterr().err
    assert "lite2: left out: the weights of efficientnet-lite2 are not installed" in printed
    assert "no variant is left" in printed
