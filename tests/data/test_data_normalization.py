"""Normalisations against plain formulas and scikit-learn; constants from training rows only."""

from __future__ import annotations

import re
from typing import get_args

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from qwave.config import DataError
from qwave.config.trial import Normalization
from qwave.data import fit_normalizer, normalize_clips
from qwave.data.normalization import has_constants

ALL = get_args(Normalization)
FITTED = ("standard", "min_max")


def _random(seed: int, n: int = 40, d: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread, offset = rng.uniform(0.1, 10, size=d), rng.normal(size=d) * 3
    return (rng.normal(size=(n, d)) * spread + offset).astype(np.float32)


def _plain(row: list[float], normalization: str) -> list[float]:
    """One clip, in double precision, feature by feature."""
    if normalization == "sqrt_layer":
        row = [np.sign(v) * abs(v) ** 0.5 for v in row]
    if normalization in ("layer", "sqrt_layer"):
        mean = sum(row) / len(row)
        deviation = (sum((v - mean) ** 2 for v in row) / len(row)) ** 0.5
        return [(v - mean) / deviation for v in row]
    if normalization == "l2":
        norm = sum(v**2 for v in row) ** 0.5
        return [v / norm for v in row]
    return row


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("normalization", ALL)
def test_the_part_by_clip_equals_the_plain_formula(seed: int, normalization: str) -> None:
    x = _random(seed)
    expected = [_plain([float(v) for v in row], normalization) for row in x]
    got = normalize_clips(x, normalization)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6, err_msg=f"{seed=}")


@pytest.mark.parametrize("seed", range(5))
def test_standard_equals_sklearns_standard_scaler(seed: int) -> None:
    x_train, x_test = _random(seed), _random(seed + 100)
    expected = StandardScaler().fit(x_train.astype(np.float64)).transform(x_test)
    got = fit_normalizer(x_train, "standard")(x_test)
    assert got.dtype == np.float32
    # float16 keeps 11 bits: a mean of up to 10, a deviation of at least 0.1.
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=6e-2, err_msg=f"{seed=}")


@pytest.mark.parametrize("seed", range(5))
def test_min_max_equals_sklearns_min_max_scaler(seed: int) -> None:
    x_train, x_test = _random(seed), _random(seed + 100)
    expected = MinMaxScaler().fit(x_train.astype(np.float64)).transform(x_test)
    got = fit_normalizer(x_train, "min_max")(x_test)
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-2, err_msg=f"{seed=}")


@pytest.mark.parametrize("normalization", ALL)
def test_only_fitted_normalisations_have_constants_and_these_are_float16(
    normalization: Normalization,
) -> None:
    fitted = fit_normalizer(_random(0), normalization)
    assert fitted.normalization == normalization
    assert has_constants(normalization) == (normalization in FITTED)
    for constants in (fitted.offset, fitted.factor):
        if normalization in FITTED:
            assert constants is not None
            assert constants.dtype == np.float16
            assert constants.shape == (30,)
        else:
            assert constants is None


@pytest.mark.parametrize("normalization", FITTED)
def test_constants_follow_the_rows_that_are_fitted(normalization: Normalization) -> None:
    x = _random(3)
    train, test = np.arange(0, 40, 2), np.arange(1, 40, 2)
    before = fit_normalizer(x[train], normalization)
    changed = x.copy()
    changed[test] = 1e4
    after = fit_normalizer(changed[train], normalization)
    assert before.offset is not None
    assert before.factor is not None
    assert after.offset is not None
    assert after.factor is not None
    np.testing.assert_array_equal(after.offset, before.offset)
    np.testing.assert_array_equal(after.factor, before.factor)
    changed[train[0]] = 1e4
    other = fit_normalizer(changed[train], normalization)
    assert other.factor is not None
    assert (other.factor != before.factor).any()


@pytest.mark.parametrize("normalization", ALL)
def test_a_clip_is_normalised_the_same_alone_and_among_others(
    normalization: Normalization,
) -> None:
    x = _random(4)
    fitted = fit_normalizer(x[:20], normalization)
    together = fitted(x)
    for row in range(len(x)):
        np.testing.assert_array_equal(fitted(x[row : row + 1])[0], together[row])


@pytest.mark.parametrize("normalization", ["layer", "sqrt_layer"])
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 0.1, 1000.1, 12345.67])
@pytest.mark.parametrize("width", [7, 1280])
def test_a_clip_of_equal_features_becomes_zeros(
    normalization: str, value: float, width: int
) -> None:
    x = np.full((3, width), value, dtype=np.float32)
    np.testing.assert_array_equal(normalize_clips(x, normalization), 0)


def test_a_clip_of_zeros_stays_zero_under_l2() -> None:
    np.testing.assert_array_equal(normalize_clips(np.zeros((2, 5), np.float32), "l2"), 0)


@pytest.mark.parametrize("normalization", FITTED)
@pytest.mark.parametrize("value", [0.0, 3.0, 0.1, 1000.1, 12345.67])
def test_a_constant_feature_gets_the_factor_0(normalization: Normalization, value: float) -> None:
    x = _random(5, n=320)
    x[:, 7] = value
    fitted = fit_normalizer(x, normalization)
    assert fitted.factor is not None
    assert fitted.factor[7] == 0
    assert (np.delete(fitted.factor, 7) > 0).all()
    changed = x[:3].copy()
    changed[:, 7] = 1e9
    np.testing.assert_array_equal(fitted(changed)[:, 7], 0)
    np.testing.assert_array_equal(fitted(changed), fitted(x[:3]))


@pytest.mark.parametrize("normalization", FITTED)
def test_a_constant_beyond_float16_is_refused_with_its_column(
    normalization: Normalization,
) -> None:
    x = _random(6)
    x[:, 2] = x[:, 2] + 2e5
    message = f"data.normalization: {normalization} cannot store feature column 2 (offset 2e+05"
    with pytest.raises(DataError, match=re.escape(message) + ".*as float16; use 'layer', or"):
        fit_normalizer(x, normalization)


@pytest.mark.parametrize("normalization", FITTED)
def test_a_spread_too_small_for_a_float16_factor_is_refused(normalization: Normalization) -> None:
    x = _random(7)
    x[:, 4] = np.linspace(0, 5e-6, len(x))
    with pytest.raises(DataError, match=f"{normalization} cannot store feature column 4"):
        fit_normalizer(x, normalization)


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown normalization 'minmax'"):
        normalize_clips(_random(8), "minmax")


def test_the_input_is_not_changed() -> None:
    for normalization in ALL:
        x = _random(9)
        kept = x.copy()
        fit_normalizer(x, normalization)(x)
        np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("normalization", ALL)
def test_no_clips_give_no_clips(normalization: str) -> None:
    assert normalize_clips(np.zeros((0, 5), np.float32), normalization).shape == (0, 5)
