"""The sections of a model card on scores: out of fold, and before and after the calibration.

Every section is a function from `Facts` to Markdown.
"""

from __future__ import annotations

from qwave.data import EmbeddingSet, choose_folds
from qwave.exporting.calibration import SURE_SHARE
from qwave.exporting.facts import Facts
from qwave.exporting.record import OutOfFold, Scores
from qwave.scores.evaluate import score_predictions
from qwave.text import for_markdown, markdown_table

# Score to its name, and whether it is a share.
_SCORES = {
    "accuracy": ("accuracy", True),
    "balanced_accuracy": ("balanced accuracy", True),
    "weighted_f1": ("weighted F1", True),
    "macro_f1": ("macro F1", True),
    "nll": ("negative log likelihood, nats", False),
    "brier": ("Brier score", False),
    "ece": ("expected calibration error", True),
    "roc_auc": ("ROC AUC", True),
}


def percent(share: float) -> str:
    """A share from 0 to 1, in percent with two decimals."""
    return f"{100 * share:.2f} %"


def evaluation(facts: Facts) -> str:
    """Scores of the out-of-fold predictions, as the trial made them."""
    searched = facts.data.searched
    return "\n\n".join(
        [
            f"{_folds(facts)} Each clip was predicted by the packed model that did not see its "
            "fold; scores are of all clips together, with 95 % intervals over recordings (BCa "
            f"bootstrap). The search optimised the mean of the folds' accuracies, "
            f"{percent(facts.point.accuracy)}. Losses and calibration error are those before the "
            "calibration below.",
            markdown_table(("score", "value", "95 % interval"), _score_rows(facts.scores)),
            _own_accuracy(facts),
            markdown_table(
                ("class", "clips", "recall", "precision"), _by_class(searched, facts.out_of_fold)
            ),
        ]
    )


def _score_rows(scores: Scores) -> list[tuple[str, str, str]]:
    rows = []
    for score, (name, _) in _SCORES.items():
        interval = scores.intervals.get(score)
        ends = "-"
        if interval is not None:
            ends = f"{_shown(score, interval.low)} to {_shown(score, interval.high)}"
        rows.append((name, _shown(score, scores.values[score]), ends))
    return rows


def _shown(score: str, value: float) -> str:
    return percent(value) if _SCORES[score][1] else f"{value:.3f}"


def _folds(facts: Facts) -> str:
    data, searched = facts.config.data, facts.data.searched
    chosen = choose_folds(searched, data)
    kind = "official folds" if chosen.kind == "official" else "folds made by qwave"
    if chosen.kind == "grouped":
        kind += ", stratified by class, no recording in two of them"
    elif chosen.kind == "stratified":
        unknown = "recordings are not known, so " if searched.group is None else ""
        kind += f", stratified by class; {unknown}clips of one recording may be on both sides of "
        kind += "a split"
    elif data.drop_overlap:
        kind += ", recordings that span two of them left out of training"
    return f"{chosen.n_folds} {kind}; {len(searched.y)} clips."


def _own_accuracy(facts: Facts) -> str:
    if facts.is_refitted:
        return (
            "These are scores of the folds' models, of the same configuration. **The accuracy of "
            "this model has not been measured**: it was trained on all clips."
        )
    unseen = facts.out_of_fold.fold == 0
    is_right = facts.out_of_fold.probabilities.argmax(axis=1) == facts.data.searched.y
    return (
        f"This model itself was right on {percent(is_right[unseen].mean())} of the "
        f"{int(unseen.sum())} clips that it has not seen; the other folds have models of their "
        "own."
    )


def _by_class(searched: EmbeddingSet, out_of_fold: OutOfFold) -> list[tuple[str, ...]]:
    predicted = out_of_fold.probabilities.argmax(axis=1)
    rows: list[tuple[str, ...]] = []
    for label, name in enumerate(searched.class_names):
        is_true, is_claimed = searched.y == label, predicted == label
        n_hits = int((is_true & is_claimed).sum())
        precision = percent(n_hits / is_claimed.sum()) if is_claimed.any() else "never predicted"
        rows.append(
            (for_markdown(name), str(is_true.sum()), percent(n_hits / is_true.sum()), precision)
        )
    return rows


def calibration(facts: Facts) -> str:
    """The temperature and the threshold, and their effect on clips they were not fitted on."""
    y, temperature = facts.data.searched.y, facts.calibration.temperature
    before = facts.scores.values
    after = score_predictions(y, facts.cross_fitted.probabilities)
    rows = [
        (_SCORES[score][0], _shown(score, before[score]), _shown(score, after[score]))
        for score in ("ece", "nll", "brier")
    ]
    return "\n\n".join(
        [
            f"The logits of this model are divided by {temperature:.4g}, a temperature that was "
            "fitted on all out-of-fold predictions (Guo et al. 2017, arXiv 1706.04599); that "
            "changes no answer. The effect on clips that it was not fitted on (the temperature of "
            "each fold is fitted on the other folds):",
            markdown_table(("score", "before", "after"), rows),
            _sureness(facts),
        ]
    )


def _sureness(facts: Facts) -> str:
    sure_probability = facts.calibration.sure_probability
    if sure_probability == 0:
        return "No answer was right: no prediction of this model is called unsure."
    is_right = facts.out_of_fold.probabilities.argmax(axis=1) == facts.data.searched.y
    is_unsure = ~facts.cross_fitted.is_sure
    shares = [
        f"{percent(is_unsure[rows].mean())} of the {int(rows.sum())} {name} answers"
        for name, rows in (("right", is_right), ("wrong", ~is_right))
        if rows.any()
    ]
    return (
        f"A prediction whose largest probability is below {sure_probability:.4f} is called "
        f"unsure: {100 * SURE_SHARE:.0f} % of the right out-of-fold answers reach that. Fitted on "
        f"the other folds, it calls {' and '.join(shares)} unsure."
    )
