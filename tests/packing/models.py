"""What the tests of this folder share: models of random codes, and files taken apart.

Nothing is trained here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from qwave.config import (
    SCHEMES,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    PackedFileError,
    RouterConfig,
    TrialConfig,
)
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet
from qwave.data.normalization import has_constants
from qwave.packing import (
    FORMAT_VERSION,
    Header,
    PackedLayer,
    PackedModel,
    from_bytes,
    layer_shapes,
    make_header,
    to_bytes,
)
from qwave.runtime import PackedClassifier

ALL = tuple(SCHEMES)
MIXTURE = ("int1", "int4", "fp32")
PLAIN = ("int8",)
NORMALIZATIONS = get_args(Normalization)
CLASS_NAMES = (
    ("a", "b"),
    ("dog bark", "rain", "sea waves"),
    ("犬の鳴き声", "дождь", "🐓", 'a "quoted" \\ name', "tab\tand\nnewline"),
    tuple(f"a very long name of a class, number {i}, {'ü' * (7 * i)}" for i in range(20)),
    ("", " "),
    ("\x00\x1f\x7f\x08\x0c\r", "\u2028\u2029\ufeff", "</script>&<", "e\u0301", "\U0010ffff"),
    ("comma, comma", ",", '"', '""', "\r\n", "\0,", ""),
)


ENCODERS = (
    "",
    "mel@00000000",
    "a.b_c-9@12345678",
    "efficientnet-lite0@1a2b3c4d",
    "z" * 64 + "@ffffffff",
)


def make_data(n_features: int, class_names: tuple[str, ...], encoder: str = "") -> EmbeddingSet:
    y = np.arange(len(class_names), dtype=np.int64)
    x = np.zeros((len(y), n_features), dtype=np.float32)
    names = tuple(map(str, y))
    return EmbeddingSet(x, y, None, None, class_names, names, "0123456789abcdef", encoder)


def make_model(rng: np.random.Generator, config: TrialConfig, data: EmbeddingSet) -> PackedModel:
    """A model of random codes, as training and export could have left it."""
    header = make_header(config, data, mc_seed=int(rng.integers(2**32)))
    layers = {}
    for shape in layer_shapes(header.model, header.in_features, len(header.class_names)):
        size = (shape.out_features, shape.in_features)
        bias = rng.normal(size=shape.out_features).astype(np.float16)
        grid = SCHEMES[shape.scheme].weights
        if grid is None:
            codes = rng.normal(size=size).astype(np.float32)
            layers[shape.name] = PackedLayer(shape.scheme, codes, None, bias)
            continue
        levels = np.arange(-grid.highest, grid.highest + 1, grid.spacing, dtype=np.float32)
        scale = rng.uniform(0.01, 1, shape.out_features).astype(np.float16)
        layers[shape.name] = PackedLayer(shape.scheme, rng.choice(levels, size), scale, bias)
    offset = factor = None
    if has_constants(header.normalization):
        offset = rng.normal(size=header.in_features).astype(np.float16)
        factor = rng.uniform(0.5, 2, header.in_features).astype(np.float16)
    limits = (0.125, 0.375) if header.model.num_experts > 1 else None
    sure_probability = float(rng.choice([0.0, 1 - 2**-16, rng.integers(2**16) / 2**16]))
    header = dataclasses.replace(header, sure_probability=sure_probability)
    return PackedModel(header, layers, offset, factor, limits)


def draw_config(rng: np.random.Generator) -> TrialConfig:
    num_experts = int(rng.choice([1, 1, 2, 3, 5]))
    hidden = [(), (6,), (9, 4), (1,)][rng.integers(4)]
    return TrialConfig(
        data=DataConfig(normalization=str(rng.choice(NORMALIZATIONS))),  # type: ignore[arg-type]
        model=ModelConfig(
            schemes=tuple(rng.choice(ALL, num_experts).tolist()),
            hidden=hidden,
            head_scheme=str(rng.choice(ALL)) if rng.random() < 0.5 else None,
            top_k=int(rng.integers(1, num_experts + 1)),
            dropout=round(float(rng.uniform(0, 0.9)), 3),
            input_dropout=float(rng.uniform(0, 0.9)),
            router=RouterConfig(
                int(rng.choice([0, 5])), str(rng.choice(ALL)), float(rng.choice([0.0, 1 / 3]))
            ),
            curiosity=CuriosityConfig(
                float(rng.choice([0.0, 0.1, 1e-7])), int(rng.integers(2, 99))
            ),
        ),
    ).canonical()


def draw_model(seed: int) -> tuple[TrialConfig, EmbeddingSet, PackedModel]:
    rng = np.random.default_rng(seed)
    config = draw_config(rng)
    encoder = ENCODERS[rng.integers(len(ENCODERS))]
    class_names = CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
    data = make_data(int(rng.integers(1, 40)), class_names, encoder)
    return config, data, make_model(rng, config, data)


def small_model(*schemes: str, hidden: tuple[int, ...] = (3,), alpha: float = 0.5) -> PackedModel:
    config = TrialConfig(
        data=DataConfig(normalization="standard" if len(schemes) > 1 else "layer"),
        model=ModelConfig(
            schemes,
            hidden,
            top_k=min(2, len(schemes)),
            dropout=0.25,
            input_dropout=0.125,
            curiosity=CuriosityConfig(alpha, 4),
        ),
    )
    data = make_data(5, ("dog", "rain", "sea"))
    return make_model(np.random.default_rng(1), config.canonical(), data)


def with_layer(model: PackedModel, name: str, **changes: Any) -> PackedModel:
    """The model with changes to one of its layers."""
    layer = dataclasses.replace(model.layers[name], **changes)
    return dataclasses.replace(model, layers={**model.layers, name: layer})


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The safetensors header and the rest of a file, by the format's definition."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_head(text: bytes, rest: bytes) -> bytes:
    """A file of a header's text and the rest, as they are."""
    return len(text).to_bytes(8, "little") + text + rest


