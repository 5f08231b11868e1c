"""What the name of a column, or of an array, says that it is.

Names are compared without case, spaces, ``_`` and ``-``: ``Class ID`` is ``class_id``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# The most certain one first.
LABELS = (
    *("classid", "label", "class", "target", "y", "labelid", "targetid", "labels", "classes"),
    *("targets", "classlabel", "classname", "labelname", "targetname", "category"),
)
_FOLDS = ("fold", "folds", "cvfold", "kfold", "foldid", "foldnumber")
_GROUPS = (
    *("group", "groups", "groupid", "recording", "recordings", "recordingid", "speaker"),
    *("speakerid", "subject", "subjectid", "session", "sessionid", "fsid", "srcfile"),
    *("sourcefile", "sourceid", "actor", "actorid", "patient", "patientid", "participant"),
    *("participantid", "speakers", "subjects", "sessions", "actors", "patients", "participants"),
)
_NAMES = (
    *("name", "names", "filename", "file", "path", "filepath", "clip", "clipname"),
    *("slicefilename", "wav", "wavfile", "audiofile"),
)
_FOLDERS = ("folder",)
ONE_EACH = {"fold": _FOLDS, "group": _GROUPS, "name": _NAMES, "folder": _FOLDERS}
_SPLITS = ("split", "subset", "set", "partition", "istrain", "istest", "isval", "validation")
# What numbers rows, or says when and where a clip was cut: it may give the labels away.
_INDEXES = (
    *("index", "idx", "indexlevel0", "level0", "id", "row", "rowid", "rownumber", "rownum"),
    *("rowindex", "no", "nr", "number", "num", "#", "timestamp", "time", "date"),
    *("datetime", "take", "esc10"),
    *("salience", "start", "end", "onset", "offset", "uid", "uuid", "key", "clipid", "sampleid"),
    *("fileid", "sliceid", "occurrence", "segment", "chunk", "window", "frame", "begin", "stop"),
    *("begintime", "starttime", "endtime", "starttimeseconds", "endtimeseconds", "startseconds"),
    *("endseconds", "latitude", "longitude", "lat", "lon"),
)
# What a column may be that bears such a name and nothing else.
_LIKELY = {
    **dict.fromkeys(
        (
            *("species", "genus", "genre", "emotion", "digit", "instrument", "event", "scene"),
            *("command", "word", "tag", "tags", "annotation", "cls", "gt", "ytrue", "ypred"),
            *("pred", "predicted", "prediction", "klasse", "classe", "clase", "kategorie"),
            *("catégorie", "categoria", "categoría", "etikett", "étiquette", "etiqueta"),
            "etichetta",
        ),
        "class_id",
    ),
    **dict.fromkeys(
        (
            *("user", "userid", "client", "clientid", "individual", "individualid", "author"),
            *("artist", "album", "singer", "recordist", "station", "site", "location"),
            *("deviceid", "videoid", "youtubeid", "trackid", "gruppe", "groupe", "grupo"),
            *("sprecher", "aufnahme", "locuteur", "enregistrement"),
        ),
        "group",
    ),
    **dict.fromkeys(("datei", "dateiname", "fichier", "archivo"), "name"),
}
# Words that make a name of several words too uncertain to be a feature, and what it might be.
_WORDS = {
    **dict.fromkeys(("class", "label", "target", "category", "truth"), "class_id"),
    **dict.fromkeys(("classes", "labels", "targets"), "class_id"),
    **dict.fromkeys(("fold", "folds"), "fold"),
    **dict.fromkeys(("group", "recording", "speaker", "subject", "session", "source"), "group"),
    **dict.fromkeys(("filename", "file", "path", "name"), "name"),
    **dict.fromkeys(("split", "subset"), "fold"),
    **dict.fromkeys(("id", "index", "idx", "row", "timestamp", "date"), "name"),
}
_NEAR = ("classid", "label", "fold", "folds", "group", "recording", "filename")
_SIMILAR = 0.75  # a name one slip away: "flod", "gruop"; official folds must not be overlooked


def plain_name(name: str) -> str:
    """A column's name without case, spaces, ``_`` and ``-``."""
    return re.sub(r"[\s_-]+", "", name.lower())


def could_be_labels(names: Iterable[str]) -> bool:
    """Whether a table's header has a column that could be the label."""
    return any(plain_name(name) in LABELS for name in names)


def role_of(name: str) -> str | None:
    """Label, fold, group, name or folder, where a name says so certainly; else None."""
    plain = plain_name(name)
    if plain in LABELS:
        return "label"
    return next((role for role, known in ONE_EACH.items() if plain in known), None)


def could_split(name: str) -> str | None:
    """Fold or group, where a name that says neither certainly may be it; else None."""
    likely = "fold" if meaning_of(name) == "split" else likely_meaning(name)
    return likely if likely in ("fold", "group") else None


def meaning_of(name: str) -> str | None:
    """What a name says that a column is, if it is no feature; None for features."""
    plain = plain_name(name)
    if plain in _LIKELY:
        return "likely"
    if not plain or re.fullmatch(r"unnamed:\d+", plain):
        return "unnamed"
    if role_of(name):
        return "role"
    if plain in _SPLITS:
        return "split"
    return "index" if plain in _INDEXES else None


def likely_meaning(name: str) -> str | None:
    """The column that a name may stand for: it has a word of it, or is one slip away from it."""
    plain = plain_name(name)
    if plain in _LIKELY:
        return _LIKELY[plain]
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    for word in words:
        if word in _WORDS:
            return _WORDS[word]
    near = difflib.get_close_matches(plain, _NEAR, n=1, cutoff=_SIMILAR) if plain.isalpha() else []
    return (
        {"classid": "class_id", "folds": "fold", "recording": "group", "filename": "name"}.get(
            near[0], near[0]
        )
        if near
        else None
    )
