"""Layers of a configuration, and the masks of MC-dropout that a header stands for."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from qwave.config import CuriosityConfig, ModelConfig, RouterConfig
from qwave.packing import layer_shapes, mc_masks

from .models import MIXTURE, PLAIN, in_file, small_model


def test_layers_are_those_of_the_experts_and_then_the_router() -> None:
    model = ModelConfig(("int1", "int8"), (6, 4), head_scheme="int4", router=RouterConfig(3))
    found = [dataclasses.astuple(shape) for shape in layer_shapes(model, 10, 2)]
    assert found == [
        ("e0.0", "int1", 6, 10),
        ("e0.1", "int1", 4, 6),
        ("e0.2", "int4", 2, 4),
        ("e1.0", "int8", 6, 10),
        ("e1.1", "int8", 4, 6),
        ("e1.2", "int4", 2, 4),
        ("r.0", "int8", 3, 10),
        ("r.1", "int8", 2, 3),
    ]
    linear = [dataclasses.astuple(s) for s in layer_shapes(ModelConfig(("int2",), ()), 10, 2)]
    assert linear == [("e0.0", "int2", 2, 10)]


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN])
def test_masks_are_numpys_uniform_numbers_below_or_above_the_rate(
    schemes: tuple[str, ...],
) -> None:
    header = small_model(*schemes).header
    rates = [in_file(RouterConfig().dropout)] if len(schemes) > 1 else [0.125, 0.25]
    masks = mc_masks(header)
    generator = np.random.Generator(np.random.PCG64(header.mc_seed))
    assert [mask.shape for mask in masks] == [(4, 5), (4, 3)][: len(rates)]
    for mask, rate in zip(masks, rates, strict=True):
        assert mask.dtype == np.float32
        wanted = np.where(generator.random(mask.shape) >= rate, 1 / (1 - rate), 0)
        np.testing.assert_allclose(mask, wanted, rtol=1e-6)


def test_masks_keep_their_share_and_are_ones_where_nothing_is_dropped() -> None:
    header = small_model(*PLAIN).header
    curiosity = CuriosityConfig(0.0, 1_000)
    model = dataclasses.replace(header.model, curiosity=curiosity, input_dropout=0.0)
    inputs, hidden = mc_masks(dataclasses.replace(header, model=model))
    assert (inputs == 1).all()
    dropped, n = int((hidden == 0).sum()), hidden.size
    assert abs(dropped - 0.25 * n) < 5 * math.sqrt(n * 0.25 * 0.75), f"{dropped} of {n}"


def test_masks_follow_from_the_seed() -> None:
    header = small_model(*PLAIN).header
    for ours, again in zip(mc_masks(header), mc_masks(header), strict=True):
        assert np.array_equal(ours, again)
    other = mc_masks(dataclasses.replace(header, mc_seed=header.mc_seed ^ 1))
    assert any(not np.array_equal(a, b) for a, b in zip(mc_masks(header), other, strict=True))
