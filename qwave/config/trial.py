"""The configuration of one trial: frozen values that refuse bad states where they are made.

Two configurations that train the same thing have one *canonical form* and one digest: experts
stand in the order of their bits, and keys that cannot matter (see `inert_keys`) hold their
defaults. A digest that has been run need not be trained again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args

from qwave.config.errors import ConfigError, nearest
from qwave.config.schemes import SCHEMES, require_scheme, scheme_rank

Normalization = Literal["standard", "l2", "min_max", "raw", "layer", "sqrt_layer"]
Mode = Literal["qat", "ptq"]
Folds = Literal["auto", "official", "grouped", "stratified"]

DEFAULT_N_FOLDS = 5
"""Folds that are made where a person gives no number and the data allow as many."""

_Part = TypeVar("_Part", "ModelConfig", "RouterConfig", "CuriosityConfig", "TrainConfig")

_FORBID_EXTRA: dict[str, Any] = {"extra": "forbid"}  # read by pydantic in qwave.space


def require_choice(value: str, kind: Any, key: str) -> None:
    """Refuse a value that a `Literal` type does not list."""
    allowed = get_args(kind)
    if value not in allowed:
        raise ConfigError(
            f"`{key}` must be one of {', '.join(allowed)}, but got {value!r}"
            f"{nearest(str(value), allowed)}"
        )


def _require(condition: bool, rule: str, **values: object) -> None:
    if not condition:
        found = ", ".join(f"{key}={value!r}" for key, value in values.items())
        raise ConfigError(f"`{rule}` must hold, but got {found}")


@dataclass(frozen=True)
class DataConfig:
    """Which embeddings, how they are normalised, how they are split.

    Attributes:
        path: ``esc10`` (ships with qwave), a ``.npz``, ``.csv`` or ``.parquet`` file of
            embeddings, or clips: a folder, or a ``.csv`` table of their paths and labels.
        normalization: See `qwave.data.Normalizer`.
        n_folds: Number of folds; must equal the data's own number where official folds are taken.
            None: as many as these, else 5, lowered to what the data allow
            (`qwave.data.resolve_folds`).
        drop_overlap: Leave out of a fold's training rows the recordings that its test rows share.
        holdout_fold: Official fold that no trial sees, as the file numbers it; the others are the
            `n_folds` of the cross-validation. `studies.confirm` scores the final front on it.
        fold_seed: Seed of folds that qwave makes itself; official folds do not use it.
        encoder: What clips are embedded with (`qwave.audio.ENCODERS`); None: its default. Of a
            file of embeddings it is the encoder that the file must name.
        feature_columns: Features of a table of embeddings: names of columns, or one string that
            the names of all features begin with; None: every column that nothing says something
            else of (`qwave.load_embeddings`).
        folds: ``official``, ``grouped`` (stratified by class, no recording in two folds),
            ``stratified`` (by class only), or ``auto``: the first of these that can serve.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_EXTRA
    path: str = "esc10"
    normalization: Normalization = "sqrt_layer"
    n_folds: int | None = None
    drop_overlap: bool = False
    holdout_fold: int | None = None
    fold_seed: int = 0
    encoder: str | None = None
    feature_columns: tuple[str, ...] | str | None = None
    folds: Folds = "auto"

    def __post_init__(self) -> None:
        require_choice(self.normalization, Normalization, "data.normalization")
        require_choice(self.folds, Folds, "data.folds")
        _require(
            self.n_folds is None or self.n_folds >= 2, "data.n_folds >= 2", n_folds=self.n_folds
        )
        if self.holdout_fold is not None and self.folds in ("grouped", "stratified"):
            raise ConfigError(
                f"data.holdout_fold={self.holdout_fold} leaves out an official fold, but "
                f"data.folds={self.folds} does without official folds; set data.folds=auto, or "
                "leave data.holdout_fold out"
            )
        _require(self.fold_seed >= 0, "data.fold_seed >= 0", fold_seed=self.fold_seed)
        _require(self.encoder != "", "len(data.encoder) >= 1", encoder=self.encoder)
        _require(
            self.feature_columns is None or len(self.feature_columns) >= 1,
            "len(data.feature_columns) >= 1",
            feature_columns=self.feature_columns,
        )


