"""Which folds are taken, how many, what is said about it, and that every advice works."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qwave.config import DataConfig, DataError, TrialConfig
from qwave.data import (
    EmbeddingSet,
    choose_folds,
    embeddings_from_arrays,
    load_embeddings,
    make_folds,
    resolve_config,
    resolve_folds,
)

MakeSet = Callable[..., EmbeddingSet]
UNKNOWN = (
    "and clips of one recording may stand on both sides of a split (say which recording each clip "
    "is from: a column, or an array, `group`)"
)


def _named(folds: list[int]) -> EmbeddingSet:
    """Clips with names like those of ESC-50, in four classes."""
    n = len(folds)
    names = [f"{fold}-{100 + row}-A-{row % 4}.wav" for row, fold in enumerate(folds)]
    return embeddings_from_arrays(np.eye(n), np.arange(n) % 4, names=names)


def _set(y: Any, **columns: Any) -> EmbeddingSet:
    """Each row unlike the others."""
    return embeddings_from_arrays(np.eye(len(y)), y, **columns)


def _notes(data: EmbeddingSet, config: DataConfig) -> tuple[int, list[str]]:
    """Number of folds, and what was said about them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folds = make_folds(data, config)
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(len(data.y)))
    for fold in folds:
        assert len(fold.test)
        assert len(np.unique(data.y[fold.train])) >= 2
        assert not set(fold.train) & set(fold.test)
    return len(folds), [str(entry.message) for entry in caught]


