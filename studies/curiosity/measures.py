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
from qwave.sweep.confirm import LEVEL, RESAMPLE_SEED

# With 4999 resamples the smallest p-value of a difference is 0.0004, before Holm's correction.
N_RESAMPLES = 4999

CURIOSITY, VARIANCE, BASELINE = "curiosity", "variance", "max probability"
DISAGREEMENT, OF_ENSEMBLE = "ensemble: mutual information", "ensemble: max probability"
MEASURES = (CURIOSITY, VARIANCE, BASELINE, DISAGREEMENT, OF_ENSEMBLE)


@dataclass(frozen=True, eq=False)
class Variant:
    """A configuration, trained with m seeds, and its out-of-fold outputs for all clips.

    Attributes:
        name: Name in the YAML file.
        is_mixture: Whether there is a router; curiosity is then the router's.
        probabilities: Class probabilities, [m, n, c].
        information: Mutual information under MC-dropout, [m, n].
        variance: Variance under MC-dropout, [m, n].
    """

    name: str
    is_mixture: bool
    probabilities: np.ndarray
    information: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, name: str, config: TrialConfig, repeats: Sequence[Repeat]) -> Variant:
        """A variant from its repeats, one for each seed."""
        predictions = [repeat.predictions for repeat in repeats]
        return cls(
            name,
            config.model.num_experts > 1,
            np.array([part.probabilities for part in predictions]),
            np.array([part.mutual_information for part in predictions]),
            np.array([part.variance for part in predictions]),
        )

    def uncertainties(self) -> dict[str, np.ndarray]:
        """Each of `MEASURES`: [m, n] for single models, [1, n] for the ensemble."""
        ensemble = self.probabilities.mean(axis=0, keepdims=True)
        return {
            CURIOSITY: self.information,
            VARIANCE: self.variance,
            BASELINE: -self.probabilities.max(axis=2),
            DISAGREEMENT: mutual_information(self.probabilities)[None],
            OF_ENSEMBLE: -ensemble.max(axis=2),
        }

    def wrong(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """The wrong predictions that each of `MEASURES` should find, in the shape of the measure:
        those of the single models, or those of the ensemble."""
        single = self.probabilities.argmax(axis=2) != y
        together = (self.probabilities.mean(axis=0).argmax(axis=1) != y)[None]
        return {
            measure: together if measure in (DISAGREEMENT, OF_ENSEMBLE) else single
            for measure in MEASURES
        }


@dataclass(frozen=True)
class Comparison:
    """The score of one uncertainty of a variant less that of another.

    Attributes:
        variant: Name of the variant.
        measure: The uncertainty that is compared, one of `MEASURES`.
        against: The uncertainty that it is compared with.
        difference: Score of `measure` less that of `against`.
        p: p-value of no difference, corrected by Holm over the comparisons made together.
        is_mixture: Whether the variant is a mixture.
    """

    variant: str
    measure: str
    against: str
    difference: Difference
    p: float
    is_mixture: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.p <= LEVEL


def mean_score(
    score: Callable[[np.ndarray, np.ndarray], WeightedScore],
    is_positive: np.ndarray,
    uncertainty: np.ndarray,
) -> WeightedScore:
    """Mean over the seeds of a score of `uncertainty` [m, n] for finding `is_positive` [m, n]."""
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
        scores: Score by variant and measure.
        pairs: A measure and the measure that it is compared with.
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
    """The comparisons of one measure with one other."""
    return [c for c in comparisons if (c.measure, c.against) == pair]


@dataclass(frozen=True)
class Finding:
    """How often curiosity finds errors better than the largest probability.

    Attributes:
        kind: ``networks`` or ``mixtures``.
        curiosity: Score of curiosity, mean over the variants, 0 to 1.
        baseline: Score of the largest probability, mean over the variants.
        ensemble: Score of the disagreement of the ensemble, mean over the variants.
        n: Number of variants.
        n_ahead, n_ahead_shown: Variants in which curiosity is better, and better beyond chance.
        n_behind, n_behind_shown: Variants in which it is worse, and worse beyond chance.
    """

    kind: str
    curiosity: float
    baseline: float
    ensemble: float
    n: int
    n_ahead: int
    n_ahead_shown: int
    n_behind: int
    n_behind_shown: int


def findings_of(
    comparisons: Sequence[Comparison], values: Mapping[tuple[str, str], float]
) -> list[Finding]:
    """One finding for networks and one for mixtures, where there are any.

    Args:
        comparisons: Curiosity against the largest probability; larger is better.
        values: Score by variant and measure.
    """

    def mean(part: Sequence[Comparison], measure: str) -> float:
        return float(np.mean([values[c.variant, measure] for c in part]))

    return [
        Finding(
            kind,
            mean(part, CURIOSITY),
            mean(part, BASELINE),
            mean(part, DISAGREEMENT),
            len(part),
            *_counts(part, 1),
        )
        for kind, part in _by_kind(comparisons)
    ]


def verdict(comparisons: Sequence[Comparison], *, is_larger_better: bool = True) -> str:
    """In how many comparisons the first measure is ahead, and in how many beyond chance.

    All comparisons are of the same two measures.
    """
    parts = []
    for kind, part in _by_kind(comparisons):
        ahead, ahead_shown, behind, behind_shown = _counts(part, 1 if is_larger_better else -1)
        parts.append(
            f"of {len(part)} {kind} ahead in {ahead} ({ahead_shown} beyond chance) and behind "
            f"in {behind} ({behind_shown} beyond chance)"
        )
    return f"{comparisons[0].measure} against {comparisons[0].against}: {', '.join(parts)}"


def _by_kind(comparisons: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    kinds = {
        "networks": [c for c in comparisons if not c.is_mixture],
        "mixtures": [c for c in comparisons if c.is_mixture],
    }
    return [(kind, part) for kind, part in kinds.items() if part]


def _counts(comparisons: Sequence[Comparison], sign: int) -> tuple[int, int, int, int]:
    """Numbers of comparisons ahead, ahead beyond chance, behind, behind beyond chance."""
    ahead = [c.is_shown for c in comparisons if sign * c.difference.estimate > 0]
    behind = [c.is_shown for c in comparisons if sign * c.difference.estimate < 0]
    return len(ahead), sum(ahead), len(behind), sum(behind)
