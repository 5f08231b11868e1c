"""Three hundred damaged recordings: each is sound, or an error that names it, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
FORMATS = (
    *(("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM")),
    *(("WAVEX", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
)
# What fields of headers dislike.
NUMBERS = (0, 1, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
SEED = 20_240_229


def _mutations(data: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """A recording cut off, with wrong fields, flipped bits, holes, and foreign bytes in it."""
    n = len(data)
    for end in (1, 3, 4, 11, 12, 20, 43, 44, 45, n // 3, n - 1):
        yield data[:end]
    for _ in range(6):  # fields of the header
        at, value = int(rng.integers(0, 60)), int(rng.choice(NUMBERS))
        field = struct.pack(rng.choice(("<I", ">I")), value)
        yield data[:at] + field + data[at + 4 :]
    for flips in (1, 3, 30, 300):  # bits anywhere
        bits = bytearray(data)
        for bit in rng.integers(0, 8 * n, size=flips):
            bits[bit // 8] ^= 1 << bit % 8
        yield bytes(bits)
    at, size = int(rng.integers(0, n)), int(rng.integers(1, 400))
    yield data[:at] + data[at + size :]
    yield data[:at] + rng.bytes(size) + data[at:]
    yield data[:at] + bytes(size) + data[at + size :]


def _damaged(encode: Callable[..., bytes], noise: Callable[..., np.ndarray]) -> Iterator[bytes]:
    rng = np.random.default_rng(SEED)
    for format, subtype in FORMATS:
        sound = encode(noise(6_000, 2), 16_000, format, subtype)
        yield from _mutations(sound, rng)
        yield from (rng.bytes(size) + sound[size:] for size in (1, 8, 64))
        yield sound + sound
        yield encode(np.zeros((6_000, 2)), 16_000, format, subtype)
        yield encode(noise(1), 16_000, format, subtype)
    for value in (np.nan, np.inf, -np.inf, 3e38):
        yield encode(np.full((100, 2), value, np.float32), 16_000, "WAV", "FLOAT")
    for format in ("WAV", "FLAC", "OGG", "AIFF"):
        yield encode(noise(3_000, 8), 16_000, format)
        yield encode(noise(3_000), 192_000, format)
    yield from (b"", b"\0", b"\n", bytes(1000), b"RIFF", b"ID3" + b"\x7f" * 20)
    yield from (
        head + rng.bytes(2000) for head in (b"", b"\xff\xfb", b"OggS", b"fLaC", b"ID3\x04")
    )
    yield b"PK\x03\x04" + rng.bytes(500)
    yield b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 441044\n"
    yield "Kein Ton, nur Text.".encode("utf-16")


@pytest.fixture(scope="module")
def damaged(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    noise: Callable[..., np.ndarray],
) -> list[Path]:
    """The files, all named as if they were WAV."""
    folder = tmp_path_factory.mktemp("damaged")
    files = []
    for number, data in enumerate(_damaged(encode, noise)):
        file = folder / f"{number:03}.wav"
        file.write_bytes(data)
        files.append(file)
    return files


def test_no_damage_crashes_hangs_or_fills_the_memory(
    damaged: list[Path], fresh_python: Callable[..., str]
) -> None:
    """In a process of its own, with a gibibyte of memory and a minute of time."""
    code = (
        "import pathlib, resource\n"
        "import numpy as np, soundfile, soxr\n"
        "from qwave.audio import read_clip\n"
        "from qwave.config import AudioError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "decoded = refused = 0\n"
        f"for file in sorted(pathlib.Path({str(damaged[0].parent)!r}).iterdir()):\n"
        "    try:\n"
        "        waveform = read_clip(file, 16_000)\n"
        "    except AudioError as error:\n"
        "        refused += 1\n"
        "        assert str(file) in str(error), (file, error)\n"
        "        continue\n"
        "    decoded += 1\n"
        "    assert waveform.dtype == np.float32 and waveform.ndim == 1, file\n"
        "    assert len(waveform) and np.isfinite(waveform).all(), file\n"
        "print(decoded, refused)\n"
    )
    decoded, refused = map(int, fresh_python(code, OPENBLAS_NUM_THREADS="1").split())
    assert decoded + refused == len(damaged) >= 300
    assert decoded > 50
    assert refused > 100
