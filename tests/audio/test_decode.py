"""Decoding: what comes out, against soundfile and soxr on the whole; and every refusal."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from qwave.audio import read_blocks, read_clip
from qwave.config import AudioError

Encode = Callable[..., bytes]
Noise = Callable[..., np.ndarray]


def _whole(data: bytes, sample_rate: int) -> np.ndarray:
    """The dumb twin: everything at once."""
    frames, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    mono: np.ndarray = soxr.resample(frames.mean(axis=1), rate, sample_rate)
    return mono


def _is_same(a: np.ndarray, b: np.ndarray, format: str) -> bool:
    """Bit for bit; of an mp3 the last bit depends on whether its decoder has been rewound."""
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-7 * (format == "MP3"))


def _refused(data: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        read_clip(io.BytesIO(data), 16_000, name="dog.wav")
    assert "dog.wav" in str(caught.value)


# --- what is decoded ---


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        *(("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
        *(("WAV", s) for s in ("ULAW", "IMA_ADPCM")),
        *(("WAVEX", "PCM_24"), ("RF64", "PCM_16")),
        *(("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")),
        *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("rate", "to"), [(48_000, 48_000), (48_000, 32_000), (16_000, 44_100)])
def test_a_recording_is_its_channels_mean_resampled_by_soxr(
    encode: Encode, noise: Noise, format: str, subtype: str, channels: int, rate: int, to: int
) -> None:
    data = encode(noise(9_600, channels), rate, format, subtype)
    waveform = read_clip(io.BytesIO(data), to)
    assert waveform.dtype == np.float32
    assert _is_same(waveform, _whole(data, to), format)
    assert 0 <= len(waveform) - 9_600 * to / rate <= to / rate * 3_000  # ADPCM fills a block


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("frames", [2**18 - 1, 700_001])
def test_blocks_join_without_a_seam(
    encode: Encode, noise: Noise, channels: int, frames: int
) -> None:
    data = encode(noise(frames, channels), 44_100)
    assert np.array_equal(read_clip(io.BytesIO(data), 32_000), _whole(data, 32_000))
    blocks = list(read_blocks(io.BytesIO(data), 32_000))
    assert max(map(len, blocks)) < 2**18


@pytest.mark.parametrize("name", ["a.raw", "a.gsm", os.fsdecode(b"\xff.x")])
@pytest.mark.parametrize("format", ["WAV", "MP3"])
def test_the_content_decides_and_not_the_suffix(
    tmp_path: Path, encode: Encode, noise: Noise, name: str, format: str
) -> None:
    data = encode(noise(), 16_000, format)
    (tmp_path / name).write_bytes(data)
    assert _is_same(read_clip(tmp_path / name, 16_000), _whole(data, 16_000), format)


@pytest.mark.parametrize("rate", [100, 44_100, 768_000])
def test_one_sample_is_a_clip(encode: Encode, rate: int) -> None:
    waveform = read_clip(io.BytesIO(encode(np.array([0.5]), rate, "WAV", "FLOAT")), 16_000)
    assert len(waveform) == max(1, round(16_000 / rate))
    assert np.isfinite(waveform).all()


def test_a_clip_shorter_than_a_sample_is_its_mean(encode: Encode) -> None:
    data = encode(np.array([0.25, 0.75, 0.5]), 768_000, "WAV", "FLOAT")
    assert read_clip(io.BytesIO(data), 16_000).tolist() == [0.5]


@pytest.mark.parametrize("length", [0x7FFF_F000, 0xFFFF_FFFF])
def test_a_wav_written_to_a_pipe_is_read_to_its_end(
    encode: Encode, noise: Noise, length: int
) -> None:
    data = bytearray(encode(noise()))
    struct.pack_into("<I", data, data.index(b"data") + 4, length)
    assert np.array_equal(read_clip(io.BytesIO(data), 16_000), _whole(encode(noise()), 16_000))


def test_padding_and_tags_after_the_sound_are_no_damage(encode: Encode, noise: Noise) -> None:
    data = encode(noise(16_000, 2), 16_000, "WAV")
    waveform = read_clip(io.BytesIO(data[:-10]), 16_000)  # a frame and a half short
    assert len(waveform) == 16_000 - 3
    for format in ("WAV", "OGG", "MP3"):
        data = encode(noise(16_000, 2), 16_000, format)
        tagged = data + b"TAG" + bytes(125)
        assert _is_same(read_clip(io.BytesIO(tagged), 16_000), _whole(data, 16_000), format)


def test_the_length_of_an_mp3_without_xing_header_is_not_believed(
    encode: Encode, noise: Noise
) -> None:
    constant = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
    data = encode(noise(16_000), 16_000, "MP3", **constant)
    frames = data[data.index(data[:2], 200) :]
    assert b"Xing" not in frames
    assert b"Info" not in frames
    tags = b"APETAGEX" + bytes(500)
    waveform = read_clip(io.BytesIO(frames + tags), 16_000)
    assert len(waveform) >= 16_000
    assert soundfile.info(io.BytesIO(frames + tags)).frames > 1.04 * len(waveform)


# --- what is refused ---


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for name, message in (
        ("a.wav", "cannot be opened: No such file or directory"),
        ("a" * 300, "cannot be opened: File name too long"),
        (".", "is a folder, not a file"),
        ("pipe.wav", "is a pipe or a device, not a file"),
    ):
        with pytest.raises(AudioError, match=re.escape(f"{tmp_path / name} {message}")):
            read_clip(tmp_path / name, 16_000)


def test_a_recording_has_the_name_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(AudioError, match="^fold1/dog.wav is empty: it has 0 bytes$"):
        read_clip(tmp_path / "x", 16_000, name="fold1/dog.wav")
    with pytest.raises(AudioError, match="^recording is empty"):
        read_clip(io.BytesIO(), 16_000)


@pytest.mark.parametrize("data", [b"{", b"\0\0\0\x20ftypM4A "])
def test_what_is_not_sound_is_refused_with_its_first_bytes(data: bytes) -> None:
    message = f"is not wav, flac, ogg, opus, mp3 or aiff: it begins with {data[:16]!r}"
    _refused(data, re.escape(message))


def test_a_wav_that_ends_early_says_how_much_is_there(encode: Encode, noise: Noise) -> None:
    data = encode(noise(8_000, 2))
    assert data[36:40] == b"data"
    message = "ends early: of 32000 bytes of sound that its header announces, 16000 are there"
    _refused(data[: 44 + 16_000], message)
    _refused(data[:44], "ends early: of 32000 .* announces, 0 are there")


@pytest.mark.parametrize(
    ("format", "subtype", "message"),
    [
        ("AIFF", "PCM_24", r"ends early: of \d+ bytes of sound .* \d+ are there"),
        ("WAVEX", "PCM_24", r"ends early: of \d+ bytes of sound .* \d+ are there"),
        ("FLAC", None, "cannot be decoded: libsndfile says .*lost sync"),
        ("OGG", "VORBIS", r"ends early, in the middle of a page: \d+ frames could be decoded"),
        ("OGG", "OPUS", r"ends early, in the middle of a page: \d+ frames could be decoded"),
        ("MP3", None, r"ends early: of 64000 frames .* announces, \d+ could be decoded"),
    ],
)
@pytest.mark.parametrize("share", [0.7, 0.9, 0.98])
def test_a_recording_that_ends_early_is_refused(
    encode: Encode, noise: Noise, format: str, subtype: str | None, message: str, share: float
) -> None:
    data = encode(noise(64_000), 16_000, format, subtype)
    _refused(data[: int(share * len(data))], message)


def test_the_xing_header_of_an_mp3_is_found_behind_a_tag(encode: Encode, noise: Noise) -> None:
    data = encode(noise(64_000), 16_000, "MP3")
    tag = b"ID3\x03\0\0\0\0\x28\x09" + bytes(0x28 * 128 + 9)
    assert _is_same(read_clip(io.BytesIO(tag + data), 16_000), _whole(data, 16_000), "MP3")
    _refused(tag + data[: len(data) // 2], "ends early: of 64000 frames")


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_no_samples_are_no_clip(encode: Encode, format: str) -> None:
    data = encode(np.zeros((0, 2)), 16_000, format)
    _refused(data, "holds no samples|cannot be decoded|is empty")


def test_samples_that_are_not_sound_are_named(encode: Encode, noise: Noise) -> None:
    for value, text in ((np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e30, r"1e\+30")):
        frames = noise(200_000, 2)
        frames[150_123, 1] = value
        message = f"sample 150123 of channel 2 is {text}; samples must be finite, and full scale"
        _refused(encode(frames, 16_000, "WAV", "FLOAT"), message)


@pytest.mark.parametrize("rate", [99, 768_001])
def test_a_rate_that_no_recorder_has_is_refused(encode: Encode, noise: Noise, rate: int) -> None:
    data = bytearray(encode(noise()))
    struct.pack_into("<I", data, 24, rate)
    _refused(bytes(data), rf"says that it has {rate} samples a second \(allowed: 100 to 768000\)")


def test_more_channels_than_any_microphone_has_are_refused(encode: Encode) -> None:
    _refused(encode(np.zeros((10, 65))), r"says that it has 65 channels \(allowed: 1 to 64\)")


def _flac_of(data: bytes, frames: int) -> bytes:
    """A FLAC file whose header announces so many frames."""
    said = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    return data[:18] + said.to_bytes(8, "big") + data[26:]


def test_an_hour_is_the_longest_clip_but_not_the_longest_recording(
    encode: Encode, noise: Noise
) -> None:
    data = encode(noise(), 100)
    _refused(_flac_of(encode(noise(), 16_000, "FLAC"), 2**36 - 1), "is 4294967 s long by its head")
    seconds = encode(np.zeros(360_001), 100)
    _refused(seconds, r"is 3600 s long .* \(360001 frames at 100 Hz\).*3600 s at most")
    assert len(read_clip(io.BytesIO(data), 100)) == 4_000
    assert sum(map(len, read_blocks(io.BytesIO(seconds), 100))) == 360_001


def test_a_flac_of_unknown_length_is_refused(encode: Encode, noise: Noise) -> None:
    data = encode(noise(), 16_000, "FLAC")
    _refused(_flac_of(data, 0), "does not say how long it is")
    _refused(_flac_of(data, 400_000), "cannot be decoded|ends early")


def test_memory_is_not_taken_for_what_a_header_says(encode: Encode, noise: Noise) -> None:
    data = _flac_of(encode(noise(4_000, 8), 16_000, "FLAC"), 3_000 * 16_000)
    tracemalloc.start()
    try:
        _refused(data, "cannot be decoded|ends early")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20  # of 1.5 GB that the header announces


def test_a_fault_of_the_disk_is_one_of_reading(encode: Encode, noise: Noise) -> None:
    class Disk(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 20_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    for format in ("WAV", "FLAC", "OGG"):
        stream = Disk(encode(noise(160_000), 16_000, format))
        with pytest.raises(AudioError, match="^a.wav cannot be .*Input/output error"):
            read_clip(stream, 16_000, name="a.wav")


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_missing_library_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, encode: Encode, noise: Noise, library: str
) -> None:
    data = encode(noise())
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(AudioError, match=rf"soundfile and soxr .*{library}.*: pip install 'qwave"):
        read_clip(io.BytesIO(data), 16_000)
