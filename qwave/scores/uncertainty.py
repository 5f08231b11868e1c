"""What an uncertainty is worth: how well it ranks clips by whether their prediction is wrong.

`roc_auc`, `aurc` and `augrc` are prepared once for clips and uncertainties, and return a function
that computes the score for any weights of the clips: for all resamples of
`qwave.scores.bootstrap_score` at once. With weights of one the scores are those of
`qwave.scores.evaluate.score_uncertainty`; a weight of two counts the clip twice.

Notation: n clips, b weightings, m members (seeds), c classes. In every function:
    weights: How often each clip counts, whole numbers from 0, [b, n], each row with a sum above 0.
    uncertainty: Uncertainty of each clip, in any unit, [n]; larger is less certain, equal is tied.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

WeightedScore = Callable[[np.ndarray], np.ndarray]  # weights [b, n] to scores [b]


def roc_auc(is_positive: np.ndarray, uncertainty: np.ndarray) -> WeightedScore:
    """Chance that a positive clip is more uncertain than a negative one, ties counting half.

    The area under the ROC curve (Mann and Whitney 1947, Annals of Mathematical Statistics 18,
    50-60), 0 to 1; 0.5 where all clips that count are positive, or none is. Positives are wrong
    predictions, or clips from outside. Of uncertainties [m, n] that look for the same positives,
    the mean of their areas.

    All pairs are compared once, for all members, and what is left for resamples is a product of
    matrices: ten times as fast as to rank 800 clips for each of five members. Memory grows with
    positives times negatives.
    """
    members = np.atleast_2d(uncertainty)
    positive, negative = members[:, is_positive], members[:, ~is_positive]
    wins = np.zeros((positive.shape[1], negative.shape[1]))
    for high, low in zip(positive, negative, strict=True):
        wins += (high[:, None] > low) + 0.5 * (high[:, None] == low)
    wins /= len(members)

    def area(weights: np.ndarray) -> np.ndarray:
        drawn = weights.astype(np.float64)  # integers have no fast product
        of_positive, of_negative = drawn[:, is_positive], drawn[:, ~is_positive]
        won = ((of_positive @ wins) * of_negative).sum(axis=1)
        pairs = of_positive.sum(axis=1) * of_negative.sum(axis=1)
        found: np.ndarray = np.where(pairs > 0, won / np.maximum(pairs, 1), 0.5)
        return found

    return area


def aurc(is_wrong: np.ndarray, uncertainty: np.ndarray) -> WeightedScore:
    """Mean error rate over all coverages when the least uncertain clips are kept, 0 to 1.

    Geifman and El-Yaniv 2017, arXiv 1705.08500; smaller is better. Ties are kept one after
    another, and each is wrong as often as they all are on average.
    """
    steps = _risk_steps(is_wrong, uncertainty)

    def area(weights: np.ndarray) -> np.ndarray:
        counts, wrong, kept, kept_wrong = steps(weights)
        rate = wrong / np.maximum(counts, 1)
        # The j-th of g tied clips brings the error rate to (E + rate j) / (A + j), with A kept and
        # E of them wrong before. That is rate + (E - rate A) / (A + j): harmonic numbers.
        largest = int(weights.sum(axis=1).max())
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, largest + 1))])
        excess = (kept_wrong - rate * kept) * (harmonic[kept + counts] - harmonic[kept])
        mean: np.ndarray = (rate * counts + excess).sum(axis=1) / counts.sum(axis=1)
        return mean

    return area


def augrc(is_wrong: np.ndarray, uncertainty: np.ndarray) -> WeightedScore:
    """Mean share of all clips that are kept and wrong, over all coverages, 0 to 1.

    Traub et al. 2024, arXiv 2407.01032; smaller is better. An uncertainty that knows nothing comes
    to half the error rate. Ties as in `aurc`.
    """
    steps = _risk_steps(is_wrong, uncertainty)

    def area(weights: np.ndarray) -> np.ndarray:
        counts, wrong, _, kept_wrong = steps(weights)
        total: np.ndarray = (kept_wrong * counts + wrong * (counts + 1) / 2).sum(axis=1)
        return total / counts.sum(axis=1) ** 2

    return area


def mutual_information(probabilities: np.ndarray) -> np.ndarray:
    """How much the members of an ensemble disagree, [m, n, c] to [n], in nats, 0 to log c.

    ``H(mean_m p) - mean_m H(p)``, the epistemic part of the uncertainty (Depeweg et al. 2018,
    arXiv 1710.07283, eq. 2). A probability of 0 adds nothing.
    """
    p = probabilities.astype(np.float64)
    return np.maximum(_entropy(p.mean(axis=0)) - _entropy(p).mean(axis=0), 0.0)


def _risk_steps(
    is_wrong: np.ndarray, uncertainty: np.ndarray
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """A function of weights [b, n] that counts clips by groups of tied uncertainty.

    It returns four arrays [b, groups], groups from the least uncertain on: clips of the group,
    wrong ones among them, clips of all groups before it, and wrong ones among those.
    """
    order = np.argsort(uncertainty, kind="stable")
    _, starts = np.unique(uncertainty[order], return_index=True)
    is_wrong_there = is_wrong[order]

    def steps(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        sorted_weights = weights[:, order]
        counts = np.add.reduceat(sorted_weights, starts, axis=1)
        wrong = np.add.reduceat(sorted_weights * is_wrong_there, starts, axis=1)
        kept, kept_wrong = np.cumsum(counts, axis=1), np.cumsum(wrong, axis=1)
        return counts, wrong, kept - counts, kept_wrong - wrong

    return steps


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    entropy: np.ndarray = -(probabilities * logs).sum(axis=-1)
    return entropy
