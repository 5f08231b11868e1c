"""Hits of models whose true accuracy is known, and few hits with ties in plenty."""

from __future__ import annotations

import numpy as np

from qwave.scores import cluster_weights

# 400 clips of 300 recordings: most alone, some in pairs, ten recordings of six.
GROUP = np.repeat(np.arange(300), np.repeat([1, 2, 6], [240, 50, 10]))
# Chance that all clips of a recording share their luck: the correlation of any two of them.
CORRELATION = 0.8
# Chance that two models share it as well. Without it, pairing would gain nothing.
AGREEMENT = 0.6
WORLDS = [(0.75, 0.08), (0.94, 0.03)]  # accuracy of one model, and how much worse the other is


def luck(rng: np.random.Generator) -> np.ndarray:
    """A uniform number for each clip, now and then the same one for a whole recording."""
    is_shared = rng.random(300)[GROUP] < CORRELATION
    return np.where(is_shared, rng.random(300)[GROUP], rng.random(400))


def two_models(
    rng: np.random.Generator, accuracy: float, difference: float
) -> tuple[np.ndarray, np.ndarray]:
    """Hits of a model of this true accuracy, and of one that is worse by this difference."""
    first, other = luck(rng), luck(rng)
    second = np.where(rng.random(300)[GROUP] < AGREEMENT, first, other)
    return (first < accuracy).astype(float), (second < accuracy - difference).astype(float)


def random_hits(seed: int, m: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Few clips of few recordings, hits the means of 1 to 3 seeds: ties in plenty."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 25))
    group = np.append([0, 1], rng.integers(0, max(2, n // 2), size=n - 2))
    n_seeds = int(rng.integers(1, 4))
    return rng.binomial(n_seeds, 0.7, size=(m, n)) / n_seeds, group


def weights_of(group: np.ndarray | None, n: int, n_resamples: int, seed: int) -> np.ndarray:
    blocks = list(cluster_weights(group, n, n_resamples=n_resamples, seed=seed))
    return np.concatenate(blocks)
