"""A cheap and a costly expert, and what each way to choose between them reads and gets right.

A part of `studies.curiosity`. Every clip goes to the cheap expert, and the most uncertain share of
each fold's test clips to the costly one instead. What is read of the file for a clip:

| choice | bytes |
|---|---|
| by the router's curiosity, before any expert is read | router, and one expert |
| by the cheap expert's probabilities, or by its own curiosity | cheap; costly if escalated |
| at random | one expert |

MC-dropout computes twenty times what one pass of the router does; its bytes are counted once.

Notation: m seeds, n clips, k shares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qwave.data import EmbeddingSet
from qwave.packing import packed_size_parts
from qwave.scores.uncertainty import escalation
from studies.curiosity_measures import BASELINE, CURIOSITY, Variant
from studies.curiosity_tilt import Tilt, expert_bytes

RANDOM, ORACLE = "at random", "knows the answers"


@dataclass(frozen=True, eq=False)
class Cascade:
    """A cheap and a costly expert, and what tells which clips to escalate.

    Attributes:
        name: Of the mixture, or of the two networks.
        cheap_hits: Whether the cheap expert is right, [m, n].
        costly_hits: Likewise.
        uncertainties: By `CURIOSITY`, `BASELINE`, `RANDOM` and `ORACLE`, [m, n].
        fold: Of each clip [n].
        cheap_bytes: Of the cheap expert.
        costly_bytes: Of the costly one.
        router_bytes: 0 where there is none, and the curiosity is that of the cheap expert.
        own_routing: Mean bytes and accuracy of the mixture as it is at each of `ALPHAS`.
    """

    name: str
    cheap_hits: np.ndarray
    costly_hits: np.ndarray
    uncertainties: Mapping[str, np.ndarray]
    fold: np.ndarray
    cheap_bytes: int
    costly_bytes: int
    router_bytes: int
    own_routing: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def is_worthwhile(self) -> bool:
        """Whether the costly expert alone is better than the cheap one."""
        return bool(self.costly_hits.mean() > self.cheap_hits.mean())

    def read_bytes(self, choice: str, share: np.ndarray) -> np.ndarray:
        """Mean bytes read for a clip when a share of them [k] is escalated."""
        cheap, costly = self.cheap_bytes, self.costly_bytes
        if choice == CURIOSITY and self.router_bytes:
            return self.router_bytes + (1 - share) * cheap + share * costly
        if choice in (CURIOSITY, BASELINE):
            return cheap + share * costly
        return (1 - share) * cheap + share * costly

    def affordable(self, choice: str, read_bytes: np.ndarray) -> np.ndarray:
        """Largest share that reads at most so many bytes [k]; 1 where all can be escalated."""
        none, all_ = self.read_bytes(choice, np.array([0.0, 1.0]))
        return np.clip((read_bytes - none) / (all_ - none), 0.0, 1.0)

    def hits(self, choice: str, share: np.ndarray) -> np.ndarray:
        """Expected hits of each clip, mean over the seeds, for shares [k]: [k, n]."""
        total = np.zeros((len(share), len(self.fold)))
        for cheap, costly, uncertainty in zip(
            self.cheap_hits, self.costly_hits, self.uncertainties[choice], strict=True
        ):
            chance = np.empty_like(total)
            for fold in np.unique(self.fold):
                rows = self.fold == fold
                chance[:, rows] = escalation(uncertainty[rows], share)
            total += (1 - chance) * cheap + chance * costly
        return total / len(self.cheap_hits)


def network_pairs(variants: Sequence[Variant]) -> list[tuple[Variant, Variant]]:
    """Networks of one expert that differ in their scheme alone: the smallest and the largest."""
    alike: dict[str, list[Variant]] = {}
    for variant in variants:
        if not variant.is_mixture:
            model = dataclasses.replace(variant.config.model, schemes=("int8",))
            key = dataclasses.replace(variant.config, model=model).digest
            alike.setdefault(key, []).append(variant)
    pairs = []
    for group in alike.values():
        cheap = min(group, key=lambda variant: variant.size_bytes)
        costly = max(group, key=lambda variant: variant.size_bytes)
        if cheap.size_bytes < costly.size_bytes:
            pairs.append((cheap, costly))
    return pairs


def cascade_of_networks(cheap: Variant, costly: Variant, data: EmbeddingSet) -> Cascade:
    """Two networks, trained apart."""
    cheap_hits, costly_hits = (
        variant.said.probabilities.argmax(axis=2) == data.y for variant in (cheap, costly)
    )
    return Cascade(
        f"{cheap.name}, then {costly.name}",
        cheap_hits,
        costly_hits,
        choices(cheap.said.information, cheap.said.probabilities, cheap_hits, costly_hits),
        cheap.repeats[0].predictions.fold,
        cheap_bytes=expert_bytes(cheap.config, data)[0],
        costly_bytes=expert_bytes(costly.config, data)[0],
        router_bytes=0,
    )


def cascade_of_mixture(
    variant: Variant, data: EmbeddingSet, tilts: Sequence[Tilt] = ()
) -> Cascade:
    """The smallest and the largest expert of a mixture, each as it is on its own."""
    sizes = expert_bytes(variant.config, data)
    cheap, costly = int(np.argmin(sizes)), int(np.argmax(sizes))
    said = np.empty((len(variant.repeats), 2, *variant.said.probabilities.shape[1:]))
    for seed, repeat in enumerate(variant.repeats):
        for fold, model in enumerate(repeat.models()):
            rows = np.flatnonzero(repeat.predictions.fold == fold)
            said[seed, :, rows] = np.moveaxis(
                model.expert_probabilities(data.x[rows])[[cheap, costly]], 0, 1
            )
    cheap_hits, costly_hits = np.moveaxis(said.argmax(axis=3) == data.y, 1, 0)
    own = np.array([[tilt.read_bytes, tilt.hits.mean()] for tilt in tilts])
    return Cascade(
        variant.name,
        cheap_hits,
        costly_hits,
        choices(variant.said.information, said[:, 0], cheap_hits, costly_hits),
        variant.repeats[0].predictions.fold,
        sizes[cheap],
        sizes[costly],
        packed_size_parts(variant.config, data)["router"],
        (own[:, 0], own[:, 1]) if len(own) else None,
    )


def choices(
    curiosity: np.ndarray, probabilities: np.ndarray, cheap_hits: np.ndarray, hits: np.ndarray
) -> dict[str, np.ndarray]:
    """By what clips may be escalated, [m, n] each."""
    return {
        CURIOSITY: curiosity,
        BASELINE: -probabilities.max(axis=2),
        RANDOM: np.zeros_like(curiosity),
        ORACLE: hits.astype(np.float64) - cheap_hits,
    }
