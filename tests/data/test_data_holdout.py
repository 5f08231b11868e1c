"""An official fold that is held out: the search never has its rows, the split tests on them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwave.config import DataConfig, DataError, TrialConfig
from qwave.data import (
    EmbeddingSet,
    holdout_split,
    leave_out,
    load_embeddings,
    make_folds,
    take_rows,
)
from qwave.engine.crossval import cross_validate
from qwave.space import load_sweep
from qwave.sweep import plan_sweep

MakeSet = Callable[..., EmbeddingSet]
OFFICIAL = np.array([7, 3, 12, 3, 7, 12] * 2)


@pytest.fixture
def data(make_set: MakeSet) -> EmbeddingSet:
    x = np.arange(24.0).reshape(12, 2)
    return make_set(x, np.repeat([0, 1], 6), fold=OFFICIAL, group=np.arange(12) + 100)


# --- rows as a set of their own ---


def _arrays(data: EmbeddingSet) -> list[np.ndarray | None]:
    return [data.x, data.y, data.fold, data.group, np.array(data.names)]


@pytest.mark.parametrize("seed", range(5))
def test_taken_rows_are_those_of_a_plain_loop(gaussians: MakeSet, seed: int) -> None:
    data = gaussians(seed)
    rows = np.random.default_rng(seed).permutation(len(data.y))[:40]
    taken = take_rows(data, rows)
    for got, whole in zip(_arrays(taken), _arrays(data), strict=True):
        assert got is not None
        assert whole is not None
        assert got.tolist() == [whole[row].tolist() for row in rows], f"{seed=}"
        assert got.dtype == whole.dtype
    assert taken.class_names == data.class_names
    assert type(taken.names) is tuple


def test_the_digest_of_taken_rows_follows_the_rows_and_their_order(data: EmbeddingSet) -> None:
    rows = np.arange(12)
    digests = [take_rows(data, r).digest for r in (rows, rows[::-1], rows[1:], rows[:-1])]
    assert len(set(digests)) == 4
    assert take_rows(data, rows).digest == digests[0]
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in digests)


def test_all_rows_of_a_file_have_its_digest() -> None:
    data = load_embeddings("esc10")
    assert take_rows(data, np.arange(400)).digest == data.digest


def test_rows_need_neither_folds_nor_recordings(make_set: MakeSet) -> None:
    taken = take_rows(make_set(np.zeros((4, 2)), np.array([0, 1, 0, 1])), np.array([3, 0]))
    assert taken.fold is None
    assert taken.group is None
    assert taken.names == ("clip 3", "clip 0")


def test_rows_without_a_class_are_refused(data: EmbeddingSet) -> None:
    message = "no clip of class 'class 1' is among the 6 rows that are left"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        take_rows(data, np.arange(6))


# --- leaving a fold out ---


def test_no_fold_to_leave_out_leaves_the_data_as_they_are(data: EmbeddingSet) -> None:
    assert leave_out(data, None) is data


@pytest.mark.parametrize("fold", [3, 7, 12])
def test_what_is_left_out_is_the_fold_as_the_file_numbers_it(
    data: EmbeddingSet, fold: int
) -> None:
    left = leave_out(data, fold)
    expected = [name for name, f in zip(data.names, OFFICIAL, strict=True) if f != fold]
    assert list(left.names) == expected
    assert left.fold is not None
    assert sorted(set(left.fold.tolist())) == sorted({3, 7, 12} - {fold})
    assert left.digest != data.digest
    config = DataConfig(n_folds=2, holdout_fold=fold)
    folds = make_folds(left, config)
    assert [sorted(set(left.fold[part.test].tolist())) for part in folds] == [
        [number] for number in sorted({3, 7, 12} - {fold})
    ]


@pytest.mark.parametrize("fold", [0, -1, 4])
def test_a_fold_that_the_file_does_not_have_is_refused(data: EmbeddingSet, fold: int) -> None:
    message = (
        f"data.holdout_fold={fold} must be an official fold of the file, but it has 3, 7, 12; "
    )
    message += "name one of these, or leave data.holdout_fold out"
    for refuse in (leave_out, lambda d, f: holdout_split(d, DataConfig(holdout_fold=f))):
        with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
            refuse(data, fold)
        with pytest.raises(DataError, match=r"but it has none; leave data\.holdout_fold out$"):
            refuse(dataclasses.replace(data, fold=None), fold)


def test_a_fold_that_holds_all_of_a_class_is_refused(data: EmbeddingSet) -> None:
    alone = dataclasses.replace(data, y=(OFFICIAL == 3).astype(np.int64))
    with pytest.raises(DataError, match="all clips of 'class 1' are in that fold"):
        leave_out(alone, 3)


def test_folds_of_rows_that_still_hold_the_held_out_fold_are_refused(
    data: EmbeddingSet,
) -> None:
    config = DataConfig(n_folds=3, holdout_fold=7)
    message = (
        "data.holdout_fold=7 is among the rows given: leave it out first, with "
        "qwave.data.leave_out"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        make_folds(data, config)
    with pytest.raises(DataError, match=re.escape(message)):
        cross_validate(TrialConfig(data=config), data)
    assert len(make_folds(leave_out(data, 7), dataclasses.replace(config, n_folds=2))) == 2


# --- the split ---


@pytest.mark.parametrize("fold", [3, 7, 12])
def test_the_split_trains_on_all_other_folds_and_tests_on_the_held_out_one(
    data: EmbeddingSet, fold: int
) -> None:
    split = holdout_split(data, DataConfig(holdout_fold=fold))
    assert split.index == 0
    assert split.test.tolist() == [row for row in range(12) if OFFICIAL[row] == fold]
    assert split.train.tolist() == [row for row in range(12) if OFFICIAL[row] != fold]
    # The rows that train are those that the search had.
    left = leave_out(data, fold)
    np.testing.assert_array_equal(data.x[split.train], left.x)


def test_recordings_that_reach_into_the_held_out_fold_are_dropped_where_asked(
    data: EmbeddingSet,
) -> None:
    group = np.array([0, 0, 2, 3, 4, 4, 6, 7, 8, 9, 9, 11])
    data = dataclasses.replace(data, group=group)
    plain = holdout_split(data, DataConfig(holdout_fold=3))
    dropped = holdout_split(data, DataConfig(holdout_fold=3, drop_overlap=True))
    assert dropped.test.tolist() == plain.test.tolist() == [1, 3, 7, 9]
    # Clip 0 shares its recording with clip 1, and clip 10 with clip 9.
    assert sorted(set(plain.train.tolist()) - set(dropped.train.tolist())) == [0, 10]
    alone = dataclasses.replace(data, group=None)
    without = holdout_split(alone, DataConfig(holdout_fold=3, drop_overlap=True))
    assert without.train.tolist() == plain.train.tolist()


GONE = (
    "data.holdout_fold=3: no clip of 'class 1' is left to train, as all share recordings with the "
    "held-out clips and data.drop_overlap takes them"
)


def test_a_split_that_leaves_one_class_to_train_is_refused(data: EmbeddingSet) -> None:
    data = dataclasses.replace(data, group=np.array([0, 1, 2, 3, 4, 5, *[9] * 6]))
    config = DataConfig(holdout_fold=3, drop_overlap=True)
    message = f"{GONE}; set data.drop_overlap=false, or hold out another fold"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        holdout_split(data, config)
    assert len(holdout_split(data, dataclasses.replace(config, drop_overlap=False)).train) == 8


def test_a_class_that_shares_all_recordings_with_the_held_out_clips_is_named(
    make_set: MakeSet,
) -> None:
    group = np.array([0, 1, 2, 3, *[9] * 4, 10, 11, 12, 13])
    fold = np.array([7, 3, 12, 3, 7, 12] * 2)
    data = make_set(np.zeros((12, 2)), np.repeat([0, 1, 2], 4), fold=fold, group=group)
    config = DataConfig(holdout_fold=3, drop_overlap=True)
    with pytest.warns(UserWarning, match=f"^{re.escape(GONE)}: the held-out ones are bound"):
        split = holdout_split(data, config)
    assert set(data.y[split.train]) == {0, 2}


def test_a_split_without_a_fold_to_hold_out_is_refused(data: EmbeddingSet) -> None:
    with pytest.raises(DataError, match=r"^data\.holdout_fold is not set: there is no fold to"):
        holdout_split(data, DataConfig())


# --- a sweep ---


def test_a_sweep_is_planned_on_the_rows_that_are_left(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: a\ndata: {n_folds: 4, holdout_fold: 5}\nbudget: {workers: 1}")
    plan = plan_sweep(load_sweep(path))
    whole = load_embeddings("esc10")
    assert plan.data.fold is not None
    assert plan.data.digest == leave_out(whole, 5).digest != whole.digest
    assert (len(plan.data.y), set(plan.data.fold.tolist())) == (320, {1, 2, 3, 4})
    other = plan_sweep(load_sweep(path, ["data.holdout_fold=4"]))
    assert other.data.digest != plan.data.digest
    assert other.sweep.digest != plan.sweep.digest
    with pytest.raises(DataError, match=r"data\.n_folds=5, but the file has 4 official folds \(1"):
        plan_sweep(load_sweep(path, ["data.n_folds=5"]))
    with pytest.raises(DataError, match=r"data\.holdout_fold=6 must be an official fold"):
        plan_sweep(load_sweep(path, ["data.holdout_fold=6"]))
