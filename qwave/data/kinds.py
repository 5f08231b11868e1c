"""The kind of a file, known by its bytes, and the memory that reading it may take."""

from __future__ import annotations

import os
from pathlib import Path

from qwave.config import DataError

_HEAD = 512  # bytes at the beginning of a file that tell its kind
# Beginnings of text, in lower case and without spaces before it.
_TEXTS = (
    (
        (b"version https://git-lfs",),
        "a Git LFS pointer, which only names the data; fetch them with `git lfs pull`",
    ),
    (
        (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body"),
        "a web page (HTML or XML), not the data; the download gave a page in its place, perhaps "
        "one that asks to sign in; download it again",
    ),
    ((b"{", b"[{"), "JSON; write a table or a .npz file instead"),
)
_BYTES = (
    (b"PK\x05\x06", "an empty zip archive: it holds nothing"),
    (
        b"\x93NUMPY",
        "a .npy file, which holds one array and no labels; write both into a .npz file: "
        "numpy.savez(FILE, x=numpy.load(THIS), y=LABELS)",
    ),
    (b"\x1f\x8b", "compressed by gzip; unpack it first (gunzip)"),
    (b"\xfd7zXZ", "compressed by xz; unpack it first (unxz)"),
    (b"BZh", "compressed by bzip2; unpack it first (bunzip2)"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"SQLite format 3\x00", "an SQLite database; export the table as CSV"),
    (b"\x89HDF", "an HDF5 file; write its arrays into a .npz file with numpy.savez"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV UTF-8 in Excel, and use that"),
    (b"ARROW1", "a Feather file; write it as Parquet: frame.to_parquet(FILE)"),
    (b"%PDF", "a PDF document, not the data"),
)


def refuse_other_kinds(file: Path, source: str, expected: str) -> None:
    """Refuse a file that is certainly of another kind than its name.

    Args:
        file: A regular file that is not empty.
        source: Name of the file; every message begins with it.
        expected: Kind that the file must have: ``zip``, ``parquet`` or ``text``.

    Raises:
        DataError: The file is a Git LFS pointer, a web page, a download that was cut off, or of
            another format; or it cannot be opened.
    """
    what = {"zip": ".npz file", "parquet": "Parquet file", "text": "CSV table"}[expected]
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - 4, 0))
            tail = stream.read(4)
    except OSError as error:
        raise DataError(f"{source} cannot be opened: {error.strerror or error}") from error
    if found := _other_kind(head, tail, expected):
        raise DataError(f"{source} cannot be read as a {what}: it is {found}")


def memory_bytes() -> int | None:
    """Memory of this machine in bytes; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def require_memory(n_bytes: int, source: str, what: str) -> None:
    """Refuse to read data that would take more than half of this machine's memory.

    Args:
        n_bytes: Memory that reading would take.
        source: Name of the file; the message begins with it.
        what: The data, for the message.

    Raises:
        DataError: More than half of the memory would be needed.
    """
    total = memory_bytes()
    if total is not None and n_bytes > total // 2:
        raise DataError(
            f"{source}: {what} would take {n_bytes / 2**30:.1f} GiB, and this machine has "
            f"{total / 2**30:.1f} GiB; is the file damaged? If not, use fewer clips or features, "
            "or a machine with more memory"
        )


def _other_kind(head: bytes, tail: bytes, expected: str) -> str | None:
    """What a file is that is certainly not of the expected kind; None where it may be."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for starts, description in _TEXTS:
        if text.startswith(starts):
            return description
    if head.startswith(b"PK\x03\x04"):
        if b"xl/" in head or b"[Content_Types].xml" in head:
            return "an Excel workbook; save it as CSV UTF-8 in Excel, and use that"
        if expected != "zip":
            return "a zip archive, as .npz files are; give it the suffix .npz, or unpack it"
        return None
    if head.startswith(b"PAR1"):
        if tail != b"PAR1":
            return "a Parquet file without its end; the download was cut off: download it again"
        return None if expected == "parquet" else "a Parquet file; give it the suffix .parquet"
    return next((kind for magic, kind in _BYTES if head.startswith(magic)), None)
