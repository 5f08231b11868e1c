"""A sweep's configuration: what it refuses, and what its digest follows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from qwave.config import (
    SCORE_DIRECTIONS,
    Budget,
    ChoiceDomain,
    ConfigError,
    DataConfig,
    Domain,
    FloatDomain,
    IntDomain,
    MixDomain,
    ModelConfig,
    Objective,
    SamplerConfig,
    SweepConfig,
    TrainConfig,
    TrialConfig,
)

ACCURACY = Objective("accuracy", "maximize")
SIZE = Objective("size_bytes", "minimize")
NLL = Objective("nll", "minimize")


def _sweep(**changes: Any) -> SweepConfig:
    values: dict[str, Any] = {
        "name": "some-sweep",
        "objectives": (ACCURACY, SIZE),
        "budget": Budget(),
        "sampler": SamplerConfig(),
        "base": TrialConfig(),
        "search": {
            "model.top_k": IntDomain(1, 2),
            "train.learning_rate": FloatDomain(1e-4, 1e-2, log=True),
            "model.schemes": MixDomain(("int1", "int8")),
            "model.hidden": ChoiceDomain(("none", "64"), ((), (64,))),
        },
    }
    return SweepConfig(**{**values, **changes})


NAN = float("nan")
REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: IntDomain(3, 2),
        "`low <= high` (and low >= 1 with log) must hold, but got int: [3, 2], log: False",
    ),
    (lambda: IntDomain(0, 2, log=True), "but got int: [0, 2], log: True"),
    (
        lambda: FloatDomain(1.0, 0.5),
        "`low <= high` (and low > 0 with log) must hold, but got float: [1.0, 0.5], log: False",
    ),
    (lambda: FloatDomain(0.0, 1.0, log=True), "but got float: [0.0, 1.0], log: True"),
    (lambda: FloatDomain(NAN, 1.0), "but got float: [nan, 1.0]"),
    (lambda: FloatDomain(0.0, NAN), "but got float: [0.0, nan]"),
    (lambda: ChoiceDomain((), ()), "`choice` needs distinct choices, but got []"),
    (
        lambda: ChoiceDomain(("a", "a"), (1, 2)),
        "`choice` needs distinct choices, but got ['a', 'a']",
    ),
    (lambda: ChoiceDomain((1, "1"), (1, 2)), "`choice` needs distinct choices, but got [1, '1']"),
    (lambda: MixDomain(()), "`mix` needs distinct schemes, but got []"),
    (
        lambda: MixDomain(("int1", "int1")),
        "`mix` needs distinct schemes, but got ['int1', 'int1']",
    ),
    (lambda: MixDomain(("tenary",)), "`mix` must be one of int1, ternary"),
    (
        lambda: Objective("accurcy", "maximize"),
        "unknown score 'accurcy' (did you mean 'accuracy'?); allowed: accuracy, balanced",
    ),
    (
        lambda: Objective("accuracy", "minimize"),
        "`direction` of accuracy must be maximize, but got minimize",
    ),
    (
        lambda: Objective("size_bytes", "maximize"),
        "`direction` of size_bytes must be minimize, but got maximize",
    ),
    (lambda: Budget(n_trials=0), "`budget.n_trials >= 1` must hold, but got n_trials=0"),
    (lambda: Budget(max_size_bytes=0), "`budget.max_size_bytes >= 1` must hold, but got max_"),
    (lambda: Budget(workers=0), "`budget.workers >= 1` must hold, but got workers=0"),
    (
        lambda: SamplerConfig(seed=-1),
        "`sampler.seed >= 0` and `sampler.in_flight >= 1` must hold, but got seed=-1, in_flight=4",
    ),
    (lambda: SamplerConfig(in_flight=0), "but got seed=0, in_flight=0"),
    (
        lambda: _sweep(name=""),
        "`name` must be 1 to 100 letters, digits, '_', '-' or '.', but got ''",
    ),
    (lambda: _sweep(name="../up"), "but got '../up'"),
    (lambda: _sweep(name="a/b"), "but got 'a/b'"),
    (lambda: _sweep(name=".hidden"), "but got '.hidden'"),
    (lambda: _sweep(name="line\n"), "but got 'line\\n'"),
    (lambda: _sweep(name="a" * 101), "but got 'aaa"),
    (
        lambda: _sweep(objectives=(ACCURACY,)),
        "`objectives` must name accuracy and size_bytes once each (further scores may follow): "
        "the front is drawn over these two, but got ['accuracy']",
    ),
    (lambda: _sweep(objectives=()), "over these two, but got []"),
    (lambda: _sweep(objectives=(ACCURACY, ACCURACY, SIZE)), "['accuracy', 'accuracy', 'size_b"),
    (
        lambda: _sweep(objectives=(ACCURACY, SIZE, NLL, NLL)),
        "`objectives` must be distinct scores, but got ['accuracy', 'size_bytes', 'nll', 'nll']",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_a_bad_value_is_refused_with_rule_and_value(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()


def test_a_sampler_that_does_not_exist_is_refused_where_it_is_made() -> None:
    with pytest.raises(ConfigError, match="nsga"):
        SamplerConfig(name="nsga")  # type: ignore[arg-type]


def test_a_choice_with_fewer_values_than_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="choice"):
        ChoiceDomain(("a", "b"), (1,))


def test_every_score_may_be_a_further_objective_in_its_own_direction() -> None:
    further = tuple(
        Objective(score, direction)
        for score, direction in SCORE_DIRECTIONS.items()
        if score not in ("accuracy", "size_bytes")
    )
    sweep = _sweep(objectives=(SIZE, ACCURACY, *further))
    assert [o.score for o in sweep.objectives][2:] == [o.score for o in further]


def test_one_point_domains_and_one_letter_names_are_taken() -> None:
    assert IntDomain(2, 2).low == 2
    assert FloatDomain(0.5, 0.5, log=True).high == 0.5
    assert _sweep(name="a", search={}).search == {}


def test_the_data_of_a_sweep_is_that_of_its_base() -> None:
    data = DataConfig(path="some.npz", n_folds=3)
    assert _sweep(base=TrialConfig(data=data)).data == data


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": Budget(n_trials=7)},
        {"budget": Budget(workers=3)},
        {"sampler": SamplerConfig(name="random", seed=4, in_flight=9)},
        {"base": TrialConfig(data=DataConfig(path="elsewhere.npz"))},
        {"base": TrialConfig(data=DataConfig(path="clips", encoder="logmel"))},
    ],
)
def test_what_may_change_between_two_starts_does_not_change_the_digest(
    changes: dict[str, Any],
) -> None:
    assert _sweep(**changes).digest == _sweep().digest


def _search(**changes: Domain) -> dict[str, Domain]:
    return {**_sweep().search, **{key.replace("__", "."): v for key, v in changes.items()}}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another-sweep"},
        {"budget": Budget(max_size_bytes=1000)},
        {"objectives": (SIZE, ACCURACY)},
        {"objectives": (ACCURACY, SIZE, NLL)},
        {"base": TrialConfig(seed=1)},
        {"base": TrialConfig(train=TrainConfig(epochs=3))},
        {"base": TrialConfig(model=ModelConfig(hidden=(65,)))},
        {"base": TrialConfig(data=DataConfig(n_folds=4))},
        {"search": {}},
        {"search": _search(model__top_k=IntDomain(1, 3))},
        {"search": _search(model__top_k=IntDomain(1, 2, log=True))},
        {"search": _search(model__top_k=FloatDomain(1, 2))},
        {"search": _search(model__schemes=MixDomain(("int1", "int4")))},
        {"search": _search(model__hidden=ChoiceDomain(("none", "64"), ((), (65,))))},
        {"search": _search(model__dropout=FloatDomain(0.0, 0.5))},
    ],
)
def test_what_makes_trials_incomparable_changes_the_digest(changes: dict[str, Any]) -> None:
    assert _sweep(**changes).digest != _sweep().digest


def test_the_order_of_search_keys_does_not_change_the_digest() -> None:
    sweep = _sweep()
    turned = dict(reversed(sweep.search.items()))
    assert list(turned) != list(sweep.search)
    assert dataclasses.replace(sweep, search=turned).digest == sweep.digest
