"""Which folds a data set gets: official ones or made ones, how many, and why.

Only labels, official folds, recordings and names are looked at, never features: what cannot be
split is known before anything is embedded.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from qwave.config import DEFAULT_N_FOLDS, ConfigError, DataConfig
from qwave.data.embeddings import EmbeddingSet
from qwave.data.names import parse_clip_name

FoldKind = Literal["official", "grouped", "stratified"]

_KINDS: tuple[FoldKind, ...] = ("official", "grouped", "stratified")
_FEW_RECORDINGS = 100  # grouping so many takes milliseconds
_SHOWN = 10  # classes or folds that a message names
_MADE = {
    "grouped": "stratified by class and grouped by recording",
    "stratified": "stratified by class only",
}
_NOTHING = "neither folds nor recordings"
_LEAKAGE = "clips of one recording may stand on both sides of a split"


class FoldChoice(NamedTuple):
    """The folds that a configuration comes to on a data set.

    Attributes:
        kind: ``official`` folds, or folds made here: ``grouped`` keep recordings together,
            ``stratified`` are by class only.
        n_folds: Number of folds, 2 or more.
        note: Which folds were taken and why, one sentence; empty where they are the expected ones.
        fault: Why these folds cannot be had; empty where they can.
    """

    kind: FoldKind
    n_folds: int
    note: str
    fault: str


def choose_folds(data: EmbeddingSet, config: DataConfig) -> FoldChoice:
    """The folds of a configuration; a fault names settings that have been tried and work.

    ``auto`` takes official folds where there are two or more and every training part holds every
    class; else folds grouped by recording, where two classes or more have two recordings; else
    folds stratified by class, where two classes or more have two clips.
    """
    choice = _choose(data, config)
    if not choice.fault:
        return choice
    remedies = list(dict.fromkeys(_remedies(data, config)))[:2]
    if not remedies:
        return choice._replace(fault=_impossible(data, config))
    return choice._replace(fault=f"{choice.fault}: {' or '.join(remedies)}")


def name_some(names: Sequence[object]) -> str:
    """The first ten of some names, for a message."""
    return ", ".join(map(str, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def official_folds(data: EmbeddingSet) -> list[int]:
    """Numbers of the official folds, ascending; none where there are none."""
    return [] if data.fold is None else np.unique(data.fold).tolist()


def training_rows(
    data: EmbeddingSet, is_test: np.ndarray, *, is_overlap_dropped: bool
) -> np.ndarray:
    """Whether each clip [n] trains: all that are not tested, or none that shares a recording."""
    if is_overlap_dropped and data.group is not None:
        is_test = is_test | np.isin(data.group, data.group[is_test])
    return ~is_test


def made_folds(data: EmbeddingSet, kind: FoldKind, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each clip [n], 0 to n_folds - 1, ``grouped`` or ``stratified``."""
    # Imported here: official folds do without it, and so does prediction from a packed file.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    is_grouped = kind == "grouped"
    make = StratifiedGroupKFold if is_grouped else StratifiedKFold
    splitter = make(n_folds, shuffle=True, random_state=seed)
    assigned = np.empty(len(data.y), dtype=np.int64)
    rows = np.empty((len(data.y), 0))  # features are not looked at
    with warnings.catch_warnings():
        # Classes smaller than the number of folds: `make_folds` says what comes of them.
        warnings.filterwarnings("ignore", "The least populated class in y has only", UserWarning)
        splits = list(splitter.split(rows, data.y, data.group if is_grouped else None))
    for index, (_, test) in enumerate(splits):
        assigned[test] = index
    return assigned


