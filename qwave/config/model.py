"""The model of a trial: experts, router and curiosity, as frozen values that refuse bad states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from qwave.config.errors import ConfigError, require
from qwave.config.schemes import SCHEMES, require_scheme

FORBID_EXTRA: dict[str, Any] = {"extra": "forbid"}  # read by pydantic in qwave.space


@dataclass(frozen=True)
class RouterConfig:
    """The router of a mixture.

    Attributes:
        hidden: Width of the router's one hidden layer; 0 for a linear router.
        scheme: Scheme of the router's layers.
        dropout: Rate on the router's inputs (and hidden units) in training and in MC-dropout. A
            router that sees everything learns the training clips by heart: from 0.1 to 0.5, four
            mixtures gained 0.2 to 0.8 points on ESC-10 (four seeds each).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_EXTRA
    hidden: int = 0
    scheme: str = "int8"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        require(self.hidden >= 0, "{} >= 0", "model.router.hidden", self.hidden)
        require_scheme(self.scheme, "model.router.scheme")
        require(0 <= self.dropout < 1, "0 <= {} < 1", "model.router.dropout", self.dropout)


@dataclass(frozen=True)
class CuriosityConfig:
    """The router's epistemic uncertainty and what it does.

    Attributes:
        alpha: Tilt of uncertain clips toward experts with more bits; 0 is off.
        mc_samples: Number of MC-dropout passes.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_EXTRA
    alpha: float = 0.0
    mc_samples: int = 20

    def __post_init__(self) -> None:
        require(0 <= self.alpha < math.inf, "0 <= {}", "model.curiosity.alpha", self.alpha)
        require(self.mc_samples >= 2, "{} >= 2", "model.curiosity.mc_samples", self.mc_samples)


@dataclass(frozen=True)
class ModelConfig:
    """A mixture of quantized experts; with one scheme a plain network without a router.

    Attributes:
        schemes: Scheme of each expert; the number of experts is the number of schemes.
        hidden: Widths of every expert's hidden layers; empty for a linear expert.
        head_scheme: Scheme of the last layer of experts that have hidden layers; None: the
            expert's own. The only layer of a linear expert always has the expert's scheme.
        top_k: Number of experts a clip is sent to.
        dropout: Rate on hidden units.
        input_dropout: Rate on the features that the experts see.
        load_balance_weight: Weight of the Switch load-balancing loss.
        router: The router; not used by a single expert.
        curiosity: The router's epistemic uncertainty.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_EXTRA
    schemes: tuple[str, ...] = ("int8",)
    hidden: tuple[int, ...] = (64,)
    head_scheme: str | None = None
    top_k: int = 1
    dropout: float = 0.0
    input_dropout: float = 0.0
    load_balance_weight: float = 0.01
    router: RouterConfig = field(default_factory=RouterConfig)
    curiosity: CuriosityConfig = field(default_factory=CuriosityConfig)

    def __post_init__(self) -> None:
        require(len(self.schemes) >= 1, "len({}) >= 1", "model.schemes", self.schemes)
        for scheme in self.schemes:
            require_scheme(scheme, "model.schemes")
        if self.head_scheme is not None:
            require_scheme(self.head_scheme, "model.head_scheme")
        require(all(w >= 1 for w in self.hidden), "{} >= 1", "model.hidden", self.hidden)
        require(self.top_k >= 1, "{} >= 1", "model.top_k", self.top_k)
        if self.top_k > self.num_experts:
            raise ConfigError(
                f"`model.top_k <= num_experts` must hold, but got top_k={self.top_k}, "
                f"num_experts={self.num_experts}"
            )
        require(0 <= self.dropout < 1, "0 <= {} < 1", "model.dropout", self.dropout)
        rate, weight = self.input_dropout, self.load_balance_weight
        require(0 <= rate < 1, "0 <= {} < 1", "model.input_dropout", rate)
        require(0 <= weight < math.inf, "0 <= {}", "model.load_balance_weight", weight)

    @property
    def num_experts(self) -> int:
        """Number of experts."""
        return len(self.schemes)

    def layer_scheme(self, expert_scheme: str, layer: int) -> str:
        """Scheme of an expert's layer, counted from 0; the head is layer ``len(hidden)``."""
        is_head = layer == len(self.hidden)
        if is_head and self.hidden and self.head_scheme is not None:
            return self.head_scheme
        return expert_scheme

    def router_widths(self, in_features: int) -> tuple[int, ...]:
        """Inputs of the router's layers and, last, its outputs; empty for a single expert."""
        if self.num_experts == 1:
            return ()
        hidden = (self.router.hidden,) if self.router.hidden else ()
        return (in_features, *hidden, self.num_experts)


def inert_keys(schemes: Sequence[str], hidden: Sequence[int]) -> frozenset[str]:
    """Keys that cannot change what is trained, given the experts: the space does not draw them,
    the canonical form resets them.

    A single expert has no router. A linear expert has no hidden units to drop and no head besides
    its one layer. Experts with equal bits leave curiosity nothing to tilt toward.
    """
    keys: set[str] = set()
    if len(schemes) == 1:
        keys |= {"model.top_k", "model.load_balance_weight"}
        keys |= {"model.router.hidden", "model.router.scheme", "model.router.dropout"}
    if len({SCHEMES[scheme].bits for scheme in schemes}) == 1:
        keys.add("model.curiosity.alpha")
    if not hidden:
        keys |= {"model.dropout", "model.head_scheme"}
    return frozenset(keys)
