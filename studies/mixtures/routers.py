"""What the router of a mixture is worth: the same experts under routers that know nothing.

Every model is asked about its own test clips only, so that all results are out of fold.

Shapes: s seeds, n clips, e experts, c classes, k experts that a clip is sent to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from qwave.data import EmbeddingSet
from qwave.packing import packed_size_parts
from qwave.scores import Difference, FrontPoint, Interval, bootstrap_difference, bootstrap_means
from qwave.sweep import Repeat
from qwave.sweep.confirm import RESAMPLE_SEED

ROUTERS = ("learned", "oracle", "random", "cheapest", "costliest", "best single")
RIVALS = ("random", "cheapest", "best single")

# A float32 softmax may round to 0, whose logarithm is infinite.
_SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True, eq=False)
class Examined:
    """A mixture, and what its router is worth.

    Attributes:
        point: The mixture as the search found it.
        accuracies: Accuracy under each of `ROUTERS`, with 95 % intervals over recordings.
        leads: Accuracy of the learned router less that of each of `RIVALS`, paired by recording.
        in_use: Number of experts in use (`experts_in_use`), mean over seeds.
        share_read: Bytes that one prediction reads on average, as a share of the file.
        router_share: Bytes of the router, as a share of the file.
    """

    point: FrontPoint
    accuracies: Mapping[str, Interval]
    leads: Mapping[str, Difference]
    in_use: float
    share_read: float
    router_share: float


def examine(point: FrontPoint, repeats: Sequence[Repeat], data: EmbeddingSet) -> Examined:
    """Compare the router of a mixture, trained with one or more seeds, with other routers."""
    config = repeats[0].config
    sizes = packed_size_parts(config, data)
    num_experts = config.model.num_experts
    expert_bytes = [sizes[f"expert_{expert}"] for expert in range(num_experts)]
    fold = repeats[0].predictions.fold
    by_seed = [
        router_hits(
            expert_probabilities(repeat, data.x),
            repeat.predictions.predicted,
            data.y,
            fold,
            config.model.top_k,
            expert_bytes,
        )
        for repeat in repeats
    ]
    hits = {name: np.mean([seed[name] for seed in by_seed], axis=0) for name in ROUTERS}
    intervals = bootstrap_means(np.array(list(hits.values())), data.group, seed=RESAMPLE_SEED)
    routes = [repeat.predictions.gates.argmax(axis=1) for repeat in repeats]
    return Examined(
        point,
        {name: interval for name, interval in zip(hits, intervals, strict=True)},
        {
            name: bootstrap_difference(hits["learned"], hits[name], data.group, seed=RESAMPLE_SEED)
            for name in RIVALS
        },
        float(np.mean([experts_in_use(route, fold, num_experts) for route in routes])),
        float(np.mean([r.scores["active_bytes"] / r.scores["size_bytes"] for r in repeats])),
        sizes["router"] / sum(sizes.values()),
    )


def expert_probabilities(repeat: Repeat, x: np.ndarray) -> np.ndarray:
    """Class probabilities of each expert alone for each clip of x [n, d]: float32 [e, n, c].

    Each clip is predicted by the fold's model that did not see it in training.
    """
    fold = repeat.predictions.fold
    num_classes = repeat.predictions.probabilities.shape[1]
    found = np.empty((repeat.config.model.num_experts, len(x), num_classes), dtype=np.float32)
    for index, model in enumerate(repeat.models()):
        rows = np.flatnonzero(fold == index)
        found[:, rows] = model.expert_probabilities(x[rows])
    return found


def router_hits(
    probabilities: np.ndarray,
    predicted: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    top_k: int,
    expert_bytes: Sequence[int],
) -> dict[str, np.ndarray]:
    """Whether each clip is classified rightly, 0 to 1 [n], under each of `ROUTERS`.

    | router | sends a clip |
    |---|---|
    | learned | where the mixture's own sends it, k experts weighted by their gates |
    | oracle | to an expert that is right alone, if there is one |
    | random | to any k experts, evenly weighted: the mean over all such choices |
    | cheapest | to the expert of the fewest bytes, of equal ones the first |
    | costliest | to the expert of the most bytes, of equal ones the last |
    | best single | to the expert that is right most often about the other folds' clips |

    With k above 1 the learned router may beat the oracle, which sends every clip to one expert:
    two that are wrong alone can be right together.

    Args:
        probabilities: Out-of-fold class probabilities of each expert alone, [e, n, c].
        predicted: Class that the mixture predicts, [n].
        y: True class, [n].
        fold: Fold of each clip, [n].
        top_k: Number of experts that a clip is sent to.
        expert_bytes: Size of each expert in the packed file, [e].
    """
    is_right = probabilities.argmax(axis=2) == y
    sizes = np.asarray(expert_bytes)
    return {
        "learned": (predicted == y).astype(np.float64),
        "oracle": is_right.any(axis=0).astype(np.float64),
        "random": random_hits(probabilities, y, top_k),
        "cheapest": is_right[sizes.argmin()].astype(np.float64),
        "costliest": is_right[len(sizes) - 1 - sizes[::-1].argmax()].astype(np.float64),
        "best single": best_single_hits(is_right, fold),
    }


def random_hits(probabilities: np.ndarray, y: np.ndarray, top_k: int) -> np.ndarray:
    """Share of all choices of k experts, evenly weighted, that are right about each clip: [n].

    A mixture adds its experts' logits. Logarithms of their probabilities differ from logits by one
    number for each clip, which changes no prediction.
    """
    logs = np.log(np.maximum(probabilities, _SMALLEST), dtype=np.float64)
    hits = [
        logs[list(chosen)].mean(axis=0).argmax(axis=1) == y
        for chosen in combinations(range(len(logs)), top_k)
    ]
    return np.mean(hits, axis=0)


def best_single_hits(is_right: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Hits [n] of the expert that did best on the other folds, from [e, n]; the first of equals.

    The clips that are scored play no part in the choice.
    """
    hits = np.empty(is_right.shape[1])
    for index in np.unique(fold):
        is_test = fold == index
        best = is_right[:, ~is_test].sum(axis=1).argmax()
        hits[is_test] = is_right[best, is_test]
    return hits


def experts_in_use(routes: np.ndarray, fold: np.ndarray, num_experts: int) -> float:
    """Effective number of experts that routes [n] use: exponential of their entropy, mean over
    folds. 1 if all clips of a fold go to one expert, e if each expert gets equally many.
    """
    found = []
    for index in np.unique(fold):
        counts = np.bincount(routes[fold == index], minlength=num_experts)
        share = counts[counts > 0] / counts.sum()
        found.append(np.exp(-(share * np.log(share)).sum()))
    return float(np.mean(found))