def _choose(data: EmbeddingSet, config: DataConfig) -> FoldChoice:
    faults: dict[FoldKind, str] = {}
    for kind in _KINDS if config.folds == "auto" else (config.folds,):
        faults[kind] = _fault(data, config, kind)
        if not faults[kind]:
            break
    most = _most_folds(data, kind)
    n_folds = config.n_folds
    if n_folds is None:
        n_folds = most if kind == "official" else min(DEFAULT_N_FOLDS, most)
    n_folds = max(n_folds, 2)
    fault = faults[kind]
    if fault:
        asked = "" if config.folds == "auto" else f"data.folds={kind}, but "
        return FoldChoice(kind, n_folds, "", f"{asked}{fault}")
    if kind == "official" and n_folds != most:
        fault = (
            f"data.n_folds={n_folds}, but the file has {most} official folds "
            f"({name_some(official_folds(data))})"
        )
    elif n_folds > most:
        fault = f"data.n_folds={n_folds}, but no class has more than {_units(most, kind)}"
    return FoldChoice(kind, n_folds, _note(data, config, kind, n_folds, faults), fault)


def _note(
    data: EmbeddingSet,
    config: DataConfig,
    kind: FoldKind,
    n_folds: int,
    faults: Mapping[FoldKind, str],
) -> str:
    """What a person may not expect about folds that can be had; empty where nothing is."""
    if kind == "official":
        return ""
    reasons = []
    if faults.get("official") and data.fold is not None:
        reasons.append(f"official folds cannot serve ({faults['official']})")
    if kind == "stratified" and faults.get("grouped") and data.group is not None:
        reasons.append(f"folds cannot be grouped by recording ({faults['grouped']})")
    is_lowered = config.n_folds is None and n_folds < DEFAULT_N_FOLDS
    if is_lowered:
        reasons.append(f"no class has more than {_units(n_folds, kind)}")
    made = f"{n_folds} folds are made, {_MADE[kind]}"
    if kind == "stratified" and data.group is None:
        lowered = f", {n_folds} of them as {reasons.pop()}" if is_lowered else ""
        is_fold_missing = data.fold is None and config.folds == "auto"
        reasons.append(f"the data name {_NOTHING if is_fold_missing else 'no recordings'}")
        return (
            f"{' and '.join(reasons)}: folds are {_MADE[kind]}{lowered}, and {_LEAKAGE} (say "
            "which recording each clip is from: a column, or an array, `group`)"
        )
    if kind == "stratified" and _has_long_recordings(data):
        if config.folds == "stratified" and not _fault(data, config, "grouped"):
            reasons.append("data.folds=grouped would keep recordings together")
        made = f"{made}, and {_LEAKAGE}, which makes scores too high"
        return f"{' and '.join(reasons)}: {made}" if reasons else made
    return f"{' and '.join(reasons)}: {made}" if reasons else ""


def _fault(data: EmbeddingSet, config: DataConfig, kind: FoldKind) -> str:
    """Why folds of a kind cannot serve, in whatever number; empty where they can."""
    if kind == "official":
        return _official_fault(data, config, 2 if config.folds == kind else data.num_classes)
    if kind == "grouped":
        return _grouped_fault(data, config)
    if config.drop_overlap and _has_long_recordings(data):
        apart = "data.drop_overlap keeps recordings apart, as folds by class only cannot"
        return _stratified_fault(data) or apart
    return _stratified_fault(data)


def _has_long_recordings(data: EmbeddingSet) -> bool:
    """Whether a recording is known to have two clips or more."""
    return data.group is not None and len(np.unique(data.group)) < len(data.y)


def _official_fault(data: EmbeddingSet, config: DataConfig, n_needed: int) -> str:
    """Official folds serve where each training part holds as many classes as are needed."""
    if data.fold is None:
        return "the data have no official folds"
    values = official_folds(data)
    if len(values) < 2:
        named = [parse_clip_name(name).fold for name in data.names]
        source = ", as their names say" if named == data.fold.tolist() else ""
        return f"all {len(data.y)} clips are in fold {values[0]}{source}"
    for value in values:
        is_train = training_rows(data, data.fold == value, is_overlap_dropped=config.drop_overlap)
        trained = set(data.y[is_train].tolist())
        if len(trained) < n_needed:
            missing = sorted(set(range(data.num_classes)) - trained)
            dropped = " whose recording is not also in it" if config.drop_overlap else ""
            names = name_some([repr(data.class_names[label]) for label in missing])
            return (
                f"without fold {value} no clip of "
                f"{'class' if len(missing) == 1 else 'classes'} {names} is left to train{dropped}"
            )
    return ""


