"""From a sampler's draws to a trial's configuration.

Each Optuna parameter is a key of the sweep's `search`. What cannot matter, given what has been
drawn, is not drawn: a single expert has no router, a linear one no hidden units
(`qwave.config.inert_keys`).

A mix of schemes is one parameter, ``model.schemes``, from 0 to 1: its rank among all multisets of
that many experts in the order of their bits, 0 for the fewest. So the space has no permutations;
every multiset is drawn as often as any other; the parameter means the same at every number of
experts (few bits or many), stands in every trial, and neighbours on it are alike, which is what a
sampler's kernel supposes. One categorical parameter an expert, the obvious way, has none of
these: it repeats each mix of six experts up to 720 times, and every expert but the first is
missing from some trials, which hides it from importances and from NSGA-II.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from qwave.config import (
    SCHEMES,
    ChoiceDomain,
    Domain,
    FloatDomain,
    IntDomain,
    MixDomain,
    SweepConfig,
    TrialConfig,
    inert_keys,
    scheme_name,
    scheme_rank,
)
from qwave.space.domains import expert_range, replace_keys

_FIRST = ("model.num_experts", "model.schemes", "model.hidden")
# Keys that change the length of the packed file.
_SIZE_KEYS = (
    "model.hidden",
    "model.head_scheme",
    "model.router.hidden",
    "model.router.scheme",
    "data.normalization",
    # Their digits stand in the file's header.
    "model.curiosity.mc_samples",
    "model.curiosity.alpha",
)


class Suggests(Protocol):
    """What an Optuna trial offers: any source of draws will do."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@functools.lru_cache(maxsize=32)
def mixes(schemes: tuple[str, ...], num_experts: int) -> tuple[tuple[str, ...], ...]:
    """All multisets of schemes, fewest bits first; among equals in the order of schemes."""
    ranked = sorted(schemes, key=scheme_rank)
    found = itertools.combinations_with_replacement(ranked, num_experts)

    def order(mix: tuple[str, ...]) -> tuple[Any, ...]:
        return sum(SCHEMES[s].bits for s in mix), [scheme_rank(s) for s in mix]

    return tuple(sorted(found, key=order))


def suggest(sweep: SweepConfig, trial: Suggests) -> TrialConfig:
    """Draw one canonical configuration."""
    search = sweep.search
    values: dict[str, Any] = {}
    schemes = sweep.base.model.schemes
    experts, mix = search.get("model.num_experts"), search.get("model.schemes")
    if isinstance(mix, MixDomain):
        num_experts = len(schemes)
        if isinstance(experts, IntDomain):
            num_experts = trial.suggest_int("model.num_experts", experts.low, experts.high)
        found = mixes(mix.schemes, num_experts)
        position = trial.suggest_float("model.schemes", 0.0, 1.0)
        schemes = found[min(int(position * len(found)), len(found) - 1)]
    values["model.schemes"] = schemes
    hidden = sweep.base.model.hidden
    if "model.hidden" in search:
        hidden = _draw(trial, "model.hidden", search["model.hidden"])
    values["model.hidden"] = hidden
    inert = inert_keys(schemes, hidden)
    for key, domain in search.items():
        if key in _FIRST or key in inert:
            continue
        if key == "model.top_k" and isinstance(domain, IntDomain):
            domain = IntDomain(domain.low, min(domain.high, len(schemes)))
        values[key] = _draw(trial, key, domain)
    if "model.top_k" in inert:
        values["model.top_k"] = 1
    return replace_keys(sweep.base, values).canonical()


def baseline_params(sweep: SweepConfig) -> list[dict[str, Any]]:
    """Parameters of the plain networks of a space: one expert, one thing changed at a time.

    First each scheme with the first choice of hidden layers and of normalisation, then each other
    choice of these two with the scheme of the fewest bits. Everything else stands at its first
    choice or in the middle of its range. Empty where the space has no single expert, or no mix of
    schemes.
    """
    mix = sweep.search.get("model.schemes")
    if not isinstance(mix, MixDomain) or expert_range(sweep)[0] != 1:
        return []
    shared = {
        key: _typical(domain)
        for key, domain in sweep.search.items()
        if not isinstance(domain, MixDomain)
    }
    shared["model.num_experts"] = 1
    positions = [(index + 0.5) / len(mix.schemes) for index in range(len(mix.schemes))]
    baselines = [{**shared, "model.schemes": position} for position in positions]
    for key in ("model.hidden", "data.normalization"):
        domain = sweep.search.get(key)
        if isinstance(domain, ChoiceDomain):
            baselines += [
                {**shared, "model.schemes": positions[0], key: name} for name in domain.names[1:]
            ]
    return baselines


def extreme_configs(sweep: SweepConfig) -> Iterator[TrialConfig]:
    """Configurations among which are the smallest and the largest file of the space.

    A mix is never smaller than as many experts of its smallest scheme, nor larger than as many of
    its largest; all else that matters to size is tried in every combination.
    """
    fewest, most = expert_range(sweep)
    mix = sweep.search.get("model.schemes")
    for num_experts in range(fewest, most + 1):
        if isinstance(mix, MixDomain):
            candidates = [(scheme,) * num_experts for scheme in mix.schemes]
        else:
            candidates = [sweep.base.model.schemes]
        keys = [key for key in _SIZE_KEYS if key in sweep.search]
        options = [_ends(key, sweep.search[key]) for key in keys]
        for schemes, *values in itertools.product(candidates, *options):
            changes: dict[str, Any] = {
                "model.schemes": schemes,
                **dict(zip(keys, values, strict=True)),
            }
            changes["model.top_k"] = min(sweep.base.model.top_k, num_experts)
            yield replace_keys(sweep.base, changes).canonical()


def _draw(trial: Suggests, key: str, domain: Domain) -> Any:
    if isinstance(domain, IntDomain):
        return trial.suggest_int(key, domain.low, domain.high, log=domain.log)
    if isinstance(domain, FloatDomain):
        return trial.suggest_float(key, domain.low, domain.high, log=domain.log)
    assert isinstance(domain, ChoiceDomain), f"{key}: only model.schemes is a mix"
    name = trial.suggest_categorical(key, domain.names)
    return _value(key, domain.values[domain.names.index(name)])


def _typical(domain: IntDomain | FloatDomain | ChoiceDomain) -> Any:
    """The first choice, or the middle of a range (on the scale that it is drawn on)."""
    if isinstance(domain, ChoiceDomain):
        return domain.names[0]
    low, high = domain.low, domain.high
    middle = math.sqrt(low * high) if domain.log else (low + high) / 2
    return int(middle) if isinstance(domain, IntDomain) else middle


def _ends(key: str, domain: Domain) -> list[Any]:
    if isinstance(domain, ChoiceDomain):
        return [_value(key, value) for value in domain.values]
    assert isinstance(domain, IntDomain | FloatDomain), f"{key}: only model.schemes is a mix"
    return [domain.low, domain.high]


def _value(key: str, value: Any) -> Any:
    is_scheme = key.endswith("scheme") and value is not None
    return scheme_name(value) if is_scheme else value
