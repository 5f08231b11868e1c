"""The vocabulary of quantization schemes: names, levels, bits. No arithmetic on tensors here.

`SCHEMES` is ordered by stored bits, and that order is the order of experts in a canonical
configuration. A new scheme is one entry here: quantizers, files and predictions follow its bits
and its grids. A backend raises `NotImplementedError` at a rule of a grid that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from qwave.config.errors import ConfigError, nearest

# Step of the four-level uniform quantizer with least mean square error for a normal variable, in
# standard deviations (Max 1960, table I), over E|w| = sqrt(2/pi) sigma. Measured in mean
# absolutes because these follow the bulk of a row better than a standard deviation does.
_INT2_STEP = 0.9957 / 0.7978845608


@dataclass(frozen=True)
class Grid:
    """Levels that a value can take: ``value = code * scale / denominator``.

    Attributes:
        spacing: Distance of neighbouring codes: 1, or 2 where all codes are odd numbers.
        highest: The largest code; the smallest code is its negative.
        denominator: Divisor that keeps scales within the range of float16.
        scale: The measure of a row of values: its largest or its mean absolute value.
        scale_factor: Number that the measure is multiplied with to give the scale.
    """

    spacing: int
    highest: int
    denominator: float
    scale: Literal["absmax", "absmean"]
    scale_factor: float = 1.0

    @property
    def n_levels(self) -> int:
        """Number of codes."""
        return 2 * self.highest // self.spacing + 1


@dataclass(frozen=True)
class Scheme:
    """How the weights of a layer are stored and multiplied.

    Attributes:
        name: The name in YAML, MLflow and the dashboard.
        bits: Stored bits of one weight; 8/5 where five ternary digits share a byte.
        weights: Levels of the weights, with one scale for each output row; None for floats.
        activations: Levels of the inputs of the layer, with one scale for each sample; None for
            floats.
        aliases: Other names that are accepted as input.
    """

    name: str
    bits: Fraction
    weights: Grid | None
    activations: Grid | None
    aliases: tuple[str, ...] = ()


def _integers(bits: int) -> Grid:
    highest = 2 ** (bits - 1) - 1
    return Grid(1, highest, highest, "absmax")


# 1 bit: sign times mean absolute value (XNOR-Net, arXiv 1603.05279). Ternary: absmean, rounded and
# clipped (BitNet b1.58, arXiv 2402.17764). 2 bits: four levels at -3, -1, 1, 3 half steps.
_SIGNS = Grid(2, 1, 1.0, "absmean")
_TRITS = Grid(1, 1, 1.0, "absmean")
_PAIRS = Grid(2, 3, 2.0, "absmean", _INT2_STEP)
_INT8 = _integers(8)

_ALL = (
    Scheme("int1", Fraction(1), _SIGNS, _INT8, ("1", "binary")),
    Scheme("ternary", Fraction(8, 5), _TRITS, _INT8, ("bitnet", "bitnet158b")),
    Scheme("popcount", Fraction(8, 5), _TRITS, _TRITS, ("qesc",)),
    Scheme("int2", Fraction(2), _PAIRS, _INT8, ("2",)),
    Scheme("int4", Fraction(4), _integers(4), _INT8, ("4",)),
    Scheme("int8", Fraction(8), _INT8, _INT8, ("8",)),
    Scheme("int16", Fraction(16), _integers(16), None, ("16",)),
    Scheme("fp32", Fraction(32), None, None, ("esc", "32")),
)

SCHEMES: MappingProxyType[str, Scheme] = MappingProxyType({s.name: s for s in _ALL})
_RANK = {name: rank for rank, name in enumerate(SCHEMES)}
_BY_ALIAS = {alias: s.name for s in _ALL for alias in (s.name, *s.aliases)}


def scheme_name(name: object) -> str:
    """The name of a scheme, given any name that is accepted for it.

    Args:
        name: A scheme's name or alias; whole numbers stand for bits (``4`` is ``int4``).

    Raises:
        ConfigError: No scheme has that name.
    """
    known = _BY_ALIAS.get(str(name).lower()) if isinstance(name, str | int) else None
    if known is None or isinstance(name, bool):
        aliases = ", ".join(f"{a} = {s.name}" for s in _ALL for a in s.aliases)
        raise ConfigError(
            f"unknown scheme {name!r}{nearest(str(name), _BY_ALIAS)}; "
            f"allowed: {', '.join(SCHEMES)} (also {aliases})"
        )
    return known


def scheme_rank(name: str) -> int:
    """Position of a scheme in the order of stored bits; equal bits stand as in `SCHEMES`."""
    return _RANK[name]


def require_scheme(name: str, key: str) -> None:
    """Refuse anything but a scheme's own name, saying which configuration key held it."""
    if name not in SCHEMES:
        raise ConfigError(
            f"`{key}` must be one of {', '.join(SCHEMES)}, but got {name!r}"
            f"{nearest(name, SCHEMES)}"
        )
