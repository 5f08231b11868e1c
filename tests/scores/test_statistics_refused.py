"""Arguments of statistics that mean nothing are refused with rule and value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qwave.scores import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_means,
    cluster_weights,
    equivalence,
    front_probability,
    holm,
)

A, B = [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]
Call = Callable[..., Any]


def _mean(hits: Any = A, group: Any = None, **options: Any) -> Any:
    return bootstrap_mean(hits, group, seed=0, **options)


def _means(hits: Any = (A, B), group: Any = None, **options: Any) -> Any:
    return bootstrap_means(hits, group, seed=0, **options)


def _difference(hits: Any = A, group: Any = None, **options: Any) -> Any:
    return bootstrap_difference(hits, B, group, seed=0, **options)


def _equivalence(hits: Any = A, group: Any = None, margin: float = 0.1, **options: Any) -> Any:
    return equivalence(hits, B, group, margin, seed=0, **options)


def _front(hits: Any = (A, B), group: Any = None, size: Any = (1, 2), **options: Any) -> Any:
    return front_probability(hits, size, group, seed=0, **options)


ALL = [_mean, _means, _difference, _equivalence, _front]


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([0, 1], r"`group` must name 3 clips' recordings, but got shape \(2,\)"),
        ([[0, 1, 2]], r"3 clips' recordings, but got shape \(1, 3\)"),
        (["a", "a", "a"], "at least 2 recordings are needed, but got 1"),
        ([0.0, math.nan, 1.0], "`group` has a NaN"),
    ],
)
def test_recordings_that_say_nothing_are_refused(call: Call, group: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(group=group)


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_hits_that_are_not_finite_are_refused(call: Call, bad: float) -> None:
    hits = [1.0, bad, 0.0]
    with pytest.raises(ValueError, match="hits must be finite"):
        call([hits, B] if call in (_means, _front) else hits)


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize("n_resamples", [0, -1])
def test_no_resamples_are_refused(call: Call, n_resamples: int) -> None:
    with pytest.raises(ValueError, match=rf"must hold.*but got n_resamples={n_resamples}"):
        call(n_resamples=n_resamples)
    with pytest.raises(ValueError, match=r"`n_resamples >= 1` must hold, but got n_resamples=0"):
        cluster_weights(None, 3, n_resamples=0, seed=0)


@pytest.mark.parametrize("call", [_mean, _means, _difference])
def test_confidence_that_resamples_cannot_give_is_refused(call: Call) -> None:
    call(confidence=0.95, n_resamples=39)
    with pytest.raises(
        ValueError, match=r"`n_resamples >= 39` .* confidence=0.95, but got n_resamples=38"
    ):
        call(confidence=0.95, n_resamples=38)
    for confidence in (0, 1, -0.5, 95, math.nan):
        with pytest.raises(ValueError, match=r"`0 < confidence < 1` must hold, but got"):
            call(confidence=confidence)


def test_equivalence_needs_19_resamples() -> None:
    _equivalence(n_resamples=19)
    with pytest.raises(ValueError, match=r"`n_resamples >= 19` .* but got n_resamples=18"):
        _equivalence(n_resamples=18)


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=f"`0 < margin < inf` must hold, but got margin={margin}"):
        _equivalence(margin=margin)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _mean([A]), r"`hits` must be \[n\], one a clip, but got shape \(1, 3\)"),
        (lambda: _mean([]), "at least 2 recordings are needed, but got 0"),
        (lambda: _means(A), r"`hits` must be \[m, n\], models by clips, but got shape \(3,\)"),
        (lambda: _front(A), r"`hits` must be \[m, n\], models by clips, but got shape \(3,\)"),
        (lambda: _difference(A[:2]), r"of the same clips, but got shapes \(\(2,\), \(3,\)\)"),
        (lambda: _equivalence([A]), r"of the same clips, but got shapes \(\(1, 3\), \(3,\)\)"),
        (lambda: _front(size=[1]), r"2 models, as many finite sizes, but got \[1.0\]"),
        (lambda: _front(size=[1, math.nan]), r"as many finite sizes, but got \[1.0, nan\]"),
        (lambda: _front(size=[1, math.inf]), r"as many finite sizes, but got \[1.0, inf\]"),
        (lambda: holm(0.5), r"`p_values` must be \[m\], but got shape \(\)"),
        (lambda: holm([[0.5]]), r"`p_values` must be \[m\], but got shape \(1, 1\)"),
        (lambda: holm([0.1, math.nan]), "`0 <= p <= 1` must hold, but got nan at index 1"),
        (lambda: holm([-0.1, 0.2]), "`0 <= p <= 1` must hold, but got -0.1 at index 0"),
        (lambda: holm([0.1, 0.2, 1.1]), "`0 <= p <= 1` must hold, but got 1.1 at index 2"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call: Call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_results_cannot_be_changed_and_arguments_are_left_alone() -> None:
    hits, group, p_values = np.array([A, B]), np.array([2, 1, 1]), np.array([0.4, 0.01])
    for result in (_mean(hits[0], group), _difference(hits[0], group), _equivalence(hits[0])):
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.low = 0.0
    _front(hits, group)
    holm(p_values)
    assert hits.tolist() == [A, B]
    assert group.tolist() == [2, 1, 1]
    assert p_values.tolist() == [0.4, 0.01]
