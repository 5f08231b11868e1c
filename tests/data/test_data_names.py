"""What published clip names say, and that other names say nothing."""

from __future__ import annotations

import pytest

from qwave.data import ClipName, parse_clip_name


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        # ESC-50, ESC-10, with and without path, extension, folder.
        ("1-100032-A-0.wav", "", ClipName(1, "100032")),
        ("5-9032-A-0.wav", "", ClipName(5, "9032")),
        ("1-100032-A", "", ClipName(1, "100032")),
        ("3-152020-C-36.wav", "fold9", ClipName(3, "152020")),
        ("audio\\2-77945-B-1.wav", "", ClipName(2, "77945")),
        # UrbanSound8K: the fold stands in the folder only.
        ("100032-3-0-0.wav", "audio/fold10", ClipName(10, "100032")),
        ("100032-3-0-0.wav", "audio\\fold10\\", ClipName(10, "100032")),
        ("100032-3-0-0.wav", "", ClipName(None, "100032")),
        # Anything else.
        ("dog bark 3.wav", "", ClipName(None, None)),
        ("dog bark 3.wav", "Fold_3", ClipName(3, None)),
        ("dog bark 3.wav", "fold 3/", ClipName(3, None)),
        ("dog bark 3.wav", "folder3", ClipName(None, None)),
        ("dog bark 3.wav", "my fold3", ClipName(None, None)),
        ("6-100032-A-0.wav", "", ClipName(None, None)),  # ESC has folds 1 to 5
        ("1-100032-a-0.wav", "", ClipName(None, None)),
        ("1-100032-A-0-1.wav", "", ClipName(None, None)),
        ("x1-100032-A-0.wav", "", ClipName(None, None)),
        ("", "", ClipName(None, None)),
    ],
)
def test_a_clip_name_says_what_was_published_and_no_more(
    name: str, folder: str, expected: ClipName
) -> None:
    assert parse_clip_name(name, folder) == expected
