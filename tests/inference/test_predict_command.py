"""``qwave predict`` on clips, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwave.audio import encoder_identity
from qwave.audio.decode import read_clip
from qwave.audio.encoders import embed_waveforms, make_encoder
from qwave.packing import PackedModel
from qwave.runtime import load_packed, save_packed
from tests.inference.examples import with_header
from tests.inference.sounds import CLASS_NAMES, train, write_clip

HEAVY = ("torch", "numpy", "soundfile", "soxr", "matplotlib", "transformers", "mlflow")
Predict = Callable[..., tuple[int, str, str]]


# --- clips ---


def test_a_clip_has_a_row_with_its_label_its_route_and_what_else_it_may_be(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a.wav", 1)
    code, out, err = predict(model, clip)
    assert (code, err) == (0, "")
    heading, row = out.splitlines()
    assert heading.split("  ")[0] == "clip"
    for column in ("label", "probability (%)", "unsure", "curiosity (nats)", "route", "also (%)"):
        assert column in heading
    assert row.startswith(f"{clip}  whistle")
    assert "int1 0." in row
    assert " + " in row
    assert heading.index("route") == row.index("int")
    assert heading.index("also") in (row.index("hum"), row.index("noise"))
    shares = [float(number) for number in re.findall(r"(?:whistle|hum|noise) +([0-9.]+)", row)]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert len(predict(model, clip, "--top", 1)[1].splitlines()[0]) < len(heading)


def test_json_says_what_the_model_says_of_the_embedding(
    predict: Predict, model: Path, clips: Path
) -> None:
    code, out, err = predict(model, clips, "--json", "--top", "2")
    assert (code, err) == (0, "")
    said = json.loads(out)
    encoder, classifier = make_encoder("logmel"), load_packed(model)
    assert {key: said[key] for key in said if key != "clips"} == {
        "model": str(model),
        "encoder": encoder_identity(encoder),
        "class_names": list(CLASS_NAMES),
        "sure_probability": 0.5,
        "failed": [],
    }
    files = [clips / "b" / "1.wav", clips / "b" / "2.flac", clips / "c.wav"]
    assert [entry["path"] for entry in said["clips"]] == [str(file) for file in files]
    for entry, file in zip(said["clips"], files, strict=True):
        x = embed_waveforms(encoder, read_clip(file, encoder.sample_rate)[None])
        expected = classifier.examine(x)
        probabilities, gates = expected.probabilities[0].tolist(), expected.gates[0].tolist()
        best = int(np.argmax(probabilities))
        assert entry["label"] == CLASS_NAMES[best]
        assert entry["probability"] == probabilities[best]
        assert entry["is_unsure"] is (probabilities[best] < 0.5)
        assert entry["curiosity"] == expected.mutual_information[0]
        assert entry["top"][0] == {"label": entry["label"], "probability": probabilities[best]}
        assert [top["probability"] for top in entry["top"]] == sorted(probabilities)[:0:-1]
        assert {r["expert"]: r["gate"] for r in entry["route"]} == dict(enumerate(gates))
        assert {r["expert"]: r["scheme"] for r in entry["route"]} == {0: "int1", 1: "int4"}
        assert entry["seconds"] == 5.0
    assert [entry["label"] for entry in said["clips"]] == ["noise", "whistle", "hum"]


def test_damaged_clips_are_named_and_skipped(
    predict: Predict, model: Path, clips: Path, tmp_path: Path
) -> None:
    (clips / "a.wav").write_bytes(b"")
    (clips / "d.ogg").write_text("no sound")
    code, out, err = predict(model, clips)
    assert code == 1
    assert len(out.splitlines()) == 1 + 3
    assert f"error: {clips / 'a.wav'} is empty" in err
    assert f"error: {clips / 'd.ogg'} is not wav" in err
    assert "note: 2 of 5 clips could not be decoded" in err
    said = json.loads(predict(model, clips, "--json")[1])
    assert [entry["path"] for entry in said["failed"]] == [
        str(clips / "a.wav"),
        str(clips / "d.ogg"),
    ]
    assert "is empty" in said["failed"][0]["fault"]
    assert len(said["clips"]) == 3
    code, out, err = predict(model, clips / "a.wav", clips / "d.ogg")
    assert (code, out) == (2, "")
    assert "note: 2 of 2 clips could not be decoded" in err


def test_an_unsure_clip_says_so_unless_the_model_has_no_threshold(
    predict: Predict, packed: PackedModel, tmp_path: Path, clips: Path
) -> None:
    careful, bold = tmp_path / "careful.qwave", tmp_path / "bold.qwave"
    save_packed(with_header(packed, sure_probability=1 - 2**-16), careful)
    _, out, err = predict(careful, clips)
    assert [" unsure " in row for row in out.splitlines()[1:]] == [True] * 3
    assert err == ""
    assert json.loads(predict(careful, clips, "--json")[1])["clips"][0]["is_unsure"] is True
    save_packed(with_header(packed, sure_probability=0.0), bold)
    code, out, err = predict(bold, clips)
    assert code == 0
    assert " unsure " not in out
    assert err.count("no threshold below which it is unsure: none was fitted") == 1


def test_a_plain_network_has_no_route(predict: Predict, tmp_path: Path) -> None:
    save_packed(with_header(train(("int8",)), sure_probability=0.5), tmp_path / "plain.qwave")
    clip = write_clip(tmp_path / "a.wav", 2)
    code, out, _ = predict(tmp_path / "plain.qwave", clip)
    assert code == 0
    assert "route" not in out
    said = json.loads(predict(tmp_path / "plain.qwave", clip, "--json")[1])
    assert said["clips"][0]["route"] == []


def test_a_clip_much_longer_than_the_encoder_hears_is_noted(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    long = write_clip(tmp_path / "long.wav", 0, 1)
    nearly = write_clip(tmp_path / "nearly.wav", 0, seconds=7.4)
    code, out, err = predict(model, long, nearly)
    assert code == 0
    assert err == (
        f"note: 1 of 2 clips, {long} for one, were cut to the 5 s that the encoder hears; "
        "--window 5 hears all of a recording\n"
    )
    assert predict(model, long)[2] == (
        f"note: {long} was cut to the 5 s that the encoder hears; "
        "--window 5 hears all of a recording\n"
    )
    assert predict(model, nearly)[2] == ""


def test_names_of_any_kind_stay_on_one_line(
    predict: Predict, packed: PackedModel, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.qwave"
    save_packed(with_header(packed, class_names=("a\nb", "c\td", "e\x1b[2J")), odd)
    clip = write_clip(tmp_path / "x\ny.wav", 0)
    code, out, _ = predict(odd, clip)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "\\x1b[2J" in out
    assert "x\\ny.wav  a\\nb " in out
    assert json.loads(predict(odd, clip, "--json")[1])["clips"][0]["label"] == "a\nb"


# --- wrong input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.wav"], "error: nowhere.wav: there is no such file or folder"),
        (["a.wav", "-"], r"- (sound on stdin) must be the only CLIP"),
        (["a.wav", "--raw", "16000"], "--raw RATE is about sound on stdin"),
        (["a.wav", "--top", "0"], "--top must be at least 1, but is 0"),
        ([""], "error: a CLIP is empty: name a recording, a folder, or - for sound on stdin"),
        (["a.wav", "--window", "1e308"], "--window must be 0.001 to 86400 seconds, but is 1e+308"),
        (["a.wav", "--hop", "nan"], "--hop must be 0.001 to 86400 seconds, but is nan"),
        (["a.wav", "--timeline", "t.png"], "--timeline needs windows: --window 5 --hop 2.5"),
        (["-", "--timeline", "t.jpg"], "the picture's name must end in .png"),
        (["-", "--audacity", "no/l.txt"], "--audacity no/l.txt: there is no folder no"),
        (["-", "--raw", "7"], "stdin: 7 samples a second (allowed: 100 to 768000)"),
        (["a.wav", "--encoder", "logmle"], "logmle"),
    ],
)
def test_wrong_arguments_end_it_before_any_sound_is_read(
    predict: Predict,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_text("no sound")
    code, out, err = predict(model, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "begins with b'no sound'" not in err


def test_another_encoder_than_the_models_is_refused_before_any_sound_is_read(
    predict: Predict, packed: PackedModel, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    other, unnamed = tmp_path / "other.qwave", tmp_path / "unnamed.qwave"
    save_packed(with_header(packed, encoder="logmel@00000000"), other)
    code, out, err = predict(other, tmp_path / "a.wav")
    assert (code, out) == (2, "")
    assert "trained on embeddings of logmel@00000000, but the encoder here is logmel@" in err
    save_packed(with_header(packed, encoder=""), unnamed)
    code, _, err = predict(unnamed, tmp_path / "a.wav")
    assert code == 2
    assert "error: the model does not say which encoder" in err
    clip = write_clip(tmp_path / "b.wav", 1)
    code, out, err = predict(unnamed, clip, "--encoder", "logmel")
    assert code == 0
    assert "whistle" in out
    assert err.count("note: the model does not say which encoder") == 1


def test_a_folder_without_clips_and_a_file_that_is_no_model_are_wrong_input(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = predict(model, tmp_path / "empty")
    assert code == 2
    assert "empty: no clips in this folder or below it; a clip's name ends in .wav" in err
    clip = write_clip(tmp_path / "a.wav", 0)
    code, _, err = predict(clip, clip)
    assert code == 2
    assert "a.wav" in err


@pytest.mark.slow
def test_help_and_wrong_input_load_nothing_heavy(fresh_python: Callable[..., str]) -> None:
    code = (
        "import sys\n"
        "from qwave.cli import main\n"
        "try:\n"
        "    main(['predict', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    said = fresh_python(code)
    assert said.splitlines()[-1] == "[]"
    for option in ("--top", "--json", "--window", "--hop", "--encoder", "--timeline", "--raw"):
        assert option in said
