"""What `studies.mixtures` says: the verdict, both fronts, and the routers, in tables and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from qwave.config import MixturesConfig
from qwave.report import (
    Cell,
    Column,
    Section,
    SizedEstimate,
    Table,
    estimates_png,
    size_text,
)
from qwave.scores import Difference, Interval, holm
from studies.fronts import Front, Reference
from studies.routers import RIVALS, ROUTERS, Examined

LEVEL = 0.05
# Compute that differs by less is called equal.
NEARLY_EQUAL = 0.02
# Experts in use below which a mixture is one expert and a router that says nothing.
COLLAPSED = 1.05


def verdict_section(
    fronts: Mapping[str, Front], difference: Difference, reference: Reference
) -> Section:
    """The answer: both hypervolumes, their difference, and what both searches took.

    Args:
        fronts: Of one expert, and with mixtures, in this order.
        difference: Of the hypervolumes, with mixtures less without.
        reference: Of the hypervolumes.
    """
    one, mixed = (front.search for front in fronts.values())
    smallest = min(front.scored.size_bytes.min() for front in fronts.values())
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
        f"{compute_note(mixed.compute / one.compute)} Seconds are those of whole trials, packing "
        "and predictions included, as this machine had them.\n\n"
        "The interval is over recordings, with these models given. Another search ends with other "
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
    gain = difference.interval
    rows.append(("difference", gain, *[None] * 6))
    return Section("hypervolumes", "Does a mixture pay?", text, Table(columns, tuple(rows)))


def verdict(difference: Difference) -> str:
    """Whether 0 is inside the interval, in words."""
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
    fronts: Mapping[str, Front], examined: Sequence[Examined], config: MixturesConfig
) -> Section:
    """Both confirmed fronts, as a table and as a picture, which has other mixtures as well."""
    n_seeds = len(config.seeds)
    text = (
        "Searched: what the search chose by, one seed. Confirmed: mean of "
        f"{n_seeds} fresh seeds, 95 % interval over recordings. On front: by these, not dominated "
        "within its own search. The search with mixtures may draw one expert too, and both begin "
        "with the same networks: a model can stand in both. The picture has the best mixtures off "
        "the front as well."
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
    series: dict[str, list[SizedEstimate]] = {name: [] for name in fronts}
    labelled: set[str] = set()
    for name, front in fronts.items():
        members = zip(
            front.search.front,
            front.accuracies,
            front.seed_deviations,
            front.is_kept,
            strict=True,
        )
        for point, accuracy, deviation, is_kept in members:
            shown = None if math.isnan(deviation) else deviation
            facts = (point.accuracy, accuracy, shown, is_kept, point.num_experts)
            rows.append((name, point.size_bytes, *facts, point.label, point.digest))
            label = "" if point.digest in labelled else point.label
            labelled.add(point.digest)
            series[name].append(SizedEstimate(point.size_bytes, accuracy, label))
    others = [
        SizedEstimate(entry.point.size_bytes, entry.accuracies["learned"])
        for entry in examined
        if entry.point.digest not in labelled
    ]
    picture = estimates_png(
        {**series, "best mixtures off the front": others},
        title=f"{config.name}: fronts without and with mixtures, confirmed",
        subtitle=f"equal training compute · mean of {n_seeds} fresh seeds",
        is_staircase=tuple(series),
    )
    return Section("fronts", "Both fronts, confirmed", text, Table(columns, tuple(rows)), picture)


def routers_sections(examined: Sequence[Examined], config: MixturesConfig) -> list[Section]:
    """The routers of the best mixtures: what they are worth, and where they send clips."""
    if not examined:
        text = "The search drew no mixture within its compute: there is no router to look at."
        return [Section("routers", "What the router is worth", text)]
    return [worth_section(examined, config), routes_section(examined), experts_section(examined)]


def worth_section(examined: Sequence[Examined], config: MixturesConfig) -> Section:
    """Accuracy under each router, and the learned one's lead on others."""
    n_seeds = len(config.seeds)
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
        *(Column(name, "share") for name in ROUTERS),
        *(Column(f"lead on {name}", "share") for name in RIVALS),
        Column("sure"),
        Column("model"),
        Column("digest"),
    )
    rows: list[tuple[Cell, ...]] = []
    for entry, signs in zip(examined, found, strict=True):
        facts: list[Cell] = [entry.point.size_bytes, entry.accuracies["learned"]]
        # Without their intervals, or no terminal would be wide enough; the picture has them.
        facts += [entry.accuracies[name].estimate for name in ROUTERS[1:]]
        facts += [lead.interval for lead in entry.leads.values()]
        facts.append(", ".join(f"{sign}{name}" for name, sign in signs.items()) or "none")
        rows.append((*facts, entry.point.label, entry.point.digest))
    picture = estimates_png(
        {
            name: [
                SizedEstimate(entry.point.size_bytes, entry.accuracies[name]) for entry in examined
            ]
            for name in ROUTERS
        },
        title=f"{config.name}: the same experts under other routers",
        subtitle=f"the search's {len(examined)} best mixtures · mean of {n_seeds} fresh seeds",
    )
    return Section(
        "routers", "What the router is worth", text, Table(columns, tuple(rows)), picture
    )


