"""Hostile files without end: small models, changed at random.

Random bytes hardly ever get past the header, so that half of the mutations change what it says
and write it as qwave would, with as much data as it then asks for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from qwave.config import PackedFileError
from qwave.packing.file import _data_length, _layout
from qwave.packing.header import header_from_text

from .make_golden import GOLDEN
from .models import join, split, with_head

CORPUS = {
    f"{file.parent.name}/{file.stem}": file.read_bytes()
    for file in sorted(GOLDEN.glob("v*/*.qwave"))
}
MOST_DATA = 20_000  # bytes; larger models are as hostile, but slow

NUMBERS = (
    *("0", "1", "2", "3", "7", "8", "64", "255", "256", "999", "1000", "1001", "65535", "65536"),
    *("2147483647", "2147483648", "4294967296", "9223372036854775808", "18446744073709551616"),
    *("-1", "-2147483648", "1.0", "0.5", "1e6", "1e308", "1e309", "-0", "+1", "00", "1_000"),
    *("NaN", "Infinity", "-Infinity", "null", "true", "[]", "{}", '""', "0x10", "9" * 5000),
)
VALUES = (
    *("", " ", ",", "x", "\0", "犬", '"', "\\", "\r\n", "a,b", "a" * 3000, "1," * 500 + "1"),
    *("int1", "int8", "fp32", "int1,int1", "ternary,popcount", "int1,int8,fp32", "int3", "esc"),
    *("raw", "standard", "min_max", "layer", "0,int8", "5,int1", "2147483648,fp32", "1,1", "5,4"),
    *(
        "0.0",
        "0.5",
        "1e-300",
        "1000000.0",
        "1e+16",
        "nan",
        "1000,ffffffff,ffff",
        "2,00000000,0000",
    ),
    *("1000,00000000,ffff,ffff", "0123456789abcdef", "0123456789abcde\u0301"),
    *("0000", "ffff", "10000", "8,mel@01234567", "mel@01234567", "0123456789abcdef," * 2),
)
FLOATS = np.array([0, -1, 1, 6e-8, 6e-5, 65504, -65504, np.inf, -np.inf, np.nan])

Mutation = Callable[[np.random.Generator, bytes, bytes], bytes]


def _place(rng: np.random.Generator, content: bytes) -> int:
    return int(rng.integers(len(content) + 1))


def flip_bits(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    start = _place(rng, content)
    piece = rng.bytes(int(rng.integers(1, 9)))
    return content[:start] + piece + content[start + len(piece) :]


def truncate(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: _place(rng, content)]


def insert(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    start = _place(rng, content)
    pieces = (rng.bytes(int(rng.integers(1, 30))), b"\0" * 8, b" " * 8, b"{" * 999, b'",')
    return content[:start] + pieces[rng.integers(len(pieces))] + content[start:]


def delete(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    start = _place(rng, content)
    return content[:start] + content[start + int(rng.integers(1, 40)) :]


def repeat(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    start, end = sorted((_place(rng, content), _place(rng, content)))
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def splice(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: _place(rng, content)] + other[_place(rng, other) :]


def exchange_data(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: -len(split(content)[1])] + split(other)[1]


def change_length(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    length = int.from_bytes(content[:8], "little")
    lengths = (
        *(0, 1, length - 8, length - 1, length + 1, length + 8, len(content) - 8, len(content)),
        *(10**6, 10**6 + 1, 2**31, 2**32 + length, 2**63, 2**64 - 1),
    )
    return lengths[rng.integers(len(lengths))].to_bytes(8, "little") + content[8:]


def change_number(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Any run of digits in the header, in its place."""
    _, rest = split(content)
    text = content[8 : -len(rest)].decode()
    runs = list(re.finditer(r"\d+", text))
    run = runs[rng.integers(len(runs))]
    text = text[: run.start()] + NUMBERS[rng.integers(len(NUMBERS))] + text[run.end() :]
    return with_head(text.encode(), rest)


