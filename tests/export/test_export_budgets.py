"""Sizes as people write them, and the models that they lead to."""

from __future__ import annotations

import random

import pytest
from mlflow.utils.validation import _validate_model_alias_name

from qwave.config import ConfigError
from qwave.exporting.budgets import (
    BUDGETS_BYTES,
    aliases_of,
    best_within,
    budget_alias,
    budget_aliases,
    parse_size,
)
from qwave.scores import FrontPoint
from qwave.scores.pareto import non_dominated

from .examples import point

FRONT = [point(57, 0.94, 1738), point(60, 0.9475, 1992), point(5, 0.95, 13_200)]


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        *(("2000", 2000), ("1", 1), ("2KB", 2000), ("50kB", 50_000), ("50 kB", 50_000)),
        *((" 7 b ", 7), ("1.5MB", 1_500_000), ("0.3mb", 300_000), ("1GB", 10**9)),
        *(("20KiB", 20_480), ("1MiB", 1_048_576), ("1.0005kB", 1000), ("2.5B", 2)),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    ["", "kB", "-5kB", "5k", "0", "0.5B", "5 0kB", "1e3", "nan", "5kBs", "٥kB", "1.kB", ".5kB"],
)
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^--budget must be a size such as 2000, 50kB, 1\.5MB or 20KiB, but got"
    ) as error:
        parse_size(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("budget_bytes", "number"), [(1738, 57), (1991, 57), (1992, 60), (13_199, 60), (10**9, 5)]
)
def test_the_best_that_fits_is_the_most_accurate(budget_bytes: int, number: int) -> None:
    best = best_within(FRONT, budget_bytes)
    assert best is not None
    assert best.number == number


@pytest.mark.parametrize(
    ("budget_bytes", "alias"),
    [
        *((2000, "best-at-2kB"), (250_000, "best-at-250kB"), (1_000_000, "best-at-1MB")),
        *((1_500_000, "best-at-1500kB"), (20_480, "best-at-20480B"), (10**9, "best-at-1GB")),
    ],
)
def test_aliases_are_short_and_mlflow_takes_them(budget_bytes: int, alias: str) -> None:
    assert budget_alias(budget_bytes) == alias
    _validate_model_alias_name(alias)


def test_every_budget_goes_to_the_best_that_fits() -> None:
    assert budget_aliases(FRONT) == {
        60: ["best-at-2kB", "best-at-4kB", "best-at-10kB"],
        5: [
            *("best-at-20kB", "best-at-50kB", "best-at-100kB"),
            *("best-at-250kB", "best-at-1MB"),
        ],
    }


def random_front(seed: int) -> list[FrontPoint]:
    rng = random.Random(seed)
    drawn = [
        point(number, rng.randint(50, 99) / 100, int(10 ** rng.uniform(3, 6.5)))
        for number in range(rng.randint(1, 12))
    ]
    kept = non_dominated([p.accuracy for p in drawn], [p.size_bytes for p in drawn])
    return [p for p, is_kept in zip(drawn, kept, strict=True) if is_kept]


@pytest.mark.parametrize("seed", range(8))
def test_budgets_of_random_fronts_go_to_the_best_by_a_plain_search(seed: int) -> None:
    front = random_front(seed)
    aliases = budget_aliases(front)
    for budget_bytes in BUDGETS_BYTES:
        holders = [
            number for number, names in aliases.items() if budget_alias(budget_bytes) in names
        ]
        fitting = sorted((-p.accuracy, p.number) for p in front if p.size_bytes <= budget_bytes)
        assert holders == [fitting[0][1]] if fitting else not holders, f"{seed=} {budget_bytes=}"


def test_a_model_has_the_aliases_of_its_budgets_and_of_its_trial() -> None:
    assert aliases_of(FRONT[1], FRONT) == [*budget_aliases(FRONT)[60], "trial-60"]
    assert aliases_of(FRONT[0], FRONT) == ["trial-57"]
    assert aliases_of(point(9, 0.5, 100), FRONT) == ["trial-9"]


def test_the_budget_that_a_model_was_chosen_for_is_an_alias_too_and_named_once() -> None:
    own = budget_aliases(FRONT)[60]
    assert aliases_of(FRONT[1], FRONT, 3000) == [*own, "best-at-3kB", "trial-60"]
    assert aliases_of(FRONT[1], FRONT, 4000) == [*own, "trial-60"]
