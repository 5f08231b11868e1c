"""Studies of known configurations: what they refuse, and what two variants may differ in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from qwave.config import (
    ComparisonConfig,
    ConfigError,
    ConfirmationConfig,
    DataConfig,
    ModelConfig,
    TrialConfig,
)

ONE = TrialConfig(model=ModelConfig(("int1", "int4"), (8,)))
TWO = TrialConfig(model=ModelConfig(("int8",), (8,)))
NAN = float("nan")


def _comparison(**changes: Any) -> ComparisonConfig:
    values: dict[str, Any] = {"name": "some", "seeds": (0, 1), "variants": {"a": ONE, "b": TWO}}
    return ComparisonConfig(**{**values, **changes})


def _with_data(**changes: Any) -> TrialConfig:
    return dataclasses.replace(TWO, data=DataConfig(**changes))


NAME_RULE = "`name` must be 1 to 100 letters, digits, '_', '-' or '.', but got "
SEED_RULE = "`seeds` must be distinct whole numbers from 0, at least one, but got "
NEAR_RULE = "`near_standard_errors >= 0` and `max_points >= 1` must hold, but got "
DATA_RULE = (
    "`variants` must agree on the data and its folds (only data.normalization may differ), but "
    "got 2 different data sections"
)
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "blank in a name": (lambda: _comparison(name="a b"), f"{NAME_RULE}'a b'"),
    "no seeds": (lambda: _comparison(seeds=()), f"{SEED_RULE}[]"),
    "a seed twice": (lambda: _comparison(seeds=(3, 1, 3)), f"{SEED_RULE}[3, 1, 3]"),
    "a seed below 0": (lambda: _comparison(seeds=(0, -1)), f"{SEED_RULE}[0, -1]"),
    "no variants": (
        lambda: _comparison(variants={}),
        "`variants` must name at least one configuration",
    ),
    "no workers": (
        lambda: _comparison(workers=0),
        "`workers >= 1` must hold, but got workers=0",
    ),
    "the same twice": (
        lambda: _comparison(variants={"a": ONE, "b": TWO, "c": ONE}),
        "`variants` 'a' and 'c' are the same configuration; keep one",
    ),
    "the same but for the seed": (
        lambda: _comparison(variants={"a": ONE, "b": dataclasses.replace(ONE, seed=5)}),
        "`variants` 'a' and 'b' are the same configuration; keep one",
    ),
    "the same in canonical form": (
        lambda: _comparison(
            variants={"a": ONE, "b": TrialConfig(model=ModelConfig(("int4", "int1"), (8,)))}
        ),
        "`variants` 'a' and 'b' are the same configuration; keep one",
    ),
    "the same but for a key that cannot matter": (
        lambda: _comparison(
            variants={
                "a": TWO,
                "b": dataclasses.replace(
                    TWO, model=dataclasses.replace(TWO.model, head_scheme=TWO.model.schemes[0])
                ),
            }
        ),
        "`variants` 'a' and 'b' are the same configuration; keep one",
    ),
    "another path": (
        lambda: _comparison(variants={"a": ONE, "b": _with_data(path="other.npz")}),
        DATA_RULE,
    ),
    "other folds": (
        lambda: _comparison(variants={"a": ONE, "b": _with_data(n_folds=4)}),
        DATA_RULE,
    ),
    "another overlap": (
        lambda: _comparison(variants={"a": ONE, "b": _with_data(drop_overlap=True)}),
        DATA_RULE,
    ),
    "another held-out fold": (
        lambda: _comparison(variants={"a": ONE, "b": _with_data(holdout_fold=1)}),
        DATA_RULE,
    ),
    "another seed of folds": (
        lambda: _comparison(variants={"a": ONE, "b": _with_data(fold_seed=1)}),
        DATA_RULE,
    ),
    "slash in a name": (lambda: ConfirmationConfig("moe", name="a/b"), f"{NAME_RULE}'a/b'"),
    "no fresh seeds": (lambda: ConfirmationConfig("moe", seeds=()), f"{SEED_RULE}[]"),
    "a fresh seed twice": (
        lambda: ConfirmationConfig("moe", seeds=(7, 7)),
        f"{SEED_RULE}[7, 7]",
    ),
    "a fresh seed below 0": (lambda: ConfirmationConfig("moe", seeds=(-7,)), f"{SEED_RULE}[-7]"),
    "near below 0": (
        lambda: ConfirmationConfig("moe", near_standard_errors=-0.5),
        f"{NEAR_RULE}near_standard_errors=-0.5, max_points=16",
    ),
    "near that is no number": (
        lambda: ConfirmationConfig("moe", near_standard_errors=NAN),
        f"{NEAR_RULE}near_standard_errors=nan, max_points=16",
    ),
    "no points": (
        lambda: ConfirmationConfig("moe", max_points=0),
        f"{NEAR_RULE}near_standard_errors=0.5, max_points=0",
    ),
    "nobody confirms": (
        lambda: ConfirmationConfig("moe", workers=0),
        "`workers >= 1` must hold, but got workers=0",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_value_is_refused_with_rule_and_value(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make()


def test_variants_may_differ_in_normalisation_and_in_nothing_else_of_the_data() -> None:
    variants = {"raw": _with_data(normalization="raw"), "l2": _with_data(normalization="l2")}
    assert _comparison(variants=variants).variants == variants
    raw = _with_data(normalization="raw", n_folds=4)
    with pytest.raises(ConfigError, match=re.escape(DATA_RULE)):
        _comparison(variants={**variants, "four": raw})


def test_the_smallest_studies_are_taken() -> None:
    assert _comparison(seeds=(0,), variants={"a": ONE}, workers=1).workers == 1
    least = ConfirmationConfig("moe", seeds=(0,), near_standard_errors=0.0, max_points=1)
    assert (least.name, least.workers) == ("confirm", None)


@pytest.mark.parametrize("fold", [None, 0, 3])
def test_a_held_out_fold_decides_the_digest_of_a_trial(fold: int | None) -> None:
    """Trials that saw fewer rows are other trials."""
    config = TrialConfig(data=DataConfig(holdout_fold=fold))
    others = [TrialConfig(data=DataConfig(holdout_fold=f)) for f in (None, 0, 3) if f != fold]
    assert config.digest not in {other.digest for other in others}
    assert config.flat()["data.holdout_fold"] == fold
    assert config.canonical().data.holdout_fold == fold


def test_studies_cannot_be_changed() -> None:
    for study in (_comparison(), ConfirmationConfig("moe")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            study.name = "other"  # type: ignore[misc]
