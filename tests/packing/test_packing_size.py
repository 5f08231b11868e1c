"""The length of a file is known before training, exactly, and little of it is not parameters."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import qwave
from qwave.config import (
    SCHEMES,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrialConfig,
)
from qwave.packing import from_bytes, packed_size_bytes, packed_size_parts, to_bytes

from .models import ALL, CLASS_NAMES, ENCODERS, NORMALIZATIONS, make_data, make_model

ENCODER = "efficientnet-lite0@1a2b3c4d"
LETTERS = 'aB7 ,"\n\r\t\0\\/\x7fé犬🐓\u2028'


def draw_names(rng: np.random.Generator) -> tuple[str, ...]:
    if rng.random() < 0.3:
        return CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
    lengths = rng.integers(0, 12, size=rng.integers(1, 30))
    return tuple("".join(rng.choice(list(LETTERS), size)) for size in lengths)


def draw_any_config(rng: np.random.Generator) -> TrialConfig:
    """Anything that changes a file's length, or could; not in canonical form."""
    num_experts = int(rng.choice([1, 1, 1, 2, 3, 4, 12]))
    schemes = tuple(rng.choice(ALL, num_experts).tolist())
    n_hidden = int(rng.choice([0, 0, 1, 2, 3]))
    alpha = float(rng.choice([0.0, 1.0, 0.1, 1e-7, rng.random(), 12345.678]))
    return TrialConfig(
        data=DataConfig(normalization=str(rng.choice(NORMALIZATIONS))),  # type: ignore[arg-type]
        model=ModelConfig(
            schemes=schemes,
            hidden=tuple(rng.integers(1, 24, n_hidden).tolist()),
            head_scheme=[None, str(rng.choice(ALL)), schemes[0]][rng.integers(3)],
            top_k=int(rng.integers(1, num_experts + 1)),
            dropout=float(rng.choice([0.0, 0.5, rng.random()])),
            input_dropout=float(rng.choice([0.0, 0.5, rng.random()])),
            load_balance_weight=float(rng.random()),
            router=RouterConfig(
                int(rng.choice([0, 1, 7, 16])), str(rng.choice(ALL)), float(rng.random())
            ),
            curiosity=CuriosityConfig(alpha, int(rng.choice([2, 9, 10, 99, 100, 1000]))),
        ),
        seed=int(rng.integers(1000)),
    )


@pytest.mark.parametrize("chunk", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_length_of_the_file_is_the_size_of_the_configuration(chunk: int) -> None:
    """600 configurations, without one difference."""
    differences = []
    for seed in range(200 * chunk, 200 * chunk + 200):
        rng = np.random.default_rng([1, seed])
        config = draw_any_config(rng)
        encoder = ENCODERS[rng.integers(len(ENCODERS))]
        data = make_data(int(rng.integers(1, 60)), draw_names(rng), encoder)
        content = to_bytes(make_model(rng, config.canonical(), data))
        size = packed_size_bytes(config, data)
        if size != len(content):
            differences.append(f"seed {seed}: {len(content)} bytes, not {size}: {config}")
        assert to_bytes(from_bytes(content, f"seed {seed}")) == content
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize(
    ("scheme", "normalization"),
    [(scheme, NORMALIZATIONS[place % len(NORMALIZATIONS)]) for place, scheme in enumerate(ALL)],
)
def test_linear_model_of_ten_classes_has_at_most_400_bytes_besides_its_parameters(
    scheme: str, normalization: str
) -> None:
    data = dataclasses.replace(qwave.load_embeddings("esc10"), encoder=ENCODER)
    assert (data.x.shape[1], data.num_classes) == (1280, 10)
    config = TrialConfig(
        data=DataConfig(normalization=normalization),  # type: ignore[arg-type]
        model=ModelConfig((scheme,), ()),
    ).canonical()
    content = to_bytes(make_model(np.random.default_rng(5), config, data))
    n_vectors = 1 if scheme == "fp32" else 2  # bias, scales
    n_constants = 2 * 1280 if normalization in ("standard", "min_max") else 0
    parameters = math.ceil(1280 * 10 * SCHEMES[scheme].bits / 8)
    parameters += 2 * (10 * n_vectors + n_constants)
    assert len(content) - parameters <= 400
    assert packed_size_parts(config, data)["container"] == len(content) - parameters


def test_smallest_useful_model_fits_2_kB_with_the_name_of_its_encoder() -> None:
    data = dataclasses.replace(qwave.load_embeddings("esc10"), encoder=ENCODER)
    config = TrialConfig(model=ModelConfig(("int1",), ()))
    assert packed_size_parts(config, data)["expert_0"] == 1280 * 10 // 8 + 2 * 10 + 2 * 10
    assert packed_size_bytes(config, data) <= 2000


def test_what_training_alone_needs_does_not_change_the_length() -> None:
    config = TrialConfig(model=ModelConfig(("int1", "int4"), (3,)))
    data = make_data(5, ("dog", "rain"))
    size = packed_size_bytes(config, data)
    for changes in (
        {"seed": 12345},
        {"train": dataclasses.replace(config.train, epochs=3, learning_rate=1 / 3)},
        {"model": dataclasses.replace(config.model, dropout=1 / 3, load_balance_weight=1 / 7)},
    ):
        assert packed_size_bytes(dataclasses.replace(config, **changes), data) == size
