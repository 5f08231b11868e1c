"""Labelled recordings, in the layouts that people have them in.

| layout | is a |
|---|---|
| ``esc50`` | folder with ``meta/esc50.csv`` and ``audio/`` |
| ``urbansound8k`` | folder with ``metadata/UrbanSound8K.csv`` and ``audio/fold1`` to ``fold10`` |
| ``esc10`` | folder of classes named ``001 - Dog bark``, with clips named ``1-30226-A.ogg`` |
| ``folders`` | folder with a folder of clips for each class |
| ``csv`` | table with columns ``path``, ``label``, optionally ``fold``, ``group`` |
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from qwave.audio.clips import (
    AUDIO_SUFFIXES,
    Clip,
    ClipTable,
    make_table,
    some_of,
    with_published_names,
)
from qwave.audio.metadata import LAYOUTS, is_clip_csv, read_csv, read_published
from qwave.config import DataError

__all__ = ["AUDIO_SUFFIXES", "Clip", "ClipTable", "is_source", "list_clips", "read_source"]

# Sound that libsndfile does not decode: left out with a warning.
_OTHER_SOUND = (
    *(".m4a", ".m4b", ".aac", ".wma", ".mp2", ".mp4", ".webm", ".mka", ".3gp", ".amr", ".ape"),
    *(".wv", ".caf", ".aifc", ".au", ".snd", ".w64"),
)
_NUMBERED = re.compile(r"\d{3} - (.+)")
_FOLD = re.compile(r"fold[ _-]?\d+", re.IGNORECASE)
_SPLIT = re.compile(r"train(ing)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?", re.IGNORECASE)


def is_source(path: Path) -> bool:
    """Whether a path holds clips: it is a folder, or a CSV file with a column ``path``.

    A table of embeddings, with a column ``class_id``, does not. Only the header of a file is read.
    """
    return os.path.isdir(path) or (path.suffix.lower() == ".csv" and is_clip_csv(path))


def read_source(source: Path) -> ClipTable:
    """The clips of a folder or table; no recording is opened.

    Folds and recordings that the layout does not give are read from the clips' names, where all
    of them are in a published form (`qwave.data.parse_clip_name`). Clips may lie at any depth
    below the folder of their class; hidden files and files without a suffix of sound are left out.

    Raises:
        DataError: The source is in none of the layouts, has no clips or one class only, or its
            table cannot be used.
    """
    if not os.path.isdir(source):
        if source.suffix.lower() == ".csv" and os.path.isfile(source):
            return read_csv(source)
        what = "is not a folder or a .csv file" if os.path.lexists(source) else "does not exist"
        raise DataError(f"{source} {what} (allowed: a folder of clips, or a .csv table of them)")
    for layout in LAYOUTS:
        if os.path.isfile(source / layout.metadata):
            return read_published(source, layout)
    return _read_folders(source)


def list_clips(folder: Path) -> list[Path]:
    """All recordings in a folder and the folders below it, sorted by name.

    A linked folder is read once; a link to a folder that holds this one is not followed. Hidden
    files are left out, and what macOS adds to archives. Pipes and broken links with the name of a
    recording are listed, so that opening them gives an error. Sound that cannot be decoded is left
    out with a warning.
    """
    # A link to a folder above would bring in all that lies there, other classes among it.
    files = list(_visible_files(folder, set(folder.resolve().parents)))
    suffixes = Counter(file.suffix.lower() for file in files)
    counts = ", ".join(f"{suffixes[s]} {s}" for s in _OTHER_SOUND if s in suffixes)
    if counts:
        warnings.warn(
            f"{folder}: {counts} left out, which cannot be decoded "
            f"(allowed: {' '.join(AUDIO_SUFFIXES)})",
            UserWarning,
            stacklevel=2,
        )
    return [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]


def _visible_files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in seen:  # a link to itself, or to a folder above
        return
    seen.add(real)
    for path in _visible(folder):
        inside = iter(_visible_files(path, seen) if os.path.isdir(path) else [path])
        # An empty folder with the name of a clip is taken for one, so that it is named.
        is_named_so = path.suffix.lower() in AUDIO_SUFFIXES
        first = next(inside, path if is_named_so else None)
        if first is not None:
            yield first
            yield from inside


def _visible(folder: Path) -> list[Path]:
    """Files and folders in a folder that are not hidden, sorted by name."""
    try:
        inside = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be opened: {error.strerror}") from error
    return [p for p in inside if not p.name.startswith(".") and p.name != "__MACOSX"]


def _read_folders(source: Path) -> ClipTable:
    """The clips of a folder in layout ``esc10`` or ``folders``."""
    inside = _visible(source)
    here = source.resolve()
    # A class's folder may be a link, though not to the source itself or to what it lies in.
    folders = [p for p in inside if os.path.isdir(p) and p.resolve() not in (here, *here.parents)]
    loose = [p.name for p in inside if p.suffix.lower() in AUDIO_SUFFIXES and not os.path.isdir(p)]
    _check_layout(source, folders, loose)
    found = {folder: list_clips(folder) for folder in folders}
    empty = [folder.name for folder, files in found.items() if not files]
    if len(empty) == len(folders):
        raise DataError(
            f"{source} holds no clips in {len(folders)} folders "
            f"(allowed: {' '.join(AUDIO_SUFFIXES)}){_advice_for_parts(source)}"
        )
    if empty:
        raise DataError(
            f"{source}: {len(empty)} of {len(folders)} class folders hold no clips: "
            f"{some_of(empty)}"
        )
    if loose:
        warnings.warn(
            f"{source}: {len(loose)} clips lie in no class folder and are left out: "
            f"{some_of(loose)}",
            UserWarning,
            stacklevel=3,
        )
    clips = with_published_names(
        [
            Clip(file, file.relative_to(source).as_posix(), folder.name, None, None)
            for folder, files in found.items()
            for file in files
        ]
    )
    numbered = [_NUMBERED.fullmatch(folder.name) for folder in folders]
    names = {match.string: match.group(1) for match in numbered if match}
    is_esc10 = clips[0].fold is not None and clips[0].group is not None
    if is_esc10 and len(names) == len(folders) == len(set(names.values())):
        clips = [Clip(c.path, c.name, names[c.label], c.fold, c.group) for c in clips]
        return make_table("esc10", clips, list(names.values()), source)
    return make_table("folders", clips, [folder.name for folder in folders], source)


def _advice_for_parts(source: Path) -> str:
    """Advice for a folder that is a Parquet table in parts; empty for other folders."""
    if next(source.rglob("*.parquet"), None) is None:
        return ""
    return (
        "; if it is a table in parts, make one file of it: "
        "pandas.read_parquet(FOLDER).to_parquet(FILE)"
    )


def _check_layout(source: Path, folders: list[Path], loose: list[str]) -> None:
    """Refuse a folder one level above or below the right one, or without folders of classes."""
    for layout in LAYOUTS:
        above = [source.parent] if source.name == Path(layout.audio).parts[0] else []
        for folder in (*above, *folders):
            if os.path.isfile(folder / layout.metadata):
                raise DataError(
                    f"{source} is not a folder of classes; {folder} holds {layout.metadata}: "
                    "give that folder"
                )
    if not folders:
        if loose:
            raise DataError(
                f"{source} holds {len(loose)} clips but no class folders; put the clips of each "
                "class into a folder named after it, or list them in a .csv file with columns "
                "path and label"
            )
        raise DataError(
            f"{source} holds no clips: it must have a folder of clips for each class "
            f"({' '.join(AUDIO_SUFFIXES)}){_advice_for_parts(source)}"
        )
    if all(_FOLD.fullmatch(folder.name) for folder in folders):
        raise DataError(
            f"{source} holds folders of folds ({some_of([f.name for f in folders])}), not of "
            "classes; list the clips in a .csv file with columns path, label and fold"
        )
    if all(_SPLIT.fullmatch(folder.name) for folder in folders):
        raise DataError(
            f"{source} holds the parts of a split ({some_of([f.name for f in folders])}), not "
            "folders of classes; list the clips in a .csv file with columns path, label and fold, "
            "a whole number for each part"
        )
