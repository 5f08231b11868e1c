"""Linear probes: what a linear classifier makes of embeddings, and which embedding to take by it.

A choice must not be made on the clips that it is reported on. So every pair of official folds is
left out in turn, and a clip's *inner* score for another fold is that of the probe which saw
neither: with fold f reported, clips of all other folds have a score of which f knows nothing.

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
        inner: float64 [f, n]: 1 or 0 by the probe that saw neither fold f nor the clip's; NaN for
            the clips of fold f.
        outer: float64 [n]: 1 or 0 by the probe that saw all but the clip's fold.
    """

    inner: np.ndarray
    outer: np.ndarray


def probe(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> ProbeHits:
    """Logistic regression (scikit-learn's, C = 1) on normalised embeddings.

    Args:
        x: float [n, d].
        y: Classes, int [n]; each must be in the training rows of every pair of folds.
        fold: Official folds [n], at least three.
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
    """Whether each clip that is left out is classified rightly by a probe of the others."""
    from sklearn.linear_model import LogisticRegression

    # The solution lies in the space of the training rows, and its penalty does not change when
    # that is turned: so many coordinates as rows do, which is several times as fast.
    turned = np.linalg.svd(x[~is_out], full_matrices=False)[2].T
    model = LogisticRegression(C=1.0, max_iter=20_000).fit(x[~is_out] @ turned, y[~is_out])
    hits: np.ndarray = model.predict(x[is_out] @ turned) == y[is_out]
    return hits


def choose(inner: np.ndarray, milliseconds: np.ndarray, group: np.ndarray | None) -> int:
    """The fastest variant that the most accurate one does not lead by more than chance.

    More than one standard error of their difference over recordings counts as a lead (the
    one-standard-error rule of Breiman et al. 1984, *Classification and Regression Trees*, 3.4.3,
    on paired differences).

    Args:
        inner: Inner score of each clip, [v, n], without NaN.
        milliseconds: Of a clip, [v].
        group: Recording of each clip [n], or None.

    Returns:
        Its place; among equally fast ones the first.
    """
    best = int(inner.mean(axis=1).argmax())
    is_close = [
        lead.mean() <= clustered_standard_error(lead, group) for lead in inner[best] - inner
    ]
    return int(np.where(is_close, milliseconds, np.inf).argmin())


def choose_by_fold(
    inner: np.ndarray, milliseconds: np.ndarray, fold: np.ndarray, group: np.ndarray | None
) -> list[int]:
    """What `choose` takes for each fold, by clips and probes that have nothing to do with it.

    Args:
        inner: Of all variants, [v, f, n], as `ProbeHits.inner`.
        milliseconds: Of a clip, [v].
        fold: Official folds [n].
        group: Recording of each clip [n], or None.
    """
    chosen = []
    for place, value in enumerate(np.unique(fold)):
        is_known = fold != value
        recordings = None if group is None else group[is_known]
        chosen.append(choose(inner[:, place, is_known], milliseconds, recordings))
    return chosen
