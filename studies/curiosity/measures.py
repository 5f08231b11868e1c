"""What `studies.curiosity` compares: uncertainties of single models and of their ensemble.

Notation: m seeds, n clips, c classes, b weightings of the clips.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qwave.config import TrialConfig
from qwave.scores import Difference, bootstrap_score_difference, holm
from qwave.scores.uncertainty import WeightedScore, mutual_information
from qwave.sweep import Repeat

LEVEL = 0.05
RESAMPLE_SEED = 0
# Of differences: the smallest p-value is four in ten thousand, before Holm.
N_RESAMPLES = 4999

CURIOSITY, VARIANCE, BASELINE = "curiosity", "variance", "max probability"
DISAGREEMENT, OF_ENSEMBLE = "ensemble: mutual information", "ensemble: max probability"
MEASURES = (CURIOSITY, VARIANCE, BASELINE, DISAGREEMENT, OF_ENSEMBLE)


@dataclass(frozen=True, eq=False)
class Variant:
    """A configuration and its trials, one a seed.

    Attributes:
        name: In the YAML file.
        config: As the file has it.
        repeats: In the order of the seeds.
        said: Out-of-fold, of all clips.
    """

    name: str
    config: TrialConfig
    repeats: Sequence[Repeat]
    said: Said

    @classmethod
    def of(cls, name: str, config: TrialConfig, repeats: Sequence[Repeat]) -> Variant:
        """From the trials of its seeds."""
        predictions = [repeat.predictions for repeat in repeats]
        said = Said(
            np.array([part.probabilities for part in predictions]),
            np.array([part.mutual_information for part in predictions]),
            np.array([part.variance for part in predictions]),
        )
        return cls(name, config, repeats, said)

    @property
    def size_bytes(self) -> int:
        """Length of the packed file."""
        return int(self.repeats[0].scores["size_bytes"])

    @property
    def is_mixture(self) -> bool:
        """Whether there is a router."""
        return self.config.model.num_experts > 1


@dataclass(frozen=True, eq=False)
class Said:
    """What the models of every seed say of clips.

    Attributes:
        probabilities: [m, n, c].
        information: Mutual information under MC-dropout, [m, n].
        variance: [m, n].
    """

    probabilities: np.ndarray
    information: np.ndarray
    variance: np.ndarray

    def uncertainties(self) -> dict[str, np.ndarray]:
        """Each of `MEASURES`: [m, n] of single models, [1, n] of the ensemble."""
        ensemble = self.probabilities.mean(axis=0, keepdims=True)
        return {
            CURIOSITY: self.information,
            VARIANCE: self.variance,
            BASELINE: -self.probabilities.max(axis=2),
            DISAGREEMENT: mutual_information(self.probabilities)[None],
            OF_ENSEMBLE: -ensemble.max(axis=2),
        }

    def wrong(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """Which predictions are wrong, for each of `MEASURES`: those that it is about."""
        single = self.probabilities.argmax(axis=2) != y
        together = (self.probabilities.mean(axis=0).argmax(axis=1) != y)[None]
        return {
            measure: together if measure in (DISAGREEMENT, OF_ENSEMBLE) else single
            for measure in MEASURES
        }

    def followed_by(self, other: Said) -> Said:
        """These clips and then the other ones, of the same seeds."""
        return Said(
            np.concatenate([self.probabilities, other.probabilities], axis=1),
            np.concatenate([self.information, other.information], axis=1),
            np.concatenate([self.variance, other.variance], axis=1),
        )


@dataclass(frozen=True)
class Comparison:
    """One uncertainty of a variant against another.

    Attributes:
        variant: Its name.
        measure: One of `MEASURES`.
        against: Another one.
        difference: Of a score, measure minus the other.
        p: Of no difference, corrected by Holm for the comparisons that it was made with.
        is_mixture: Whether the variant is one: its curiosity is that of its router.
    """

    variant: str
    measure: str
    against: str
    difference: Difference
    p: float
    is_mixture: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether it is hardly chance."""
        return self.p <= LEVEL


