"""Clips that a table describes: those of ESC-50 and UrbanSound8K, and a person's own CSV file.

References:
    ESC-50: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, 2015.
    UrbanSound8K: J. Salamon, C. Jacoby, J. P. Bello, A Dataset and Taxonomy for Urban Sound
    Research, 2014. Both authors warn against folds other than theirs.
"""

from __future__ import annotations

import difflib
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from qwave.audio.clips import Clip, ClipTable, make_table, some_of, with_published_names
from qwave.config import DataError, nearest
from qwave.data.columns import meaning_of, plain_name, role_of, scheme_sizes
from qwave.data.delimited import open_table, peek_names, read_cells


class Layout(NamedTuple):
    """Paths and columns of a published data set.

    Attributes:
        name: Name of the layout in `ClipTable.layout`.
        metadata: Path of the table of clips, below the data set's folder.
        audio: Path of a clip below the data set's folder, with ``{fold}`` and ``{file}``.
        file: Column of file names.
        fold: Column of official folds.
        group: Column of recordings.
        target: Column of class numbers, which give the order of the classes.
        label: Column of class names.
    """

    name: str
    metadata: str
    audio: str
    file: str
    fold: str
    group: str
    target: str
    label: str


LAYOUTS = (
    Layout(
        name="esc50",
        metadata="meta/esc50.csv",
        audio="audio/{file}",
        file="filename",
        fold="fold",
        group="src_file",
        target="target",
        label="category",
    ),
    Layout(
        name="urbansound8k",
        metadata="metadata/UrbanSound8K.csv",
        audio="audio/fold{fold}/{file}",
        file="slice_file_name",
        fold="fold",
        group="fsID",
        target="classID",
        label="class",
    ),
)
_NEEDED = ("path", "label")
_OPTIONAL = ("fold", "group")
_LARGEST_WHOLE = 2**31 - 1  # of folds and targets
_SIMILAR = 0.75  # a name one slip away: "flod", "folds"; official folds must not be overlooked


def read_published(source: Path, layout: Layout) -> ClipTable:
    """The clips of a published data set, in its official folds.

    Raises:
        DataError: A column or a clip is missing, or a cell has an impossible value.
    """
    file = source / layout.metadata
    _, rows = _read_table(file, layout[3:])
    clips, target_of = [], dict[str, int]()
    for line, row in rows:
        fold = _whole(row, layout.fold, file, line)
        target, label = _whole(row, layout.target, file, line), row[layout.label]
        if target_of.setdefault(label, target) != target:
            raise DataError(
                f"{file}, row {line}: {layout.label} {label!r} has {layout.target} {target}, "
                f"but {target_of[label]} above"
            )
        name = layout.audio.format(fold=fold, file=row[layout.file])
        clips.append(Clip(source / name, name, label, fold, row[layout.group]))
    by_target = {target: label for label, target in target_of.items()}
    if len(by_target) < len(target_of):
        raise DataError(f"{file}: several classes have the same {layout.target}")
    _check_files(clips, [line for line, _ in rows], file, source)
    return make_table(layout.name, clips, [by_target[t] for t in sorted(by_target)], source)


def read_csv(file: Path) -> ClipTable:
    """The clips of a CSV file: columns ``path``, ``label``, optionally ``fold`` and ``group``.

    Case and spaces in the names of columns do not matter. Paths are relative to the file's folder.
    Other columns are ignored, unless their name is nearly that of an optional one, or means a
    split. Folds and groups that are not given are read from the clips' names, if these have them.

    Raises:
        DataError: A column or a clip is missing, a clip is named twice, a column may be a fold or
            group under another name, or a cell is empty or has an impossible value.
    """
    columns, rows = _read_table(file, _NEEDED, (*_NEEDED, *_OPTIONAL))
    for key in _OPTIONAL:
        near = [
            column
            for column in columns
            if role_of(column) == key
            or (key == "fold" and meaning_of(column) == "split")
            or difflib.SequenceMatcher(None, key, column.lower()).ratio() >= _SIMILAR
        ]
        if near and key not in columns:
            numbers = ", with whole numbers" if key == "fold" else ""
            raise DataError(
                f"{file}: column {near[0]!r} is not known; name it {key!r}{numbers}, or drop it"
            )
    clips = []
    for line, row in rows:
        for key in _OPTIONAL:
            if not row.get(key, "given"):
                raise DataError(
                    f"{file}, row {line}: {key!r} is empty; fill it in for every clip, or leave "
                    "the column out"
                )
        if "://" in row["path"]:
            raise DataError(
                f"{file}, row {line}: {row['path']!r} is an address; nothing is downloaded: save "
                "the clip, and write the path of its file"
            )
        fold = _whole(row, "fold", file, line) if "fold" in columns else None
        name = posixpath.normpath(row["path"])
        clips.append(Clip(file.parent / name, name, row["label"], fold, row.get("group")))
    _check_files(clips, [line for line, _ in rows], file, file.parent)
    labels = sorted({clip.label for clip in clips})
    return make_table("csv", with_published_names(clips), labels, file)


