"""A quantized mixture as plain numbers: what a packed file holds, without torch.

Notation: d features, h widths, c classes, e experts, s MC-dropout samples.

Widths, experts and samples are only numbers in a file, so that a few bytes can name a model of
gigabytes. A `Header` therefore has limits, far above what the sweeps ask for, and the same ones
before training as when a file is read:

| what | limit | because |
|---|---|---|
| layers, of all experts and the router | 1,000 | each is Python objects of a kilobyte |
| weights | 2^28 | a gibibyte when unpacked in float32 |
| MC-dropout samples | 1,000 | each is one more prediction |
| samples times units of the masked network | 2^22 | 16 MiB of masks |
| `curiosity.alpha` | 10^6 | times a share it must not overflow float32 |
| characters of a class name | 100,000 | Python's CSV reader takes 131,072 |
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np

from qwave.config import ConfigError, ModelConfig
from qwave.config.errors import require_choice
from qwave.config.trial import Normalization
from qwave.data.embeddings import is_encoder_identity

MAX_LAYERS = 1_000
_MAX_WEIGHTS = 2**28
_MAX_MC_SAMPLES = 1_000
_MAX_MASKED_UNITS = 2**22
_MAX_ALPHA = 1_000_000
_MAX_NAME_LENGTH = 100_000


@dataclass(frozen=True, eq=False)
class PackedLayer:
    """A linear layer.

    Attributes:
        scheme: Name of the scheme.
        codes: Codes [o, i]: whole numbers on the scheme's grid, of any number type (int8 or int16
            where they were read from a file), or the float32 weights of fp32.
        scale: Scale of each row, float16 [o]; None for fp32.
        bias: Bias of each output, float16 [o].
    """

    scheme: str
    codes: np.ndarray
    scale: np.ndarray | None
    bias: np.ndarray


@dataclass(frozen=True)
class LayerShape:
    """Name, scheme and shape of a layer, known from the configuration alone.

    Attributes:
        name: ``e0.1`` is layer 1 of expert 0, ``r.0`` layer 0 of the router.
        scheme: Name of the scheme.
        out_features: Number of outputs o.
        in_features: Number of inputs i.
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
        in_features: Number of features d, at least 1.
        class_names: Names of the c classes, at least one.
        mc_seed: Seed of the MC-dropout masks, 0 to 2^32 - 1.
        data_digest: Digest of the embeddings that the model was trained on, 16 hexadecimal
            digits.
        config_digest: Digest of the trial configuration, 16 hexadecimal digits.
        encoder: The encoder that makes the inputs from audio, ``name@digest``
            (`qwave.audio.encoder_identity`); empty where it is not known.
        sure_probability: A prediction is sure if its largest probability is not below it, 0 to
            below 1, stored to 2^-16; 0 where none was fitted.

    Raises:
        ConfigError: A value is not one of these, or beyond a limit of this module.
    """

    model: ModelConfig
    normalization: str
    in_features: int
    class_names: tuple[str, ...]
    mc_seed: int
    data_digest: str
    config_digest: str
    encoder: str = ""
    sure_probability: float = 0.0

    def __post_init__(self) -> None:
        require_choice(self.normalization, Normalization, "data.normalization")
        for name, digest in (("data", self.data_digest), ("configuration", self.config_digest)):
            if not re.fullmatch("[0-9a-f]{16}", digest):
                raise ConfigError(
                    f"the digest of the {name} must be 16 hexadecimal digits, not {digest!r}"
                )
        if not 0 <= self.mc_seed < 2**32:
            raise ConfigError(f"`0 <= mc_seed < 2^32` must hold, but got {self.mc_seed}")
        if self.in_features < 1:
            raise ConfigError(f"`in_features >= 1` must hold, but got {self.in_features}")
        if self.encoder and not is_encoder_identity(self.encoder):
            raise ConfigError(
                "an encoder must be `name@digest`, a name of 1 to 64 of the characters a-z, 0-9, "
                f"'.', '_' and '-', and 8 hexadecimal digits, but got {self.encoder[:100]!r}"
            )
        if not 0 <= self.sure_probability < 1:
            raise ConfigError(
                f"`0 <= sure_probability < 1` must hold, but got {self.sure_probability}"
            )
        _require_names(self.class_names)
        _require_small(self)


@dataclass(frozen=True, eq=False)
class PackedModel:
    """One trained and quantized mixture.

    Attributes:
        header: Everything that is not an array.
        layers: Layers by name, in the order of `layer_shapes`.
        offset: Offset of each feature in the normalisation, float16 [d], or None.
        factor: Factor of each feature in the normalisation, float16 [d], or None.
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
    widths = _masked_widths(header)[:-1]
    if model.num_experts > 1:
        rates = [model.router.dropout for _ in widths]
    else:
        rates = [model.input_dropout, *(model.dropout for _ in model.hidden)]
    generator = np.random.PCG64(header.mc_seed)
    masks = []
    for width, rate in zip(widths, rates, strict=True):
        mask = np.empty((model.curiosity.mc_samples, width), dtype=np.float32)
        for row in mask:  # all at once, what is drawn takes six times the memory of the masks
            is_kept = (generator.random_raw(width) >> np.uint64(11)) * 2.0**-53 >= rate
            row[:] = is_kept / np.float32(1 - rate)
        masks.append(mask)
    return masks


def _masked_widths(header: Header) -> tuple[int, ...]:
    """Inputs, hidden units and outputs of the network that MC-dropout runs."""
    model = header.model
    if model.num_experts > 1:
        return model.router_widths(header.in_features)
    return (header.in_features, *model.hidden, len(header.class_names))


def _require_names(class_names: tuple[str, ...]) -> None:
    if not class_names:
        raise ConfigError("a packed model needs at least one class name")
    for label, name in enumerate(class_names):
        if len(name) > _MAX_NAME_LENGTH:
            raise ConfigError(
                f"the name of class {label} has {len(name)} characters, but a packed file's have "
                f"at most {_MAX_NAME_LENGTH}: {name[:50]!r}..."
            )
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"the name of class {label} is no text that UTF-8 can hold: {name[:50]!r}"
            ) from error


def _require_small(header: Header) -> None:
    """The limits of this module, from numbers alone: nothing of their size is made."""
    model = header.model
    n_layers = model.num_experts * (len(model.hidden) + 1)
    n_layers += max(0, len(model.router_widths(header.in_features)) - 1)
    _require_at_most(MAX_LAYERS, n_layers, "layers")  # before they are listed
    shapes = layer_shapes(model, header.in_features, len(header.class_names))
    n_weights = sum(shape.out_features * shape.in_features for shape in shapes)
    _require_at_most(_MAX_WEIGHTS, n_weights, "weights")
    n_samples = model.curiosity.mc_samples
    _require_at_most(_MAX_MC_SAMPLES, n_samples, "MC-dropout samples")
    units = n_samples * sum(_masked_widths(header))
    _require_at_most(_MAX_MASKED_UNITS, units, "MC-dropout samples times masked units")
    _require_at_most(_MAX_ALPHA, model.curiosity.alpha, "of model.curiosity.alpha")


def _require_at_most(limit: int, number: float, what: str) -> None:
    if number > limit:
        raise ConfigError(f"a packed model has at most {limit} {what}, but this one has {number}")