# What people have, what `auto` makes of it, and the one thing that it says.
CASES: dict[str, tuple[EmbeddingSet, str, int, str | None]] = {
    "all of fold 1 by name": (
        _named([1] * 32),
        "grouped",
        5,
        "official folds cannot serve (all 32 clips are in fold 1, as their names say): 5 folds "
        "are made, stratified by class and grouped by recording",
    ),
    "two clips of fold 2 by name": (
        _named([2] * 2 + [1] * 30),
        "grouped",
        5,
        "official folds cannot serve (without fold 1 no clip of classes '2', '3' is left to "
        "train): 5 folds are made, stratified by class and grouped by recording",
    ),
    "two folds by name that can serve": (_named([1] * 16 + [2] * 16), "official", 2, None),
    "numbered 0 to 3": (_set(np.arange(40) // 10, fold=np.arange(40) % 4), "official", 4, None),
    "numbered 1 to 10": (
        _set(np.arange(60) // 20, fold=np.arange(60) % 10 + 1),
        "official",
        10,
        None,
    ),
    "numbered with gaps": (
        _set(np.arange(40) // 20, fold=np.array([3, 70, 900, -1])[np.arange(40) % 4]),
        "official",
        4,
        None,
    ),
    "a column of one value": (
        _set(np.arange(40) % 4, fold=np.full(40, 7)),
        "stratified",
        5,
        "official folds cannot serve (all 40 clips are in fold 7) and the data name no "
        f"recordings: folds are stratified by class only, {UNKNOWN}",
    ),
    "a fold with all of a class": (
        _set(
            np.repeat([0, 1, 2], 12),
            fold=np.arange(36) % 2 * (np.arange(36) >= 12),
            group=np.arange(36),
        ),
        "grouped",
        5,
        "official folds cannot serve (without fold 0 no clip of class '0' is left to train): 5 "
        "folds are made, stratified by class and grouped by recording",
    ),
    "nothing known": (
        _set(np.arange(40) % 4),
        "stratified",
        5,
        "the data name neither folds nor recordings: folds are stratified by class only, "
        f"{UNKNOWN}",
    ),
    "two clips a class": (
        _set(np.arange(8) % 4),
        "stratified",
        2,
        "the data name neither folds nor recordings: folds are stratified by class only, 2 of "
        f"them as no class has more than 2 clips, {UNKNOWN}",
    ),
    "three recordings a class": (
        _set(np.arange(24) % 2, group=np.arange(24) // 8 * 2 + np.arange(24) % 2),
        "grouped",
        3,
        "no class has more than 3 recordings: 3 folds are made, stratified by class and grouped "
        "by recording",
    ),
    "recordings as strings": (
        _set(np.arange(40) % 4, group=[f"rec {row // 8}/{row % 4}" for row in range(40)]),
        "grouped",
        5,
        None,
    ),
    "one recording": (
        _set(np.arange(40) % 4, group=["a"] * 40),
        "stratified",
        5,
        "folds cannot be grouped by recording (1 recording in all, and fewer than two classes "
        "have two recordings): 5 folds are made, stratified by class only, and clips of one "
        "recording may stand on both sides of a split, which makes scores too high",
    ),
    "one recording a class": (
        _set(np.arange(40) % 4, group=np.arange(40) % 4),
        "stratified",
        5,
        "folds cannot be grouped by recording (4 recordings in all, and fewer than two classes "
        "have two recordings): 5 folds are made, stratified by class only, and clips of one "
        "recording may stand on both sides of a split, which makes scores too high",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_auto_takes_the_first_folds_that_serve_and_says_why_once(name: str) -> None:
    data, kind, n_folds, note = CASES[name]
    assert choose_folds(data, DataConfig())[:2] == (kind, n_folds)
    assert _notes(data, DataConfig()) == (n_folds, [note] if note else [])


@pytest.mark.parametrize("name", CASES)
def test_what_is_settled_gives_the_same_folds_and_what_auto_takes_has_its_digest(
    name: str,
) -> None:
    data, kind, n_folds, _ = CASES[name]
    settled = resolve_folds(data, DataConfig())
    assert settled == DataConfig(n_folds=n_folds)
    assert resolve_folds(data, settled) is settled
    explicit = DataConfig(folds=kind)  # type: ignore[arg-type]
    assert resolve_folds(data, explicit) == settled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for config in (settled, explicit):
            for one, other in zip(
                make_folds(data, DataConfig()), make_folds(data, config), strict=True
            ):
                np.testing.assert_array_equal(one.test, other.test)
                np.testing.assert_array_equal(one.train, other.train)


def test_the_bundled_data_keep_their_folds_and_their_digest() -> None:
    data = load_embeddings("esc10")
    for config in (DataConfig(), DataConfig(n_folds=5), DataConfig(folds="official")):
        assert resolve_folds(data, config) == DataConfig(n_folds=5)
        settled = resolve_config(TrialConfig(data=config), data)
        assert settled.digest == TrialConfig().digest == "4825e11471b851d7"
    grouped = resolve_config(TrialConfig(data=DataConfig(folds="grouped")), data)
    assert grouped.data == DataConfig(n_folds=5, folds="grouped")
    assert grouped.digest != TrialConfig().digest


def test_the_held_out_fold_does_not_count_among_the_rows_of_the_search() -> None:
    data = load_embeddings("esc10")
    settled = resolve_folds(data, DataConfig(holdout_fold=2))
    assert settled == DataConfig(holdout_fold=2, n_folds=4)


# --- folds that are asked for ---


def test_official_folds_that_are_asked_for_may_lack_a_class() -> None:
    y = np.repeat([0, 1, 2], [8, 8, 4])
    data = _set(y, fold=np.concatenate([np.arange(16) % 2, np.zeros(4, dtype=int)]))
    n_folds, notes = _notes(data, DataConfig(folds="official"))
    assert n_folds == 2
    assert notes == [
        "4 of 20 clips are bound to be wrong, because where they are tested no clip of their "
        "class trains: '2' (4 of its 4). The mean accuracy of the folds cannot be above 83.33%, "
        "that of all clips not above 80.00%; more clips of this class would help"
    ]
    assert resolve_folds(data, DataConfig(folds="official")).folds == "official"
    assert choose_folds(data, DataConfig()).kind == "stratified"


def test_made_folds_can_be_asked_for_where_official_ones_are() -> None:
    data = load_embeddings("esc10")
    assert data.fold is not None
    n_folds, notes = _notes(data, DataConfig(folds="grouped", n_folds=3))
    assert (n_folds, notes) == (3, [])
    n_folds, notes = _notes(data, DataConfig(folds="stratified"))
    assert n_folds == 5
    assert notes == [
        "data.folds=grouped would keep recordings together: 5 folds are made, stratified by class "
        "only, and clips of one recording may stand on both sides of a split, which makes scores "
        "too high"
    ]


# Data, what is asked, and the whole message.
ONE_FOLD = _set(np.arange(40) % 4, fold=np.full(40, 7))
TEN = _set(np.arange(60) // 20, fold=np.arange(60) % 10 + 1, group=np.arange(60))
PLAIN = _set(np.arange(40) % 4)
FEW = _set(np.arange(24) % 2, group=np.arange(24) // 8 * 2 + np.arange(24) % 2)
REFUSED: dict[str, tuple[EmbeddingSet, dict[str, Any], str]] = {
    "another number than the official one": (
        TEN,
        {"n_folds": 5},
        "data.n_folds=5, but the file has 10 official folds (1, 2, 3, 4, 5, 6, 7, 8, 9, 10): set "
        "data.n_folds=10 or set data.folds=grouped",
    ),
    "official folds that are not there": (
        PLAIN,
        {"folds": "official"},
        "data.folds=official, but the data have no official folds: set data.folds=auto or set "
        "data.folds=stratified",
    ),
    "one official fold": (
        ONE_FOLD,
        {"folds": "official", "n_folds": 3},
        "data.folds=official, but all 40 clips are in fold 7: set data.folds=auto or set "
        "data.folds=stratified",
    ),
    "official folds of a class each": (
        _set(np.arange(40) % 2, fold=np.arange(40) % 2),
        {"folds": "official"},
        "data.folds=official, but without fold 0 no clip of class '0' is left to train: set "
        "data.folds=auto or set data.folds=stratified",
    ),
    "recordings that are not known": (
        PLAIN,
        {"folds": "grouped"},
        "data.folds=grouped, but the data name no recordings: set data.folds=auto or set "
        "data.folds=stratified",
    ),
    "recordings that are classes": (
        _set(np.arange(40) % 4, group=np.arange(40) % 4),
        {"folds": "grouped"},
        "data.folds=grouped, but 4 recordings in all, and fewer than two classes have two "
        "recordings: set data.folds=auto or set data.folds=stratified",
    ),
    "more folds than clips": (
        PLAIN,
        {"n_folds": 50},
        "data.n_folds=50, but no class has more than 10 clips: set data.n_folds=10 or leave "
        "data.n_folds out",
    ),
    "more folds than recordings": (
        FEW,
        {"n_folds": 5, "folds": "grouped"},
        "data.n_folds=5, but no class has more than 3 recordings: set data.n_folds=3 or leave "
        "data.n_folds out",
    ),
    "both wrong": (
        PLAIN,
        {"n_folds": 50, "folds": "grouped"},
        "data.folds=grouped, but the data name no recordings: set data.folds=auto and leave "
        "data.n_folds out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_is_refused_and_each_advice_works(name: str) -> None:
    data, asked, message = REFUSED[name]
    config = DataConfig(**asked)
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        make_folds(data, config)
    for advice in message.rpartition(": ")[2].split(" or "):
        _notes(data, _followed(config, advice))


def _followed(config: DataConfig, advice: str) -> DataConfig:
    changes: dict[str, Any] = {}
    for step in advice.split(" and "):
        if left := re.fullmatch(r"leave data\.(\w+) out", step):
            changes[left[1]] = None
            continue
        found = re.fullmatch(r"set data\.(\w+)=(\w+)", step)
        assert found is not None, step
        key, value = found.groups()
        changes[key] = int(value) if value.isdigit() else False if value == "false" else value
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    ("columns", "limits"),
    [
        ({}, ""),
        (
            {"group": [0, 1, 2, 3]},
            "4 recordings in all, and fewer than two classes have two recordings; ",
        ),
        ({"fold": [1, 1, 1, 1]}, "all 4 clips are in fold 1; "),
        (
            {"fold": [1, 1, 2, 2], "group": [0, 0, 0, 0]},
            "1 recording in all, and fewer than two classes have two recordings; ",
        ),
    ],
)
def test_data_that_nothing_can_split_are_refused_with_all_limits_at_once(
    columns: dict[str, Any], limits: str
) -> None:
    data = _set(["a", "b", "c", "d"], **columns)
    message = (
        f"these 4 clips of 4 classes cannot be split into folds: {limits}fewer than two classes "
        "have two clips (one clip only: 'a', 'b', 'c', 'd'); add clips until two classes or more "
        "have two each"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        make_folds(data, DataConfig())
    twice = _set(["a", "b", "c", "d", "a", "b"])
    assert _notes(twice, DataConfig())[0] == 2


@pytest.mark.parametrize("seed", range(30))
def test_random_data_are_split_or_refused_with_advice_that_works(seed: int) -> None:
    """Few clips and odd folds and recordings, for every setting; no other error leaves."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    y = rng.integers(0, rng.integers(2, 6), n)
    if len(np.unique(y)) < 2:
        y[:2] = [0, 1]
    columns: dict[str, Any] = {}
    if rng.random() < 0.6:
        columns["fold"] = rng.integers(0, rng.integers(1, 6), n) * 3
    if rng.random() < 0.6:
        columns["group"] = np.sort(rng.integers(0, rng.integers(1, n + 1), n))
    data = _set([f"class {label}" for label in y], **columns)
    asked: dict[str, Any] = {
        "folds": str(rng.choice(["auto", "official", "grouped", "stratified"])),
        "n_folds": [None, 2, 3, 5, 40][rng.integers(5)],
        "drop_overlap": bool(rng.random() < 0.3),
        "fold_seed": seed,
    }
    config = DataConfig(**asked)
    hint = f"{seed=} {config} {columns} {y}"
    error = _refusal(data, config)
    advice = error.rpartition(": ")[2]
    if error and "data." not in advice:
        assert advice.endswith("add clips until two classes or more have two each"), hint
    elif error:
        for way in advice.split(" or "):
            assert _refusal(data, _followed(config, way)) == "", f"{hint}: {error}"


def _refusal(data: EmbeddingSet, config: DataConfig) -> str:
    """Why these folds cannot be had; empty where they can."""
    try:
        _notes(data, config)
    except DataError as error:
        return str(error)
    return ""
