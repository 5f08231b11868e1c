"""`studies.latency`: every runtime predicts what PyTorch does, and every call is timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qwave.config import SCHEMES
from qwave.data import EmbeddingSet, load_embeddings
from qwave.packing import from_bytes, to_bytes
from studies import latency
from studies.latency import contenders, study
from studies.latency.cold_start import cold_starts
from studies.latency.contenders import Layer
from studies.latency.study import BASELINE, Effort, Latency

HIDDEN = (48, 32)


@pytest.fixture(scope="module")
def data() -> EmbeddingSet:
    return load_embeddings("esc10")


@pytest.fixture(scope="module")
def layers(data: EmbeddingSet) -> list[Layer]:
    return contenders.float_layers(data, HIDDEN, 8)


def test_the_float_network_is_trained_and_has_the_widths_asked_for(
    layers: list[Layer], data: EmbeddingSet
) -> None:
    assert [layer.weight.shape for layer in layers] == [(48, 1280), (32, 48), (10, 32)]
    predicted = contenders.torch_float(layers)(data.x).argmax(axis=1)
    assert (predicted == data.y).mean() > 0.8


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("onnxruntime fp32", 1e-5),
        ("torch dynamic int8", 0.1),
        ("onnxruntime dynamic int8", 0.1),
        ("onnxruntime MatMulNBits 4 bits", 0.4),
        ("qwave int8, model.onnx", 0.1),
        ("qwave fp32, numpy", 2e-3),  # biases are rounded to float16
        ("qwave int16, numpy", 2e-3),
        ("qwave int8, numpy", 0.1),
        ("qwave int4, numpy", 0.4),
    ],
)
def test_all_runtimes_have_the_same_weights(
    layers: list[Layer], data: EmbeddingSet, name: str, most: float
) -> None:
    runtimes, _ = study.all_runtimes(layers, data)
    expected, found = runtimes[BASELINE](data.x), runtimes[name](data.x)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < most
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


def test_every_scheme_is_there_with_the_length_of_its_file(
    layers: list[Layer], data: EmbeddingSet
) -> None:
    runtimes, sizes = study.all_runtimes(layers, data)
    for scheme in SCHEMES:
        name = f"qwave {scheme}, numpy"
        content = to_bytes(contenders.packed_model(layers, scheme, data))
        assert sizes[name] == len(content)
        assert name in runtimes
        assert from_bytes(content, "file").header.model.schemes == (scheme,)


def test_every_call_is_timed_at_every_batch_size(data: EmbeddingSet) -> None:
    seen: dict[str, set[int]] = {"one": set(), "two": set()}

    def runtime(name: str) -> contenders.Predict:
        def predict(x: np.ndarray) -> np.ndarray:
            assert x.flags.c_contiguous
            seen[name].add(len(x))
            return x

        return predict

    found = study.measure({name: runtime(name) for name in seen}, data.x, Effort(2, 0.001))
    assert seen == {"one": {1, 8, 64}, "two": {1, 8, 64}}
    for by_batch in found.values():
        assert list(by_batch) == [1, 8, 64]
        assert all(0 < value.median <= value.p95 for value in by_batch.values())


def test_median_percentile_and_ratio_are_those_worked_out_by_hand() -> None:
    assert study.latency_of([1e-6 * value for value in range(1, 102)]) == pytest.approx((51, 96))
    found = {BASELINE: {1: Latency(80, 90)}, "other": {1: Latency(20, 30)}}
    assert study.ratio(found, "other", 1) == 4
    assert study.ratio(found, BASELINE, 1) == 1


@pytest.mark.slow
def test_processes_start_from_a_file_and_tell_seconds_and_memory(
    layers: list[Layer], data: EmbeddingSet
) -> None:
    found = {start.name: start for start in cold_starts(layers, data, n_rounds=1)}
    assert set(found) >= {"qwave int4, numpy", "torch fp32"}
    for start in found.values():
        assert 0 < start.seconds < start.process_seconds
        assert 2**20 < start.peak_bytes < 2**33
    assert found["qwave int4, numpy"].peak_bytes < found["torch fp32"].peak_bytes


def test_a_process_that_fails_is_named_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch, layers: list[Layer], data: EmbeddingSet
) -> None:
    monkeypatch.setattr("studies.latency.cold_start._QWAVE", "raise ValueError('no such thing')")
    with pytest.raises(RuntimeError, match="(?s)qwave int4, compiled failed: .*no such thing"):
        cold_starts(layers, data, n_rounds=1)


@pytest.mark.parametrize("text", ["", "640-", "-5", "0", "wide", "6.5", "64,32"])
def test_widths_that_are_none_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert latency.main([f"--hidden={text}"]) == 2
    printed = capsys.readouterr().err
    assert f"error: --hidden must be widths such as 640-320, or linear, not '{text}'" in printed


def test_without_onnxruntime_the_extra_that_brings_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "qwave.exporting.onnx_file.find_spec", lambda name: None if name == "onnxruntime" else name
    )
    assert latency.main([]) == 2
    printed = capsys.readouterr().err
    assert "error: studies.latency needs onnxruntime" in printed
    assert "pip install 'qwave[onnx]'" in printed


def test_widths_are_read() -> None:
    assert study.parse_hidden("640-320") == (640, 320)
    assert study.parse_hidden("linear") == ()


@pytest.mark.slow
def test_the_command_tells_people_and_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(study, "QUICK", Effort(1, 0.002))
    assert latency.main(["--hidden=16", "--quick", "--json"]) == 0
    captured = capsys.readouterr()
    values = json.loads(captured.out.splitlines()[-1])
    assert set(values) == {"microseconds", "ratio", "cold_start"}
    assert values["ratio"][BASELINE] == {"1": 1, "8": 1, "64": 1}
    for name, by_batch in values["microseconds"].items():
        assert set(by_batch) == {"1", "8", "64"}
        assert name in captured.err
    assert "1280 features, 16, 10 classes" in captured.err