def significant_leads(examined: Sequence[Examined]) -> list[dict[str, str]]:
    """Of each mixture, the rivals that the learned router differs from: ``+`` ahead, ``-`` behind.

    At 5 % for all mixtures and rivals together (Holm).
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
    """Where clips go, and whether other seeds send them the same way."""
    text = (
        "Experts in use: as many experts as would be used if each got as many clips (the "
        "exponential of the entropy of top experts, by fold). Agreement: adjusted Rand index of "
        "the clips' top experts between two seeds, 1 if they divide the clips alike and 0 as by "
        "chance; a dash if one expert gets all. Read: bytes that one prediction reads, as a share "
        f"of the file. Router: its share of the file. {collapse_words(examined)}"
    )
    columns = (
        Column("size", "bytes"),
        Column("experts", "number", 0),
        Column("experts in use", "number"),
        Column("agreement", "number"),
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
            None if math.isnan(entry.agreement) else entry.agreement,
            entry.share_read,
            entry.router_share,
            entry.point.label,
            entry.point.digest,
        )
        for entry in examined
    ]
    return Section("routes", "Where clips go", text, Table(columns, tuple(rows)))


def collapse_words(examined: Sequence[Examined]) -> str:
    """How many routers send practically all clips of a fold to one expert."""
    n_collapsed = sum(entry.in_use < COLLAPSED for entry in examined)
    return f"{n_collapsed} of {len(examined)} mixtures have collapsed to one expert."


def experts_section(examined: Sequence[Examined]) -> Section:
    """Load and accuracy of every expert."""
    text = (
        "Load: mean gate, with the least and the most of any seed. Alone: accuracy if all clips "
        "went to this expert. Experts of one scheme have no order: what is called the first may "
        "be the second in another fold or seed."
    )
    columns = (
        Column("model"),
        Column("expert", "number", 0),
        Column("scheme"),
        Column("size", "bytes"),
        Column("load", "share", 1),
        Column("alone", "share"),
        Column("digest"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            entry.point.label,
            number,
            expert.scheme,
            expert.size_bytes,
            Interval(expert.load, expert.least_load, expert.most_load),
            expert.accuracy,
            entry.point.digest,
        )
        for entry in examined
        for number, expert in enumerate(entry.experts)
    ]
    return Section("experts", "Who gets them", text, Table(columns, tuple(rows)))


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
        found |= {
            f"hypervolume_{name}": front.volume.estimate,
            f"front_size_{name}": float(sum(front.is_kept)),
            f"n_mixtures_on_front_{name}": float(
                sum(
                    kept and point.is_mixture
                    for kept, point in zip(front.is_kept, front.search.front, strict=True)
                )
            ),
            f"compute_{name}": float(front.search.compute),
            f"n_trials_{name}": float(len(front.search.costs)),
            f"trial_seconds_{name}": front.search.seconds,
        }
    if examined:
        for rival in RIVALS:
            leads = [entry.leads[rival].estimate for entry in examined]
            found[f"mean_lead_on_{rival.replace(' ', '_')}"] = float(np.mean(leads))
        found["mean_experts_in_use"] = float(np.mean([entry.in_use for entry in examined]))
        agreements = [e.agreement for e in examined if not math.isnan(e.agreement)]
        if agreements:
            found["mean_agreement"] = float(np.mean(agreements))
    return found
