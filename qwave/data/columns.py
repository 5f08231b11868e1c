"""What the columns of a table are, by their names: label, fold, group, name, or features.

A column is a feature if `feature_columns` says so, or if nothing says that it is something else.
Names are compared without case, spaces, ``_`` and ``-``: ``Class ID`` is ``class_id``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qwave.config import DataError, nearest
from qwave.data.column_names import (
    LABELS,
    ONE_EACH,
    could_be_labels,
    likely_meaning,
    meaning_of,
    plain_name,
    role_of,
)
from qwave.data.labels import feature_key

_FEW_ROWS = 10  # a title and a header of groups of columns are not longer
_SCHEME_SIZE = 3  # columns of one stem and a number, from which on they are features


class Columns(NamedTuple):
    """Places of columns in a table, by what they are.

    Attributes:
        labels: Columns that could be the label, the most certain one first; at least one.
        fold: Column of official folds, or None.
        group: Column of recordings, or None.
        name: Column of clips' names, or None.
        folder: Column of folders, or None.
        features: All that are features, in the table's order; at least one.
        left_out: All others, which `feature_columns` does not list.
    """

    labels: tuple[int, ...]
    fold: int | None
    group: int | None
    name: int | None
    folder: int | None
    features: tuple[int, ...]
    left_out: tuple[int, ...]


def sort_columns(
    names: Sequence[str], source: str, feature_columns: Sequence[str] | str | None = None
) -> Columns:
    """Find out what the columns of a table are.

    Args:
        names: Names of all columns, without spaces around them.
        source: Where they are from: the beginning of every message.
        feature_columns: Names of the features, or one string that the names of all features begin
            with; None: all columns are features that nothing says something else of.

    Raises:
        DataError: There is no label or no feature, two columns could be the same thing, or a
            column is neither certainly a feature nor certainly something else.
    """
    chosen = _chosen(names, source, feature_columns)
    by_role: dict[str, list[int]] = defaultdict(list)
    rest = []
    for place, name in enumerate(names):
        role = role_of(name)
        if chosen is not None and place in chosen:
            continue
        if role:
            by_role[role].append(place)
        else:
            rest.append(place)
    _refuse_twice(names, source, range(len(names)) if chosen is None else _flat(by_role), chosen)
    if not by_role["label"]:
        raise _no_label(names, source)
    labels = sorted(by_role["label"], key=lambda place: LABELS.index(plain_name(names[place])))
    one = {role: _only(by_role[role], role, names, source) for role in ONE_EACH}
    if chosen is None:
        features, left_out = rest, []
        _refuse_uncertain(names, features, source)
    else:
        features, left_out = sorted(chosen), rest
    if not features:
        raise DataError(
            f"{source} has no features: all of its columns "
            f"({', '.join(names[:20])}) are names or labels; write one column a feature, such as "
            "f0, f1, ..."
        )
    return Columns(tuple(labels), **one, features=tuple(features), left_out=tuple(left_out))


def refuse_transposed(names: Sequence[str], rows: Iterable[Sequence[str]], source: str) -> None:
    """Refuse a table whose header is further down, or that has a feature a row, a clip a column.

    Args:
        names: Names of all columns, none of which could be the label.
        rows: Cells of the rows below them; the first of each, at least.
        source: Where they are from: the beginning of every message.

    Raises:
        DataError: A row names the columns, or holds the labels.
    """
    for number, cells in enumerate(rows):
        is_header = len(cells) > 1 and len(set(cells)) == len(cells) and could_be_labels(cells)
        if number < _FEW_ROWS and is_header:
            raise DataError(
                f"{source} has no column 'class_id', but row {number + 1} below its first names "
                f"one ({', '.join(cells[:4])}, ...); leave out the rows above that, or begin each "
                "with #"
            )
        if plain_name(cells[0]) in LABELS:
            raise DataError(
                f"{source} has a row {cells[0]!r}, but no such column: each column seems to be a "
                "clip; transpose the table, so that each row is one"
            )


def stem_of(name: str) -> str | None:
    """What stands before the number at the end of a name; None where there is no number."""
    match = re.fullmatch(r"(.*?)\d+\D?", name, re.DOTALL)
    return match.group(1) if match else None


def _no_label(names: Sequence[str], source: str) -> DataError:
    """What there is in place of a label, and what to do."""
    remedy = "name the column of the labels class_id (whole numbers) or label (names)"
    ends = [*names[:1000], *names[1000:][-20:]]
    likely = [name for name in ends if likely_meaning(name) == "class_id"]
    if sum(map(_is_fraction, names)) * 2 > len(names):
        remedy = "if these are numbers of the first clip, write a header above it, label,f0,f1,..."
    elif likely:
        remedy = f"if {' or '.join(map(repr, likely[:3]))} is the label, name it label"
    last = f" and its last {', '.join(names[-2:])}" if len(names) > 8 else ""
    return DataError(
        f"{source} has no column 'class_id'{nearest('class_id', names[:1000])}; its first columns "
        f"are {', '.join(names[:8])}{last}; {remedy}"
    )


def _is_fraction(name: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]*[.,][0-9]+(e[+-]?[0-9]+)?", name, re.IGNORECASE) is not None


def _only(places: Sequence[int], role: str, names: Sequence[str], source: str) -> int | None:
    if len(places) > 1:
        found = " and ".join(repr(names[place]) for place in places)
        raise DataError(
            f"{source}: columns {found} could each be the {role}; keep the one that is, and drop "
            "the others"
        )
    return places[0] if places else None


def _chosen(
    names: Sequence[str], source: str, feature_columns: Sequence[str] | str | None
) -> set[int] | None:
    """Places of the columns that `feature_columns` lists; None where it lists none."""
    if feature_columns is None:
        return None
    key = feature_key(source)
    if isinstance(feature_columns, str):
        # "f" is the beginning of "fold" too: what has a meaning of its own is no feature.
        found = {
            place
            for place, name in enumerate(names)
            if name.startswith(feature_columns.strip()) and not meaning_of(name)
        }
        exact = [place for place, name in enumerate(names) if name == feature_columns.strip()]
        if not found and not exact:
            raise DataError(
                f"{source}: {key}={feature_columns!r}, but no feature's name begins so"
                f"{nearest(feature_columns, names[:1000])}; the first columns are "
                f"{', '.join(names[:8])}"
            )
        return found or set(exact)
    if not isinstance(feature_columns, Iterable):
        raise DataError(
            f"{source}: {key} must be a list of columns' names, or one text that they begin with, "
            f"but is {feature_columns!r}"
        )
    place_of = {name: place for place, name in enumerate(names)}
    count = Counter(names)
    found = set()
    for name in map(str, feature_columns):
        plain = name.strip()
        if plain not in place_of:
            raise DataError(
                f"{source}: {key} lists {name!r}, but there is no such column"
                f"{nearest(plain, names[:1000])}; the first columns are {', '.join(names[:8])}"
            )
        if count[plain] > 1:
            raise DataError(
                f"{source}: {key} lists {name!r}, but several columns are named so; rename them"
            )
        found.add(place_of[plain])
    if not found:
        raise DataError(f"{source}: {key} must list at least one column, but lists none")
    return found


def _flat(by_role: dict[str, list[int]]) -> list[int]:
    return [place for places in by_role.values() for place in places]


def _refuse_twice(
    names: Sequence[str], source: str, places: Iterable[int], chosen: set[int] | None
) -> None:
    """Refuse columns of one name; pandas renames the second ``name.1``."""
    considered = [names[place] for place in places]
    count = Counter(considered)
    twice = sorted(name for name, number in count.items() if number > 1 and name)
    if twice and len(count) * 2 <= len(considered):
        raise DataError(
            f"{source} has several columns named {twice[0]!r}, and most others share their names "
            "too; if each column is a clip, transpose the table, so that each row is one; else "
            "give each column its own name"
        )
    if twice:
        raise DataError(
            f"{source} has several columns named {twice[0]!r}; drop all but one, or rename them"
        )
    present = set(names)
    for name in considered if chosen is None else ():
        base, dot, number = name.rpartition(".")
        if dot and number.isdigit() and base in present and not base.isdigit():
            raise DataError(
                f"{source}: column {name!r} is a second {base!r}, renamed; drop it, or rename it "
                f"and list the features with {feature_key(source)}"
            )


def _refuse_uncertain(names: Sequence[str], features: Sequence[int], source: str) -> None:
    """Refuse columns that have no role, and yet are not certainly features."""
    key = feature_key(source)
    stems = [stem_of(names[place]) for place in features]
    count = Counter(stems)
    for place, stem in zip(features, stems, strict=True):
        name = names[place]
        meaning = meaning_of(name)
        if meaning == "unnamed" or plain_name(name) == "indexlevel0":
            raise DataError(
                f"{source}: column {place + 1} has no name; if it is an index that was written "
                f"along, drop it: it may give the labels away; else list the features with {key}"
            )
        if meaning == "split":
            raise DataError(
                f"{source}: column {name!r} says which clips train and which test, which qwave "
                "does by folds; write it as a column 'fold' of whole numbers, or drop it (or list "
                f"the features with {key})"
            )
        if meaning == "index":
            same = [names[other] for other in features if meaning_of(names[other]) == "index"]
            raise DataError(
                f"{source}: column {', '.join(map(repr, same))} looks like an index or a note "
                "about the clip, which may give the labels away; drop it, or list the features "
                f"with {key}"
            )
        if stem is not None and count[stem] >= _SCHEME_SIZE:
            continue
        if likely := likely_meaning(name):
            raise DataError(
                f"{source}: column {name!r} may be no feature; name it {likely!r} if that is what "
                f"it is, or drop it, or list the features with {key}"
            )
