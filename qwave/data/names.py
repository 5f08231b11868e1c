"""The official fold and the recording of a clip, read from file names in a published form.

ESC-50 and ESC-10 (Piczak 2015): ``{fold}-{recording}-{take}[-{target}].{ext}``.
UrbanSound8K (Salamon et al. 2014): ``{fsID}-{classID}-{occurrence}-{slice}.{ext}`` in folders
``fold1`` to ``fold10``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ESC = re.compile(r"([1-5])-(\d+)-[A-Z](?:-\d+)?(?:\.\w+)?")
_URBAN = re.compile(r"(\d+)-\d+-\d+-\d+(?:\.\w+)?")
_FOLDER = re.compile(r"fold[ _-]?(\d+)", re.IGNORECASE)


class ClipName(NamedTuple):
    """Fold and recording that a name holds; None for each that it does not hold."""

    fold: int | None
    recording: str | None


def parse_clip_name(name: str, folder: str = "") -> ClipName:
    """Fold and recording of a clip, from its file name and the name of its folder.

    A name in neither published form has no recording; a folder such as ``fold3`` still gives the
    fold. The fold in an ESC name is taken before that of the folder.
    """
    basename = name.replace("\\", "/").rsplit("/", 1)[-1]
    in_folder = _FOLDER.fullmatch(folder.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])
    folder_fold = int(in_folder.group(1)) if in_folder else None
    if match := _ESC.fullmatch(basename):
        return ClipName(int(match.group(1)), match.group(2))
    if match := _URBAN.fullmatch(basename):
        return ClipName(folder_fold, match.group(1))
    return ClipName(folder_fold, None)
