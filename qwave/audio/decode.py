"""A recording becomes a mono waveform at the rate that is asked for, or an error that names it.

libsndfile decodes, by content and not by suffix; soxr resamples, from block to block with its
state, which gives the samples of one call on the whole, bit for bit. Headers are not trusted:
memory is taken for what was decoded, not for what was announced.

Shapes: s samples.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from qwave.audio.files import (
    UNKNOWN_BYTES,
    begins_recording,
    find_parts,
    open_file,
    xing_header,
)
from qwave.audio.mono import mix_down
from qwave.audio.stream import MAX_AMPLITUDE, MAX_CHANNELS, SAMPLE_RATES
from qwave.config import AudioError

if TYPE_CHECKING:
    import soundfile

MAX_SECONDS = 3600.0  # of a clip in one piece: half a gigabyte at 32 kHz
_FORMATS = "wav, flac, ogg, opus, mp3 or aiff"
_BLOCK_SAMPLES = 2**18  # of all channels: a mebibyte
# Less than a hundredth is lost to padding and tags that were counted in, more to damage.
_MIN_PRESENT = 0.99
# libsndfile reads the rest of a file that was cut off, and reports it in its log only.
_CUT_OFF = re.compile(r"^ ?(?:data|SSND) +: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_FRAMES = 2**62


def read_clip(
    file: Path | str | BinaryIO, sample_rate: int, *, name: str | None = None
) -> np.ndarray:
    """A whole recording of at most an hour: mono float32 [s], s at least 1, finite.

    Silence is a waveform of zeros and no error. A clip shorter than a sample of `sample_rate` is
    its mean. A file that ends early is an error where its header holds the length (wav, flac,
    aiff, mp3 with a Xing header, all within one in a hundred), and for an ogg that ends within a
    page. An mp3 of variable rate without a Xing header may be cut short: libsndfile guesses its
    length.

    Args:
        file: A wav, flac, ogg (Vorbis, Opus), mp3 or aiff file, whatever its suffix; or a stream
            of its bytes that can seek, which is read from its start and left open.
        sample_rate: Rate of the waveform, in hertz; the file's own may be 100 Hz to 768 kHz.
        name: Name of the recording in errors; by default that of the file.

    Raises:
        AudioError: There is no such file, or it cannot be decoded; it ends early, is empty, too
            long, or holds samples that are not finite.
    """
    blocks = read_blocks(file, sample_rate, name=name, max_seconds=MAX_SECONDS)
    return np.concatenate(list(blocks))


def read_blocks(
    file: Path | str | BinaryIO,
    sample_rate: int,
    *,
    name: str | None = None,
    max_seconds: float = math.inf,
) -> Iterator[np.ndarray]:
    """A recording of any length in blocks, each mono float32 [s]; some may be empty.

    Joined they are the waveform of `read_clip`, with the same arguments and errors. A fault of
    the header is raised before the first block, damage further on when it is reached.
    """
    if not isinstance(file, str | os.PathLike):
        yield from _decode(file, sample_rate, name or str(getattr(file, "name", "")), max_seconds)
        return
    name = name or str(file)
    try:
        stream = open_file(Path(file), name)
    except OSError as error:
        raise AudioError(f"{name} cannot be opened: {error.strerror}") from error
    with stream:
        yield from _decode(stream, sample_rate, name, max_seconds)


def fit_length(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """The first `num_samples` of a waveform [s], which is looped from its start if it is shorter.

    Raises:
        AudioError: s is 0, or `num_samples` below 1.
    """
    if not len(waveform) or num_samples < 1:
        raise AudioError(f"{len(waveform)} samples cannot be looped or cut to {num_samples}")
    return np.resize(waveform[:num_samples], num_samples)


class _Part:
    """One recording within a stream, as a file for libsndfile.

    Errors are kept and not raised: libsndfile calls from C, where they would only be printed.

    Attributes:
        fault: The error of the last read that failed; None where none did.
    """

    def __init__(self, stream: BinaryIO, start: int, end: int) -> None:
        self._stream, self._start, self._end = stream, start, end
        self._position = start
        self.fault: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._position, io.SEEK_END: self._end}
        # In damaged files libsndfile seeks to before the start, and then finds out.
        if base[whence] + offset >= self._start:
            self._position = base[whence] + offset
        return self.tell()

    def tell(self) -> int:
        return self._position - self._start

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._end - self._position)
        try:
            self._stream.seek(self._position)
            data = self._stream.read(left if count < 0 else min(count, left))
        except (OSError, ValueError, OverflowError) as error:
            self.fault = error if isinstance(error, OSError) else OSError(str(error))
            return b""
        self._position += len(data)
        return data


def require_decoder() -> None:
    """Refuse a machine without the libraries that decode and resample recordings.

    Raises:
        AudioError: A library is not installed, or cannot be loaded.
    """
    try:
        import soundfile  # noqa: F401
        import soxr  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise AudioError(
            f"decoding needs soundfile and soxr ({error}): pip install 'qwave[audio]'"
        ) from error


def _decode(
    stream: BinaryIO, sample_rate: int, name: str, max_seconds: float
) -> Iterator[np.ndarray]:
    """The blocks of `read_blocks`, of an open stream that may hold several recordings."""
    require_decoder()
    import soundfile

    name = name or "recording"
    seconds = 0.0
    try:
        _check_signature(stream, name)
        for number, (start, end) in enumerate(find_parts(stream), start=1):
            part = _Part(stream, start, end)
            shown = name if number == 1 else f"{name}, recording {number} in it,"
            try:
                seconds = yield from _decode_part(part, sample_rate, shown, seconds, max_seconds)
            except soundfile.LibsndfileError as error:
                fault = part.fault or f'libsndfile says "{error.error_string}"'
                raise AudioError(
                    f"{shown} cannot be decoded: {fault} (allowed: {_FORMATS})"
                ) from error
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {error}") from error


def _decode_part(
    source: _Part, sample_rate: int, name: str, before: float, max_seconds: float
) -> Generator[np.ndarray, None, float]:
    """Blocks of one recording that begins `before` seconds into the file.

    Returns:
        Seconds from the start of the file to the end of the recording.
    """
    import soundfile
    import soxr

    with soundfile.SoundFile(source) as recording:
        _check_header(recording, name, before, max_seconds)
        resampler = soxr.ResampleStream(recording.samplerate, sample_rate, 1)
        n_frames, n_samples, heard = 0, 0, np.zeros(0, dtype=np.float32)
        for mono in mix_down(_frames(recording, name), name):
            samples = resampler.resample_chunk(mono)
            n_frames, n_samples = n_frames + len(mono), n_samples + len(samples)
            heard = mono if len(mono) else heard
            yield samples
    if source.fault is not None:
        raise source.fault
    _check_end(recording, n_frames, source, name)
    samples = resampler.resample_chunk(heard[:0], last=True)
    yield samples if n_samples + len(samples) else heard.mean(keepdims=True)
    return before + n_frames / recording.samplerate


def _frames(recording: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    """All frames of a recording in blocks, float32 [frames, channels], each checked."""
    n_frames, block_frames = 0, _BLOCK_SAMPLES // recording.channels
    for _ in range(0, recording.frames, block_frames):
        block = recording.read(block_frames, dtype="float32", always_2d=True)
        if not len(block):
            break
        _check_samples(block, n_frames, name)
        n_frames += len(block)
        yield block


def _check_signature(stream: BinaryIO, name: str) -> None:
    stream.seek(0)
    head = stream.read(16)
    if not head:
        raise AudioError(f"{name} is empty: it has 0 bytes")
    if not begins_recording(head):
        raise AudioError(f"{name} is not {_FORMATS}: it begins with {head!r}")


def _check_header(
    recording: soundfile.SoundFile, name: str, before: float, max_seconds: float
) -> None:
    """Refuse what cannot be a clip, before any memory is taken for it."""
    rate, frames = recording.samplerate, recording.frames
    if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
        raise AudioError(
            f"{name} says that it has {rate} samples a second "
            f"(allowed: {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]})"
        )
    if not 1 <= recording.channels <= MAX_CHANNELS:
        raise AudioError(
            f"{name} says that it has {recording.channels} channels (allowed: 1 to {MAX_CHANNELS})"
        )
    if frames >= _UNKNOWN_FRAMES:
        raise AudioError(
            f"{name} does not say how long it is, as if it had been written to a pipe; "
            "encode it again, to a file"
        )
    if frames > (max_seconds - before) * rate:
        others = f", {before:.0f} s into the file" if before else ""
        raise AudioError(
            f"{name} is {frames / rate:.0f} s long by its header ({frames} frames at {rate} Hz)"
            f"{others}, "
            f"but a clip may have {max_seconds:.0f} s at most; cut it into clips"
        )
    cut_off = _CUT_OFF.search(recording.extra_info)
    announced, present = map(int, cut_off.groups()) if cut_off else (0, 0)
    if announced < UNKNOWN_BYTES and present < _MIN_PRESENT * announced:
        raise AudioError(
            f"{name} ends early: of {announced} bytes of sound that its header announces, "
            f"{present} are there"
        )
    if frames < 1:
        raise AudioError(f"{name} holds no samples")


def _check_samples(block: np.ndarray, start: int, name: str) -> None:
    """Refuse samples [frames, channels] that are not finite, or far from any sound."""
    if np.abs(block).max() <= MAX_AMPLITUDE:  # false for NaN
        return
    frame, channel = np.argwhere(~(np.abs(block) <= MAX_AMPLITUDE))[0]
    raise AudioError(
        f"{name}: sample {start + frame} of channel {channel + 1} is {block[frame, channel]:g}; "
        "samples must be finite, and full scale is 1"
    )


def _check_end(recording: soundfile.SoundFile, n_frames: int, source: _Part, name: str) -> None:
    """Refuse a recording of which much less could be decoded than its header announces."""
    if n_frames < 1:
        raise AudioError(f"{name} holds no samples that can be decoded")
    # Without a Xing header the length of an mp3 is a guess from its size and first frame.
    is_certain = recording.format != "MP3" or xing_header(source) is not None
    if is_certain and n_frames < _MIN_PRESENT * recording.frames:
        raise AudioError(
            f"{name} ends early: of {recording.frames} frames that its header announces, "
            f"{n_frames} could be decoded"
        )
    if recording.format == "OGG" and _is_last_page_cut(source):
        raise AudioError(
            f"{name} ends early, in the middle of a page: {n_frames} frames could be decoded"
        )


def _is_last_page_cut(stream: _Part) -> bool:
    """Whether the last page of an ogg is longer than what is left of the recording."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 2**17))  # a page has less than 2^16 bytes
    tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    # 27 bytes, of which the last counts the segments; their lengths; the segments.
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
