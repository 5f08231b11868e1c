"""Linear probes: the accuracy of a linear classifier on embeddings, and a choice by it.

A choice must not be made on the clips that it is reported on. So every pair of official folds is
left out in turn. The *inner* score of a clip with respect to another fold f comes from the probe
that saw neither the clip's fold nor f. With fold f reported, the inner scores of all other clips
do not depend on f.

Shapes: n clips, d features, f folds, v variants.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from qwave.scores.evaluate import clustered_standard_error


class ProbeHits(NamedTuple):
    """Which clips a probe classified rightly.

    Attributes:
        inner: 1 or 0 from the probe that saw neither fold f nor the clip's fold, float64 [f, n];
            NaN for the clips of fold f.
        outer: 1 or 0 from the probe that saw all folds but the clip's, float64 [n].
    """

    inner: np.ndarray
    outer: np.ndarray


def probe(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> ProbeHits:
    """Logistic regression (scikit-learn's, C = 1) on normalised embeddings.

    Args:
        x: float [n, d].
        y: Class of each clip, int [n]; each class must be in the training rows of every pair of
            folds.
        fold: Official fold of each clip [n]; at least three folds.
    """
    folds = np.unique(fold)
    inner = np.full((len(folds), len(y)), np.nan)
    outer = np.full(len(y), np.nan)
    for a, b in itertools.combinations(range(len(folds)), 2):
        in_a, in_b = fold == folds[a], fold == folds[b]
        is_out = in_a | in_b
        hits = _hits(x, y, is_out)
        inner[a, in_b] = hits[in_b[is_out]]
        inner[b, in_a] = hits[in_a[is_out]]
    for value in folds:
        outer[fold == value] = _hits(x, y, fold == value)
    return ProbeHits(inner, outer)


def _hits(x: np.ndarray, y: np.ndarray, is_out: np.ndarray) -> np.ndarray:
    """Whether a probe trained on the other clips classifies each left-out clip rightly."""
    from sklearn.linear_model import LogisticRegression

    # The solution lies in the span of the training rows, and its penalty does not change under
    # rotation: as many coordinates as rows are enough, which is several times as fast.
    turned = np.linalg.svd(x[~is_out], full_matrices=False)[2].T
    model = LogisticRegression(C=1.0, max_iter=20_000).fit(x[~is_out] @ turned, y[~is_out])
    hits: np.ndarray = model.predict(x[is_out] @ turned) == y[is_out]
    return hits


def choose(inner: np.ndarray, milliseconds: np.ndarray, group: np.ndarray | None) -> int:
    """Index of the fastest variant that is within one standard error of the most accurate one.

    The standard error is that of the paired difference over recordings (the one-standard-error
    rule of Breiman et al. 1984, *Classification and Regression Trees*, 3.4.3). Among equally fast
    variants the first is chosen.

    Args:
        inner: Inner score of each clip, [v, n], without NaN.
        milliseconds: Time to embed a clip, [v].
        group: Recording of each clip [n], or None.
    """
    best = int(inner.mean(axis=1).argmax())
    is_close = [
        lead.mean() <= clustered_standard_error(lead, group) for lead in inner[best] - inner
    ]
    return int(np.where(is_close, milliseconds, np.inf).argmin())


def choose_by_fold(
    inner: np.ndarray, milliseconds: np.ndarray, fold: np.ndarray, group: np.ndarray | None
) -> list[int]:
    """Index of the variant that `choose` takes for each fold, from the inner scores of the others.

    Args:
        inner: Inner scores of all variants, [v, f, n], as `ProbeHits.inner`.
        milliseconds: Time to embed a clip, [v].
        fold: Official fold of each clip [n].
        group: Recording of each clip [n], or None.
    """
    chosen = []
    for index, value in enumerate(np.unique(fold)):
        is_known = fold != value
        recordings = None if group is None else group[is_known]
        chosen.append(choose(inner[:, index, is_known], milliseconds, recordings))
    return chosen
