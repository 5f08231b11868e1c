"""Files of recordings: only regular ones are opened, and several recordings may lie in one.

What else bears the name of a recording (a pipe, a device, a socket) could keep whoever opens it
waiting for ever. Streams of Ogg may be chained by the format's own rules (internet radio writes
them so), frames of mp3 follow each other anyway, and ``cat`` joins files of all kinds; libsndfile
reads the first recording only.

References:
    RFC 3533, The Ogg Encapsulation Format, section 4: chaining.
    RFC 9639, Free Lossless Audio Codec, section 8: a stream begins with its STREAMINFO.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from qwave.config import AudioError

# Each on the systems that have it: not to wait for who writes to a pipe; bytes as they are.
_MODE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# What a recording begins with. libsndfile knows 20 more formats, recognises some by little, and
# its reader of one (SDS) prints to stdout.
_SIGNATURES = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3")
# A FLAC stream: the mark, and a STREAMINFO of 34 bytes, which may be the last block of its kind.
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_OGG = re.compile(rb"OggS\x00")
_SEARCH_BYTES = 1 << 20
# From this length on a header means "not known": it was written to a pipe, before the end was
# seen. arecord writes 2^31 less a header, others 2^32 - 1.
UNKNOWN_BYTES = 0x7FFF_0000
# What lies behind the frames that a Xing header counts and is less than this, or than a hundredth,
# is miscounted: some encoders leave out the header's own frame.
_LEAST_MP3_BYTES = 8192


def require_file(path: Path, name: str | None = None) -> None:
    """Refuse a path that is no regular file; links are followed, and the file is not opened.

    Args:
        path: File of the recording.
        name: Name of the recording in errors; the path by default.

    Raises:
        AudioError: The path is a folder, a pipe, a device or a socket.
        OSError: Nothing has that path, or its kind may not be asked for.
    """
    _require_regular(os.stat(path).st_mode, name or str(path))


def open_file(path: Path, name: str | None = None) -> BinaryIO:
    """Open a regular file for reading, with the arguments and errors of `require_file`.

    The kind of the file is checked once more when it is open, because the path may name a pipe by
    then; opening never waits.
    """
    require_file(path, name)
    descriptor = os.open(path, os.O_RDONLY | _MODE)
    try:
        _require_regular(os.fstat(descriptor).st_mode, name or str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int, name: str) -> None:
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise AudioError(f"{name} is {what}, not a file")


class Readable(Protocol):
    """A stream of bytes that can be read from any position."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position; returns it, counted in bytes from the start."""

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes, or all that are left where there are fewer."""


def begins_recording(head: bytes) -> bool:
    """Whether `head`, the first 4 or more bytes of a file, begins a recording."""
    is_mp3 = len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0  # the sync word
    return is_mp3 or head.startswith(_SIGNATURES)


def find_parts(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """First byte and end of each recording in a file, found one after the other; at least one.

    What follows a recording and is none (tags, padding, other chunks) belongs to it. The caller
    may seek in the stream between two recordings.

    Raises:
        OSError: The stream cannot be read.
    """
    size, start = stream.seek(0, io.SEEK_END), 0
    while True:
        end = _end_of(stream, start, size)
        if not start < end < size or not begins_recording(_read_at(stream, end, 4)):
            yield start, size
            return
        yield start, end
        start = end


def xing_header(stream: Readable, start: int = 0) -> tuple[int, int | None] | None:
    """The Xing header, which says how long an mp3 is; it is in the first frame after ID3v2 tags.

    Returns:
        First byte of that frame, and the number of bytes from there to the end of the last one
        where the header holds it; None for an mp3 without such a header.
    """
    head = _read_at(stream, start, 10)
    if head.startswith(b"ID3"):  # ten bytes and a length of four times seven bits
        start += 10 + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False)
        )
    frame = _read_at(stream, start, 4096)
    found = re.search(rb"Xing|Info", frame)
    if found is None:
        return None
    fields = frame[found.end() : found.end() + 12].ljust(12, b"\0")
    flags, first, second = struct.unpack(">III", fields)
    has_frames, has_bytes = flags & 1, flags & 2
    return start, (second if has_frames else first) if has_bytes else None


def _end_of(stream: BinaryIO, start: int, size: int) -> int:
    """End in bytes of the recording that begins at `start`; the file's end if that is unknown."""
    head = _read_at(stream, start, 8)
    if head.startswith(b"OggS"):
        return _end_of_ogg(stream, start, size)
    if head.startswith(b"fLaC"):
        return _find(stream, _FLAC, start + 4, size)
    if head.startswith((b"RIFF", b"RIFX", b"FORM")) and len(head) == 8:
        length = int.from_bytes(head[4:], "little" if head.startswith(b"RIFF") else "big")
        return size if length >= UNKNOWN_BYTES else start + 8 + length + length % 2
    if head.startswith(b"ID3") or head[:1] == b"\xff":
        return _end_of_mp3(stream, start, size)
    return size


def _end_of_ogg(stream: BinaryIO, start: int, size: int) -> int:
    """Position of the first page that begins a stream after a page that does not.

    Streams that run side by side begin together: their first pages are no new recording.
    """
    at, is_first = start, True
    while at < size:
        page = _read_at(stream, at, 27 + 255)
        if len(page) < 27 or not page.startswith(b"OggS"):
            at = _find(stream, _OGG, at + 1, size)  # behind a hole
            continue
        begins = bool(page[5] & 2)
        if begins and not is_first:
            return at
        is_first = is_first and begins
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return size


def _end_of_mp3(stream: BinaryIO, start: int, size: int) -> int:
    first, n_bytes = xing_header(stream, start) or (start, None)
    if n_bytes is None:
        return size  # decoded to the end, whatever is joined there
    end = first + n_bytes
    if _read_at(stream, end, 3) == b"TAG":  # ID3v1
        end += 128
    is_long = size - end > max(_LEAST_MP3_BYTES, n_bytes // 100)
    return end if is_long or xing_header(stream, end) is not None else size


def _find(stream: BinaryIO, pattern: re.Pattern[bytes], start: int, size: int) -> int:
    """Position of the first match at `start` or after it; the file's end where there is none."""
    while start < size:
        block = _read_at(stream, start, _SEARCH_BYTES)
        if (found := pattern.search(block)) is not None:
            return start + found.start()
        if len(block) < _SEARCH_BYTES:
            break
        start += len(block) - 7  # a match may lie across two blocks
    return size


def _read_at(stream: Readable, at: int, n_bytes: int) -> bytes:
    stream.seek(at)
    return stream.read(n_bytes)
