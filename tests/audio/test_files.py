"""Files of several recordings: all are heard, each as it is by itself."""

from __future__ import annotations

import io
import itertools
import re
import struct
from collections.abc import Callable

import numpy as np
import pytest

from qwave.audio import read_clip
from qwave.audio.files import find_parts
from qwave.config import AudioError

Noise = Callable[..., np.ndarray]
Encode = Callable[..., bytes]

FORMATS = (
    *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
)


@pytest.fixture(scope="module")
def recordings(noise: Noise, encode: Encode) -> dict[tuple[str, str], list[bytes]]:
    """Three of each format, of different lengths, channels and rates."""
    shapes = ((9_000, 1, 16_000), (17_001, 2, 48_000), (12_345, 1, 24_000))
    return {
        (format, subtype): [
            encode(noise(frames, channels, seed=seed), rate, format, subtype)
            for seed, (frames, channels, rate) in enumerate(shapes)
        ]
        for format, subtype in FORMATS
    }


def _heard(data: bytes) -> np.ndarray:
    return read_clip(io.BytesIO(data), 16_000)


def _parts(data: bytes) -> list[tuple[int, int]]:
    return list(find_parts(io.BytesIO(data)))


@pytest.mark.parametrize("kind", FORMATS)
def test_joined_recordings_are_all_heard(
    recordings: dict[tuple[str, str], list[bytes]], kind: tuple[str, str]
) -> None:
    parts = recordings[kind]
    expected = np.concatenate([_heard(part) for part in parts])
    np.testing.assert_array_equal(_heard(b"".join(parts)), expected)
    ends = list(itertools.accumulate(map(len, parts)))
    assert _parts(b"".join(parts)) == list(zip([0, *ends], ends, strict=False))


@pytest.mark.parametrize("kind", FORMATS)
def test_one_recording_is_one_part_whatever_follows_it(
    recordings: dict[tuple[str, str], list[bytes]], kind: tuple[str, str]
) -> None:
    data = recordings[kind][0]
    for rest in (b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(99), bytes(5000)):
        assert _parts(data + rest) == [(0, len(data + rest))], rest[:8]


def test_streams_beside_each_other_are_no_chain(
    recordings: dict[tuple[str, str], list[bytes]],
) -> None:
    """Pages that begin streams stand together where these run at the same time."""
    data = recordings["OGG", "VORBIS"][0]
    # A page that begins another stream, right behind the first that does; libsndfile skips it.
    first_end = 27 + data[26] + sum(data[27 : 27 + data[26]])
    other = b"OggS\0\2" + bytes(8) + struct.pack("<III", 77, 0, 0) + b"\1\4" + b"none"
    joined = data[:first_end] + other + data[first_end:]
    assert _parts(joined) == [(0, len(joined))]


def test_a_chain_goes_on_behind_a_hole(recordings: dict[tuple[str, str], list[bytes]]) -> None:
    first, second, _ = recordings["OGG", "VORBIS"]
    assert _parts(first + b"junk" + second) == [
        (0, len(first) + 4),
        (len(first) + 4, len(first) + 4 + len(second)),
    ]


def test_an_mp3_whose_header_leaves_its_own_frame_out_is_one_recording(
    recordings: dict[tuple[str, str], list[bytes]],
) -> None:
    data = bytearray(recordings["MP3", "MPEG_LAYER_III"][0])
    place = re.search(b"Xing|Info", data)
    assert place is not None
    at = place.end() + 8
    n_bytes = int.from_bytes(data[at : at + 4], "big")
    data[at : at + 4] = (n_bytes - 300).to_bytes(4, "big")
    assert _parts(bytes(data)) == [(0, len(data))]


def test_what_is_wrong_with_a_later_recording_is_said_of_it(
    recordings: dict[tuple[str, str], list[bytes]],
) -> None:
    first, second, _ = recordings["OGG", "VORBIS"]
    with pytest.raises(AudioError, match=r"^x\.ogg, recording 2 in it, ends early, in the middle"):
        read_clip(io.BytesIO(first + second[:-5]), 16_000, name="x.ogg")
    wav = recordings["WAV", "PCM_16"][0]
    with pytest.raises(AudioError, match=r"^x\.wav, recording 2 in it, cannot be decoded: "):
        read_clip(io.BytesIO(wav + b"RIFF" + bytes(40)), 16_000, name="x.wav")


def test_an_hour_is_the_longest_clip_all_recordings_together(noise: Noise, encode: Encode) -> None:
    half = encode(np.zeros((181_000, 1), np.float32), 100)  # 1810 s
    assert len(_heard(half)) == 1810 * 16_000
    with pytest.raises(
        AudioError,
        match=r"recording 2 in it, is 1810 s long .*, 1810 s into .* 3600 s at most",
    ):
        _heard(half + half)


@pytest.mark.parametrize("seed", range(5))
def test_any_bytes_are_parts_that_cover_the_file(
    recordings: dict[tuple[str, str], list[bytes]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    every = [data for kinds in recordings.values() for data in kinds]
    pieces = []
    for _ in range(int(rng.integers(1, 5))):
        data = bytearray(every[rng.integers(len(every))])
        for _ in range(int(rng.integers(0, 20))):
            data[rng.integers(min(len(data), 300))] = rng.integers(256)
        pieces.append(bytes(data[: rng.integers(1, len(data) + 1)]))
    joined = b"".join(pieces)
    parts = _parts(joined)
    assert [parts[0][0], parts[-1][1]] == [0, len(joined)], seed
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(parts)), seed
    assert all(start < end for start, end in parts), seed