def _grouped_fault(data: EmbeddingSet, config: DataConfig) -> str:
    if data.group is None:
        return "the data name no recordings"
    n_recordings = len(np.unique(data.group))
    counts = _units_by_class(data, "grouped")
    if sum(count > 1 for count in counts) < 2:
        return (
            f"{n_recordings} recording{'s' if n_recordings > 1 else ''} in all, and fewer than "
            "two classes have two recordings"
        )
    n_folds = min(DEFAULT_N_FOLDS if config.n_folds is None else config.n_folds, max(counts))
    is_mixed = sum(counts) > n_recordings  # a recording holds clips of several classes
    if is_mixed and n_recordings <= _FEW_RECORDINGS:
        assigned = made_folds(data, "grouped", n_folds, config.fold_seed)
        if min(len(np.unique(data.y[assigned != fold])) for fold in range(n_folds)) < 2:
            return (
                f"recordings hold clips of several classes, and without one of {n_folds} folds of "
                "them one class only would be left to train"
            )
    return ""


def _stratified_fault(data: EmbeddingSet) -> str:
    counts = _units_by_class(data, "stratified")
    if sum(count > 1 for count in counts) < 2:
        names = [repr(name) for name, n in zip(data.class_names, counts, strict=True) if n < 2]
        return f"fewer than two classes have two clips (one clip only: {name_some(names)})"
    return ""


def _remedies(data: EmbeddingSet, config: DataConfig) -> Iterator[str]:
    """Changes of the configuration after which these data can be split, the best first."""
    most = max(2, _most_folds(data, _choose(data, config).kind))
    changes: list[dict[str, Any]] = [
        {"n_folds": most},
        {"folds": "auto"},
        {"folds": "grouped"},
        {"folds": "stratified"},
        {"n_folds": None},
        {"folds": "auto", "n_folds": None},
        {"drop_overlap": False},
        {"folds": "auto", "n_folds": None, "drop_overlap": False},
    ]
    for change in changes:
        try:
            changed = dataclasses.replace(config, **change)
        except ConfigError:  # a held-out fold needs official folds
            continue
        if changed == config or _choose(data, changed).fault:
            continue
        if change.get("folds") == "stratified" and not _grouped_fault(data, changed):
            continue  # recordings that can be kept together are
        settings = [
            f"leave data.{key} out" if value is None else f"set data.{key}={_in_yaml(value)}"
            for key, value in change.items()
            if value != getattr(config, key)
        ]
        yield " and ".join(settings)


def _in_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _impossible(data: EmbeddingSet, config: DataConfig) -> str:
    """The message where no folds can be made, and nothing but other data helps."""
    limits = [
        _official_fault(data, config, 2) if data.fold is not None else "",
        _grouped_fault(data, config) if data.group is not None else "",
        _stratified_fault(data),
    ]
    return (
        f"these {len(data.y)} clips of {data.num_classes} classes cannot be split into folds: "
        f"{'; '.join(filter(None, limits))}; add clips until two classes or more have two each"
    )


def _most_folds(data: EmbeddingSet, kind: FoldKind) -> int:
    """Official folds that there are, or made ones of which each can test the largest class."""
    if kind == "official":
        return len(official_folds(data))
    return max(_units_by_class(data, kind))


def _units_by_class(data: EmbeddingSet, kind: FoldKind) -> list[int]:
    """Recordings, or clips where these are split or not known, of each class."""
    if kind != "grouped" or data.group is None:
        return np.bincount(data.y, minlength=data.num_classes).tolist()
    return [len(np.unique(data.group[data.y == label])) for label in range(data.num_classes)]


def _units(number: int, kind: FoldKind) -> str:
    what = "recording" if kind == "grouped" else "clip"
    return f"{number} {what}{'s' if number != 1 else ''}"
