"""Does an uncertainty know which clips are worth a costly expert?

A part of `studies.curiosity`.

Notation: m seeds, n clips, k shares.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwave.data import EmbeddingSet
from qwave.report import Cell, Column, Section, Table, curves_png, size_text
from qwave.scores import Difference, Interval, bootstrap_difference, bootstrap_mean, holm
from studies.curiosity_cascade import (
    ORACLE,
    RANDOM,
    Cascade,
    cascade_of_mixture,
    cascade_of_networks,
    network_pairs,
)
from studies.curiosity_measures import (
    BASELINE,
    CURIOSITY,
    N_RESAMPLES,
    RESAMPLE_SEED,
    Comparison,
    Finding,
    Variant,
    findings_of,
    verdict,
)
from studies.curiosity_tilt import has_choice, tilt_section, tilted
from studies.presenting import metric_name

RIVALS = (BASELINE, RANDOM)
SHARES = np.linspace(0, 1, 101)
REPORTED = (0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Gain:
    """Curiosity minus a rival, in accuracy.

    Attributes:
        cascade: Its name.
        share: Escalated by curiosity; None: the mean over all shares, the area between curves.
        read_bytes: By curiosity.
        accuracy: Of curiosity.
        is_mixture: Whether the experts are a mixture's.
        is_worthwhile: Whether the costly expert alone is better than the cheap one.
        rival: `BASELINE` or `RANDOM`.
        at_equal_share: The rival escalates as many clips.
        at_equal_bytes: The rival reads as many bytes (or fewer, where it has escalated all).
        p_values: Of both, corrected by Holm over all gains.
    """

    cascade: str
    share: float | None
    read_bytes: float
    accuracy: float
    is_mixture: bool
    is_worthwhile: bool
    rival: str
    at_equal_share: Difference
    at_equal_bytes: Difference
    p_values: tuple[float, float] = (1.0, 1.0)


def escalation_sections(
    variants: Sequence[Variant], data: EmbeddingSet
) -> tuple[list[Section], dict[str, float], list[Finding]]:
    """Sections, metrics, and findings for the head of the report."""
    tilts = {v.name: tilted(v, data) for v in variants if has_choice(v, data)}
    cascades = [cascade_of_networks(*pair, data) for pair in network_pairs(variants)]
    cascades += [cascade_of_mixture(v, data, tilts[v.name]) for v in variants if v.name in tilts]
    if not cascades:
        return [], {}, []
    gains = corrected([gain for cascade in cascades for gain in gains_of(cascade, data)])
    worse = [cascade.name for cascade in cascades if not cascade.is_worthwhile]
    text = (
        "Cheap first, and the most uncertain clips to the costly expert. Gain: accuracy when "
        "curiosity chooses, minus accuracy when something else does, of as many clips or of as "
        "many bytes read. Curiosity is the router's in a mixture, and costs its bytes; in a pair "
        "of networks it is the cheap one's own. 'all' is the mean over all shares, the area "
        "between the curves. Paired bootstrap over recordings, Holm over each column; the borders "
        "between certain and uncertain are taken as known.\n\n"
        f"{spoken(gains)}."
    )
    if worse:
        text += (
            f"\n\nIn {len(worse)} of {len(cascades)} ({'; '.join(worse)}) the costly expert alone "
            "is no better than the cheap one: experts of a mixture know what their router sends "
            "them. There escalation costs bytes and accuracy, however it is chosen; whoever "
            "escalates less looks better at equal bytes, and these are left out of the findings."
        )
    sections = [
        Section("escalation", "Does it know which clips to escalate?", text, gains_table(gains)),
        *(curve_section(cascade, data) for cascade in cascades),
    ]
    if tilts:
        sections.append(tilt_section([tilt for of in tilts.values() for tilt in of], data))
    metrics = {
        metric_name(f"escalation_gain/{gain.cascade}/{gain.rival}"): gain.at_equal_bytes.estimate
        for gain in gains
        if gain.share is None
    }
    return sections, metrics, findings_of_gains(gains)


def gains_of(cascade: Cascade, data: EmbeddingSet) -> list[Gain]:
    """At the shares that are reported, and over all of them."""
    spent = cascade.read_bytes(CURIOSITY, SHARES)
    own = cascade.hits(CURIOSITY, SHARES)
    places = {share: int(np.argmin(np.abs(SHARES - share))) for share in REPORTED}
    gains = []
    for share in (*REPORTED, None):
        part = slice(None) if share is None else slice(places[share], places[share] + 1)
        mine = area(own[part])
        for rival in RIVALS:
            others = (SHARES[part], cascade.affordable(rival, spent[part]))
            by_share, by_bytes = (
                bootstrap_difference(
                    mine,
                    area(cascade.hits(rival, other)),
                    data.group,
                    n_resamples=N_RESAMPLES,
                    seed=RESAMPLE_SEED,
                )
                for other in others
            )
            read = float(area(spent[part, None])[0])
            gains.append(
                Gain(
                    cascade=cascade.name,
                    share=share,
                    read_bytes=read,
                    accuracy=float(mine.mean()),
                    is_mixture=cascade.router_bytes > 0,
                    is_worthwhile=cascade.is_worthwhile,
                    rival=rival,
                    at_equal_share=by_share,
                    at_equal_bytes=by_bytes,
                )
            )
    return gains


def area(values: np.ndarray) -> np.ndarray:
    """Mean over equidistant shares [k, n] by the trapezoidal rule; of one share, its values."""
    if len(values) == 1:
        return values[0]
    mean: np.ndarray = np.trapezoid(values, axis=0) / (len(values) - 1)
    return mean


def corrected(gains: Sequence[Gain]) -> list[Gain]:
    """With p-values after Holm, each column for itself."""
    by_share = holm([gain.at_equal_share.p_value for gain in gains])
    by_bytes = holm([gain.at_equal_bytes.p_value for gain in gains])
    return [
        dataclasses.replace(gain, p_values=(float(p), float(q)))
        for gain, p, q in zip(gains, by_share, by_bytes, strict=True)
    ]


def comparisons_of(gains: Sequence[Gain], rival: str) -> list[Comparison]:
    """Over all shares and at equal bytes, where it is worth while to escalate."""
    return [
        Comparison(
            gain.cascade, CURIOSITY, rival, gain.at_equal_bytes, gain.p_values[1], gain.is_mixture
        )
        for gain in gains
        if gain.share is None and gain.rival == rival and gain.is_worthwhile
    ]


def findings_of_gains(gains: Sequence[Gain]) -> list[Finding]:
    """Curiosity against the largest probability."""
    values = {}
    for gain in gains:
        if gain.share is None and gain.rival == BASELINE:
            values[gain.cascade, CURIOSITY] = gain.accuracy
            values[gain.cascade, BASELINE] = gain.accuracy - gain.at_equal_bytes.estimate
    return findings_of(
        "escalation (accuracy, mean over shares, at equal bytes)",
        comparisons_of(gains, BASELINE),
        values,
    )


def spoken(gains: Sequence[Gain]) -> str:
    """The verdict against each rival."""
    found = [comparisons for rival in RIVALS if (comparisons := comparisons_of(gains, rival))]
    if not found:
        return "There is nothing to choose: no costly expert alone is better than its cheap one"
    return "Where the costly expert alone is the better one, at equal bytes. " + ". ".join(
        map(verdict, found)
    )


def gains_table(gains: Sequence[Gain]) -> Table:
    """A row a gain."""
    columns = (
        Column("experts"),
        Column("escalated", "share", 0),
        Column("read", "bytes"),
        Column("accuracy", "share"),
        Column("against"),
        Column("gain at equal share", "share"),
        Column("p (share)", "number", 3),
        Column("gain at equal bytes", "share"),
        Column("p (bytes)", "number", 3),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            gain.cascade,
            "all" if gain.share is None else gain.share,
            gain.read_bytes,
            gain.accuracy,
            gain.rival,
            gain.at_equal_share.interval,
            gain.p_values[0],
            gain.at_equal_bytes.interval,
            gain.p_values[1],
        )
        for gain in gains
    ]
    return Table(columns, tuple(rows))


def curve_section(cascade: Cascade, data: EmbeddingSet) -> Section:
    """Accuracy against bytes read, by each way to choose."""
    named = (CURIOSITY, BASELINE, RANDOM, ORACLE)
    accuracy = {name: cascade.hits(name, SHARES).mean(axis=1) for name in named}
    read = {name: cascade.read_bytes(name, SHARES) for name in named}
    # Who knows the answers is not made to escalate what gains nothing.
    accuracy[ORACLE] = np.maximum.accumulate(accuracy[ORACLE])
    curves = {name: (read[name] / 1000, accuracy[name]) for name in named}
    if cascade.own_routing is not None:
        own_bytes, own_accuracy = cascade.own_routing
        curves["its own routing, alpha 0 to 1"] = (own_bytes / 1000, own_accuracy)
    rows: list[tuple[Cell, ...]] = [
        (
            float(SHARES[k]),
            *(float(v) for name in named for v in (read[name][k], accuracy[name][k])),
        )
        for k in range(0, len(SHARES), 10)
    ]
    columns = [Column("escalated", "share", 0)]
    for name in named:
        columns += [Column(f"{name}: read", "bytes"), Column(name, "share")]
    cheap, costly = (
        bootstrap_mean(hits.mean(axis=0), data.group, seed=RESAMPLE_SEED)
        for hits in (cascade.cheap_hits, cascade.costly_hits)
    )
    text = (
        f"The cheap expert alone is right about {percent(cheap)} of the clips, the costly one "
        f"about {percent(costly)}; a chooser that knows the answers reaches "
        f"{100 * accuracy[ORACLE].max():.2f} % (it escalates at most the share)."
    )
    if cascade.own_routing is not None:
        text += (
            f" As it routes by itself, the mixture reads {size_text(own_bytes[0])} and is right "
            f"about {100 * own_accuracy[0]:.2f} %."
        )
    return Section(
        "escalation_" + re.sub(r"\W+", "_", cascade.name).strip("_"),
        cascade.name,
        text,
        Table(tuple(columns), tuple(rows)),
        curves_png(
            curves,
            title=f"Escalation: {cascade.name}",
            subtitle="out-of-fold, mean over the seeds; each curve from no clip escalated to all",
            x_label="mean bytes read for a clip (kB)",
            y_label="accuracy (%)",
            are_x_shares=False,
        ),
    )


def percent(estimate: Interval) -> str:
    """A share with its interval."""
    value, low, high = (100 * x for x in (estimate.estimate, estimate.low, estimate.high))
    return f"{value:.2f} % [{low:.2f}, {high:.2f}]"