@dataclass(frozen=True)
class RouterConfig:
    """The router of a mixture.

    Attributes:
        hidden: Width of its one hidden layer; 0 for a linear router.
        scheme: Scheme of its layers.
        dropout: Rate on the router's inputs (and hidden units) in training and in MC-dropout. A
            router that sees everything learns the training clips by heart: from 0.1 to 0.5, four
            mixtures gained 0.2 to 0.8 points on ESC-10 (four seeds each).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_EXTRA
    hidden: int = 0
    scheme: str = "int8"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        _require(self.hidden >= 0, "model.router.hidden >= 0", hidden=self.hidden)
        require_scheme(self.scheme, "model.router.scheme")
        _require(0 <= self.dropout < 1, "0 <= model.router.dropout < 1", dropout=self.dropout)


@dataclass(frozen=True)
class CuriosityConfig:
    """The router's epistemic uncertainty and what it does.

    Attributes:
        alpha: Tilt of uncertain clips toward experts with more bits; 0 is off.
        mc_samples: Number of MC-dropout passes.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_EXTRA
    alpha: float = 0.0
    mc_samples: int = 20

    def __post_init__(self) -> None:
        _require(0 <= self.alpha < math.inf, "0 <= model.curiosity.alpha", alpha=self.alpha)
        _require(
            self.mc_samples >= 2, "model.curiosity.mc_samples >= 2", mc_samples=self.mc_samples
        )


