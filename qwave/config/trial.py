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
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from qwave.config.errors import ConfigError, require, require_choice
from qwave.config.model import (
    FORBID_EXTRA,
    CuriosityConfig,
    ModelConfig,
    RouterConfig,
    inert_keys,
)
from qwave.config.schemes import scheme_rank

Normalization = Literal["standard", "l2", "min_max", "raw", "layer", "sqrt_layer"]
Mode = Literal["qat", "ptq"]
Folds = Literal["auto", "official", "grouped", "stratified"]

DEFAULT_N_FOLDS = 5
"""Folds that are made where a person gives no number and the data allow as many."""

_Part = TypeVar("_Part", ModelConfig, RouterConfig, CuriosityConfig, "TrainConfig")
# Keys of `train` that are gone (early stopping), with the values that switched them off: stored
# digests were taken over them, and stored configurations and columns of front.csv bear them.
RETIRED_TRAIN_KEYS = {"patience": None, "validation_share": 0.15}


@dataclass(frozen=True)
class DataConfig:
    """Which embeddings, how they are normalised, how they are split.

    Attributes:
        path: ``esc10`` (ships with qwave), a ``.npz``, ``.csv`` or ``.parquet`` file of
            embeddings, or clips: a folder, or a ``.csv`` table of their paths and labels.
        normalization: Name of a row in the table of `qwave.data.normalization`.
        n_folds: Number of folds; must equal the data's own number where official folds are taken.
            None: as many as these, else 5, lowered to what the data allow
            (`qwave.data.resolve_folds`).
        drop_overlap: Leave out of a fold's training rows the recordings that its test rows share.
        holdout_fold: Official fold that no trial sees, as the file numbers it; the others are the
            `n_folds` of the cross-validation. `studies.confirm` scores the final front on it.
        fold_seed: Seed of folds that qwave makes itself; official folds do not use it.
        encoder: Encoder of the clips (`qwave.audio.ENCODERS`); None: the default encoder.
            For a file of embeddings, the encoder that the file must name.
        feature_columns: Features of a table of embeddings: names of columns, or one string that
            the names of all features begin with; None: every column that nothing says something
            else of (`qwave.load_embeddings`).
        folds: ``official``, ``grouped`` (stratified by class, no recording in two folds),
            ``stratified`` (by class only), or ``auto``: the first of these that can serve.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_EXTRA
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
        n_folds, columns = self.n_folds, self.feature_columns
        require(n_folds is None or n_folds >= 2, "{} >= 2", "data.n_folds", n_folds)
        if self.holdout_fold is not None and self.folds in ("grouped", "stratified"):
            raise ConfigError(
                f"data.holdout_fold={self.holdout_fold} leaves out an official fold, but "
                f"data.folds={self.folds} does without official folds; set data.folds=auto, or "
                "leave data.holdout_fold out"
            )
        require(self.fold_seed >= 0, "{} >= 0", "data.fold_seed", self.fold_seed)
        require(self.encoder != "", "len({}) >= 1", "data.encoder", self.encoder)
        has_columns = columns is None or len(columns) >= 1
        require(has_columns, "len({}) >= 1", "data.feature_columns", columns)


@dataclass(frozen=True)
class TrainConfig:
    """How every fold is trained.

    Attributes:
        mode: ``qat`` trains through the quantizer; ``ptq`` trains in fp32 and quantizes after.
        epochs: Passes over a fold's training rows, under one cosine schedule down to zero.
        batch_size: Largest number of rows of a fold in one step.
        learning_rate: Learning rate of AdamW at the start of the schedule.
        weight_decay: Decoupled weight decay of AdamW.
        label_smoothing: Share of the target spread evenly over the classes.
        distillation: Share of the target that comes from a teacher, an ensemble of float networks
            trained on the same rows; inputs are then mixtures of two clips. 0 trains on clips and
            labels alone, without the seconds that a teacher takes.
        class_weights: Weigh each class by the inverse of its frequency in the training rows.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_EXTRA
    mode: Mode = "qat"
    epochs: int = 120
    batch_size: int = 64
    learning_rate: float = 0.003
    weight_decay: float = 0.3
    label_smoothing: float = 0.1
    distillation: float = 0.8
    class_weights: bool = True

    def __post_init__(self) -> None:
        rate, decay, smoothing = self.learning_rate, self.weight_decay, self.label_smoothing
        share = self.distillation
        require_choice(self.mode, Mode, "train.mode")
        require(self.epochs >= 1, "{} >= 1", "train.epochs", self.epochs)
        require(self.batch_size >= 1, "{} >= 1", "train.batch_size", self.batch_size)
        require(0 < rate < math.inf, "0 < {}", "train.learning_rate", rate)
        require(0 <= decay < math.inf, "0 <= {}", "train.weight_decay", decay)
        require(0 <= smoothing < 1, "0 <= {} < 1", "train.label_smoothing", smoothing)
        require(0 <= share <= 1, "0 <= {} <= 1", "train.distillation", share)


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides the result of one trial, besides the rows of the data.

    Attributes:
        data: Which embeddings, how they are normalised and split.
        model: The mixture of experts.
        train: How every fold is trained.
        seed: Seed of the trial; a part of the digest, which every random number follows from.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_EXTRA
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.seed >= 0, "{} >= 0", "seed", self.seed)

    def canonical(self) -> TrialConfig:
        """The one form that all configurations that train the same thing share."""
        schemes = tuple(sorted(self.model.schemes, key=scheme_rank))
        inert = inert_keys(schemes, self.model.hidden)
        if self.model.top_k == len(schemes):
            inert |= {"model.load_balance_weight"}  # every expert gets every clip
        if set(schemes) == {self.model.head_scheme}:
            inert |= {"model.head_scheme"}
        if self.train.distillation == 1:
            inert |= {"train.label_smoothing"}  # the teacher gives the whole target
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
        tree["train"] |= RETIRED_TRAIN_KEYS
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
        config: The value that a caller gave as configuration.
        caller: The function that was called, for the message.

    Raises:
        ConfigError: The value is no `TrialConfig`.
    """
    if not isinstance(config, TrialConfig):
        raise ConfigError(
            f"{caller}: config must be a TrialConfig, but is of type {type(config).__name__}; "
            "qwave.parse_config(keys) makes one of a mapping of keys"
        )


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