def mean_score(
    score: Callable[[np.ndarray, np.ndarray], WeightedScore],
    is_positive: np.ndarray,
    uncertainty: np.ndarray,
) -> WeightedScore:
    """The mean over members of a score of what each has to find, [m, n], and its uncertainty."""
    parts = [score(one, other) for one, other in zip(is_positive, uncertainty, strict=True)]

    def mean(weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.mean([part(weights) for part in parts], axis=0)
        return found

    return mean


def compared(
    scores: Mapping[str, Mapping[str, WeightedScore]],
    pairs: Sequence[tuple[str, str]],
    group: np.ndarray | None,
    n: int,
    *,
    mixtures: Collection[str] = (),
) -> list[Comparison]:
    """Pairs of measures of every variant on the same resamples, all corrected together.

    Args:
        scores: Variant, and measure, to its score.
        pairs: A measure, and what it is held against.
        group: Recording of each clip [n].
        n: Number of clips.
        mixtures: Names of the variants that are mixtures.
    """
    found = [
        (variant, measure, against, _difference(of[measure], of[against], group, n))
        for variant, of in scores.items()
        for measure, against in pairs
    ]
    adjusted = holm([difference.p_value for *_, difference in found])
    return [
        Comparison(*entry, p=float(p), is_mixture=entry[0] in mixtures)
        for entry, p in zip(found, adjusted, strict=True)
    ]


def _difference(
    one: WeightedScore, other: WeightedScore, group: np.ndarray | None, n: int
) -> Difference:
    return bootstrap_score_difference(
        lambda weights: one(weights) - other(weights),
        group,
        n,
        n_resamples=N_RESAMPLES,
        seed=RESAMPLE_SEED,
    )


def of_pair(comparisons: Sequence[Comparison], pair: tuple[str, str]) -> list[Comparison]:
    """Those of one measure against one other."""
    return [c for c in comparisons if (c.measure, c.against) == pair]


@dataclass(frozen=True)
class Finding:
    """How often curiosity is ahead of the largest probability, and how often beyond chance.

    Attributes:
        question: What both were asked.
        kind: ``networks`` or ``mixtures``.
        curiosity: Its score, mean over the variants, 0 to 1.
        baseline: That of the largest probability.
        ensemble: That of the disagreement of an ensemble, where it was asked.
        n: Number of variants.
        n_ahead: In how many curiosity is the better one; ``n_ahead_shown``: beyond chance.
        n_behind: In how many it is the worse one; ``n_behind_shown``: beyond chance.
    """

    question: str
    kind: str
    curiosity: float
    baseline: float
    ensemble: float | None
    n: int
    n_ahead: int
    n_ahead_shown: int
    n_behind: int
    n_behind_shown: int


def findings_of(
    question: str,
    comparisons: Sequence[Comparison],
    values: Mapping[tuple[str, str], float],
) -> list[Finding]:
    """Of networks and of mixtures, where there are any.

    Args:
        question: What was asked.
        comparisons: Of curiosity with the largest probability; larger is better.
        values: Variant and measure to score.
    """
    is_ensemble_asked = any(measure == DISAGREEMENT for _, measure in values)
    found = []
    for kind, is_mixture in (("networks", False), ("mixtures", True)):
        part = [c for c in comparisons if c.is_mixture == is_mixture]
        if part:
            found.append(
                Finding(
                    question,
                    kind,
                    _mean(part, CURIOSITY, values),
                    _mean(part, BASELINE, values),
                    _mean(part, DISAGREEMENT, values) if is_ensemble_asked else None,
                    len(part),
                    *_counts(part, 1),
                )
            )
    return found


def verdict(comparisons: Sequence[Comparison], *, is_larger_better: bool = True) -> str:
    """In how many comparisons the first is ahead, and in how many that is beyond chance.

    All of them hold the same measure against the same other.
    """
    parts = []
    for kind, is_mixture in (("networks", False), ("mixtures", True)):
        part = [c for c in comparisons if c.is_mixture == is_mixture]
        if part:
            ahead, ahead_shown, behind, behind_shown = _counts(part, 1 if is_larger_better else -1)
            parts.append(
                f"of {len(part)} {kind} ahead in {ahead} ({ahead_shown} beyond chance) and behind "
                f"in {behind} ({behind_shown} beyond chance)"
            )
    return f"{comparisons[0].measure} against {comparisons[0].against}: {', '.join(parts)}"


def _mean(
    comparisons: Sequence[Comparison], measure: str, values: Mapping[tuple[str, str], float]
) -> float:
    return float(np.mean([values[c.variant, measure] for c in comparisons]))


def _counts(comparisons: Sequence[Comparison], sign: int) -> tuple[int, int, int, int]:
    """Ahead, of these beyond chance; behind, of these beyond chance."""
    ahead = [c.is_shown for c in comparisons if sign * c.difference.estimate > 0]
    behind = [c.is_shown for c in comparisons if sign * c.difference.estimate < 0]
    return len(ahead), sum(ahead), len(behind), sum(behind)
