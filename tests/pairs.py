"""Cases that hold every pair of values of two parameters: far fewer than the whole product."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import pytest


def pairwise(**axes: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize a test over cases such that any two values of two parameters meet in one.

    Most faults come from one value or from two that meet. Of 27 models and three switches, for
    example, these are 54 cases in place of 216. Cases are chosen greedily, the same each time.

    Args:
        axes: Values of each parameter; what is iterated over, such as the keys of a mapping.
    """
    names, values = list(axes), [list(axis) for axis in axes.values()]
    places = list(combinations(range(len(names)), 2))
    cases = list(product(*(range(len(axis)) for axis in values)))

    def pairs(case: tuple[int, ...]) -> set[tuple[int, ...]]:
        return {(one, two, case[one], case[two]) for one, two in places}

    missing = set().union(*map(pairs, cases))
    chosen = []
    while missing:
        best = max(cases, key=lambda case: len(pairs(case) & missing))
        chosen.append([axis[place] for axis, place in zip(values, best, strict=True)])
        missing -= pairs(best)
    return pytest.mark.parametrize(names, chosen)
