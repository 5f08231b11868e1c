"""A quantized mixture as plain numbers: what a packed file holds, without torch.

Notation: d features, h widths, c classes, e experts, s MC-dropout samples.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from qwave.config import ModelConfig


@dataclass(frozen=True, eq=False)
class PackedLayer:
    """A linear layer.

    Attributes:
        scheme: Its scheme's name.
        codes: float32 [o, i]; whole numbers on the scheme's grid, or the weights of fp32.
        scale: float16 [o], or None for fp32.
        bias: float16 [o].
    """

    scheme: str
    codes: np.ndarray
    scale: np.ndarray | None
    bias: np.ndarray


@dataclass(frozen=True)
class LayerShape:
    """Place, scheme and shape of a layer, known from the configuration alone.

    Attributes:
        name: ``e0.1`` is layer 1 of expert 0, ``r.0`` layer 0 of the router.
        scheme: Its scheme's name.
        out_features: o.
        in_features: i.
    """

    name: str
    scheme: str
    out_features: int
    in_features: int


@dataclass(frozen=True)
class Header:
    """Everything in a packed file that is not an array.

    Attributes:
        model: Canonical model configuration.
        normalization: Name of the normalisation.
        in_features: d.
        class_names: c names.
        mc_seed: Seed of the MC-dropout masks, 0 to 2^32 - 1.
        data_digest: Of the embeddings that trained it.
        config_digest: Of the trial configuration.
    """

    model: ModelConfig
    normalization: str
    in_features: int
    class_names: tuple[str, ...]
    mc_seed: int
    data_digest: str
    config_digest: str


@dataclass(frozen=True, eq=False)
class PackedModel:
    """One trained and quantized mixture.

    Attributes:
        header: Its description.
        layers: Name to layer, in the order of `layer_shapes`.
        offset, factor: float16 [d] constants of the normalisation, or None.
        curiosity_range: Mutual information that counts as none and as full, fitted on training
            rows; None for a single expert.
    """

    header: Header
    layers: dict[str, PackedLayer]
    offset: np.ndarray | None
    factor: np.ndarray | None
    curiosity_range: tuple[float, float] | None


def layer_shapes(model: ModelConfig, in_features: int, num_classes: int) -> list[LayerShape]:
    """All layers of a canonical configuration: experts first, then the router."""
    widths = (in_features, *model.hidden, num_classes)
    shapes = [
        LayerShape(f"e{expert}.{layer}", model.layer_scheme(scheme, layer), o, i)
        for expert, scheme in enumerate(model.schemes)
        for layer, (i, o) in enumerate(itertools.pairwise(widths))
    ]
    shapes += [
        LayerShape(f"r.{layer}", model.router.scheme, o, i)
        for layer, (i, o) in enumerate(itertools.pairwise(model.router_widths(in_features)))
    ]
    return shapes


def mc_masks(header: Header) -> list[np.ndarray]:
    """MC-dropout masks, one a layer, float32 [s, i]: 0, or 1 over the share that is kept.

    They belong to the router of a mixture and to the expert of a plain network. The same masks
    serve every clip, so that its uncertainty is the same alone and among others; they follow from
    the seed in the file by PCG64's raw output, which numpy promises not to change.
    """
    model = header.model
    if model.num_experts > 1:
        widths = model.router_widths(header.in_features)[:-1]
        layers = [(width, model.router.dropout) for width in widths]
    else:
        layers = [(header.in_features, model.input_dropout)]
        layers += [(width, model.dropout) for width in model.hidden]
    generator = np.random.PCG64(header.mc_seed)
    masks = []
    for width, rate in layers:
        raw = generator.random_raw(model.curiosity.mc_samples * width)
        is_kept = (raw >> np.uint64(11)) * 2.0**-53 >= rate
        mask = is_kept.astype(np.float32) / np.float32(1 - rate)
        masks.append(mask.reshape(model.curiosity.mc_samples, width))
    return masks
