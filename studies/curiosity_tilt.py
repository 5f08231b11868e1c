"""What does a mixture gain when its router's curiosity tilts uncertain clips toward more bits?

A part of `studies.curiosity`: `curiosity.alpha`, as qwave has it built in.

Notation: m seeds, n clips, e experts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.packing import packed_size_parts
from qwave.report import Cell, Column, Section, Table
from qwave.runtime import PackedClassifier
from qwave.scores import bootstrap_difference, bootstrap_mean, holm
from studies.curiosity_measures import (
    LEVEL,
    N_RESAMPLES,
    RESAMPLE_SEED,
    Variant,
)

ALPHAS = (0.0, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Tilt:
    """A mixture under `curiosity.alpha`, with the parameters that it was trained to.

    Attributes:
        name: Of the mixture.
        alpha: Tilt of uncertain clips toward experts with more bits.
        hits: Mean over the seeds, [n].
        read_bytes: For a clip, on average.
        rerouted: Share of the clips that are sent to other experts than at alpha 0.
    """

    name: str
    alpha: float
    hits: np.ndarray
    read_bytes: float
    rerouted: float


def has_choice(variant: Variant, data: EmbeddingSet) -> bool:
    """Whether a mixture has experts of different size."""
    return variant.is_mixture and len(set(expert_bytes(variant.config, data))) > 1


def expert_bytes(config: TrialConfig, data: EmbeddingSet) -> list[int]:
    """Of each expert, in canonical order."""
    parts = packed_size_parts(config, data)
    return [parts[f"expert_{expert}"] for expert in range(config.model.num_experts)]


def tilted(variant: Variant, data: EmbeddingSet) -> list[Tilt]:
    """A mixture at each of `ALPHAS`; alpha plays no part in training, so the models are equal."""
    sizes = np.array(expert_bytes(variant.config, data))
    parts = packed_size_parts(variant.config, data)
    shared = parts["router"] + parts.get("normalization", 0)
    n_seeds = len(variant.repeats)
    hits = np.zeros((len(ALPHAS), n_seeds, len(data.y)))
    gates = np.zeros((len(ALPHAS), n_seeds, len(data.y), len(sizes)))
    for seed, repeat in enumerate(variant.repeats):
        for fold, model in enumerate(repeat.models()):
            rows = np.flatnonzero(repeat.predictions.fold == fold)
            for place, alpha in enumerate(ALPHAS):
                found = with_alpha(model, alpha).examine(data.x[rows])
                hits[place, seed, rows] = found.probabilities.argmax(axis=1) == data.y[rows]
                gates[place, seed, rows] = found.gates
    return [
        Tilt(
            variant.name,
            alpha,
            hits[place].mean(axis=0),
            shared + float(((gates[place] > 0) @ sizes).mean()),
            float(((gates[place] > 0) != (gates[0] > 0)).any(axis=2).mean()),
        )
        for place, alpha in enumerate(ALPHAS)
    ]


def with_alpha(model: PackedClassifier, alpha: float) -> PackedClassifier:
    """The same parameters, another tilt."""
    packed = model.packed
    curiosity = dataclasses.replace(packed.header.model.curiosity, alpha=alpha)
    changed = dataclasses.replace(packed.header.model, curiosity=curiosity)
    header = dataclasses.replace(packed.header, model=changed)
    return PackedClassifier(dataclasses.replace(packed, header=header))


def tilt_section(tilts: Sequence[Tilt], data: EmbeddingSet) -> Section:
    """Accuracy and bytes at each alpha, against alpha 0."""
    plain = {tilt.name: tilt for tilt in tilts if tilt.alpha == 0}
    moved = [tilt for tilt in tilts if tilt.alpha > 0]
    found = [
        bootstrap_difference(
            tilt.hits,
            plain[tilt.name].hits,
            data.group,
            n_resamples=N_RESAMPLES,
            seed=RESAMPLE_SEED,
        )
        for tilt in moved
    ]
    adjusted = holm([difference.p_value for difference in found])
    against = {
        (tilt.name, tilt.alpha): (difference.interval, float(p))
        for tilt, difference, p in zip(moved, found, adjusted, strict=True)
    }
    rows: list[tuple[Cell, ...]] = [
        (
            tilt.name,
            tilt.alpha,
            bootstrap_mean(tilt.hits, data.group, seed=RESAMPLE_SEED),
            tilt.read_bytes,
            tilt.rerouted,
            *against.get((tilt.name, tilt.alpha), (None, None)),
        )
        for tilt in tilts
    ]
    n_shown = sum(p <= LEVEL and d.estimate > 0 for d, p in zip(found, adjusted, strict=True))
    n_worse = sum(p <= LEVEL and d.estimate < 0 for d, p in zip(found, adjusted, strict=True))
    text = (
        f"Of {len(moved)} tilts, {n_shown} gain accuracy beyond chance and {n_worse} lose some "
        "(paired bootstrap over recordings, Holm). Only the routes differ: alpha plays no part in "
        "training, and every row of a mixture has the same parameters. Rerouted: share of clips "
        "that are sent to other experts than at alpha 0."
    )
    columns = (
        Column("mixture"),
        Column("alpha", "number", 1),
        Column("accuracy", "share"),
        Column("read", "bytes"),
        Column("rerouted", "share", 1),
        Column("gain on alpha 0", "share"),
        Column("p (Holm)", "number", 3),
    )
    return Section("tilt", "The built-in tilt: curiosity.alpha", text, Table(columns, tuple(rows)))
