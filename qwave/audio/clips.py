"""Clips with labels, folds and recordings: what every layout of a source is read into."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwave.config import DataError
from qwave.data import parse_clip_name

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")


@dataclass(frozen=True)
class Clip:
    """A labelled recording.

    Attributes:
        path: Path of the file.
        name: Path below the source, with forward slashes.
        label: Class of the clip, one of `ClipTable.class_names`.
        fold: Official fold; None where the source has no folds.
        group: Recording that the clip was cut from; None where that is not known.
    """

    path: Path
    name: str
    label: str
    fold: int | None
    group: str | None


@dataclass(frozen=True)
class ClipTable:
    """All clips of a source.

    Attributes:
        layout: Layout of the source: ``esc50``, ``urbansound8k``, ``esc10``, ``folders`` or
            ``csv``.
        clips: Clips, sorted by class, then by name. Either all have a fold or none has, and
            either all have a group or none has.
        class_names: Names of two or more classes, in the order of their published numbers, else
            sorted; each class has clips.
    """

    layout: str
    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]


def make_table(
    layout: str, clips: Iterable[Clip], class_names: Sequence[str], source: Path
) -> ClipTable:
    """A table of the clips, sorted by class and name.

    Raises:
        DataError: There are fewer than two classes, a name is not valid Unicode, or two classes
            have names that look the same.
    """
    rank = {label: index for index, label in enumerate(class_names)}
    ordered = sorted(clips, key=lambda clip: (rank[clip.label], clip.name))
    if len(class_names) < 2:
        raise DataError(
            f"{source} has one class only ({class_names[0]!r}, {len(ordered)} clips); "
            "at least 2 are needed"
        )
    for clip in ordered:
        for text in (clip.name, clip.label):
            if not _is_unicode(text):
                raise DataError(f"{source}: {text!r} is not a name in UTF-8; rename it")
    _refuse_twins(class_names, source)
    return ClipTable(layout, tuple(ordered), tuple(class_names))


def with_published_names(clips: Sequence[Clip]) -> list[Clip]:
    """The clips with folds and recordings from their names, if all names are in a published form.

    `parse_clip_name` reads them from the name of the file and of its folder. Folds and recordings
    that the source gives itself stay.
    """
    names = [parse_clip_name(clip.path.name, clip.path.parent.name) for clip in clips]
    has_folds = all(n.fold is not None for n in names) and all(c.fold is None for c in clips)
    has_groups = all(n.recording for n in names) and all(c.group is None for c in clips)
    return [
        dataclasses.replace(
            clip,
            fold=name.fold if has_folds else clip.fold,
            group=name.recording if has_groups else clip.group,
        )
        for clip, name in zip(clips, names, strict=True)
    ]


def _refuse_twins(class_names: Sequence[str], source: Path) -> None:
    """Refuse classes whose names look the same: they differ in spaces or composed letters only.

    Archives made on macOS hold "u" and a diaeresis where other systems write one letter.
    """
    seen: dict[str, str] = {}
    for name in class_names:
        shown = " ".join(unicodedata.normalize("NFC", name).split())
        if (other := seen.setdefault(shown, name)) != name:
            raise DataError(
                f"{source}: the classes {ascii(other)} and {ascii(name)} look the same; give both "
                "one name, or each a name of its own"
            )


def some_of(names: Sequence[str]) -> str:
    """The first three names as text, for an error message."""
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
