"""Writes the golden files that are missing; those that are there stay as they are.

    python -m tests.packing.make_golden

writes ``golden/v<FORMAT_VERSION>/<case>.qwave`` beside this file, and in ``<case>.json`` clips,
what the model says of them, and what its header says besides. A new case adds its two files, a new
format version a folder: files of earlier versions are read by `test_packing_golden` as long as
there is a qwave.

Models are made of random codes, none of the clips near a tie: codes of activations are rounded,
and other processors add in another order.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qwave.config import CuriosityConfig, DataConfig, ModelConfig, RouterConfig, TrialConfig
from qwave.packing import FORMAT_VERSION, PackedModel, to_bytes
from qwave.runtime import PackedClassifier

from .models import ALL, CLASS_NAMES, make_data, make_model

GOLDEN = Path(__file__).parent / "golden"
NUM_FEATURES = 6
N_CLIPS = 4
N_NUDGES = 20
TOLERANCE = 1e-5
THREE = ("dog bark", "rain", "sea waves")
FEW = CuriosityConfig(mc_samples=5)


def plain(scheme: str, *hidden: int, head: str | None = None) -> ModelConfig:
    return ModelConfig((scheme,), hidden, head, 1, 0.25, 0.25, curiosity=FEW)


def mixture(*schemes: str, top_k: int, router: RouterConfig, alpha: float) -> ModelConfig:
    curiosity = CuriosityConfig(alpha, 5)
    return ModelConfig(schemes, (5,), None, top_k, router=router, curiosity=curiosity)


class Case(NamedTuple):
    """What a golden file holds besides random codes."""

    model: ModelConfig
    normalization: str
    class_names: tuple[str, ...]
    encoder: str = ""
    sure_probability: float = 0.0


CASES: dict[str, Case] = {
    **{f"linear_{scheme}": Case(plain(scheme), "sqrt_layer", THREE) for scheme in ALL},
    **{f"hidden_{scheme}": Case(plain(scheme, 5), "sqrt_layer", THREE) for scheme in ALL},
    **{
        f"normalized_{name}": Case(plain("int4"), name, THREE)
        for name in ("standard", "l2", "min_max", "raw", "layer")
    },
    "deep": Case(plain("int2", 5, 4, 3), "layer", THREE),
    "other_head": Case(plain("ternary", 5, head="int8"), "layer", THREE),
    "no_dropout": Case(ModelConfig(("int8",), (5,), curiosity=FEW), "layer", THREE),
    "linear_router": Case(
        mixture("int1", "int4", top_k=1, router=RouterConfig(0, "int8", 0.5), alpha=0.0),
        "sqrt_layer",
        THREE,
    ),
    "hidden_router": Case(
        mixture("int1", "int4", "fp32", top_k=2, router=RouterConfig(4, "int4", 0.3), alpha=1.5),
        "standard",
        THREE,
    ),
    "all_schemes": Case(
        mixture(*ALL, top_k=3, router=RouterConfig(0, "int1", 0.25), alpha=1e-3),
        "sqrt_layer",
        THREE,
    ),
    "equal_bits": Case(
        mixture("ternary", "popcount", top_k=2, router=RouterConfig(3, "fp32", 0.5), alpha=1.0),
        "min_max",
        THREE,
    ),
    **{
        f"names_{number}": Case(plain("int1"), "sqrt_layer", names)
        for number, names in enumerate(names[:7] for names in CLASS_NAMES)
    },
    "encoder": Case(plain("int1"), "sqrt_layer", THREE, "efficientnet-lite0@1a2b3c4d"),
    "sure": Case(plain("int2", 5), "layer", THREE, sure_probability=0.65625),
    "encoder_and_sure": Case(
        mixture("int1", "int8", top_k=2, router=RouterConfig(0, "int4", 0.5), alpha=0.5),
        "standard",
        THREE,
        "z" * 64 + "@00ff00ff",
        1 - 2**-16,
    ),
}


def golden_model(name: str) -> tuple[PackedModel, np.ndarray]:
    """A model of a case, and clips [n, d] for it."""
    rng = np.random.default_rng([FORMAT_VERSION, *name.encode()])
    x = rng.normal(size=(N_CLIPS, NUM_FEATURES)).round(3).astype(np.float32)
    while True:
        packed = random_model(name, rng, x)
        if not is_near_a_tie(packed, x, rng):
            return packed, x


def random_model(name: str, rng: np.random.Generator, x: np.ndarray) -> PackedModel:
    case = CASES[name]
    data = DataConfig(normalization=case.normalization)  # type: ignore[arg-type]
    config = TrialConfig(data=data, model=case.model).canonical()
    packed = make_model(rng, config, make_data(NUM_FEATURES, case.class_names, case.encoder))
    header = dataclasses.replace(packed.header, sure_probability=case.sure_probability)
    packed = dataclasses.replace(packed, header=header)
    if packed.curiosity_range is None:
        return packed
    information = PackedClassifier(packed).examine(x).mutual_information
    low, high = np.quantile(information, (0.25, 0.75)).astype(np.float32)
    return dataclasses.replace(packed, curiosity_range=(float(low), float(high)))


def is_near_a_tie(packed: PackedModel, x: np.ndarray, rng: np.random.Generator) -> bool:
    """Whether a change in the last digits of clips changes what is said of them."""
    model = PackedClassifier(packed)
    wanted = model.examine(x)
    for _ in range(N_NUDGES):
        nudged = x * rng.uniform(1 - 1e-6, 1 + 1e-6, x.shape).astype(np.float32)
        for ours, theirs in zip(model.examine(nudged), wanted, strict=True):
            if np.abs(ours - theirs).max() > TOLERANCE:
                return True
    return False


def main() -> None:
    folder = GOLDEN / f"v{FORMAT_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        file = folder / f"{name}.qwave"
        if not file.exists():
            packed, x = golden_model(name)
            found = PackedClassifier(packed).examine(x)._asdict()
            expected = {key: as_lists(values) for key, values in {"x": x, **found}.items()}
            for key in ("class_names", "encoder", "sure_probability"):
                expected[key] = getattr(packed.header, key)
            file.write_bytes(to_bytes(packed))
            file.with_suffix(".json").write_text(json.dumps(expected) + "\n")


def as_lists(values: np.ndarray) -> object:
    """Nested lists of floats with six decimals."""
    numbers: object = values.astype(np.float64).round(6).tolist()
    return numbers


if __name__ == "__main__":
    main()
