"""What the router of a mixture is worth: its clips sent elsewhere, and its routes of other seeds.

Every model speaks of its own test clips only: all is out of fold.

Shapes: s seeds, n clips, e experts, c classes, k experts that a clip is sent to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from qwave.data import EmbeddingSet
from qwave.packing import packed_size_parts
from qwave.scores import Difference, FrontPoint, Interval, bootstrap_difference, bootstrap_means
from qwave.sweep import Repeat

ROUTERS = ("learned", "oracle", "random", "cheapest", "costliest", "best single")
RIVALS = ("random", "cheapest", "best single")
RESAMPLE_SEED = 0

# Log of what a float32 softmax rounds to 0.
_SMALLEST = np.finfo(np.float32).tiny


def expert_probabilities(repeat: Repeat, x: np.ndarray) -> np.ndarray:
    """What each expert says of each clip of x [n, d], asked alone: float32 [e, n, c].

    Each clip is asked of the fold's model that did not see it.
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
    """Whether each clip is classified right, 0 to 1 [n], under each of `ROUTERS`.

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
        probabilities: Of each expert, out of fold, [e, n, c].
        predicted: Class that the mixture predicts, [n].
        y: True class, [n].
        fold: Fold of each clip, [n].
        top_k: k.
        expert_bytes: Of each expert, [e].
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

    A mixture adds its experts' logits; logs of their probabilities differ from these by one number
    a clip, which changes no prediction.
    """
    logs = np.log(np.maximum(probabilities, _SMALLEST), dtype=np.float64)
    hits = [
        logs[list(chosen)].mean(axis=0).argmax(axis=1) == y
        for chosen in combinations(range(len(logs)), top_k)
    ]
    return np.mean(hits, axis=0)


def best_single_hits(is_right: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Hits [n] of the expert that did best on the other folds, of [e, n]; the first of equals.

    The choice never looks at the clips that it is scored on.
    """
    hits = np.empty(is_right.shape[1])
    for index in np.unique(fold):
        is_test = fold == index
        best = is_right[:, ~is_test].sum(axis=1).argmax()
        hits[is_test] = is_right[best, is_test]
    return hits


def top_experts(gates: np.ndarray) -> np.ndarray:
    """Expert of the largest gate of each clip, [n, e] to [n]; the first of equals."""
    return gates.argmax(axis=1)


def route_agreement(routes: Sequence[np.ndarray], fold: np.ndarray) -> float:
    """Agreement of several seeds about which clips belong together, by their top experts.

    The adjusted Rand index of two partitions (Hubert and Arabie 1985, "Comparing partitions",
    Journal of Classification 2, 193-218): 1 for equal ones, about 0 for chance; the names of
    experts do not matter. Mean over folds and pairs of seeds: another fold is another model, whose
    equal experts may stand in another order. Where both seeds send all clips of a fold to one
    expert there is nothing to agree about, and the pair is left out there.

    Args:
        routes: Expert of each clip, [n], one a seed.
        fold: Fold of each clip, [n].

    Returns:
        NaN with one seed, or where no pair divides any fold.
    """
    found = []
    for first, second in combinations(routes, 2):
        for index in np.unique(fold):
            pair = first[fold == index], second[fold == index]
            if any(len(np.unique(route)) > 1 for route in pair):
                found.append(adjusted_rand_score(*pair))
    return float(np.mean(found)) if found else float("nan")


def experts_in_use(routes: np.ndarray, fold: np.ndarray, num_experts: int) -> float:
    """Experts that routes [n] use, in effect: the exponential of their entropy, mean over folds.

    1 if all clips of a fold go to one expert, e if each expert gets as many as the others.
    """
    found = []
    for index in np.unique(fold):
        counts = np.bincount(routes[fold == index], minlength=num_experts)
        share = counts[counts > 0] / counts.sum()
        found.append(np.exp(-(share * np.log(share)).sum()))
    return float(np.mean(found))


@dataclass(frozen=True, eq=False)
class Expert:
    """One expert of a mixture, mean over seeds.

    Attributes:
        scheme: Its scheme's name.
        size_bytes: Of its part of the packed file.
        load: Its mean gate.
        least_load, most_load: The same of the seed that uses it least, and most.
        accuracy: If all clips went to it.
    """

    scheme: str
    size_bytes: int
    load: float
    least_load: float
    most_load: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Examined:
    """A mixture, and what its router is worth.

    Attributes:
        point: As the search found it.
        accuracies: Under each of `ROUTERS`, with 95 % intervals over recordings.
        leads: Of the learned router on each of `RIVALS`, paired by recording.
        experts: In the order of their schemes.
        agreement: See `route_agreement`.
        in_use: See `experts_in_use`; mean over seeds.
        share_read: Bytes that one prediction reads on average, as a share of the file.
        router_share: Bytes of the router, likewise.
    """

    point: FrontPoint
    accuracies: Mapping[str, Interval]
    leads: Mapping[str, Difference]
    experts: tuple[Expert, ...]
    agreement: float
    in_use: float
    share_read: float
    router_share: float


def examine(point: FrontPoint, repeats: Sequence[Repeat], data: EmbeddingSet) -> Examined:
    """Look at the router of a mixture, trained with one or more seeds."""
    config = repeats[0].config
    sizes = packed_size_parts(config, data)
    num_experts = config.model.num_experts
    expert_bytes = [sizes[f"expert_{expert}"] for expert in range(num_experts)]
    fold = repeats[0].predictions.fold
    by_seed, alone = [], []
    for repeat in repeats:
        said = expert_probabilities(repeat, data.x)
        predicted = repeat.predictions.predicted
        by_seed.append(
            router_hits(said, predicted, data.y, fold, config.model.top_k, expert_bytes)
        )
        alone.append((said.argmax(axis=2) == data.y).mean(axis=1))
    hits = {name: np.mean([seed[name] for seed in by_seed], axis=0) for name in ROUTERS}
    intervals = bootstrap_means(np.array(list(hits.values())), data.group, seed=RESAMPLE_SEED)
    loads = np.array([repeat.expert_load for repeat in repeats])
    routes = [top_experts(repeat.predictions.gates) for repeat in repeats]
    experts = (
        config.model.schemes,
        expert_bytes,
        *(x.tolist() for x in (loads.mean(0), loads.min(0), loads.max(0), np.mean(alone, 0))),
    )
    return Examined(
        point,
        dict(zip(hits, intervals, strict=True)),
        {
            name: bootstrap_difference(hits["learned"], hits[name], data.group, seed=RESAMPLE_SEED)
            for name in RIVALS
        },
        tuple(Expert(*values) for values in zip(*experts, strict=True)),
        route_agreement(routes, fold),
        float(np.mean([experts_in_use(route, fold, num_experts) for route in routes])),
        float(np.mean([r.scores["active_bytes"] / r.scores["size_bytes"] for r in repeats])),
        sizes["router"] / sum(sizes.values()),
    )
