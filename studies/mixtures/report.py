"""The report of `studies.mixtures`: the verdict, both fronts, and the routers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from qwave.report import (
    Cell,
    Column,
    Section,
    SizedEstimate,
    Table,
    estimates_png,
    size_text,
)
from qwave.scores import Difference, holm
from qwave.sweep.confirm import LEVEL
from studies.mixtures.fronts import Front, Reference
from studies.mixtures.routers import RIVALS, ROUTERS, Examined

# Compute that differs by less counts as equal.
NEARLY_EQUAL = 0.02
# With fewer experts in use, a mixture is one expert and a router without effect.
COLLAPSED = 1.05


def verdict_section(
    fronts: Mapping[str, Front], difference: Difference, reference: Reference
) -> Section:
    """The answer: both hypervolumes, their difference, and the cost of both searches.

    Args:
        fronts: The front of one expert, and the front with mixtures, in this order.
        difference: Hypervolume with mixtures less that without.
        reference: Reference point of the hypervolumes.
    """
    one, mixed = (front.search for front in fronts.values())
    smallest = min(front.models.size_bytes.min() for front in fronts.values())
    decades = math.log10(reference.size_bytes / smallest)
    low, value, high = (
        100 * end / decades for end in (difference.low, difference.estimate, difference.high)
    )
    text = (
        "Hypervolume of the confirmed fronts, with mixtures in the space less without: "
        f"{difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] (95 % "
        f"interval over recordings, p = {difference.p_value:.2g}). {verdict(difference)} Spread "
        f"over all sizes from {size_text(int(smallest))} to {size_text(int(reference.size_bytes))}"
        f", the difference is {value:+.2f} points of accuracy [{low:+.2f}, {high:+.2f}].\n\n"
        "Compute: training rows x epochs x weights that one clip meets (the router's, and those "
        "of the experts it is sent to), over all trials. The cheaper search goes on until it has "
        "spent as much as the other, and each ends at the trial where they are nearest: with "
        f"mixtures, {mixed.compute / one.compute:.3f} times the compute without."
        f"{compute_note(mixed.compute / one.compute)} Seconds are those of whole trials on this "
        "machine, with packing and predictions.\n\n"
        "The interval is over recordings, for these models. Another search would find other "
        "models; another sampler.seed, with another name, shows how much that changes."
    )
    columns = (
        Column("front"),
        Column("hypervolume", "number", 4),
        Column("members", "number", 0),
        Column("mixtures", "number", 0),
        Column("trials", "number", 0),
        Column("trials beyond", "number", 0),
        Column("compute (1e9)", "number", 1),
        Column("trial seconds", "number", 0),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            front.volume,
            len(front.search.front),
            sum(point.is_mixture for point in front.search.front),
            len(front.search.costs),
            front.search.n_left_out,
            front.search.compute / 1e9,
            front.search.seconds,
        )
        for name, front in fronts.items()
    ]
    rows.append(("difference", difference.interval, *[None] * 6))
    return Section("hypervolumes", "Does a mixture pay?", text, Table(columns, tuple(rows)))


def verdict(difference: Difference) -> str:
    """One sentence: whether 0 is inside the interval, and what that means."""
    if difference.low <= 0 <= difference.high:
        return "0 is inside: these recordings do not show that mixtures change the front."
    if difference.estimate > 0:
        return "0 is outside: at equal compute, mixtures pay."
    return "0 is outside: at equal compute, mixtures cost more than they give."


def compute_note(ratio: float) -> str:
    """A warning where compute could not be made equal."""
    if abs(ratio - 1) <= NEARLY_EQUAL:
        return ""
    more = "with mixtures" if ratio > 1 else "of one expert"
    return f" It is not equal: single trials are too dear for it, and the search {more} had more."


def front_section(
    fronts: Mapping[str, Front], examined: Sequence[Examined], name: str, n_seeds: int
) -> Section:
    """Both confirmed fronts as a table, and as a picture with the best other mixtures."""
    text = (
        "Searched: accuracy in the search, one seed. Confirmed: mean of "
        f"{n_seeds} fresh seeds, 95 % interval over recordings. On front: with fresh seeds, not "
        "dominated within its own search. The search with mixtures may draw one expert too, and "
        "both begin with the same networks: a model can stand in both. The picture has the best "
        "mixtures off the front as well."
    )
    columns = (
        Column("search"),
        Column("size", "bytes"),
        Column("searched", "share"),
        Column("confirmed", "share"),
        Column("seed deviation", "share"),
        Column("on front", "yes"),
        Column("experts", "number", 0),
        Column("model"),
        Column("digest"),
    )
    rows: list[tuple[Cell, ...]] = []
    series: dict[str, list[SizedEstimate]] = {search: [] for search in fronts}
    labelled: set[str] = set()
    for search, front in fronts.items():
        for point, score in zip(front.search.front, front.scores, strict=True):
            facts = (point.accuracy, score.accuracy, score.seed_deviation, score.is_front)
            rows.append(
                (
                    *(search, point.size_bytes, *facts),
                    *(point.num_experts, point.label, point.digest),
                )
            )
            label = "" if point.digest in labelled else point.label
            labelled.add(point.digest)
            series[search].append(SizedEstimate(point.size_bytes, score.accuracy, label))
    others = [
        SizedEstimate(entry.point.size_bytes, entry.accuracies["learned"])
        for entry in examined
        if entry.point.digest not in labelled
    ]
    picture = estimates_png(
        {**series, "best mixtures off the front": others},
        title=f"{name}: fronts without and with mixtures, confirmed",
        subtitle=f"equal training compute · mean of {n_seeds} fresh seeds",
        staircases=tuple(series),
    )
    return Section("fronts", "Both fronts, confirmed", text, Table(columns, tuple(rows)), picture)


def routers_sections(examined: Sequence[Examined], name: str, n_seeds: int) -> list[Section]:
    """What the routers of the best mixtures are worth, and how many experts they use."""
    if not examined:
        text = "The search drew no mixture within its compute: there is no router to examine."
        return [Section("routers", "What the router is worth", text)]
    return [worth_section(examined, name, n_seeds), routes_section(examined)]


def worth_section(examined: Sequence[Examined], name: str, n_seeds: int) -> Section:
    """Accuracy under each router, and the lead of the learned router on others."""
    found = significant_leads(examined)
    n_ahead = sum(sign == "+" for signs in found for sign in signs.values())
    n_behind = sum(sign == "-" for signs in found for sign in signs.values())
    text = (
        f"The mixtures on the front of their search, or nearest below it: their experts under "
        f"other routers, mean of {n_seeds} fresh seeds, out of fold. Oracle: right if any expert "
        "alone is. Random: any k of the experts, evenly weighted. Cheapest, costliest: always the "
        "expert of the fewest, or most, bytes. Best single: always the one that did best on the "
        "other folds.\n\n"
        "Lead: accuracy of the learned router less that of another, 95 % interval over "
        f"recordings. Of {len(examined) * len(RIVALS)} leads, {n_ahead} are above 0 and "
        f"{n_behind} below, at 5 % by Holm for all of them together: they are named as sure. A "
        "lead says that experts were trained for the clips they get, and not that a mixture is "
        "worth its bytes: no expert here was trained to stand alone. Those that were are on the "
        "other front."
    )
    columns = (
        Column("size", "bytes"),
        *(Column(router, "share") for router in ROUTERS),
        *(Column(f"lead on {rival}", "share") for rival in RIVALS),
        Column("sure"),
        Column("model"),
        Column("digest"),
    )
    rows: list[tuple[Cell, ...]] = []
    for entry, signs in zip(examined, found, strict=True):
        facts: list[Cell] = [entry.point.size_bytes, entry.accuracies["learned"]]
        # The picture has these intervals; with them the table would be too wide for a terminal.
        facts += [entry.accuracies[router].estimate for router in ROUTERS[1:]]
        facts += [lead.interval for lead in entry.leads.values()]
        facts.append(", ".join(f"{sign}{rival}" for rival, sign in signs.items()) or "none")
        rows.append((*facts, entry.point.label, entry.point.digest))
    picture = estimates_png(
        {
            router: [
                SizedEstimate(entry.point.size_bytes, entry.accuracies[router])
                for entry in examined
            ]
            for router in ROUTERS
        },
        title=f"{name}: the same experts under other routers",
        subtitle=f"the search's {len(examined)} best mixtures · mean of {n_seeds} fresh seeds",
    )
    return Section(
        "routers", "What the router is worth", text, Table(columns, tuple(rows)), picture
    )


def significant_leads(examined: Sequence[Examined]) -> list[dict[str, str]]:
    """For each mixture, the rivals that the learned router is ahead of (``+``) or behind (``-``).

    At a level of 5 % for all mixtures and rivals together (Holm).
    """
    adjusted = iter(holm([d.p_value for entry in examined for d in entry.leads.values()]))
    return [
        {
            name: "+" if lead.estimate > 0 else "-"
            for name, lead in entry.leads.items()
            if next(adjusted) <= LEVEL
        }
        for entry in examined
    ]


def routes_section(examined: Sequence[Examined]) -> Section:
    """How many experts the routers use, and what a prediction reads."""
    n_collapsed = sum(entry.in_use < COLLAPSED for entry in examined)
    text = (
        "Experts in use: as many experts as would be used if each got as many clips (the "
        "exponential of the entropy of top experts, by fold). Read: bytes that one prediction "
        "reads, as a share of the file. Router: its share of the file. "
        f"{n_collapsed} of {len(examined)} mixtures have collapsed to one expert."
    )
    columns = (
        Column("size", "bytes"),
        Column("experts", "number", 0),
        Column("experts in use", "number"),
        Column("read", "share", 1),
        Column("router", "share", 1),
        Column("model"),
        Column("digest"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            entry.point.size_bytes,
            entry.point.num_experts,
            entry.in_use,
            entry.share_read,
            entry.router_share,
            entry.point.label,
            entry.point.digest,
        )
        for entry in examined
    ]
    return Section("routes", "How many experts are used", text, Table(columns, tuple(rows)))


def study_metrics(
    fronts: Mapping[str, Front], difference: Difference, examined: Sequence[Examined]
) -> dict[str, float]:
    """The numbers of the study's MLflow run."""
    found = {
        "hypervolume_difference": difference.estimate,
        "hypervolume_difference_low": difference.low,
        "hypervolume_difference_high": difference.high,
        "hypervolume_difference_p": difference.p_value,
        "n_mixtures_examined": float(len(examined)),
    }
    for name, front in zip(("one", "mixed"), fronts.values(), strict=True):
        kept = [
            point
            for point, score in zip(front.search.front, front.scores, strict=True)
            if score.is_front
        ]
        found |= {
            f"hypervolume_{name}": front.volume.estimate,
            f"front_size_{name}": float(len(kept)),
            f"n_mixtures_on_front_{name}": float(sum(point.is_mixture for point in kept)),
            f"compute_{name}": float(front.search.compute),
            f"n_trials_{name}": float(len(front.search.costs)),
            f"trial_seconds_{name}": front.search.seconds,
        }
    if examined:
        for rival in RIVALS:
            leads = [entry.leads[rival].estimate for entry in examined]
            found[f"mean_lead_on_{rival.replace(' ', '_')}"] = float(np.mean(leads))
        found["mean_experts_in_use"] = float(np.mean([entry.in_use for entry in examined]))
    return found
