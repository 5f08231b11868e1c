"""Resamples of recordings against a plain loop and a multinomial draw."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qwave.scores import bootstrap_mean, cluster_weights, resampling

from .worlds import GROUP, random_hits, two_models, weights_of


@pytest.mark.parametrize("seed", range(5))
def test_weights_count_how_often_a_plain_loop_draws_each_clip(seed: int) -> None:
    _, group = random_hits(seed)
    names = [f"recording {chr(97 + number)}" for number in group]
    labels = sorted(set(names))
    rng = np.random.Generator(np.random.PCG64(seed))
    expected = []
    for _ in range(50):
        drawn = [labels[i] for i in rng.integers(len(labels), size=len(labels))]
        expected.append([drawn.count(name) for name in names])
    weights = weights_of(np.array(names), len(names), 50, seed)
    assert weights.dtype == np.int64
    assert weights.tolist() == expected, f"{seed=}"


def test_every_clip_is_its_own_recording_where_there_are_none() -> None:
    weights = weights_of(None, 30, 200, 1)
    assert weights.tolist() == weights_of(np.arange(30), 30, 200, 1).tolist()
    assert (weights.sum(axis=1) == 30).all()
    assert (weights.std(axis=1) > 0).any()


def test_weights_are_those_of_a_multinomial_draw() -> None:
    weights = weights_of(GROUP, 400, 4000, 7)
    _, first = np.unique(GROUP, return_index=True)
    assert (weights == weights[:, first][:, GROUP]).all()
    of_recordings = weights[:, first]
    assert (of_recordings.sum(axis=1) == 300).all()
    # Mean 1, variance 1 - 1 / G, covariance -1 / G; four standard errors.
    assert of_recordings.mean(axis=0) == pytest.approx(np.ones(300), abs=4 / math.sqrt(4000))
    assert of_recordings.var() == pytest.approx(1 - 1 / 300, abs=0.01)


def test_weights_come_in_blocks_of_bounded_size_and_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = weights_of(GROUP, 400, 55, 3)
    monkeypatch.setattr(resampling, "BLOCK", 4000)
    blocks = list(cluster_weights(GROUP, 400, n_resamples=55, seed=3))
    assert [len(block) for block in blocks] == [10] * 5 + [5]
    assert np.concatenate(blocks).tolist() == whole.tolist()
    monkeypatch.setattr(resampling, "BLOCK", 1)
    assert len(list(cluster_weights(GROUP, 400, n_resamples=55, seed=3))) == 55


def test_a_seed_decides_everything() -> None:
    hits, _ = two_models(np.random.default_rng(0), 0.75, 0.0)
    one, same, other = (bootstrap_mean(hits, GROUP, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.01)
