"""Long and live recordings, in pieces: windows of sound without the whole of it in memory.

What `qwave.audio.decode.read_blocks` gives of a file, `wav_blocks` and `raw_blocks` give of sound
that is still arriving; `stream_windows` cuts any of them into windows.

libsndfile reads files, and seeks in them; what ``arecord`` or ``ffmpeg`` write to a pipe has to be
taken as it comes. Their header is written before the length is known, so that the length in it is
0, 2^32 - 1 or some other large number. It is believed only where it can be true.

References:
    RIFF WAVE: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from qwave.audio.files import UNKNOWN_BYTES
from qwave.audio.mono import mix_down
from qwave.config import AudioError

SAMPLE_RATES = (100, 768_000)  # the lowest and the highest that are taken, in hertz
MAX_CHANNELS = 64
MAX_AMPLITUDE = 2.0**32  # full scale is 1; some programs write floats in steps of integers
_READ_BYTES = 1 << 16
_MAX_BYTES_BEFORE = 1 << 20  # before the sound: names, comments
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ADVICE = (
    "; send WAV with 8 to 32-bit integers or 32-bit floats (`ffmpeg -i CLIP -f wav -`), or bare "
    "16-bit mono samples with --raw RATE"
)


class Window(NamedTuple):
    """A piece of a recording.

    Attributes:
        start_seconds: Start of the window, in seconds from the start of the recording.
        end_seconds: End of the window, on the same scale. The last window may be shorter.
        waveform: The sound between the two, mono float32 [s].
    """

    start_seconds: float
    end_seconds: float
    waveform: np.ndarray


def stream_windows(
    blocks: Iterable[np.ndarray], sample_rate: int, window_seconds: float, hop_seconds: float
) -> Iterator[Window]:
    """Windows that start at 0, one hop, two hops and so on, each as soon as it is complete.

    The end of the sound cuts the last window, and drops it where it adds less than half a hop of
    new sound, unless it is the only one.

    Args:
        blocks: A waveform in blocks, mono float32 [s]; some may be empty. A waveform without
            samples has no windows.
        sample_rate: Rate of the waveform, in hertz.
        window_seconds: Length of a window, at least one sample.
        hop_seconds: Time from one start to the next, at least one sample. A hop longer than a
            window leaves gaps, whose sound is not kept.

    Raises:
        AudioError: A length is below a sample or not finite; or the blocks raise it.
    """
    for key, seconds in (("window_seconds", window_seconds), ("hop_seconds", hop_seconds)):
        if not (math.isfinite(seconds * sample_rate) and round(seconds * sample_rate) >= 1):
            raise AudioError(
                f"{key} must be at least one sample (1/{sample_rate} s), but got {seconds}"
            )
    length, hop = round(window_seconds * sample_rate), hop_seconds * sample_rate
    held = np.zeros(0, dtype=np.float32)
    first = 0  # number of the first sample held
    start = index = 0  # of the next window

    def cut(end: int) -> Window:
        waveform = held[start - first : end - first].copy()
        return Window(start / sample_rate, end / sample_rate, waveform)

    for block in blocks:
        held = np.concatenate((held, block))
        while start + length <= first + len(held):
            yield cut(start + length)
            index += 1
            start = round(index * hop)
        passed = min(max(start - first, 0), len(held))
        held, first = held[passed:], first + passed
    end = first + len(held)
    heard_to = round((index - 1) * hop) + length if index else 0
    n_new = end - max(start, heard_to)
    if n_new > 0 and (index == 0 or n_new >= hop / 2):
        yield cut(end)


def wav_blocks(stream: BinaryIO, sample_rate: int, *, name: str = "stdin") -> Iterator[np.ndarray]:
    """The waveform of a WAV stream as it arrives, in blocks of mono float32 [s].

    Args:
        stream: A WAV stream at its first byte.
        sample_rate: Rate of the blocks, in hertz.
        name: Name of the stream in errors.

    Raises:
        AudioError: The stream is no WAV, or its header or samples cannot be used.
    """
    pcm, n_bytes = read_wav_header(stream, name)
    samples = read_samples(stream, pcm, n_bytes, name)
    yield from _resampled(samples, pcm.sample_rate, sample_rate, name)


def raw_blocks(
    stream: BinaryIO, raw_rate: int, sample_rate: int, *, name: str = "stdin"
) -> Iterator[np.ndarray]:
    """The waveform of bare 16-bit little-endian mono samples, as they arrive: float32 [s].

    Args:
        stream: A stream that holds samples and nothing else.
        raw_rate: Rate of the samples in hertz, which nothing in the stream tells.
        sample_rate: Rate of the blocks, in hertz.
        name: Name of the stream in errors.

    Raises:
        AudioError: `raw_rate` is not in 100 to 768,000 Hz.
    """
    least, most = SAMPLE_RATES
    if not least <= raw_rate <= most:
        raise AudioError(f"{name}: {raw_rate} samples a second (allowed: {least} to {most})")
    samples = read_samples(stream, Pcm(raw_rate, 1, 16), None, name)
    yield from _resampled(samples, raw_rate, sample_rate, name)


def _resampled(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int, name: str
) -> Iterator[np.ndarray]:
    """Blocks [frames, channels] as mono [s] at another rate, resampled as one waveform."""
    try:
        import soxr
    except ImportError as error:
        raise AudioError(f"resampling needs soxr ({error}): pip install 'qwave[audio]'") from error
    resampler = soxr.ResampleStream(from_rate, to_rate, 1)
    for mono in mix_down(blocks, name):
        yield resampler.resample_chunk(mono)
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


class Pcm(NamedTuple):
    """How the samples of a WAV stream are written.

    Attributes:
        sample_rate: Frames a second, in hertz.
        num_channels: Samples in a frame, at least 1.
        bits: Bits of a sample: 8 (unsigned), 16, 24 or 32.
        is_float: Whether samples are floats, which then have 32 bits.
    """

    sample_rate: int
    num_channels: int
    bits: int
    is_float: bool = False


def read_wav_header(stream: BinaryIO, name: str) -> tuple[Pcm, int | None]:
    """Read a WAV stream up to its first sample.

    Returns:
        How the samples are written, and how many bytes of samples follow; None where that number
        is not known, and the samples go on to the end of the stream.

    Raises:
        AudioError: The stream is no WAV, or its samples are in an encoding that is not read here.
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
    return pcm, None if size == 0 or size >= UNKNOWN_BYTES else size


