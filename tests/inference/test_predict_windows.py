"""``qwave predict`` on long recordings and on sound that is still arriving."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import REPOSITORY
from tests.inference.sounds import RATE, make_sound, write_clip

Predict = Callable[..., tuple[int, str, str]]


# --- windows ---


def test_windows_segments_labels_and_the_picture_of_a_long_recording(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "day.wav", 0, 1, seconds=10.0)
    picture, labels = tmp_path / "t.png", tmp_path / "l.txt"
    files = ("--timeline", picture, "--audacity", labels)
    code, out, err = predict(model, clip, "--window", 5, "--hop", 2.5, "--json", *files)
    assert (code, err) == (0, "")
    (entry,) = json.loads(out)["clips"]
    assert entry["path"] == str(clip)
    starts = [window["start"] for window in entry["windows"]]
    assert starts == [0.0, 2.5, 5.0, 7.5, 10.0, 12.5, 15.0]
    assert [window["end"] for window in entry["windows"]] == [start + 5 for start in starts]
    assert entry["windows"][0]["label"] == "hum"
    assert entry["windows"][-1]["label"] == "whistle"
    assert set(entry["windows"][0]) > {"probability", "is_unsure", "curiosity", "top", "route"}
    segments = entry["segments"]
    assert (segments[0]["start"], segments[-1]["end"]) == (0.0, 20.0)
    assert [
        f"{s['start']:.6f}\t{s['end']:.6f}\t{s['label']}" + " (unsure)" * s["is_unsure"]
        for s in segments
    ] == labels.read_text().splitlines()
    assert picture.read_bytes().startswith(b"\x89PNG")

    code, out, _ = predict(model, clip, "--hop", 2.5)
    heading, *rows = out.splitlines()
    assert "start (s)    end (s)" in heading
    assert [float(row.split()[1]) for row in rows] == starts


def test_a_window_that_the_encoder_cannot_hear_whole_is_noted(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a.wav", 2, seconds=8.0)
    _, _, err = predict(model, clip, "--window", 8)
    assert err == ("note: the encoder hears 5 s: of each window of 8 s the rest is left out\n")


def test_several_recordings_have_a_file_each(predict: Predict, model: Path, clips: Path) -> None:
    labels = clips.parent / "labels.txt"
    assert predict(model, clips, "--window", 5, "--audacity", labels)[0] == 0
    written = sorted(path.name for path in clips.parent.glob("labels*"))
    assert written == ["labels_1.txt", "labels_2.txt", "labels_c.txt"]
    assert (clips.parent / "labels_2.txt").read_text() == "0.000000\t5.000000\twhistle\n"
    write_clip(clips / "1.wav", 0)
    code, out, err = predict(model, clips, "--window", 5, "--audacity", labels)
    assert (code, out) == (2, "")
    assert "--audacity writes one file a recording" in err
    assert "several are called '1'" in err


# --- sound on stdin ---


def wav_bytes(*labels: int) -> bytes:
    stream = io.BytesIO()
    sound = np.concatenate([make_sound(label, 5.0, 100 + i) for i, label in enumerate(labels)])
    soundfile.write(stream, sound, RATE, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def test_a_stream_has_the_predictions_of_the_file_of_its_bytes(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    content = wav_bytes(0, 1)
    (tmp_path / "a.wav").write_bytes(content)
    expected = json.loads(predict(model, tmp_path / "a.wav", "--hop", 2.5, "--json")[1])
    code, out, err = predict(model, "-", "--hop", 2.5, "--json", stdin=content)
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == expected["clips"][0]["windows"]
    raw = predict(model, "-", "--raw", RATE, "--hop", 2.5, "--json", stdin=content[44:])
    assert raw == (0, out, "")


def test_a_stream_without_options_is_cut_into_clips(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "l.txt"
    code, out, _ = predict(model, "-", "--audacity", labels, stdin=wav_bytes(1, 2, 0))
    assert code == 0
    heading, *rows = out.splitlines()
    assert heading.split()[:2] == ["start", "(s)"]
    assert [row.split()[:3] for row in rows] == [
        ["0.00", "5.00", "whistle"],
        ["5.00", "10.00", "noise"],
        ["10.00", "15.00", "hum"],
    ]
    assert len(labels.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "stdin is no WAV stream: it is empty"),
        (wav_bytes(0)[:44], "stdin: the stream has no samples"),
    ],
)
def test_a_stream_that_is_no_sound_is_wrong_input(
    predict: Predict, model: Path, content: bytes, message: str
) -> None:
    code, _, err = predict(model, "-", stdin=content)
    assert code == 2
    assert f"error: {message}" in err


@pytest.mark.slow
def test_live_sound_is_answered_as_it_arrives_and_ctrl_c_ends_it(
    model: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "l.txt"
    command = ["predict", str(model), "-", "--json", "--audacity", str(labels)]
    code = f"import sys; from qwave.cli import main; sys.exit(main({command!r}))"
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = threading.Timer(60, process.kill)  # an answer that never comes is a failure
    watchdog.start()
    assert process.stdin is not None
    assert process.stdout is not None
    content = wav_bytes(0, 1)
    window = 44 + 2 * 5 * RATE
    # A tenth of a second more than the first window: what the resampler holds back.
    process.stdin.write(content[: window + RATE // 5])
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["label"] == "hum"  # the stream is still open
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    watchdog.cancel()
    assert (process.returncode, out, err) == (130, b"", b"stopped\n")
    assert labels.read_text() == "0.000000\t5.000000\thum\n"


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_it_without_a_word(model: Path, clips: Path) -> None:
    command = ["predict", str(model), str(clips)]
    code = f"import sys; from qwave.cli import main; sys.exit(main({command!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141
