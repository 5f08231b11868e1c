"""Equal numbers give equal answers in whatever form they come, and what is no number is named."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qwave import QuantizedMoEClassifier
from qwave.config import ModelConfig, QwaveError, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.packing import to_bytes
from qwave.runtime import PackedClassifier, as_float32
from tests.number_forms import FORMS


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(2, distance=2.0)


@pytest.fixture(scope="module")
def whole(data: EmbeddingSet) -> np.ndarray:
    """Whole numbers, some of them -0."""
    x = np.round(data.x)
    assert ((x == 0) & np.signbit(x)).any()
    return x


@pytest.fixture(scope="module")
def classifier(data: EmbeddingSet) -> PackedClassifier:
    model = ModelConfig(("int1", "int4"), (4,), top_k=2, input_dropout=0.2)
    return PackedClassifier(
        fit_model(TrialConfig(model=model, train=TrainConfig(epochs=5)), data).packed
    )


@pytest.fixture(scope="module")
def fitted(data: EmbeddingSet, whole: np.ndarray) -> QuantizedMoEClassifier:
    return QuantizedMoEClassifier(epochs=1, distillation=0.0, random_state=0).fit(whole, data.y)


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_model_answers_equal_numbers_equally(
    classifier: PackedClassifier, whole: np.ndarray, form: str
) -> None:
    given = FORMS[form](whole)
    np.testing.assert_array_equal(classifier.predict_proba(given), classifier.predict_proba(whole))
    for found, expected in zip(classifier.examine(given), classifier.examine(whole), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (classifier.predict(given) == classifier.predict(whole)).all()
    found = classifier.expert_probabilities(given)
    np.testing.assert_array_equal(found, classifier.expert_probabilities(whole))


@pytest.mark.parametrize("form", FORMS)
def test_an_estimator_fits_and_answers_equal_numbers_equally(
    fitted: QuantizedMoEClassifier, data: EmbeddingSet, whole: np.ndarray, form: str
) -> None:
    given = FORMS[form](whole)
    again = QuantizedMoEClassifier(epochs=1, distillation=0.0, random_state=0).fit(given, data.y)
    assert to_bytes(again.model_.packed) == to_bytes(fitted.model_.packed)
    expected = fitted.predict_proba(whole)
    np.testing.assert_array_equal(again.predict_proba(given), expected)


def test_a_memory_map_bool_fractions_and_decimals_are_numbers(
    classifier: PackedClassifier, whole: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", whole)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = classifier.predict_proba(whole)
    np.testing.assert_array_equal(classifier.predict_proba(mapped), expected)
    is_large = whole[:3] > 1
    of_bool = classifier.predict_proba(is_large)
    np.testing.assert_array_equal(of_bool, classifier.predict_proba(is_large.astype(np.float32)))
    halves = [[Fraction(1, 2), decimal.Decimal("0.5"), np.float16(0.5), np.True_, 1, 0.5]]
    np.testing.assert_array_equal(as_float32(halves), np.array([[0.5, 0.5, 0.5, 1, 1, 0.5]]))


def test_float32_is_not_copied() -> None:
    x = np.zeros((2, 3), np.float32)
    assert as_float32(x) is x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([["1"] * 12], r"^x must be numbers, but holds text$"),
        ("dog", r"^x must be numbers, but holds text$"),
        (np.array([[b"1"] * 12]), r"^x must be numbers, but holds text$"),
        (np.zeros((1, 12), complex), r"^x must be numbers, but holds complex128$"),
        (np.zeros((1, 12), "M8[s]"), r"^x must be numbers, but holds datetime64\[s\]$"),
        ([[0.0] * 11 + [None]], r"^x must be numbers, but x\[0, 11\] is None$"),
        ([[1.0, pd.NA]], r"^x must be numbers, but x\[0, 1\] is <NA>$"),
        (np.array([[1.0, "x" * 99]], object), r"but x\[0, 1\] is 'x{59}\.\.\.$"),
        ([[1.0, 2.0], [3.0]], r"^x must be rows of numbers, but is no array: .*inhomogeneous"),
        ([[10**400] * 12], r"^x must be numbers that a float holds: int too large"),
        (np.ma.masked_equal(np.zeros((1, 12), np.float32), 0), r"^x has masked values: fill"),
        (None, r"^x must be numbers, but it is None$"),
        ({"a": [1]}, r"^x must be numbers, but it is {'a': \[1\]}$"),
        ([], r"^x must have shape \[clips, 12\], but has shape \(0,\)$"),
        (np.zeros(12), r"^x must have shape \[clips, 12\], but has shape \(12,\)$"),
        (np.zeros((2, 13)), r"^x must have shape \[clips, 12\], but has shape \(2, 13\)$"),
        (np.zeros((1, 2, 12)), r"^x must have shape \[clips, 12\], but has shape \(1, 2, 12\)$"),
        (np.full((1, 12), 1e300), r"^x must be finite, but x\[0, 0\] is inf$"),
        (np.full((1, 12), np.nan, np.float16), r"^x must be finite, but x\[0, 0\] is nan$"),
    ],
)
def test_what_is_no_number_is_named(
    classifier: PackedClassifier, fitted: QuantizedMoEClassifier, x: Any, message: str
) -> None:
    with pytest.raises(QwaveError, match=message):
        classifier.predict_proba(x)
    with pytest.raises(QwaveError):  # in scikit-learn's words, where it has some
        fitted.predict_proba(x)


def test_a_frame_without_rows_gives_no_answers(classifier: PackedClassifier) -> None:
    assert classifier.predict_proba(pd.DataFrame(columns=range(12))).shape == (0, 3)
