"""Scores of predictions, their calibration, and the worth of an uncertainty.

Shapes: n clips, c classes, m seeds.
"""

from __future__ import annotations

import numpy as np

from qwave.scores import Interval, bootstrap_score

ECE_BINS = 15


def score_predictions(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """All scores of one set of predictions.

    Args:
        y: True classes, int64 [n], n >= 1.
        probabilities: [n, c], rows sum to 1.

    Returns:
        accuracy, balanced_accuracy, weighted_f1, macro_f1 and roc_auc (0 to 1, one-vs-rest,
        macro over classes of which some but not all clips are), nll (nats), brier (0 to 2, summed
        over classes), ece (0 to 1). Classes without a clip in y are left out of the averages over
        classes. roc_auc is 0.5 where no class can be ranked.
    """
    predicted = probabilities.argmax(axis=1)
    # Only classes that occur: a class that is never true has no recall, and its F1 is 0 by
    # definition and not by merit.
    present, support = np.unique(y, return_counts=True)
    hits = np.array([(predicted[y == label] == label).sum() for label in present])
    claims = np.array([(predicted == label).sum() for label in present])
    f1 = 2 * hits / (support + claims)
    rankable = present[support < len(y)]
    areas = [_roc_auc(y == label, probabilities[:, label]) for label in rankable]
    likelihood = probabilities[np.arange(len(y)), y]
    one_hot = np.eye(probabilities.shape[1])[y]
    return {
        "accuracy": float((predicted == y).mean()),
        "balanced_accuracy": float((hits / support).mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "macro_f1": float(f1.mean()),
        "nll": float(-np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)).mean()),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(y, probabilities),
        "roc_auc": float(np.mean(areas)) if areas else 0.5,
    }


def score_intervals(
    y: np.ndarray, predicted: np.ndarray, group: np.ndarray | None, *, seed: int
) -> dict[str, Interval]:
    """Accuracy, balanced accuracy and weighted F1 of one configuration, with 95 % intervals.

    Scores are those of `score_predictions`, averaged over the seeds that it was trained with. The
    intervals say what other recordings might have given (see `qwave.scores`), not what other
    seeds would: of the mean of five, that is the smaller part.

    Args:
        y: True classes, int64 [n].
        predicted: Classes that each seed's models predicted, int64 [m, n].
        group: Recording of each clip [n]; None: every clip for itself.
        seed: Seed of the resamples.
    """
    classes = np.arange(max(y.max(), predicted.max()) + 1)
    is_true = (y[:, None] == classes).astype(np.float64)
    is_claimed = [(part[:, None] == classes).astype(np.float64) for part in predicted]

    def accuracy(weights: np.ndarray) -> np.ndarray:
        return (weights @ (predicted == y).mean(axis=0)) / weights.sum(axis=1)

    def balanced_accuracy(weights: np.ndarray) -> np.ndarray:
        support = weights @ is_true
        recalls = [
            weights @ (is_true * claimed) / np.maximum(support, 1) for claimed in is_claimed
        ]
        return np.mean(recalls, axis=0).sum(axis=1) / (support > 0).sum(axis=1)

    def weighted_f1(weights: np.ndarray) -> np.ndarray:
        support = weights @ is_true
        f1 = [
            2 * (weights @ (is_true * claimed)) / np.maximum(support + weights @ claimed, 1)
            for claimed in is_claimed
        ]
        return (np.mean(f1, axis=0) * support).sum(axis=1) / support.sum(axis=1)

    return {
        score.__name__: bootstrap_score(score, group, len(y), seed=seed)
        for score in (accuracy, balanced_accuracy, weighted_f1)
    }


def _roc_auc(is_positive: np.ndarray, score: np.ndarray) -> float:
    """Probability that a positive clip scores higher than a negative one, ties counting half.

    That is the area under the ROC curve (Mann and Whitney 1947). scikit-learn's function is the
    same (tests); its checks of every call took a fifth of a small trial.
    """
    negative = np.sort(score[~is_positive])
    below, not_above = (
        np.searchsorted(negative, score[is_positive], side=side).mean()
        for side in ("left", "right")
    )
    return float((below + not_above) / 2 / len(negative))


def expected_calibration_error(
    y: np.ndarray, probabilities: np.ndarray, n_bins: int = ECE_BINS
) -> float:
    """Mean distance of confidence and accuracy over bins of equal mass, 0 to 1.

    Clips are sorted by their highest probability and cut into `n_bins` parts of equal size (Nixon
    et al. 2019, arXiv 1904.01685); with fewer clips than bins every clip is a bin.
    """
    confidence = probabilities.max(axis=1)
    is_correct = probabilities.argmax(axis=1) == y
    order = np.argsort(confidence, kind="stable")
    error = 0.0
    for part in np.array_split(order, min(n_bins, len(y))):
        gap = abs(confidence[part].mean() - is_correct[part].mean())
        error += gap * len(part) / len(y)
    return float(error)


def score_uncertainty(is_correct: np.ndarray, uncertainty: np.ndarray) -> dict[str, float]:
    """How well an uncertainty [n] tells wrong predictions from right ones.

    Returns:
        error_auroc: Probability that a wrong clip is more uncertain than a right one (0.5 is
            chance, and what is returned where all clips are right, or all wrong).
        aurc: Mean error rate over all coverages when the least uncertain clips are kept
            (Geifman and El-Yaniv 2017, arXiv 1705.08500); smaller is better.
        augrc: Mean share of all clips that are kept and wrong, likewise (Traub et al. 2024, arXiv
            2407.01032).
    Ties share their mean.
    """
    is_wrong = ~is_correct
    n = len(is_wrong)
    area = _roc_auc(is_wrong, uncertainty) if 0 < is_wrong.sum() < n else 0.5
    order = np.argsort(uncertainty, kind="stable")
    # Clips of equal uncertainty are kept together in no particular order: each stands for the
    # mean of its group.
    _, group, counts = np.unique(uncertainty[order], return_inverse=True, return_counts=True)
    mean_wrong = np.bincount(group, weights=is_wrong[order]) / counts
    kept_wrong = np.cumsum(mean_wrong[group])
    return {
        "error_auroc": float(area),
        "aurc": float((kept_wrong / np.arange(1, n + 1)).mean()),
        "augrc": float((kept_wrong / n).mean()),
    }


def clustered_standard_error(values: np.ndarray, group: np.ndarray | None) -> float:
    """Standard error of a mean over clips that come in recordings.

    Clips of one recording are not independent; the variance is that of recording totals
    (Cameron and Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference", eq. 10 for a
    mean): ``sqrt(G / (G - 1) * sum_g (sum_{i in g} (v_i - mean))^2) / n``.

    Args:
        values: float or bool [n].
        group: Recording of each clip [n]; None: every clip for itself.
    """
    deviations = np.asarray(values, dtype=np.float64) - np.mean(values)
    if group is None:
        totals = deviations
    else:
        _, index = np.unique(group, return_inverse=True)
        totals = np.bincount(index, weights=deviations)
    if len(totals) < 2:
        return float("nan")
    correction = len(totals) / (len(totals) - 1)
    return float(np.sqrt(correction * (totals**2).sum()) / len(deviations))
