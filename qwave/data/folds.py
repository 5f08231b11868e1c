"""Folds that no recording crosses, unless the data's own authors let it.

Official folds are kept as published. Where there are none, folds are stratified by class and
grouped by recording; where recordings are unknown too, stratified by class, with a warning.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from qwave.config import DataConfig, DataError
from qwave.data.embeddings import EmbeddingSet, take_rows


@dataclass(frozen=True, eq=False)
class Fold:
    """One split.

    Attributes:
        index: 0 to n_folds - 1.
        train: Rows that train, int64, ascending.
        test: Rows that are reported, int64, ascending; disjoint from `train`.
    """

    index: int
    train: np.ndarray
    test: np.ndarray


def make_folds(data: EmbeddingSet, config: DataConfig) -> tuple[Fold, ...]:
    """Split a data set; every row is in exactly one fold's test part.

    Raises:
        DataError: A class has fewer clips than there are folds, `n_folds` differs from the
            number of official folds, or a training part misses a class.

    Warns:
        UserWarning: Recordings span official folds, or no recordings are known.
    """
    held_out = config.holdout_fold
    if held_out is not None and data.fold is not None and held_out in data.fold:
        raise DataError(
            f"data.holdout_fold={held_out} is among the rows given: leave it out first, with "
            "qwave.data.leave_out"
        )
    counts = np.bincount(data.y, minlength=data.num_classes)
    if counts.min() < config.n_folds:
        smallest = int(counts.argmin())
        raise DataError(
            f"class {data.class_names[smallest]!r} has {counts.min()} clips, fewer than "
            f"data.n_folds={config.n_folds}: lower n_folds or add clips"
        )
    if data.fold is not None:
        assigned = _official(data.fold, config.n_folds)
        overlap = _spanning_recordings(data, assigned)
    else:
        assigned = _made(data, config)
        overlap = []
    if overlap and not config.drop_overlap:
        shown = ", ".join(overlap[:10]) + (", ..." if len(overlap) > 10 else "")
        warnings.warn(
            f"{len(overlap)} recordings span official folds ({shown}): their clips are on both "
            "sides of a split; data.drop_overlap: true leaves the training copies out",
            UserWarning,
            stacklevel=2,
        )
    folds = []
    for index in range(config.n_folds):
        is_test = assigned == index
        is_train = ~is_test
        if config.drop_overlap and data.group is not None:
            is_train &= ~np.isin(data.group, data.group[is_test])
        fold = Fold(index, np.flatnonzero(is_train), np.flatnonzero(is_test))
        missing = set(range(data.num_classes)) - set(data.y[fold.train].tolist())
        if missing:
            raise DataError(
                f"fold {index}: no training clip of class {data.class_names[min(missing)]!r}; "
                "its clips share recordings or stand in one fold: lower data.n_folds"
            )
        folds.append(fold)
    return tuple(folds)


def leave_out(data: EmbeddingSet, fold: int | None) -> EmbeddingSet:
    """The rows of all official folds but one, with a digest of their own; None: all rows.

    Raises:
        DataError: There are no official folds, or not this one, or a class is left without clips.
    """
    if fold is None:
        return data
    if data.fold is None or fold not in data.fold:
        found = "none" if data.fold is None else ", ".join(map(str, np.unique(data.fold)))
        raise DataError(
            f"data.holdout_fold={fold} must be an official fold of the file, but it has {found}"
        )
    return take_rows(data, np.flatnonzero(data.fold != fold))


def holdout_split(data: EmbeddingSet, config: DataConfig) -> Fold:
    """All rows but those of `data.holdout_fold` to train on, and these to test.

    Args:
        data: All rows.
        config: With a `holdout_fold`.

    Raises:
        DataError: As `leave_out`, or no fold is to be held out, or all clips of a class share
            recordings with the held-out ones and `drop_overlap` takes them.
    """
    if config.holdout_fold is None:
        raise DataError("data.holdout_fold is not set: there is no fold to hold out")
    leave_out(data, config.holdout_fold)
    is_test = data.fold == config.holdout_fold
    is_train = ~is_test
    if config.drop_overlap and data.group is not None:
        is_train &= ~np.isin(data.group, data.group[is_test])
    missing = set(range(data.num_classes)) - set(data.y[is_train].tolist())
    if missing:
        raise DataError(
            f"data.holdout_fold={config.holdout_fold}: no training clip of class "
            f"{data.class_names[min(missing)]!r}; all share recordings with the held-out ones"
        )
    return Fold(0, np.flatnonzero(is_train), np.flatnonzero(is_test))


def inner_split(
    data: EmbeddingSet, rows: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split training rows once more, for early stopping: (fit rows, validation rows).

    From each class, recordings (clips, where recordings are unknown) are drawn until they hold
    `share` of its clips: one at least, all but one at most. So both parts keep every class that
    has two recordings or more, and a class with one is fitted on. scikit-learn's grouped
    splitters promise neither.
    """
    rng = np.random.default_rng(seed)
    group = np.arange(len(data.y)) if data.group is None else data.group
    is_chosen = np.zeros(len(rows), dtype=bool)
    for label in range(data.num_classes):
        is_label = data.y[rows] == label
        recordings, counts = np.unique(group[rows[is_label]], return_counts=True)
        order = rng.permutation(len(recordings))
        reached = np.cumsum(counts[order]) >= share * is_label.sum()
        n_chosen = min(int(reached.argmax()) + 1, len(recordings) - 1) if len(recordings) else 0
        is_chosen |= np.isin(group[rows], recordings[order[:n_chosen]])
    return rows[~is_chosen], rows[is_chosen]


def _official(fold: np.ndarray, n_folds: int) -> np.ndarray:
    values, assigned = np.unique(fold, return_inverse=True)
    if len(values) != n_folds:
        raise DataError(
            f"data.n_folds={n_folds}, but the file has {len(values)} official folds "
            f"({', '.join(map(str, values))}): set data.n_folds={len(values)}"
        )
    return assigned


def _made(data: EmbeddingSet, config: DataConfig) -> np.ndarray:
    # Imported here: official folds do without it, and so does prediction from a packed file.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    assigned = np.empty(len(data.y), dtype=np.int64)
    if data.group is not None:
        for label, name in enumerate(data.class_names):
            n_recordings = len(np.unique(data.group[data.y == label]))
            if n_recordings < config.n_folds:
                raise DataError(
                    f"class {name!r} has {n_recordings} recordings, fewer than "
                    f"data.n_folds={config.n_folds}: lower n_folds or add recordings"
                )
        splitter = StratifiedGroupKFold(
            config.n_folds, shuffle=True, random_state=config.fold_seed
        )
        splits = splitter.split(data.x, data.y, data.group)
    else:
        warnings.warn(
            "the data name neither folds nor recordings: folds are stratified by class only, and "
            "clips of one recording may stand on both sides of a split (say which recording each "
            "clip is from: a column, or an array, `group`)",
            UserWarning,
            stacklevel=3,
        )
        plain = StratifiedKFold(config.n_folds, shuffle=True, random_state=config.fold_seed)
        splits = plain.split(data.x, data.y)
    for index, (_, test) in enumerate(splits):
        assigned[test] = index
    return assigned


def _spanning_recordings(data: EmbeddingSet, assigned: np.ndarray) -> list[str]:
    if data.group is None:
        return []
    pairs = {(str(g), int(f)) for g, f in zip(data.group, assigned, strict=True)}
    seen: set[str] = set()
    spanning: set[str] = set()
    for recording, _ in pairs:
        (spanning if recording in seen else seen).add(recording)
    return sorted(spanning)
