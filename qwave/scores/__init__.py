"""Is one classifier better than another, or is it the luck of the clips: intervals and tests.

All of it is a bootstrap over recordings: clips of one recording are not independent of each other,
so whole recordings are drawn, with replacement, as many as there are (Field and Welsh 2007,
"Bootstrapping clustered data", Journal of the Royal Statistical Society B 69, 369-390). A mean is
one over the clips that were drawn; their number varies from draw to draw.

Notation: n clips, m models, G recordings, r resamples. Arguments that are alike everywhere:
    hits: A finite score of each clip, [n] or [m, n]: 1 for right and 0 for wrong, or a mean of
        such over seeds, or any other score whose mean over clips is wanted.
    group: Recording of each clip [n], numbers or strings; None: every clip for itself. Fewer than
        two recordings are refused: they say nothing about others.
    n_resamples: r, at least 1, and at least ``2 / (1 - confidence) - 1`` where there is one.
    confidence: Between 0 and 1: share of experiments whose interval is to hold the true mean.
    seed: Seed of `numpy.random.PCG64`: equal arguments give equal results.
Whatever does not hold to this is refused with a `ValueError`.

The kinds of interval are those that covered best. Of at least 2000 simulated sets of 400 clips
(the worlds of the tests; accuracies 0.75, 0.94; 999 resamples), these shares in percent held the
truth in their 95 % interval, or erred at a level of 5 %:

    recordings, clips of   mean         difference   p-value of     equivalence of
    which correlate by     (BCa)        (basic)      equal models   models a margin apart
    300 of 1 to 6, 0.8     94.0, 93.6   95.0, 95.3   4.6, 3.1       5.9, 4.6
    300 of 1 to 6, 0.4     95.3, 93.3   95.1, 93.8   4.8, 3.9       5.5, 5.7
    100 of 4, 0.4          95.9, 94.2   95.4, 96.5   3.8, 1.5       5.7, 3.4
    30 of 8 or 24, 0.4     89.0, 76.8   94.5, 91.3   3.1, 1.9       4.0, 10.5

So do not trust a mean of few recordings. Nor of few misses, or a difference of few disagreements:
what no clip shows, no resample can, and hits that are all equal have an interval of no width.
"""

from __future__ import annotations

from qwave.scores.comparisons import (
    Difference,
    Equivalence,
    bootstrap_difference,
    bootstrap_score_difference,
    equivalence,
    front_probability,
    holm,
)
from qwave.scores.front import FrontPoint, attainment_staircase, front_members
from qwave.scores.intervals import Interval, bootstrap_mean, bootstrap_means, bootstrap_score
from qwave.scores.resampling import cluster_weights

__all__ = [
    "Difference",
    "Equivalence",
    "FrontPoint",
    "Interval",
    "attainment_staircase",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_means",
    "bootstrap_score",
    "bootstrap_score_difference",
    "cluster_weights",
    "equivalence",
    "front_members",
    "front_probability",
    "holm",
]