def read_samples(
    stream: BinaryIO, pcm: Pcm, n_bytes: int | None, name: str
) -> Iterator[np.ndarray]:
    """Samples as they arrive: float32 [frames, channels], integers scaled to -1..1.

    A stream that ends early is no error, because every recording that is stopped by hand ends
    early. The rest of an unfinished frame is dropped.

    Args:
        stream: The stream, at its first sample.
        pcm: How the samples are written.
        n_bytes: Number of bytes of samples; None: all up to the end of the stream.
        name: Name of the stream in errors.

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
        is_sound = np.abs(samples) <= MAX_AMPLITUDE  # false for NaN
        if not is_sound.all():
            raise AudioError(
                f"{name}: a sample is {samples[~is_sound][0]:g}; samples must be finite, and full "
                "scale is 1"
            )
        yield samples


def _to_float(data: bytes, pcm: Pcm) -> np.ndarray:
    """Samples in the order of the bytes, float32; full scale is 1, as in libsndfile."""
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
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise AudioError(
            f"{name} says that it has {num_channels} channels (allowed: 1 to {MAX_CHANNELS})"
        )
    if frame_bytes != num_channels * bits // 8:
        raise AudioError(
            f"{name}: {num_channels} samples of {bits} bits are not the {frame_bytes} bytes that "
            "the header gives them"
        )
    return Pcm(sample_rate, num_channels, bits, tag == _FLOAT)


def _read_exactly(stream: BinaryIO, n_bytes: int) -> bytes:
    """The next `n_bytes` of a stream, fewer only at its end; a pipe may give them in pieces."""
    parts: list[bytes] = []
    missing = n_bytes
    while missing > 0 and (piece := stream.read(missing)):
        parts.append(piece)
        missing -= len(piece)
    return b"".join(parts)


def _read_some(stream: BinaryIO, most: int) -> bytes:
    """The bytes that have arrived, 1 to `most`; none at the end. `read` would wait for `most`."""
    if isinstance(stream, io.BufferedReader | io.BytesIO):
        return stream.read1(most)
    return stream.read(most)
