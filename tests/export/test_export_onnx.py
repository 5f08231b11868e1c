"""The ONNX file: what is written is checked, run and compared, and refused if it differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from qwave.config import ConfigError
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.exporting import VerificationError, graph, onnx_file
from qwave.exporting.onnx_file import ONNX_TOLERANCE, require_onnx, write_onnx
from qwave.packing import PackedModel
from qwave.runtime import PackedClassifier

from .examples import CURIOUS, LINEAR, config_of

MODELS = {"linear": LINEAR, "curious": CURIOUS}


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(4, distance=0.7)


@pytest.fixture(scope="module")
def model(data: EmbeddingSet) -> Callable[[str], PackedClassifier]:
    @cache
    def fit(name: str) -> PackedClassifier:
        return PackedClassifier(fit_model(config_of(MODELS[name]), data).packed)

    return fit


@pytest.mark.parametrize("name", MODELS)
def test_the_file_predicts_in_onnxruntime_what_the_packed_model_predicts(
    name: str, model: Callable[[str], PackedClassifier], data: EmbeddingSet, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    agreement = write_onnx(model(name), data.x, file)
    assert (agreement.n_clips, agreement.n_other_class) == (len(data.y), 0)
    assert agreement.largest_difference < ONNX_TOLERANCE
    session = onnxruntime.InferenceSession(file)
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == ["probabilities", *(["gates"] if name == "curious" else [])]
    (found,) = session.run(["probabilities"], {"embeddings": data.x})
    expected = model(name).predict_proba(data.x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert agreement.largest_difference == np.abs(found - expected).max()


def test_a_graph_of_another_model_is_refused(
    model: Callable[[str], PackedClassifier],
    data: EmbeddingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = graph.onnx_model

    def wrong(packed: PackedModel, **options: bool) -> onnx.ModelProto:
        layer = packed.layers["e0.0"]
        layer = dataclasses.replace(layer, bias=layer.bias + np.float16(0.125))
        bent = dataclasses.replace(layer, codes=layer.codes * np.float32(-1))
        layers = {**packed.layers, "e0.0": bent}
        return right(dataclasses.replace(packed, layers=layers), **options)

    monkeypatch.setattr(graph, "onnx_model", wrong)
    message = r"^model\.onnx does not predict in onnxruntime what the packed model predicts: of 60"
    with pytest.raises(VerificationError, match=message):
        write_onnx(model("linear"), data.x, tmp_path / "model.onnx")


def test_an_invalid_graph_is_not_written(
    model: Callable[[str], PackedClassifier],
    data: EmbeddingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = graph.onnx_model

    def cut(packed: PackedModel, **options: bool) -> onnx.ModelProto:
        proto = right(packed, **options)
        del proto.graph.node[0]
        return proto

    monkeypatch.setattr(graph, "onnx_model", cut)
    with pytest.raises(onnx.checker.ValidationError, match="input"):
        write_onnx(model("linear"), data.x, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("onnx",), "onnx"),
        (("onnxruntime",), "onnxruntime"),
        (("onnx", "onnxruntime"), "onnx and"),
    ],
)
def test_missing_libraries_are_named_with_the_extra_that_brings_them(
    missing: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> Any:
        return None if name in missing else find_spec(name)

    monkeypatch.setattr(onnx_file, "find_spec", find)
    message = rf"^--onnx needs {named}.*not installed: pip install 'qwave\[onnx\]'$"
    with pytest.raises(ConfigError, match=message):
        require_onnx("--onnx")
