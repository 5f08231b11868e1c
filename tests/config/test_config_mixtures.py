"""The configuration of `studies.mixtures`: what it refuses."""

from __future__ import annotations

import dataclasses

import pytest

from qwave.config import (
    Budget,
    ConfigError,
    IntDomain,
    MixDomain,
    MixturesConfig,
    ModelConfig,
    Objective,
    SamplerConfig,
    SweepConfig,
    TrialConfig,
)

OBJECTIVES = (Objective("accuracy", "maximize"), Objective("size_bytes", "minimize"))


def a_sweep(num_experts: int, *, is_searched: bool = False, seed: int = 0) -> SweepConfig:
    base = TrialConfig(model=ModelConfig(schemes=("int8",) * num_experts), seed=seed)
    mix = {"model.schemes": MixDomain(("int1", "int8"))}
    experts = {"model.num_experts": IntDomain(1, num_experts)} if is_searched else {}
    return SweepConfig("a", OBJECTIVES, Budget(), SamplerConfig(), base, {**mix, **experts})


def test_the_number_of_experts_may_be_searched_or_fixed() -> None:
    for mixed in (a_sweep(3, is_searched=True), a_sweep(2)):
        config = MixturesConfig("a", a_sweep(1), mixed, (1, 2))
        assert config.mixed == mixed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "no/slash"}, "`name` must be 1 to 100 letters"),
        ({"seeds": ()}, r"`seeds` must be distinct whole numbers from 0.*but got \[\]"),
        ({"seeds": (1, 1)}, r"but got \[1, 1\]"),
        ({"seeds": (-1,)}, r"but got \[-1\]"),
        ({"seeds": (5, 7), "mixed": a_sweep(2, seed=7)}, "train with 7; choose others"),
        ({"mixed": a_sweep(1)}, "but they have 1 and 1"),
        ({"mixed": a_sweep(1, is_searched=True)}, "but they have 1 and 1"),
        ({"one": a_sweep(2)}, "but they have 2 and 3"),
        ({"one": a_sweep(2, is_searched=True)}, "but they have 2 and 3"),
    ],
)
def test_bad_values_are_refused(changes: dict[str, object], message: str) -> None:
    config = MixturesConfig("a", a_sweep(1), a_sweep(3, is_searched=True), (1, 2))
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, **changes)  # type: ignore[arg-type]
