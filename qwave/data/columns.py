"""The columns of a table, by their names: label, fold, group, name, folder, or features.

A column is a feature if `feature_columns` lists it, or if its name means nothing else. Names are
compared without case, spaces, ``_`` and ``-``: ``Class ID`` is ``class_id``.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qwave.config import DataError, nearest
from qwave.data.labels import feature_key

# Names with a certain role; of labels the most certain one first.
_ROLES = {
    "label": "classid label class target y labelid targetid labels classes targets classlabel "
    "classname labelname targetname category",
    "fold": "fold folds cvfold kfold foldid foldnumber",
    "group": "group groups groupid recording recordings recordingid speaker speakerid subject "
    "subjectid session sessionid fsid srcfile sourcefile sourceid actor actorid patient patientid "
    "participant participantid speakers subjects sessions actors patients participants",
    "name": "name names filename file path filepath clip clipname slicefilename wav wavfile "
    "audiofile",
    "folder": "folder",
}
# Names of columns that are no features: parts of a split; and numbers of rows, times and places of
# a clip, which may give the labels away.
_OTHERS = {
    "split": "split subset set partition istrain istest isval validation",
    "index": "index idx indexlevel0 level0 id row rowid rownumber rownum rowindex no nr number "
    "num # timestamp time date datetime take esc10 salience start end onset offset uid uuid key "
    "clipid sampleid fileid sliceid occurrence segment chunk window frame begin stop begintime "
    "starttime endtime starttimeseconds endtimeseconds startseconds endseconds latitude longitude "
    "lat lon",
}
# Names that are likely, but not certainly, these columns.
_LIKELY = {
    "class_id": "species genus genre emotion digit instrument event scene command word tag tags "
    "annotation cls gt ytrue ypred pred predicted prediction klasse classe clase kategorie "
    "catégorie categoria categoría etikett étiquette etiqueta etichetta",
    "group": "user userid client clientid individual individualid author artist album singer "
    "recordist station site location deviceid videoid youtubeid trackid gruppe groupe grupo "
    "sprecher aufnahme locuteur enregistrement",
    "name": "datei dateiname fichier archivo",
}
# Words that make a name of several words too uncertain to be a feature, by what it might be.
_WORDS = {
    "class_id": "class label target category truth classes labels targets",
    "fold": "fold folds split subset",
    "group": "group recording speaker subject session source",
    "name": "filename file path name id index idx row timestamp date",
}
# Names that a misspelt one ("flod", "gruop") may be: official folds must not be overlooked.
_NEAR = {
    **{"classid": "class_id", "label": "label", "fold": "fold", "folds": "fold"},
    **{"group": "group", "recording": "group", "filename": "name"},
}
_SIMILAR = 0.75
_LABELS = _ROLES["label"].split()
_ROLE_OF, _OTHER_OF, _LIKELY_OF, _WORD_OF = (
    {word: meaning for meaning, words in table.items() for word in words.split()}
    for table in (_ROLES, _OTHERS, _LIKELY, _WORDS)
)
_FEW_ROWS = 10  # a title and a header of groups of columns are not longer
_SCHEME_SIZE = 3  # numbered columns of one stem (f0, f1, f2) are features from this number on


class Columns(NamedTuple):
    """Numbers of a table's columns, counted from 0, by their role.

    Attributes:
        labels: Columns that could be the label, the most certain one first; at least one.
        fold: Column of official folds, or None.
        group: Column of recordings, or None.
        name: Column of clips' names, or None.
        folder: Column of folders, or None.
        features: Columns of features, in the table's order; at least one.
        left_out: Columns without a role that `feature_columns` does not list.
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
    """Sort the columns of a table by their role.

    Args:
        names: Names of all columns, without spaces around them.
        source: Name of the table; every message begins with it.
        feature_columns: Names of the features, or one string that the names of all features begin
            with; None: every column whose name means nothing else.

    Raises:
        DataError: There is no label or no feature, two columns could be the same thing, or a
            column is neither certainly a feature nor certainly something else.
    """
    chosen = _chosen(names, source, feature_columns)
    by_role: dict[str, list[int]] = defaultdict(list)
    rest: list[int] = []
    for column, name in enumerate(names):
        if chosen is None or column not in chosen:
            role = role_of(name)
            (by_role[role] if role else rest).append(column)
    with_role = [names[column] for columns in by_role.values() for column in columns]
    considered = names if chosen is None else with_role
    _refuse_twice(considered, names, source, is_told=chosen is not None)
    if not by_role["label"]:
        raise _no_label(names, source)
    labels = sorted(by_role["label"], key=lambda column: _LABELS.index(plain_name(names[column])))
    one = {role: _only(by_role[role], role, names, source) for role in _ROLES if role != "label"}
    features, left_out = (rest, []) if chosen is None else (sorted(chosen), rest)
    if chosen is None:
        _refuse_uncertain(names, features, source)
    if not features:
        raise DataError(
            f"{source} has no features: all of its columns "
            f"({', '.join(names[:20])}) are names or labels; write one column a feature, such as "
            "f0, f1, ..."
        )
    return Columns(tuple(labels), **one, features=tuple(features), left_out=tuple(left_out))