def join(header: dict[str, Any], rest: bytes) -> bytes:
    """The reverse of `split`, written as qwave writes."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    encoded = text.encode(errors="surrogatepass")
    return with_head(encoded + b" " * (-len(encoded) % 8), rest)


def changed(content: bytes, changes: Mapping[str, object]) -> bytes:
    """The file with other values under some keys of its metadata."""
    header, rest = split(content)
    return join({**header, "__metadata__": {**header["__metadata__"], **changes}}, rest)


def outcome(content: bytes) -> str:
    """What becomes of a hostile file: ``refused`` in one line, or ``accepted``, and it predicts.

    Anything else is an error: another exception, predictions of another shape or that are no
    probabilities, or a model that is not the same bytes when it is written again.
    """
    try:
        model = from_bytes(content, "hostile.qwave")
    except PackedFileError as error:
        message = str(error)
        assert message.startswith("hostile.qwave: not a "), message
        assert message.isprintable(), message
        assert len(message) < 600, message
        return "refused"
    header = model.header
    clips = np.random.default_rng(0).normal(size=(2, header.in_features))
    found = PackedClassifier(model).examine(clips)
    shapes = [values.shape for values in found]
    assert shapes == [(2, len(header.class_names)), (2, header.model.num_experts), (2,), (2,)]
    for values in found:
        assert np.isfinite(values).all()
        assert (values >= 0).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.gates.sum(axis=1), 1, rtol=1e-5)
    written = to_bytes(model)
    if split(content)[0]["__metadata__"]["qwave"] == str(FORMAT_VERSION):
        assert written == content
    assert to_bytes(from_bytes(written, "written")) == written
    return "accepted"


def in_file(rate: float) -> float:
    """A rate to the nearest 2^-16, and never 1."""
    return min(round(rate * 65536), 65535) / 65536


def as_stored(header: Header) -> Header:
    """The header without what only training needs."""
    model = dataclasses.replace(
        header.model, load_balance_weight=ModelConfig().load_balance_weight
    )
    if model.num_experts > 1:
        model = dataclasses.replace(model, dropout=0.0, input_dropout=0.0)
    sure_probability = in_file(header.sure_probability)
    return dataclasses.replace(header, model=model, sure_probability=sure_probability)
