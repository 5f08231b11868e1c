"""Folds: official ones as published, made ones that no recording crosses."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from qwave.config import DataConfig, DataError
from qwave.data import EmbeddingSet, Fold, load_embeddings, make_folds

MakeSet = Callable[..., EmbeddingSet]


def _features(n: int) -> np.ndarray:
    return np.zeros((n, 2), dtype=np.float32)


def _random_grouped(make_set: MakeSet, seed: int, n_folds: int) -> EmbeddingSet:
    """Classes of very different sizes; recordings of 1 to 6 clips, all of one class."""
    rng = np.random.default_rng(seed)
    y: list[int] = []
    group: list[int] = []
    for label in range(int(rng.integers(2, 6))):
        for _ in range(int(rng.integers(n_folds, 3 * n_folds))):
            n_clips = int(rng.integers(1, 7))
            group += [max(group, default=0) + 1] * n_clips
            y += [label] * n_clips
    order = rng.permutation(len(y))
    return make_set(_features(len(y)), np.array(y)[order], group=np.array(group)[order])


def _check_partition(folds: tuple[Fold, ...], n: int, hint: str) -> None:
    assert [fold.index for fold in folds] == list(range(len(folds))), hint
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(n)), hint
    for fold in folds:
        assert len(fold.test), hint
        assert not set(fold.train) & set(fold.test), hint
        for rows in (fold.train, fold.test):
            assert rows.dtype == np.int64, hint
            assert (np.diff(rows) > 0).all(), hint


def test_official_folds_are_kept_in_their_order(make_set: MakeSet) -> None:
    official = np.array([7, 3, 12, 3, 7, 12] * 2)
    y = np.repeat([0, 1], 6)
    data = make_set(_features(12), y, fold=official, group=np.arange(12))
    folds = make_folds(data, DataConfig(n_folds=3))
    _check_partition(folds, 12, "official")
    for fold, value in zip(folds, [3, 7, 12], strict=True):
        np.testing.assert_array_equal(fold.test, np.flatnonzero(official == value))
        np.testing.assert_array_equal(fold.train, np.flatnonzero(official != value))


def test_esc10_is_split_as_published_and_without_a_warning() -> None:
    data = load_embeddings("esc10")
    assert data.fold is not None
    folds = make_folds(data, DataConfig())
    _check_partition(folds, 400, "esc10")
    for fold in folds:
        assert set(data.fold[fold.test].tolist()) == {fold.index + 1}
        assert np.bincount(data.y[fold.test]).tolist() == [8] * 10
        assert len(fold.train) == 320


@pytest.mark.parametrize("n_folds", [2, 4])
def test_another_number_of_folds_than_the_official_one_is_refused(
    make_set: MakeSet, n_folds: int
) -> None:
    data = make_set(_features(12), np.arange(12) % 2, fold=np.repeat([1, 2, 5], 4))
    message = (
        f"data.n_folds={n_folds}, but the file has 3 official folds (1, 2, 5): set data.n_folds=3"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        make_folds(data, DataConfig(n_folds=n_folds))


@pytest.mark.parametrize("seed", range(8))
def test_no_recording_crosses_the_folds_that_qwave_makes(make_set: MakeSet, seed: int) -> None:
    n_folds = 2 + seed % 4
    data = _random_grouped(make_set, seed, n_folds)
    assert data.group is not None
    folds = make_folds(data, DataConfig(n_folds=n_folds, fold_seed=seed))
    _check_partition(folds, len(data.y), f"{seed=}")
    for fold in folds:
        assert not set(data.group[fold.train]) & set(data.group[fold.test]), f"{seed=}"
        assert set(data.y[fold.train]) == set(data.y), f"{seed=}"
        assert len(fold.train) + len(fold.test) == len(data.y), f"{seed=}"


def test_made_folds_hold_about_the_same_share_of_each_class(make_set: MakeSet) -> None:
    y = np.repeat([0, 1, 2], [60, 30, 15])
    data = make_set(_features(105), y, group=np.arange(105))
    for fold in make_folds(data, DataConfig(n_folds=5)):
        np.testing.assert_allclose(np.bincount(y[fold.test]), [12, 6, 3], atol=1)


@pytest.mark.parametrize("has_groups", [True, False])
@pytest.mark.filterwarnings("ignore:the data name neither folds")
def test_the_same_seed_makes_the_same_folds_and_another_seed_others(
    make_set: MakeSet, has_groups: bool
) -> None:
    y = np.arange(60) % 3
    data = make_set(_features(60), y, group=np.arange(60) // 2 if has_groups else None)

    def tests(seed: int) -> list[list[int]]:
        return [f.test.tolist() for f in make_folds(data, DataConfig(n_folds=3, fold_seed=seed))]

    assert tests(0) == tests(0)
    assert tests(0) != tests(1)


def test_official_folds_do_not_depend_on_the_seed(make_set: MakeSet) -> None:
    data = make_set(_features(12), np.arange(12) % 2, fold=np.repeat([0, 1], 6))
    one = make_folds(data, DataConfig(n_folds=2, fold_seed=0))
    two = make_folds(data, DataConfig(n_folds=2, fold_seed=1))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.test, b.test)


def test_unknown_recordings_warn_that_leakage_cannot_be_ruled_out(make_set: MakeSet) -> None:
    y = np.repeat([0, 1], [20, 10])
    data = make_set(_features(30), y)
    with pytest.warns(
        UserWarning,
        match="name neither folds nor recordings: folds are stratified by class only, and clips "
        "of one recording may stand on both sides",
    ):
        folds = make_folds(data, DataConfig(n_folds=5))
    _check_partition(folds, 30, "stratified")
    for fold in folds:
        assert np.bincount(y[fold.test]).tolist() == [4, 2]


def test_a_class_smaller_than_the_number_of_folds_is_split_as_far_as_it_goes(
    make_set: MakeSet,
) -> None:
    data = make_set(_features(13), np.repeat([0, 1], [10, 3]), group=np.arange(13))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = make_folds(data, DataConfig(n_folds=4))
    _check_partition(folds, 13, "small class")
    assert sorted(np.bincount(data.y[fold.test], minlength=2)[1] for fold in folds) == [0, 1, 1, 1]


def test_a_class_of_one_recording_stays_in_and_a_note_says_what_that_costs(
    make_set: MakeSet,
) -> None:
    group = np.concatenate([np.arange(10), np.repeat([90], 4), np.arange(20, 26)])
    data = make_set(_features(20), np.repeat([0, 1, 2], [10, 4, 6]), group=group)
    with pytest.warns(UserWarning, match="bound to be wrong") as caught:
        folds = make_folds(data, DataConfig(n_folds=2))
    _check_partition(folds, 20, "one recording")
    (lacking,) = [fold for fold in folds if 1 not in data.y[fold.train]]
    best = 1 - 4 / len(lacking.test) / 2
    assert [str(entry.message) for entry in caught] == [
        "4 of 20 clips are bound to be wrong, because where they are tested no clip of their "
        "class trains: 'class 1' (4 of its 4). The mean accuracy of the folds cannot be above "
        f"{best:.2%}, that of all clips not above 80.00%; more recordings of this class would help"
    ]


@pytest.mark.parametrize("seed", range(8))
def test_clips_that_are_bound_to_be_wrong_are_counted(make_set: MakeSet, seed: int) -> None:
    """Classes of 1 to 6 recordings, two of them with two or more, against a plain loop."""
    rng = np.random.default_rng(seed)
    n_recordings = np.concatenate([[2, 3], rng.integers(1, 7, size=rng.integers(0, 4))])
    of_recording = np.repeat(np.arange(len(n_recordings)), n_recordings)
    group = np.repeat(np.arange(len(of_recording)), rng.integers(1, 4, size=len(of_recording)))
    data = make_set(_features(len(group)), of_recording[group], group=group)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folds = make_folds(data, DataConfig(fold_seed=seed))
    _check_partition(folds, len(group), f"{seed=}")
    wrong = sum(data.y[row] not in data.y[fold.train] for fold in folds for row in fold.test)
    said = [str(entry.message) for entry in caught if "bound to be wrong" in str(entry.message)]
    if wrong:
        assert len(said) == 1, f"{seed=}"
        assert said[0].startswith(f"{wrong} of {len(group)} clips are bound"), f"{seed=}"
    else:
        assert not said, f"{seed=}"
    alone = np.flatnonzero(n_recordings == 1)
    assert wrong == np.isin(data.y, alone).sum(), f"{seed=}"


def _spanning(make_set: MakeSet) -> EmbeddingSet:
    """Recordings 3 and 5 have clips in two official folds each."""
    group = np.array([0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9])
    fold = np.array([1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3])
    return make_set(_features(12), np.arange(12) % 2, fold=fold, group=group)


def test_recordings_that_span_official_folds_are_named_in_a_warning(make_set: MakeSet) -> None:
    data = _spanning(make_set)
    with pytest.warns(
        UserWarning, match=r"2 recordings span official folds \(3, 5\): .*data\.drop_overlap: true"
    ):
        folds = make_folds(data, DataConfig(n_folds=3))
    _check_partition(folds, 12, "spanning")
    assert [len(fold.train) + len(fold.test) for fold in folds] == [12, 12, 12]


def test_drop_overlap_leaves_the_training_copies_out_and_nothing_else(make_set: MakeSet) -> None:
    data = _spanning(make_set)
    assert data.group is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = make_folds(data, DataConfig(n_folds=3, drop_overlap=True))
    _check_partition(folds, 12, "drop_overlap")
    for fold in folds:
        tested = {data.group[row] for row in fold.test}
        expected = [
            row for row in range(12) if row not in fold.test and data.group[row] not in tested
        ]
        assert fold.train.tolist() == expected
    assert [len(fold.train) for fold in folds] == [7, 7, 6]


def test_drop_overlap_changes_nothing_where_no_recording_spans(make_set: MakeSet) -> None:
    data = _random_grouped(make_set, 0, 3)
    plain = make_folds(data, DataConfig(n_folds=3))
    dropped = make_folds(data, DataConfig(n_folds=3, drop_overlap=True))
    for a, b in zip(plain, dropped, strict=True):
        np.testing.assert_array_equal(a.train, b.train)


def test_drop_overlap_that_takes_a_whole_class_is_refused(make_set: MakeSet) -> None:
    data = make_set(
        _features(8),
        np.array([0, 0, 0, 0, 1, 1, 1, 1]),
        fold=np.array([1, 1, 2, 2, 1, 1, 2, 2]),
        group=np.array([0, 1, 2, 3, 9, 9, 9, 9]),
    )
    for folds, reason in (
        ("auto", "data.drop_overlap keeps recordings apart, as folds by class only cannot"),
        (
            "official",
            "data.folds=official, but without fold 1 no clip of class 'class 1' is left to train "
            "whose recording is not also in it",
        ),
    ):
        message = f"^{re.escape(reason)}: set data.drop_overlap=false"
        with pytest.raises(DataError, match=message):
            make_folds(data, DataConfig(folds=folds, drop_overlap=True))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="1 recordings span official folds"):
        assert len(make_folds(data, DataConfig())) == 2
