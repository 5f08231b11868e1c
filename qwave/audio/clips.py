"""What a source of recordings is once it has been read: clips with labels, folds, recordings."""

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
        path: The file.
        name: Path below the source, with forward slashes.
        label: Class, one of `ClipTable.class_names`.
        fold: Official fold; None where there are none.
        group: The recording it was cut from; None where that is not known.
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
        layout: How the source is laid out: ``esc50``, ``urbansound8k``, ``esc10``, ``folders`` or
            ``csv``.
        clips: By class, then by name. All have a fold or none has, and all have a group or
            none has.
        class_names: Two or more, in the order of the published numbers, else sorted; each has
            clips.
    """

    layout: str
    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]


def make_table(
    layout: str, clips: Iterable[Clip], class_names: Sequence[str], source: Path
) -> ClipTable:
    """The clips in their order.

    Raises:
        DataError: There are fewer than two classes, a name is not valid Unicode, or two classes
            have names that look the same.
    """
    place = {label: index for index, label in enumerate(class_names)}
    ordered = sorted(clips, key=lambda clip: (place[clip.label], clip.name))
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
    """The clips with what their names say, where all names are in a published form.

    Fold and recording are read by `parse_clip_name`, from the file's name and its folder's. What
    a source says itself stays as it is.
    """
    said = [parse_clip_name(clip.path.name, clip.path.parent.name) for clip in clips]
    if all(name.fold is not None for name in said) and all(clip.fold is None for clip in clips):
        clips = [dataclasses.replace(c, fold=n.fold) for c, n in zip(clips, said, strict=True)]
    if all(name.recording for name in said) and all(clip.group is None for clip in clips):
        clips = [
            dataclasses.replace(c, group=n.recording) for c, n in zip(clips, said, strict=True)
        ]
    return list(clips)


def _refuse_twins(class_names: Sequence[str], source: Path) -> None:
    """Refuse classes that differ in what nobody sees: spaces, and how letters are composed.

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
    """The first three of some names, for an error."""
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
