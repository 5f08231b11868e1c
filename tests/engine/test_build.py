"""Configurations become modules: groups of experts, a router, and masks of every layer."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from qwave.config import ModelConfig, RouterConfig, TrialConfig
from qwave.engine.build import build_dropout, build_mixture

N_FEATURES, N_CLASSES = 9, 4
MODELS = {
    "plain linear": ModelConfig(("int4",), ()),
    "two hidden layers": ModelConfig(("int2",), (7, 5)),
    "linear experts": ModelConfig(("ternary", "int4", "int4"), (), top_k=2),
    "other head": ModelConfig(("popcount", "int1", "int1"), (7,), head_scheme="int8", top_k=2),
    "deep router": ModelConfig(("int2", "fp32"), (6,), router=RouterConfig(5, "ternary")),
}
every_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


@every_model
def test_mixture_has_one_group_for_each_scheme_in_the_order_of_experts(
    config: ModelConfig,
) -> None:
    canonical = TrialConfig(model=config).canonical().model
    mixture = build_mixture(canonical, N_FEATURES, N_CLASSES, [torch.Generator()])
    schemes = [
        group.layers[0].scheme
        for group in mixture.groups
        for _ in range(group.layers[0].weight.shape[1])
    ]
    assert schemes == list(canonical.schemes)
    assert len(mixture.groups) == len(set(config.schemes))
    for group in mixture.groups:
        is_deep = len(group.layers) > 1
        head = config.head_scheme if is_deep and config.head_scheme else group.layers[0].scheme
        assert group.layers[-1].scheme == head
        assert len(group.layers) == len(config.hidden) + 1
    assert (mixture.router is None) == (config.num_experts == 1)


@every_model
def test_every_layer_has_a_mask_of_its_own_at_its_rate(config: ModelConfig) -> None:
    router = dataclasses.replace(config.router, dropout=0.3)
    config = dataclasses.replace(config, dropout=0.2, input_dropout=0.4, router=router)
    dropout = build_dropout(config, N_FEATURES, 4, [22])
    assert [mask.shape for mask in dropout.experts] == [
        (4, width) for width in (N_FEATURES, *config.hidden)
    ]
    is_single = config.num_experts == 1
    inputs = () if is_single else config.router_widths(N_FEATURES)[:-1]
    assert [mask.shape for mask in dropout.router] == [(4, width) for width in inputs]
    assert is_single == (not dropout.router)
    every = (*dropout.experts, *dropout.router)
    assert len({mask.slot for mask in every}) == len(every)
    rates = [0.4, *(0.2 for _ in config.hidden), *(0.3 for _ in inputs)]
    for mask, rate in zip(every, rates, strict=True):
        assert mask.factor == pytest.approx(1 / (1 - rate)), f"slot {mask.slot}"
        assert mask.threshold == round(rate * 2**16) - 2**15, f"slot {mask.slot}"
