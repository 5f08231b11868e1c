"""What a draw of one domain becomes: a mix of schemes, a named choice."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FixedTrial

from qwave.config import SCHEMES, ChoiceDomain, SweepConfig, TrialConfig
from qwave.space import load_sweep, mixes, suggest


def _sweep(folder: Path, text: str) -> SweepConfig:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return load_sweep(path)


def _positions(n_mixes: int) -> list[dict[str, float]]:
    return [{"model.schemes": (i + 0.5) / n_mixes} for i in range(n_mixes)]


def test_suggest_changes_nothing_that_is_not_searched(tmp_path: Path) -> None:
    sweep = _sweep(
        tmp_path,
        "name: a\ndata: {normalization: layer}\n"
        "fixed: {seed: 4, train: {epochs: 7}, model: {num_experts: 3, top_k: 2}}\n"
        "search: {model.schemes: {mix: [1, 8]}}",
    )
    for params, config in ((p, suggest(sweep, FixedTrial(p))) for p in _positions(4)):
        assert config.model.num_experts == 3, params
        model = dataclasses.replace(config.model, schemes=sweep.base.model.schemes)
        assert dataclasses.replace(config, model=model) == sweep.base


@pytest.mark.parametrize("num_experts", [1, 2, 3, 5])
@pytest.mark.parametrize("schemes", [("int8",), ("fp32", "int1"), tuple(reversed(SCHEMES))])
def test_mixes_are_all_multisets_by_their_bits(schemes: tuple[str, ...], num_experts: int) -> None:
    found = mixes(schemes, num_experts)
    assert len(found) == math.comb(len(schemes) + num_experts - 1, num_experts)
    as_counts = {tuple(sorted(mix)) for mix in found}
    assert len(as_counts) == len(found), "two mixes are permutations of each other"
    product = itertools.product(schemes, repeat=num_experts)
    assert as_counts == {tuple(sorted(mix)) for mix in product}
    bits = [sum(SCHEMES[scheme].bits for scheme in mix) for mix in found]
    assert bits == sorted(bits)
    ranked = list(SCHEMES)
    assert all(list(mix) == sorted(mix, key=ranked.index) for mix in found)


def test_mixes_do_not_depend_on_the_order_of_schemes() -> None:
    names = ("int4", "popcount", "int1", "ternary")
    assert len({mixes(order, 3) for order in itertools.permutations(names)}) == 1


@pytest.mark.parametrize("num_experts", [1, 3])
def test_every_mix_is_drawn_equally_often(tmp_path: Path, num_experts: int) -> None:
    names = ", ".join(SCHEMES)
    sweep = _sweep(
        tmp_path,
        f"name: a\ndata: {{normalization: layer}}\n"
        f"fixed: {{model: {{num_experts: {num_experts}}}}}\n"
        f"search: {{model.schemes: {{mix: [{names}]}}}}",
    )
    expected = mixes(tuple(SCHEMES), num_experts)
    n_each = 10
    counts = Counter(
        suggest(sweep, FixedTrial(params)).model.schemes
        for params in _positions(n_each * len(expected))
    )
    assert counts == dict.fromkeys(expected, n_each)


def test_the_ends_of_the_mix_are_the_fewest_and_the_most_bits(tmp_path: Path) -> None:
    sweep = _sweep(
        tmp_path,
        "name: a\ndata: {normalization: layer}\nfixed: {model: {num_experts: 2}}\n"
        "search: {model.schemes: {mix: [8, 1, esc]}}",
    )
    ends = [suggest(sweep, FixedTrial({"model.schemes": end})) for end in (0.0, 1.0)]
    assert [c.model.schemes for c in ends] == [("int1", "int1"), ("fp32", "fp32")]


CASES: dict[str, tuple[str, Callable[[TrialConfig], object], set[object]]] = {
    "null": (
        "model.head_scheme: {choice: {own: null, four: 4}}",
        lambda c: c.model.head_scheme,
        {None, "int4"},
    ),
    "bool": (
        "train.class_weights: {choice: [true, false]}",
        lambda c: c.train.class_weights,
        {True, False},
    ),
    "number": ("train.epochs: {choice: [3, 5]}", lambda c: c.train.epochs, {3, 5}),
    "list": (
        "model.hidden: {choice: {none: [], two: [2, 1]}}",
        lambda c: c.model.hidden,
        {(), (2, 1)},
    ),
    "alias": (
        "model.router.scheme: {choice: [2, qesc]}",
        lambda c: c.model.router.scheme,
        {"int2", "popcount"},
    ),
    "one": ("model.dropout: {float: [0.25, 0.25]}", lambda c: c.model.dropout, {0.25}),
}


@pytest.mark.parametrize("case", CASES)
def test_choices_become_the_values_that_their_names_stand_for(tmp_path: Path, case: str) -> None:
    entry, read, expected = CASES[case]
    sweep = _sweep(
        tmp_path, f"name: a\nfixed: {{model: {{schemes: [1, 8]}}}}\nsearch: {{{entry}}}"
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    assert {read(suggest(sweep, study.ask())) for _ in range(30)} == expected


def test_a_name_that_yaml_reads_as_a_word_of_its_own_is_kept(tmp_path: Path) -> None:
    sweep = _sweep(
        tmp_path, "name: a\nsearch: {model.head_scheme: {choice: {off: null, on: int4, 8: int8}}}"
    )
    domain = sweep.search["model.head_scheme"]
    assert isinstance(domain, ChoiceDomain)
    assert domain.values == (None, "int4", "int8")
    assert list(map(str, domain.names)) == ["off", "on", "8"]