def is_clip_csv(file: Path) -> bool:
    """Whether a CSV file's header is that of a table of clips, and not of embeddings.

    It is one if it has a column ``path``, and neither ``class_id`` nor numbered columns as
    features have (``f0``, ``f1``). `read_csv` checks everything else.
    """
    columns = peek_names(file) if os.path.isfile(file) else []
    plain = {plain_name(column) for column in columns}
    is_numbered = max(scheme_sizes(columns), default=0) > 1
    return "path" in plain and "classid" not in plain and not is_numbered


def _read_table(
    file: Path, needed: Sequence[str], known: Sequence[str] = ()
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Names of columns, and rows with the line that each begins on; cells are stripped.

    A column whose name differs from one in `known` only in case, spaces, ``_`` and ``-`` gets the
    name in `known`. Cells in the `needed` columns are not empty.

    Raises:
        DataError: The file is no table, a column or a cell is missing, or two columns have one
            name that is needed or known.
    """
    table = open_table(file, str(file))
    columns = [plain if (plain := plain_name(name)) in known else name for name in table.names]
    for column in {*needed, *known}:
        if columns.count(column) > 1:
            raise DataError(f"{file} has several columns {column!r}; drop all but one")
    rows = list(read_cells(table, str(file)))
    for column in needed:
        if column not in columns:
            raise DataError(
                f"{file} has no column {column!r}{nearest(column, columns)}; its columns are "
                f"{', '.join(columns[:12]) or 'none'} (needed: {', '.join(needed)})"
            )
    if not rows:
        raise DataError(f"{file} has a header but no rows")
    named = []
    for line, cells in rows:
        if len(cells) < len(columns) or any(map(str.strip, cells[len(columns) :])):
            raise DataError(
                f"{file}, row {line} has {len(cells)} cells, but the header has {len(columns)}"
            )
        row = dict(zip(columns, map(str.strip, cells), strict=False))
        for column in needed:
            if not row[column]:
                raise DataError(f"{file}, row {line}: {column!r} is empty")
        named.append((line, row))
    return columns, named


def _whole(row: dict[str, str], column: str, file: Path, line: int) -> int:
    text = row[column]
    try:
        number = int(text)
    except ValueError:  # of thousands of digits as well
        number = None
    if number is None or abs(number) > _LARGEST_WHOLE:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise DataError(f"{file}, row {line}: {column!r} must be a whole number, but is {shown!r}")
    return number


def _check_files(clips: Sequence[Clip], lines: Sequence[int], file: Path, folder: Path) -> None:
    """Refuse a table that names a clip twice, or clips that are not below the folder."""
    line_of: dict[str, int] = {}
    for clip, line in zip(clips, lines, strict=True):
        first = line_of.setdefault(os.path.normpath(clip.path), line)
        if first != line:
            raise DataError(f"{file}, row {line}: {clip.name!r} stands in row {first} already")
    missing = [clip for clip in clips if not os.path.isfile(clip.path)]
    if missing:
        others = [clip.name for clip in missing if os.path.exists(clip.path)]
        kinds = f"; no files, but folders, pipes or devices: {some_of(others)}" if others else ""
        names = some_of([clip.name for clip in missing])
        if os.sep == "/" and any("\\" in clip.name for clip in missing):
            names += "; write / instead of \\ between folders"
        raise DataError(
            f"{file}: {len(missing)} of {len(clips)} clips are not there: {names}{kinds} "
            f"(paths are relative to {os.path.abspath(folder)})"
        )
