"""Resamples of recordings, and what all intervals share. Arguments: see `qwave.scores`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

Group = ArrayLike | None  # recording of each clip [n]

# Numbers in a block of weights: 16 MiB, however many resamples there are.
BLOCK = 2**21


def cluster_weights(group: Group, n: int, *, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n clips is in each resample.

    Blocks of resamples, int64 [b, n], n_resamples rows in all: memory does not grow with their
    number. Clips of one recording have equal weights, and those of recordings add up to G.
    """
    index = recordings(group, n)
    if n_resamples < 1:
        raise ValueError(f"`n_resamples >= 1` must hold, but got {n_resamples=}")
    generator = np.random.Generator(np.random.PCG64(seed))
    starts = range(0, n_resamples, block := max(1, BLOCK // n))
    return (_drawn(generator, index, min(block, n_resamples - start)) for start in starts)


def _drawn(generator: np.random.Generator, index: np.ndarray, n_rows: int) -> np.ndarray:
    n_groups = int(index.max()) + 1
    drawn = generator.integers(n_groups, size=(n_rows, n_groups))
    # One count for all rows: every row has numbers of its own for the recordings.
    drawn += n_groups * np.arange(n_rows)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n_rows * n_groups)
    return counts.reshape(n_rows, n_groups)[:, index]


def resampled_means(values: np.ndarray, group: Group, n_resamples: int, seed: int) -> np.ndarray:
    """Means of values [m, n] over the clips of each resample: [r, m]."""
    blocks = [
        (weights @ values.T) / weights.sum(axis=1, keepdims=True)
        for weights in cluster_weights(group, values.shape[1], n_resamples=n_resamples, seed=seed)
    ]
    return np.concatenate(blocks)


def recordings(group: Group, n: int) -> np.ndarray:
    """Number of each clip's recording, int64 [n], 0 to G - 1."""
    labels = np.arange(n) if group is None else np.asarray(group)
    if labels.shape != (n,):
        raise ValueError(f"`group` must name {n} clips' recordings, but got shape {labels.shape}")
    if (labels != labels).any():
        raise ValueError("`group` has a NaN; name the recording of every clip, or pass None")
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"at least 2 recordings are needed, but got {len(names)}")
    return index


def checked(hits: ArrayLike) -> np.ndarray:
    """Hits of models as float64 [m, n]; raises ValueError for another shape, NaN or infinity."""
    values = np.asarray(hits, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"`hits` must be [m, n], models by clips, but got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("hits must be finite; refuse NaN before it comes here")
    return values


def rounded(means: np.ndarray) -> np.ndarray:
    """Means to twelve decimals, so that equal means are equal floats."""
    # Hits that are averages of seeds (thirds, fifths) add up to another last bit in another
    # order, and a tie of two models must be a tie.
    return np.round(means, 12)


def mean_of(values: np.ndarray) -> float:
    """The mean of all values, to twelve decimals."""
    return float(rounded(values.mean()))


def bounds(resampled: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The quantiles `low` and `high` of sorted resamples [r], rounded outwards to one of them.

    The k-th smallest stands for k / (r + 1). A quantile between two resamples would let an
    interval and its p-value contradict each other.
    """
    n = len(resampled)
    # A hair of tolerance: 0.025 * 2000 is 50, and not the 50.00000000000004 that floats make.
    first = max(1, math.floor(low * (n + 1) + 1e-9))
    last = min(n, math.ceil(high * (n + 1) - 1e-9))
    return float(resampled[first - 1]), float(resampled[last - 1])


def share(is_beyond: np.ndarray) -> float:
    """Share of resamples [r] that are beyond a value, one more added, so that it is never 0."""
    return (1 + int(is_beyond.sum())) / (1 + len(is_beyond))


def tail_of(confidence: float, n_resamples: int) -> float:
    """Share of resamples outside an interval on each side."""
    if not 0 < confidence < 1:
        raise ValueError(f"`0 < confidence < 1` must hold, but got {confidence=}")
    tail = (1 - confidence) / 2
    if tail * (n_resamples + 1) < 1 - 1e-9:
        least = math.ceil(1 / tail - 1 - 1e-9)
        raise ValueError(
            f"`n_resamples >= {least}` must hold for {confidence=}, but got {n_resamples=}"
        )
    return tail
