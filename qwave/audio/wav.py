"""Sound that arrives on a pipe: WAV without an end, or bare 16-bit samples.

libsndfile reads files, and seeks in them; what ``arecord`` or ``ffmpeg`` write to a pipe has to be
taken as it comes. Their header is written before the length is known, so that the length in it is
0, 2^32 - 1 or some other large number. It is believed only where it can be true.

References:
    RIFF WAVE: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from qwave.config import AudioError

SAMPLE_RATES = (100, 768_000)
_MAX_CHANNELS = 64
_MAX_AMPLITUDE = 2.0**32  # full scale is 1; some programs write floats in steps of integers
_READ_BYTES = 1 << 16
_MAX_BYTES_BEFORE = 1 << 20  # the sound: names, comments
# From here on a length means "not known": arecord writes 2^31 less a header, others 2^32 - 1.
_UNKNOWN_BYTES = 0x7FFF_0000
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ADVICE = (
    "; send WAV with 8 to 32-bit integers or 32-bit floats (`ffmpeg -i CLIP -f wav -`), or bare "
    "16-bit mono samples with --raw RATE"
)


class Pcm(NamedTuple):
    """How samples are written.

    Attributes:
        sample_rate: In hertz.
        num_channels: At least 1.
        bits: Of a sample: 8 (unsigned), 16, 24 or 32.
        is_float: Whether samples are floats, of 32 bits.
    """

    sample_rate: int
    num_channels: int
    bits: int
    is_float: bool = False


def read_wav_header(stream: BinaryIO, name: str) -> tuple[Pcm, int | None]:
    """Read from a stream up to its first sample.

    Returns:
        How its samples are written, and how many bytes of them follow; None where that is not
        known, and they go on to the end of the stream.

    Raises:
        AudioError: This is no WAV stream, or one of another encoding.
    """
    start = _read_exactly(stream, 12)
    if len(start) < 12 or start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        found = f"begins with {start!r}" if start else "is empty"
        raise AudioError(f"{name} is no WAV stream: it {found}{_ADVICE}")
    pcm, n_before = None, 0
    while True:
        head = _read_exactly(stream, 8)
        kind, size = struct.unpack("<4sI", head) if len(head) == 8 else (b"", 0)
        if kind == b"data":
            break
        n_before += 8 + size
        if n_before > _MAX_BYTES_BEFORE:
            raise AudioError(
                f"{name}: {n_before} bytes stand before the sound, the last in chunk {kind!r} "
                f"(allowed: {_MAX_BYTES_BEFORE})"
            )
        body = _read_exactly(stream, size + size % 2)  # chunks begin at even places
        if not kind or len(body) < size:
            raise AudioError(f"{name} ends before its first sample: its header is cut off")
        if kind == b"fmt ":
            pcm = _parse_format(body, name)
    if pcm is None:
        raise AudioError(f"{name} does not say how its samples are written: no chunk b'fmt '")
    return pcm, None if size == 0 or size >= _UNKNOWN_BYTES else size


def read_samples(
    stream: BinaryIO, pcm: Pcm, n_bytes: int | None, name: str
) -> Iterator[np.ndarray]:
    """Samples as they arrive: float32 [frames, channels], integers scaled to -1..1.

    A stream that ends early just ends: so does every recording that is stopped by hand. The rest
    of an unfinished frame is dropped.

    Args:
        stream: At its first sample.
        pcm: How they are written.
        n_bytes: How many follow, None for all up to the end.
        name: Of the stream, for errors.

    Raises:
        AudioError: A sample is NaN, infinite, or far from any sound.
    """
    frame_bytes = pcm.num_channels * pcm.bits // 8
    rest = b""
    n_left = n_bytes
    while n_left is None or n_left > 0:
        piece = _read_some(stream, _READ_BYTES if n_left is None else min(_READ_BYTES, n_left))
        if not piece:
            return
        if n_left is not None:
            n_left -= len(piece)
        piece = rest + piece
        whole = len(piece) - len(piece) % frame_bytes
        rest = piece[whole:]
        if not whole:
            continue
        samples = _to_float(piece[:whole], pcm).reshape(-1, pcm.num_channels)
        is_sound = np.abs(samples) <= _MAX_AMPLITUDE  # false for NaN
        if not is_sound.all():
            raise AudioError(
                f"{name}: a sample is {samples[~is_sound][0]:g}; samples must be finite, and full "
                "scale is 1"
            )
        yield samples


def _to_float(data: bytes, pcm: Pcm) -> np.ndarray:
    """Samples in the order of the bytes, float32; full scale is 1, as libsndfile has it."""
    if pcm.is_float:
        return np.frombuffer(data, dtype="<f4").astype(np.float32)
    if pcm.bits == 8:
        return (np.frombuffer(data, dtype=np.uint8).astype(np.float32) - 128) / 128
    if pcm.bits == 24:  # the upper three bytes of 32-bit integers
        codes = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        codes[:, 1:] = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        return _to_float(codes.tobytes(), pcm._replace(bits=32))
    codes = np.frombuffer(data, dtype=f"<i{pcm.bits // 8}")
    return codes.astype(np.float32) / np.float32(2 ** (pcm.bits - 1))


def _parse_format(body: bytes, name: str) -> Pcm:
    if len(body) < 16:
        raise AudioError(f"{name}: the chunk b'fmt ' has {len(body)} bytes, but needs 16")
    tag, num_channels, sample_rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", body[:16])
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = int.from_bytes(body[24:26], "little")  # the encoding itself, first of its GUID
    if (tag, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32)}:
        raise AudioError(
            f"{name}: samples of {bits} bits in WAV encoding {tag} are not understood{_ADVICE}"
        )
    least, most = SAMPLE_RATES
    if not least <= sample_rate <= most:
        raise AudioError(
            f"{name} says that it has {sample_rate} samples a second (allowed: {least} to {most})"
        )
    if not 1 <= num_channels <= _MAX_CHANNELS:
        raise AudioError(
            f"{name} says that it has {num_channels} channels (allowed: 1 to {_MAX_CHANNELS})"
        )
    if frame_bytes != num_channels * bits // 8:
        raise AudioError(
            f"{name}: {num_channels} samples of {bits} bits are not the {frame_bytes} bytes that "
            "the header gives them"
        )
    return Pcm(sample_rate, num_channels, bits, tag == _FLOAT)


def _read_exactly(stream: BinaryIO, n_bytes: int) -> bytes:
    """As many bytes, or all there are: a pipe may hand them over in pieces."""
    parts: list[bytes] = []
    missing = n_bytes
    while missing > 0 and (piece := stream.read(missing)):
        parts.append(piece)
        missing -= len(piece)
    return b"".join(parts)


def _read_some(stream: BinaryIO, most: int) -> bytes:
    """What has arrived, at least a byte; empty at the end. `read` would wait for all of it."""
    if isinstance(stream, io.BufferedReader | io.BytesIO):
        return stream.read1(most)
    return stream.read(most)