def change_tensor(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    header, rest = split(content)
    n = len(rest)
    tensors: tuple[Any, ...] = (
        *(None, [], {}, "t", {"dtype": "U8"}),
        *({"dtype": dtype, "shape": [n], "data_offsets": [0, n]} for dtype in ("BF16", "F64", 8)),
        *({"dtype": "U8", "shape": [s], "data_offsets": [0, n]} for s in (n - 1, 2**63, -n, 0.5)),
        *({"dtype": "U8", "shape": s, "data_offsets": [0, n]} for s in ([1, n], [], [[n]], None)),
        *(
            {"dtype": "U8", "shape": [n], "data_offsets": o}
            for o in ([1, n], [n, 0], [0], [-1, n])
        ),
    )
    header[("t", "x")[rng.integers(2)]] = tensors[rng.integers(len(tensors))]
    return join(header, rest)


def change_data(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Floats that are none, or no scales; or other bytes all over."""
    head, rest = content[: -len(split(content)[1])], bytearray(split(content)[1])
    dtype = (np.dtype("<f2"), np.dtype("<f4"))[rng.integers(2)]
    with np.errstate(over="ignore"):
        value = FLOATS[rng.integers(len(FLOATS))].astype(dtype).tobytes()
    places = rng.integers(len(rest) // dtype.itemsize + 1, size=rng.integers(1, 4))
    for start in places * dtype.itemsize:
        rest[start : start + dtype.itemsize] = value
    if rng.random() < 0.2:
        rest[:] = rng.bytes(len(rest))
    return head + bytes(rest)


def change_metadata(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Another value, a key less, a key more, or two values exchanged; often with fitting data."""
    header, rest = split(content)
    text = header["__metadata__"]
    others = split(other)[0]["__metadata__"]
    for _ in range(rng.integers(1, 4)):
        keys = list(text)
        key, twin = str(rng.choice(keys)), str(rng.choice(list(others)))
        values = (others.get(key, ""), others[twin], VALUES[rng.integers(len(VALUES))])
        match rng.integers(8):
            case 0:
                del text[key]
            case 1:
                text[twin] = others[twin]
            case 2:
                text[key], text[keys[0]] = text[keys[0]], text[key]
            case 3:
                parts = text[key].split(",")
                parts[rng.integers(len(parts))] = NUMBERS[rng.integers(len(NUMBERS))]
                text[key] = ",".join(parts)
            case _:
                text[key] = values[rng.integers(len(values))]
    return with_fitting_data(rng, text, rest) if rng.random() < 0.8 else join(header, rest)


def with_fitting_data(rng: np.random.Generator, text: dict[str, str], rest: bytes) -> bytes:
    """A file as long as its header asks for, if that is possible."""
    n_bytes = len(rest)
    with contextlib.suppress(PackedFileError):
        n_bytes = min(_data_length(_layout(header_from_text(text))), MOST_DATA)
    rest = (rest * (n_bytes // max(len(rest), 1) + 1))[:n_bytes]
    tensor = {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}
    return join({"__metadata__": text, "t": tensor}, rest)


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, overwrite, truncate, insert, delete, repeat, splice, exchange_data),
    *(change_length, change_number, change_tensor, change_data, change_data),
    *(change_metadata, change_metadata, change_metadata, change_metadata),
)


def random_mutations(seed: int, n_files: int) -> Iterator[tuple[str, bytes]]:
    """What was done, and the file."""
    rng = np.random.default_rng([7, seed])
    names = list(CORPUS)
    for number in range(n_files):
        name, other = (str(n) for n in rng.choice(names, 2))
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        what = f"file {number} of seed {seed}: {mutation.__name__} of {name} (and {other})"
        yield what, mutation(rng, CORPUS[name], CORPUS[other])


def all_flips(name: str) -> Iterator[tuple[str, bytes]]:
    """Every bit of a file flipped, one at a time; and every byte, to its complement."""
    content = CORPUS[name]
    for place in range(len(content)):
        for mask in (*(1 << bit for bit in range(8)), 0xFF):
            flipped = bytearray(content)
            flipped[place] ^= mask
            yield f"byte {place} of {name} xor {mask}", bytes(flipped)


def all_truncations(name: str) -> Iterator[tuple[str, bytes]]:
    """Every beginning of a file."""
    content = CORPUS[name]
    for length in range(len(content)):
        yield f"the first {length} bytes of {name}", content[:length]
