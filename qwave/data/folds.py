"""Folds that no recording crosses, unless the data's own authors let it.

Official folds are kept as published. Where they cannot serve, folds are stratified by class and
grouped by recording; where recordings are unknown too, stratified by class, with a warning.
`qwave.data.fold_choice` decides which.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qwave.config import DataConfig, DataError, TrialConfig
from qwave.data.embeddings import EmbeddingSet, take_rows
from qwave.data.fold_choice import (
    FoldChoice,
    choose_folds,
    made_folds,
    name_some,
    official_folds,
    training_rows,
)


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of the rows of a data set into a training part and a test part.

    Attributes:
        index: Number of the fold, 0 to n_folds - 1.
        train: Rows that train, int64, ascending.
        test: Rows that are scored, int64, ascending; disjoint from `train`.
    """

    index: int
    train: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)


def make_folds(data: EmbeddingSet, config: DataConfig) -> tuple[Fold, ...]:
    """Split a data set into the folds of `folds_and_notes`, and show the notes.

    Raises:
        DataError: As `folds_and_notes`.

    Warns:
        UserWarning: Every note.
    """
    folds, notes = folds_and_notes(data, config)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return folds


def folds_and_notes(
    data: EmbeddingSet, config: DataConfig
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Split a data set; every row is in exactly one fold's test part.

    A class whose clips all stand in one fold's test part stays in: no model that is tested on
    them has learnt the class, and they count as wrong.

    Args:
        data: The rows to split, without those of a held-out fold.
        config: Which folds, and how many.

    Returns:
        The folds; and what a person should know about them: which were taken and why, where that
        is not the plain expected thing, how many clips are bound to be wrong, and recordings that
        span official folds.

    Raises:
        DataError: The folds that are asked for cannot be had, and what to set instead; or the
            data cannot be split at all, and all that stands in the way.
    """
    held_out = config.holdout_fold
    if held_out is not None and data.fold is not None and held_out in data.fold:
        raise DataError(
            f"data.holdout_fold={held_out} is among the rows given: leave it out first, with "
            "qwave.data.leave_out"
        )
    choice = choose_folds(data, config)
    if choice.fault:
        raise DataError(choice.fault)
    is_official = choice.kind == "official"
    notes = [choice.note]
    assigned: np.ndarray
    if is_official:
        assigned = np.unique(np.asarray(data.fold), return_inverse=True)[1]
        notes.append("" if config.drop_overlap else _spanning_note(data, assigned))
    else:
        assigned = made_folds(data, choice.kind, choice.n_folds, config.fold_seed)
    folds = tuple(
        _fold(data, index, assigned == index, config.drop_overlap)
        for index in range(choice.n_folds)
    )
    _refuse_one_class(data, folds, config)
    notes.append(_wrong_note(data, folds, choice))
    return folds, tuple(filter(None, notes))


def resolve_folds(data: EmbeddingSet, config: DataConfig) -> DataConfig:
    """The configuration with the number of folds that it comes to on these data.

    Seeds of training follow from the digest of a configuration, and that from the number: so it is
    settled once, before anything is trained. `folds` that are what ``auto`` takes become ``auto``:
    the same folds have one digest. A number that is given stays, whether or not the data allow it;
    nothing is refused here, but by `make_folds`.

    Args:
        data: All rows, or those without the held-out fold.
        config: Any data section; one that has been resolved comes back as it is.
    """
    if config.folds == "auto" and config.n_folds is not None:
        return config
    if config.holdout_fold is not None and data.fold is not None:
        is_left = data.fold != config.holdout_fold
        data = dataclasses.replace(
            data,
            x=data.x[is_left],
            y=data.y[is_left],
            fold=data.fold[is_left],
            group=None if data.group is None else data.group[is_left],
            names=tuple(itertools.compress(data.names, is_left)),
        )
    choice = choose_folds(data, config)
    free = choose_folds(data, dataclasses.replace(config, folds="auto"))
    folds = "auto" if choice.kind == free.kind else config.folds
    n_folds = choice.n_folds if config.n_folds is None else config.n_folds
    return dataclasses.replace(config, folds=folds, n_folds=n_folds)


def resolve_config(config: TrialConfig, data: EmbeddingSet) -> TrialConfig:
    """The canonical form of a trial's configuration, its folds settled by `resolve_folds`."""
    return dataclasses.replace(config, data=resolve_folds(data, config.data)).canonical()


def leave_out(data: EmbeddingSet, fold: int | None) -> EmbeddingSet:
    """The rows of all official folds but one, with a digest of their own; None: all rows.

    Raises:
        DataError: There are no official folds, or not this one, or a class is left without clips.
    """
    if fold is None:
        return data
    if data.fold is None or fold not in data.fold:
        found = "none; leave data.holdout_fold out"
        if data.fold is not None:
            folds = name_some(official_folds(data))
            found = f"{folds}; name one of these, or leave data.holdout_fold out"
        raise DataError(
            f"data.holdout_fold={fold} must be an official fold of the file, but it has {found}"
        )
    rows = np.flatnonzero(data.fold != fold)
    left = set(data.y[rows].tolist())
    missing = [repr(n) for label, n in enumerate(data.class_names) if label not in left]
    if missing:
        raise DataError(
            f"data.holdout_fold={fold}: all clips of {name_some(missing)} are in that fold, and "
            "none is left to search with; hold out another fold, or leave data.holdout_fold out"
        )
    return take_rows(data, rows)


def holdout_split(data: EmbeddingSet, config: DataConfig) -> Fold:
    """All rows but those of `data.holdout_fold` to train on, and these to test.

    Args:
        data: All rows.
        config: With a `holdout_fold`.

    Raises:
        DataError: As `leave_out`, or no fold is to be held out, or fewer than two classes are
            left to train because all clips share recordings with the held-out ones and
            `drop_overlap` takes them.

    Warns:
        UserWarning: One class or more is not left to train, for the same reason.
    """
    if config.holdout_fold is None:
        raise DataError("data.holdout_fold is not set: there is no fold to hold out")
    leave_out(data, config.holdout_fold)
    fold = _fold(data, 0, np.asarray(data.fold == config.holdout_fold), config.drop_overlap)
    left = set(data.y[fold.train].tolist())
    missing = [repr(n) for label, n in enumerate(data.class_names) if label not in left]
    if missing:
        what = (
            f"data.holdout_fold={config.holdout_fold}: no clip of {name_some(missing)} is left to "
            "train, as all share recordings with the held-out clips and data.drop_overlap takes "
            "them"
        )
        if len(left) < 2:
            raise DataError(f"{what}; set data.drop_overlap=false, or hold out another fold")
        warnings.warn(f"{what}: the held-out ones are bound to be wrong", UserWarning, 2)
    return fold


def _fold(data: EmbeddingSet, index: int, is_test: np.ndarray, is_dropped: bool) -> Fold:
    is_train = training_rows(data, is_test, is_overlap_dropped=is_dropped)
    return Fold(index, np.flatnonzero(is_train), np.flatnonzero(is_test))


def _refuse_one_class(data: EmbeddingSet, folds: Sequence[Fold], config: DataConfig) -> None:
    """Recordings that hold clips of several classes may leave a training part with one class.

    `choose_folds` tries that where recordings are few; where they are many it hardly happens.
    """
    for fold in folds:
        if len(np.unique(data.y[fold.train])) < 2:
            also = " and set data.drop_overlap=false" if config.drop_overlap else ""
            raise DataError(
                f"fold {fold.index} of {len(folds)}: fewer than two classes are left to train, "
                "because recordings hold clips of several classes: set data.folds=stratified"
                f"{also}"
            )


def _wrong_note(data: EmbeddingSet, folds: Sequence[Fold], choice: FoldChoice) -> str:
    """Clips that no model can get right, because none that is tested on them knows their class."""
    wrong = np.zeros(data.num_classes, dtype=np.int64)
    best = []
    for fold in folds:
        is_known = np.isin(data.y[fold.test], data.y[fold.train])
        wrong += np.bincount(data.y[fold.test][~is_known], minlength=data.num_classes)
        best.append(is_known.mean())
    if not wrong.any():
        return ""
    sizes = np.bincount(data.y, minlength=data.num_classes)
    classes = [
        f"{data.class_names[label]!r} ({wrong[label]} of its {sizes[label]})"
        for label in np.flatnonzero(wrong)
    ]
    more = "recordings" if choice.kind == "grouped" else "clips"
    return (
        f"{wrong.sum()} of {len(data.y)} clips are bound to be wrong, because where they are "
        f"tested no clip of their class trains: {name_some(classes)}. The mean accuracy of the "
        f"folds cannot be above {np.mean(best):.2%}, that of all clips not above "
        f"{1 - wrong.sum() / len(data.y):.2%}; more {more} of "
        f"{'these classes' if len(classes) > 1 else 'this class'} would help"
    )


def _spanning_note(data: EmbeddingSet, assigned: np.ndarray) -> str:
    """Recordings that have clips in two official folds."""
    if data.group is None:
        return ""
    pairs = {(str(g), int(f)) for g, f in zip(data.group, assigned, strict=True)}
    counts = Counter(recording for recording, _ in pairs)
    spanning = sorted(recording for recording, count in counts.items() if count > 1)
    if not spanning:
        return ""
    return (
        f"{len(spanning)} recordings span official folds ({name_some(spanning)}): their clips are "
        "on both sides of a split; data.drop_overlap: true leaves the training copies out"
    )