def refuse_transposed(names: Sequence[str], rows: Iterable[Sequence[str]], source: str) -> None:
    """Refuse a table whose header is further down, or whose columns are clips.

    Args:
        names: Names of all columns, none of which could be the label.
        rows: Cells of the rows below the names; at least the first cell of each row.
        source: Name of the table; every message begins with it.

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
        if role_of(cells[0]) == "label":
            raise DataError(
                f"{source} has a row {cells[0]!r}, but no such column: each column seems to be a "
                "clip; transpose the table, so that each row is one"
            )


def _stem_of(name: str) -> str | None:
    """The text before the number at the end of a name; None where there is no number."""
    match = re.fullmatch(r"(.*?)\d+\D?", name, re.DOTALL)
    return match.group(1) if match else None


def scheme_sizes(names: Sequence[str]) -> list[int]:
    """Number of columns with the same stem, for each name; 0 for a name without a number."""
    stems = [_stem_of(name) for name in names]
    count = Counter(stems)
    return [0 if stem is None else count[stem] for stem in stems]


def _no_label(names: Sequence[str], source: str) -> DataError:
    """The error for a table without a label, with the likeliest remedy."""
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


def _only(columns: Sequence[int], role: str, names: Sequence[str], source: str) -> int | None:
    if len(columns) > 1:
        found = " and ".join(repr(names[column]) for column in columns)
        raise DataError(
            f"{source}: columns {found} could each be the {role}; keep the one that is, and drop "
            "the others"
        )
    return columns[0] if columns else None


def _chosen(
    names: Sequence[str], source: str, feature_columns: Sequence[str] | str | None
) -> set[int] | None:
    """Numbers of the columns that `feature_columns` lists; None where it is not given."""
    if feature_columns is None:
        return None
    key = feature_key(source)
    if isinstance(feature_columns, str):
        # "f" is the beginning of "fold" too: a name with a meaning is no feature.
        start = feature_columns.strip()
        found = {
            column
            for column, name in enumerate(names)
            if name.startswith(start) and not meaning_of(name)
        }
        found = found or {column for column, name in enumerate(names) if name == start}
        if not found:
            raise DataError(
                f"{source}: {key}={feature_columns!r}, but no feature's name begins so"
                f"{nearest(feature_columns, names[:1000])}; the first columns are "
                f"{', '.join(names[:8])}"
            )
        return found
    if not isinstance(feature_columns, Iterable):
        raise DataError(
            f"{source}: {key} must be a list of columns' names, or one text that they begin with, "
            f"but is {feature_columns!r}"
        )
    count = Counter(names)
    column_of = {name: column for column, name in enumerate(names)}
    found = set()
    for name in map(str, feature_columns):
        plain = name.strip()
        if plain not in count:
            raise DataError(
                f"{source}: {key} lists {name!r}, but there is no such column"
                f"{nearest(plain, names[:1000])}; the first columns are {', '.join(names[:8])}"
            )
        if count[plain] > 1:
            raise DataError(
                f"{source}: {key} lists {name!r}, but several columns are named so; rename them"
            )
        found.add(column_of[plain])
    if not found:
        raise DataError(f"{source}: {key} must list at least one column, but lists none")
    return found


def _refuse_twice(
    considered: Sequence[str], names: Sequence[str], source: str, *, is_told: bool
) -> None:
    """Refuse columns of one name; pandas renames the second ``name.1``."""
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
    for name in () if is_told else considered:
        base, dot, number = name.rpartition(".")
        if dot and number.isdigit() and base in present and not base.isdigit():
            raise DataError(
                f"{source}: column {name!r} is a second {base!r}, renamed; drop it, or rename it "
                f"and list the features with {feature_key(source)}"
            )


def _refuse_uncertain(names: Sequence[str], features: Sequence[int], source: str) -> None:
    """Refuse columns that have no role, and yet are not certainly features."""
    key = feature_key(source)
    sizes = scheme_sizes([names[column] for column in features])
    for column, size in zip(features, sizes, strict=True):
        name = names[column]
        meaning = meaning_of(name)
        if meaning == "unnamed" or plain_name(name) == "indexlevel0":
            raise DataError(
                f"{source}: column {column + 1} has no name; if it is an index that was written "
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
        if size < _SCHEME_SIZE and (likely := likely_meaning(name)):
            raise DataError(
                f"{source}: column {name!r} may be no feature; name it {likely!r} if that is what "
                f"it is, or drop it, or list the features with {key}"
            )


def plain_name(name: str) -> str:
    """A column's name without case, spaces, ``_`` and ``-``."""
    return re.sub(r"[\s_-]+", "", name.lower())


def could_be_labels(names: Iterable[str]) -> bool:
    """Whether one of these names of columns could be the label."""
    return any(role_of(name) == "label" for name in names)


def role_of(name: str) -> str | None:
    """Label, fold, group, name or folder, if a name certainly means it; else None."""
    return _ROLE_OF.get(plain_name(name))


def could_split(name: str) -> str | None:
    """Fold or group, if a name may mean it, but not certainly; else None."""
    likely = "fold" if meaning_of(name) == "split" else likely_meaning(name)
    return likely if likely in ("fold", "group") else None


def meaning_of(name: str) -> str | None:
    """What a column is by its name: likely, unnamed, role, split or index; None for a feature."""
    plain = plain_name(name)
    if plain in _LIKELY_OF:
        return "likely"
    if not plain or re.fullmatch(r"unnamed:\d+", plain):
        return "unnamed"
    return "role" if role_of(name) else _OTHER_OF.get(plain)


def likely_meaning(name: str) -> str | None:
    """The column that a name may mean: it is likely that, has a word of it, or is misspelt."""
    plain = plain_name(name)
    if plain in _LIKELY_OF:
        return _LIKELY_OF[plain]
    for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name):
        if word.lower() in _WORD_OF:
            return _WORD_OF[word.lower()]
    near = difflib.get_close_matches(plain, _NEAR, n=1, cutoff=_SIMILAR) if plain.isalpha() else []
    return _NEAR[near[0]] if near else None
