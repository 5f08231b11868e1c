"""Windows of sound in pieces: their twins are whole waveforms, read and cut at once."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from qwave.audio.decode import fit_length, read_clip
from qwave.audio.stream import raw_blocks, read_wav_header, stream_windows, wav_blocks
from qwave.config import AudioError

RATE = 8000


def pieces(rng: np.random.Generator, waveform: np.ndarray, longest: int) -> Iterator[np.ndarray]:
    """A waveform in blocks of random lengths, some of them empty."""
    start = 0
    while start < len(waveform):
        length = int(rng.integers(0, longest))
        yield waveform[start : start + length]
        start += length


def make_wav(waveform: np.ndarray, subtype: str, rate: int = RATE) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, waveform, rate, format="WAV", subtype=subtype)
    return stream.getvalue()


class Pipe(io.RawIOBase):
    """Bytes that cannot be sought in, and come at most so many at a time."""

    def __init__(self, content: bytes, most: int) -> None:
        self._content, self._most = io.BytesIO(content), most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._content.read(min(len(buffer), self._most))
        buffer[: len(piece)] = piece
        return len(piece)


def pipe(content: bytes, most: int = 777) -> BinaryIO:
    return io.BufferedReader(Pipe(content, most))


def joined(blocks: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(blocks))


# --- clips of one length ---


@pytest.mark.parametrize("num_samples", [1, 6, 7, 8, 100])
def test_a_clip_is_looped_from_its_start_or_cut_at_its_end(num_samples: int) -> None:
    waveform = np.arange(7, dtype=np.float32)
    fitted = fit_length(waveform, num_samples)
    assert fitted.dtype == np.float32
    assert fitted.tolist() == [waveform[index % 7] for index in range(num_samples)]
    fitted[:] = -1
    assert waveform.tolist() == list(range(7))


@pytest.mark.parametrize(("length", "num_samples"), [(0, 10), (5, 0)])
def test_nothing_cannot_be_looped(length: int, num_samples: int) -> None:
    message = f"{length} samples cannot be looped or cut to {num_samples}"
    with pytest.raises(AudioError, match=message):
        fit_length(np.zeros(length, dtype=np.float32), num_samples)


# --- windows ---


@pytest.mark.parametrize(
    ("length", "hop", "expected"),
    [
        (7, 1.0, [(0, 7)]),  # the only one
        (14, 1.0, [(0, 10)]),  # 4 samples of 10 are less than half
        (15, 1.0, [(0, 10), (10, 15)]),
        (30, 1.0, [(0, 10), (10, 20), (20, 30)]),
        (22, 0.5, [(0, 10), (5, 15), (10, 20)]),  # 2 new samples of 5
        (23, 0.5, [(0, 10), (5, 15), (10, 20), (15, 23)]),
        (35, 2.0, [(0, 10), (20, 30)]),  # a gap
        (29, 2.0, [(0, 10)]),
        (40, 3.0, [(0, 10), (30, 40)]),  # whole: kept, though half a hop is 15
        (12, 0.1, [(0, 10), (1, 11), (2, 12)]),
    ],
)
def test_windows_worked_out_by_hand(
    length: int, hop: float, expected: list[tuple[int, int]]
) -> None:
    found = list(stream_windows([np.arange(length, dtype=np.float32)], 10, 1.0, hop))
    times = [(round(piece.start_seconds * 10), round(piece.end_seconds * 10)) for piece in found]
    assert times == expected
    assert [piece.waveform.tolist() for piece in found] == [[*range(*time)] for time in expected]


def windows_of(waveform: np.ndarray, rate: int, window: float, hop: float) -> list[slice]:
    """The dumb twin: windows of a whole waveform."""
    length, starts = round(window * rate), [0]
    for index in itertools.count(1):
        start, heard_to = round(index * hop * rate), round((index - 1) * hop * rate) + length
        if start >= len(waveform):
            return [slice(start, start + length) for start in starts]
        n_new = len(waveform) - max(start, heard_to)
        if start + length <= len(waveform) or n_new >= hop * rate / 2:
            starts.append(start)
    raise AssertionError


@pytest.mark.parametrize("seed", range(6))
def test_windows_are_those_of_the_whole_waveform(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate = int(rng.choice([100, 999, 8000]))
    waveform = rng.normal(size=int(rng.integers(1, 6 * rate))).astype(np.float32)
    window = float(rng.choice([0.1, 0.33335, 1.0, 2.7]))
    hop = float(rng.choice([0.05, 0.1, 0.33335, 1.0, 3.1]))
    found = list(stream_windows(pieces(rng, waveform, rate), rate, window, hop))
    case = f"{seed=} {rate=} {window=} {hop=} {len(waveform)} samples"
    for piece, part in zip(found, windows_of(waveform, rate, window, hop), strict=True):
        np.testing.assert_array_equal(piece.waveform, waveform[part], err_msg=case)
        assert piece.start_seconds == part.start / rate, case
        seconds = piece.end_seconds - piece.start_seconds
        assert seconds == pytest.approx(len(piece.waveform) / rate), case


def test_a_window_is_there_as_soon_as_its_last_sample_is() -> None:
    taken = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in itertools.count():  # a microphone never ends
            taken += 10
            yield np.zeros(10, dtype=np.float32)

    windows = stream_windows(blocks(), 100, 1.0, 0.5)
    assert next(windows).end_seconds == 1.0
    assert taken == 100
    assert next(windows).start_seconds == 0.5
    assert taken == 150


def test_no_more_than_a_window_and_a_block_is_held() -> None:
    blocks = (np.full(1000, i, dtype=np.float32) for i in range(2000))  # 8 MB in all
    windows = stream_windows(blocks, 1000, 2.0, 1.0)
    tracemalloc.start()
    try:
        assert sum(1 for _ in windows) == 1999
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


def test_a_gap_longer_than_a_block_is_passed_over() -> None:
    blocks = (np.full(10, i, dtype=np.float32) for i in range(100))
    found = list(stream_windows(blocks, 10, 1.0, 30.0))
    assert [window.start_seconds for window in found] == [0.0, 30.0, 60.0, 90.0]
    assert [window.waveform[0] for window in found] == [0.0, 30.0, 60.0, 90.0]


@pytest.mark.parametrize(
    ("window", "hop", "message"),
    [
        (0.0, 1.0, r"window_seconds must be at least one sample \(1/100 s\), but got 0.0"),
        (1.0, 0.004, "hop_seconds .* but got 0.004"),
        (float("inf"), 1.0, "window_seconds .* but got inf"),
        (1.0, float("nan"), "hop_seconds .* but got nan"),
        (1.0, 1e308, r"hop_seconds .* but got 1e\+308"),
    ],
)
def test_lengths_below_a_sample_are_refused(window: float, hop: float, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        next(stream_windows([], 100, window, hop))


# --- sound that arrives on a pipe ---


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_a_wav_stream_is_the_file_of_its_bytes(
    subtype: str, num_channels: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(num_channels)
    content = make_wav(rng.uniform(-1, 1, size=(5000, num_channels)), subtype, 44100)
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    for most in (7, 100_000):
        found = joined(wav_blocks(pipe(content, most), RATE))
        np.testing.assert_array_equal(found, read_clip(path, RATE), err_msg=f"{most=}")


def test_samples_keep_their_values_at_their_own_rate() -> None:
    codes = np.array([-32768, -1, 0, 1, 32767], dtype="<i2")
    expected = codes / np.float32(32768)
    np.testing.assert_array_equal(
        joined(raw_blocks(io.BytesIO(codes.tobytes()), RATE, RATE)), expected
    )
    wav = make_wav(expected, "PCM_16")
    np.testing.assert_array_equal(joined(wav_blocks(pipe(wav), RATE)), expected)


def header(
    *,
    tag: int = 1,
    num_channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    n_bytes: int = 0xFFFFFFFF,
    before: bytes = b"",
    frame_bytes: int | None = None,
) -> bytes:
    """What stands before the samples, as a recorder writes it that does not know its end."""
    frame = num_channels * bits // 8 if frame_bytes is None else frame_bytes
    fmt = struct.pack("<HHIIHH", tag, num_channels, rate, 0, frame, bits)
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    return b"RIFF\xff\xff\xff\xff" + body + b"data" + struct.pack("<I", n_bytes)


SAMPLES = np.arange(100, dtype="<i2")


@pytest.mark.parametrize("n_bytes", [0, 0xFFFFFFFF, 0x7FFFFFDB])
def test_a_length_that_nobody_knew_is_not_believed(n_bytes: int) -> None:
    stream = pipe(header(n_bytes=n_bytes) + SAMPLES.tobytes())
    np.testing.assert_array_equal(joined(wav_blocks(stream, RATE)) * 32768, SAMPLES)
    assert read_wav_header(pipe(header(n_bytes=n_bytes)), "mic")[1] is None


def test_a_recording_that_is_stopped_just_ends_and_half_a_sample_is_dropped() -> None:
    content = header(n_bytes=2000) + SAMPLES.tobytes() + b"\x01"
    np.testing.assert_array_equal(joined(wav_blocks(pipe(content), RATE)) * 32768, SAMPLES)


def test_other_chunks_are_passed_over_and_odd_ones_are_padded() -> None:
    before = b"LIST\x03\x00\x00\x00abc\x00" + b"bext\x02\x00\x00\x00xy"
    content = header(before=before) + SAMPLES.tobytes()
    assert len(joined(wav_blocks(pipe(content), RATE))) == 100


def test_the_encoding_within_an_extensible_header_is_read() -> None:
    fmt = struct.pack("<HHIIHH", 0xFFFE, 1, RATE, 2 * RATE, 2, 16) + struct.pack("<HHI", 22, 16, 4)
    guid = b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    content = (
        b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 40) + fmt + guid + b"data\0\0\0\0"
    )
    found = joined(wav_blocks(pipe(content + SAMPLES.tobytes()), RATE))
    np.testing.assert_array_equal(found * 32768, SAMPLES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "stdin is no WAV stream: it is empty; send WAV with .* --raw RATE"),
        (b"OggS" + bytes(40), r"stdin is no WAV stream: it begins with b'OggS.*ffmpeg -i CLIP"),
        (b"RIFF\0\0\0\0AVI " + bytes(40), "stdin is no WAV stream: it begins with b'RIFF"),
        (header()[:40], "stdin ends before its first sample"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + bytes(9), "no chunk b'fmt '"),
        (b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0abcd", "the chunk b'fmt ' has 4 bytes, but needs 16"),
        (header(tag=7, bits=8), "samples of 8 bits in WAV encoding 7 are not understood; send"),
        (header(num_channels=65), r"says that it has 65 channels \(allowed: 1 to 64\)"),
        (header(rate=2**31), r"2147483648 samples a second \(allowed: 100 to 768000\)"),
        (header(frame_bytes=3), "1 samples of 16 bits are not the 3 bytes"),
        (b"RIFF\0\0\0\0WAVE" + bytes(2**21), r"1048584 bytes stand before the sound"),
        (
            header(before=b"JUNK\xff\xff\xff\x7f"),
            r"2147483655 bytes stand before the sound.*b'JUNK'",
        ),
    ],
)
def test_what_is_no_wav_stream_is_named(content: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        joined(wav_blocks(pipe(content), RATE))


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e30, "1e.30")])
def test_samples_that_are_no_sound_are_refused(value: float, shown: str) -> None:
    samples = np.array([0.0, 1.5, value], dtype="<f4")
    content = header(tag=3, bits=32) + samples.tobytes()
    with pytest.raises(AudioError, match=f"mic: a sample is {shown}; samples must be finite"):
        joined(wav_blocks(pipe(content), RATE, name="mic"))


@pytest.mark.parametrize("rate", [99, 768_001])
def test_bare_samples_need_a_rate_of_sound(rate: int) -> None:
    with pytest.raises(AudioError, match=rf"{rate} samples a second \(allowed: 100 to 768000\)"):
        joined(raw_blocks(io.BytesIO(b"\0\0"), rate, RATE))


@pytest.mark.parametrize("seed", range(5))
def test_damaged_streams_end_in_sound_or_an_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = make_wav(rng.uniform(-1, 1, size=(300, 2)), "FLOAT" if seed % 2 else "PCM_16")
    for case in range(200):
        content = bytearray(whole[: int(rng.integers(0, len(whole) + 1))])
        for place in rng.integers(0, 60, size=int(rng.integers(0, 4))):
            if place < len(content):
                content[place] = int(rng.integers(256))
        outcome = read_or_fault(bytes(content))
        if isinstance(outcome, str):
            assert "stdin" in outcome, f"{seed=} {case=}"
        else:
            assert np.isfinite(outcome).all(), f"{seed=} {case=}"


def read_or_fault(content: bytes) -> np.ndarray | str:
    try:
        return joined(wav_blocks(pipe(content), RATE))
    except AudioError as error:
        return str(error)