@dataclass(frozen=True)
class ModelConfig:
    """A mixture of quantized experts; with one scheme a plain network without a router.

    Attributes:
        schemes: Scheme of each expert; the number of experts is their number.
        hidden: Widths of every expert's hidden layers; empty for a linear expert.
        head_scheme: Scheme of the last layer of experts that have hidden layers; None: the
            expert's own. The only layer of a linear expert always has the expert's scheme.
        top_k: Number of experts a clip is sent to.
        dropout: Rate on hidden units.
        input_dropout: Rate on the features that the experts see.
        load_balance_weight: Weight of the Switch load-balancing loss.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_EXTRA
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
        _require(len(self.schemes) >= 1, "len(model.schemes) >= 1", schemes=self.schemes)
        for scheme in self.schemes:
            require_scheme(scheme, "model.schemes")
        if self.head_scheme is not None:
            require_scheme(self.head_scheme, "model.head_scheme")
        _require(all(w >= 1 for w in self.hidden), "model.hidden >= 1", hidden=self.hidden)
        _require(self.top_k >= 1, "model.top_k >= 1", top_k=self.top_k)
        _require(
            self.top_k <= self.num_experts,
            "model.top_k <= num_experts",
            top_k=self.top_k,
            num_experts=self.num_experts,
        )
        _require(0 <= self.dropout < 1, "0 <= model.dropout < 1", dropout=self.dropout)
        _require(
            0 <= self.input_dropout < 1,
            "0 <= model.input_dropout < 1",
            input_dropout=self.input_dropout,
        )
        _require(
            0 <= self.load_balance_weight < math.inf,
            "0 <= model.load_balance_weight",
            load_balance_weight=self.load_balance_weight,
        )

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
        bend = (self.router.hidden,) if self.router.hidden else ()
        return (in_features, *bend, self.num_experts)


@dataclass(frozen=True)
class TrainConfig:
    """How every fold is trained.

    Attributes:
        mode: ``qat`` trains through the quantizer; ``ptq`` trains in fp32 and quantizes after.
        epochs: Passes over a fold's training rows, under one cosine schedule down to zero.
        batch_size: Largest number of rows of a fold in one step.
        learning_rate: AdamW's, at the start of the schedule.
        weight_decay: AdamW's decoupled weight decay.
        label_smoothing: Share of the target spread evenly over the classes.
        distillation: Share of the target that a teacher says, an ensemble of float networks
            trained on the same rows; inputs are then mixtures of two clips. 0 trains on clips and
            labels alone, without the seconds that a teacher takes.
        class_weights: Weigh each class by the inverse of its frequency in the training rows.
        patience: Epochs without a better inner validation loss before a fold stops; None (the
            default) trains all epochs on all training rows.
        validation_share: Share of the training rows that `patience` looks at.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_EXTRA
    mode: Mode = "qat"
    epochs: int = 120
    batch_size: int = 64
    learning_rate: float = 0.003
    weight_decay: float = 0.3
    label_smoothing: float = 0.1
    distillation: float = 0.8
    class_weights: bool = True
    patience: int | None = None
    validation_share: float = 0.15

    def __post_init__(self) -> None:
        require_choice(self.mode, Mode, "train.mode")
        _require(self.epochs >= 1, "train.epochs >= 1", epochs=self.epochs)
        _require(self.batch_size >= 1, "train.batch_size >= 1", batch_size=self.batch_size)
        _require(
            0 < self.learning_rate < math.inf,
            "0 < train.learning_rate",
            learning_rate=self.learning_rate,
        )
        _require(
            0 <= self.weight_decay < math.inf,
            "0 <= train.weight_decay",
            weight_decay=self.weight_decay,
        )
        _require(
            0 <= self.label_smoothing < 1,
            "0 <= train.label_smoothing < 1",
            label_smoothing=self.label_smoothing,
        )
        _require(
            0 <= self.distillation <= 1,
            "0 <= train.distillation <= 1",
            distillation=self.distillation,
        )
        _require(
            self.patience is None or self.patience >= 1,
            "train.patience >= 1",
            patience=self.patience,
        )
        _require(
            0 < self.validation_share < 1,
            "0 < train.validation_share < 1",
            validation_share=self.validation_share,
        )


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides the result of one trial, besides the rows of the data."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_EXTRA
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed >= 0", seed=self.seed)

    def canonical(self) -> TrialConfig:
        """The one form that all configurations that train the same thing share."""
        schemes = tuple(sorted(self.model.schemes, key=scheme_rank))
        inert = inert_keys(schemes, self.model.hidden)
        if self.model.top_k == len(schemes):
            inert |= {"model.load_balance_weight"}  # every expert gets every clip
        if set(schemes) == {self.model.head_scheme}:
            inert |= {"model.head_scheme"}
        if self.train.patience is None:
            inert |= {"train.validation_share"}
        if self.train.distillation == 1:
            inert |= {"train.label_smoothing"}  # the teacher says the whole target
        model = dataclasses.replace(
            _with_defaults(self.model, "model.", inert),
            schemes=schemes,
            router=_with_defaults(self.model.router, "model.router.", inert),
            curiosity=_with_defaults(self.model.curiosity, "model.curiosity.", inert),
        )
        used = {*schemes, model.head_scheme or schemes[0]}
        if len(schemes) > 1:
            used.add(model.router.scheme)
        if used == {"fp32"}:
            inert |= {"train.mode"}  # nothing to quantize, in training or after it
        train = _with_defaults(self.train, "train.", inert)
        return dataclasses.replace(self, model=model, train=train)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the canonical form."""
        return digest_of(self.canonical().tree_without_source())

    def tree_without_source(self) -> dict[str, Any]:
        """All values, nested, but for where the rows come from: what digests are made of.

        The same rows may lie elsewhere, or be embedded anew, and have a digest of their own. An
        `n_folds` that is not set counts as 5 and `folds` of ``auto`` as not there, which keeps
        the digests that studies have stored.
        """
        tree = dataclasses.asdict(self)
        data = tree["data"]
        del data["path"], data["encoder"], data["feature_columns"]
        if data["n_folds"] is None:
            data["n_folds"] = DEFAULT_N_FOLDS
        if data["folds"] == "auto":
            del data["folds"]
        return tree

    def flat(self) -> dict[str, Any]:
        """Dotted keys to values, as MLflow and the report show them."""
        flat = dict(_flatten(dataclasses.asdict(self), ""))
        flat["model.num_experts"] = self.model.num_experts
        return flat


def require_config(config: object, caller: str) -> None:
    """Refuse what is no `TrialConfig`.

    Args:
        config: What a caller gave as configuration.
        caller: The function that was called, for the message.

    Raises:
        ConfigError: The value is no `TrialConfig`.
    """
    if not isinstance(config, TrialConfig):
        raise ConfigError(
            f"{caller}: config must be a TrialConfig, but is of type {type(config).__name__}; "
            "qwave.parse_config(keys) makes one of a mapping of keys"
        )


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


def _with_defaults(value: _Part, prefix: str, keys: frozenset[str]) -> _Part:
    """A copy of a dataclass whose fields named in `keys` (after `prefix`) hold their defaults."""
    changes: dict[str, Any] = {
        f.name: f.default for f in dataclasses.fields(value) if f"{prefix}{f.name}" in keys
    }
    return dataclasses.replace(value, **changes)


def digest_of(tree: object) -> str:
    """16 hexadecimal digits of a JSON-able value; equal numbers count as equal, 0 and 0.0 too."""
    text = json.dumps(_plain_numbers(tree), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain_numbers(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _plain_numbers(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain_numbers(value) for value in tree]
    if isinstance(tree, float) and tree.is_integer():
        return int(tree)
    return tree


def _flatten(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
