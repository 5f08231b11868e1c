"""What the columns of a table are, by their names: label, fold, group, name, or features.

A column is a feature if `feature_columns` says so, or if nothing says that it is something else.
Names are compared without case, spaces, ``_`` and ``-``: ``Class ID`` is ``class_id``.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qwave.config import DataError, nearest
from qwave.data.labels import feature_key

# The most certain one first.
_LABELS = (
    *("classid", "label", "class", "target", "y", "labelid", "targetid", "labels", "classes"),
    *("targets", "classlabel", "classname", "labelname", "targetname", "category"),
)
_FOLDS = ("fold", "folds", "cvfold", "kfold", "foldid", "foldnumber")
_GROUPS = (
    *("group", "groups", "groupid", "recording", "recordings", "recordingid", "speaker"),
    *("speakerid", "subject", "subjectid", "session", "sessionid", "fsid", "srcfile"),
    *("sourcefile", "sourceid"),
)
_NAMES = (
    *("name", "names", "filename", "file", "path", "filepath", "clip", "clipname"),
    *("slicefilename", "wav", "wavfile", "audiofile"),
)
_FOLDERS = ("folder",)
_ONE_EACH = {"fold": _FOLDS, "group": _GROUPS, "name": _NAMES, "folder": _FOLDERS}
_SPLITS = ("split", "subset", "set", "partition", "istrain", "istest")
# What numbers rows, or says when and where a clip was cut: it may give the labels away.
_INDEXES = (
    *("index", "idx", "indexlevel0", "level0", "id", "row", "rowid", "rownumber", "rownum"),
    *("rowindex", "no", "nr", "number", "num", "#", "timestamp", "time", "date"),
    *("datetime", "take", "esc10"),
    *("salience", "start", "end", "onset", "offset", "uid", "uuid", "key", "clipid", "sampleid"),
    *("fileid", "sliceid", "occurrence"),
)
# Words that make a name of several words too uncertain to be a feature, and what it might be.
_WORDS = {
    **dict.fromkeys(("class", "label", "target", "category", "truth"), "class_id"),
    **dict.fromkeys(("fold", "folds"), "fold"),
    **dict.fromkeys(("group", "recording", "speaker", "subject", "session", "source"), "group"),
    **dict.fromkeys(("filename", "file", "path", "name"), "name"),
    **dict.fromkeys(("split", "subset"), "fold"),
    **dict.fromkeys(("id", "index", "idx", "row", "timestamp", "date"), "name"),
}
_NEAR = ("classid", "label", "fold", "folds", "group", "recording", "filename")
_SIMILAR = 0.75  # a name one slip away: "flod", "gruop"; official folds must not be overlooked
_SCHEME_SIZE = 3  # columns of one stem and a number, from which on they are features


class Columns(NamedTuple):
    """Places of columns in a table, by what they are.

    Attributes:
        labels: Those that could be the label, the most certain one first; at least one.
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


def plain_name(name: str) -> str:
    """A column's name without case, spaces, ``_`` and ``-``."""
    return re.sub(r"[\s_-]+", "", name.lower())


def could_be_labels(names: Iterable[str]) -> bool:
    """Whether a table's header has a column that could be the label."""
    return any(plain_name(name) in _LABELS for name in names)


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
        role = _role_of(name)
        if chosen is not None and place in chosen:
            continue
        if role:
            by_role[role].append(place)
        else:
            rest.append(place)
    _refuse_twice(names, source, range(len(names)) if chosen is None else _flat(by_role), chosen)
    if not by_role["label"]:
        raise DataError(
            f"{source} has no column 'class_id'{nearest('class_id', names[:1000])}; "
            f"its first columns are {', '.join(names[:8])}; name the column of the labels "
            "class_id (whole numbers) or label (names)"
        )
    labels = sorted(by_role["label"], key=lambda place: _LABELS.index(plain_name(names[place])))
    one = {role: _only(by_role[role], role, names, source) for role in _ONE_EACH}
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


def stem_of(name: str) -> str | None:
    """What stands before the number at the end of a name; None where there is no number."""
    match = re.fullmatch(r"(.*?)\d+\D?", name, re.DOTALL)
    return match.group(1) if match else None


def _role_of(name: str) -> str | None:
    plain = plain_name(name)
    if plain in _LABELS:
        return "label"
    return next((role for role, known in _ONE_EACH.items() if plain in known), None)


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
            if name.startswith(feature_columns.strip()) and not _meaning(name)
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


def _meaning(name: str) -> str | None:
    """What a name says that a column is, if it is no feature; None for features."""
    plain = plain_name(name)
    if not plain or re.fullmatch(r"unnamed:\d+", plain):
        return "unnamed"
    if _role_of(name):
        return "role"
    if plain in _SPLITS:
        return "split"
    return "index" if plain in _INDEXES else None


def _refuse_uncertain(names: Sequence[str], features: Sequence[int], source: str) -> None:
    """Refuse columns that have no role, and yet are not certainly features."""
    key = feature_key(source)
    stems = [stem_of(names[place]) for place in features]
    count = Counter(stems)
    for place, stem in zip(features, stems, strict=True):
        name = names[place]
        meaning = _meaning(name)
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
            same = [names[other] for other in features if _meaning(names[other]) == "index"]
            raise DataError(
                f"{source}: column {', '.join(map(repr, same))} looks like an index or a note "
                "about the clip, which may give the labels away; drop it, or list the features "
                f"with {key}"
            )
        if stem is not None and count[stem] >= _SCHEME_SIZE:
            continue
        if likely := _likely_meaning(name):
            raise DataError(
                f"{source}: column {name!r} may be no feature; name it {likely!r} if that is what "
                f"it is, or drop it, or list the features with {key}"
            )


def _likely_meaning(name: str) -> str | None:
    """The column that a name may stand for: it has a word of it, or is one slip away from it."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    for word in words:
        if word in _WORDS:
            return _WORDS[word]
    plain = plain_name(name)
    near = difflib.get_close_matches(plain, _NEAR, n=1, cutoff=_SIMILAR) if plain.isalpha() else []
    return (
        {"classid": "class_id", "folds": "fold", "recording": "group", "filename": "name"}.get(
            near[0], near[0]
        )
        if near
        else None
    )
