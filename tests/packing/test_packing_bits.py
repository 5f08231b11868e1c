"""Codes to bytes and back, against a packer that counts in digits of Python integers."""

from __future__ import annotations

import itertools
import math
import struct
import tracemalloc

import numpy as np
import pytest

from qwave.config import SCHEMES, PackedFileError, Scheme
from qwave.packing import pack, packed_length, unpack

NARROW = [s for s in SCHEMES.values() if s.bits < 8]
WIDE_CODES = [s for s in SCHEMES.values() if s.weights and s.bits >= 8]

every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda s: s.name)
every_narrow_scheme = pytest.mark.parametrize("scheme", NARROW, ids=lambda s: s.name)

DIGITS_PER_BYTE = {"int1": 8, "ternary": 5, "popcount": 5, "int2": 4, "int4": 2}
STORED = {name: np.int8 for name in SCHEMES} | {"int16": np.int16, "fp32": np.float32}
LARGEST_FLOAT = float(np.finfo(np.float16).max)


def all_codes(scheme: Scheme) -> list[int]:
    grid = scheme.weights
    assert grid is not None
    return list(range(-grid.highest, grid.highest + 1, grid.spacing))


def random_codes(scheme: Scheme, seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if scheme.weights is None:
        return rng.normal(size=shape).astype(np.float32)
    return rng.choice(np.array(all_codes(scheme), dtype=np.float32), size=shape)


def pack_by_hand(codes: list[float], scheme: Scheme) -> bytes:
    """One code after the other; the first stands in the lowest place of its byte."""
    wide = {"int8": "<b", "int16": "<h", "fp32": "<f"}.get(scheme.name)
    if wide is not None:
        whole = scheme.weights is not None
        return b"".join(struct.pack(wide, int(c) if whole else c) for c in codes)
    levels = all_codes(scheme)
    base = {2: 2, 3: 3, 4: 4, 15: 16}[len(levels)]
    per_byte = DIGITS_PER_BYTE[scheme.name]
    content = []
    for start in range(0, len(codes), per_byte):
        digits = [levels.index(int(code)) for code in codes[start : start + per_byte]]
        content.append(sum(digit * base**place for place, digit in enumerate(digits)))
    return bytes(content)


def test_worked_example_of_the_docstring() -> None:
    codes = np.array([-1, 0, 1, 1, 0, -1], dtype=np.float32)
    packed = pack(codes, "ternary")
    assert packed.tolist() == [0 + 1 * 3 + 2 * 9 + 2 * 27 + 1 * 81, 0] == [156, 0]
    assert np.array_equal(unpack(packed, "ternary", (6,)), codes)


@every_scheme
def test_codes_of_any_number_come_back(scheme: Scheme) -> None:
    for count, seed in itertools.product(range(1, 34), range(3)):
        codes = random_codes(scheme, seed, count)
        packed = pack(codes, scheme.name)
        what = f"{scheme.name}, {count} codes, seed {seed}: {codes}"
        assert packed.dtype == np.uint8
        assert packed.shape == (packed_length(count, scheme.name),), what
        assert packed.tobytes() == pack_by_hand(codes.tolist(), scheme), what
        found = unpack(packed, scheme.name, (count,))
        assert found.dtype == STORED[scheme.name]
        assert np.array_equal(found, codes), what


@every_scheme
def test_number_of_bytes_is_that_of_the_stored_bits(scheme: Scheme) -> None:
    for count in range(200):
        assert packed_length(count, scheme.name) == math.ceil(count * scheme.bits / 8)


@pytest.mark.parametrize("scheme", NARROW + WIDE_CODES[:1], ids=lambda s: s.name)
def test_every_code_of_the_grid_comes_back(scheme: Scheme) -> None:
    codes = np.array(all_codes(scheme), dtype=np.float32)
    assert len(codes) == (scheme.weights.n_levels if scheme.weights else 0)
    assert np.array_equal(unpack(pack(codes, scheme.name), scheme.name, codes.shape), codes)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1e-45, 1.1754944e-38, 1 / 3, LARGEST_FLOAT, -LARGEST_FLOAT]
)
def test_floats_come_back_bit_for_bit(value: float) -> None:
    weight = np.array([value], dtype=np.float32)
    assert unpack(pack(weight, "fp32"), "fp32", (1,)).tobytes() == weight.tobytes()


@pytest.mark.parametrize("scheme", NARROW + WIDE_CODES, ids=lambda s: s.name)
@pytest.mark.parametrize("place", [0, 5])
def test_codes_beyond_the_grid_are_not_packed(scheme: Scheme, place: int) -> None:
    assert scheme.weights is not None
    for sign in (-1, 1):
        codes = random_codes(scheme, 6, 9)
        codes[place] = sign * (scheme.weights.highest + scheme.weights.spacing)
        with pytest.raises(AssertionError, match=scheme.name):
            pack(codes, scheme.name)


@pytest.mark.parametrize("scheme", NARROW + WIDE_CODES, ids=lambda s: s.name)
def test_codes_between_two_levels_are_not_packed(scheme: Scheme) -> None:
    codes = random_codes(scheme, 7, 9)
    codes[3] = 0.5
    with pytest.raises(AssertionError, match=scheme.name):
        pack(codes, scheme.name)


@every_scheme
@pytest.mark.parametrize("change", [-1, 1, 7])
def test_wrong_number_of_bytes_is_refused(scheme: Scheme, change: int) -> None:
    packed = pack(random_codes(scheme, 8, 11), scheme.name)
    wrong = np.resize(packed, len(packed) + change)
    match = f"11 codes of {scheme.name} take {len(packed)} bytes, but got uint8 of shape"
    with pytest.raises(PackedFileError, match=match):
        unpack(wrong, scheme.name, (11,))


@every_scheme
def test_bytes_of_another_type_or_shape_are_refused(scheme: Scheme) -> None:
    packed = pack(random_codes(scheme, 9, 16), scheme.name)
    with pytest.raises(PackedFileError, match="but got int8 of shape"):
        unpack(packed.astype(np.int8), scheme.name, (16,))
    with pytest.raises(PackedFileError, match=r"but got uint8 of shape \(1, "):
        unpack(packed.reshape(1, -1), scheme.name, (16,))


@every_narrow_scheme
def test_every_byte_is_decoded_or_refused(scheme: Scheme) -> None:
    """All 256 bytes: those that hold codes pack back to themselves, the others are refused."""
    levels, per_byte = all_codes(scheme), DIGITS_PER_BYTE[scheme.name]
    base = 16 if scheme.name == "int4" else len(levels)
    for byte in range(256):
        packed = np.array([byte], dtype=np.uint8)
        digits = [byte // base**place % base for place in range(per_byte)]
        if byte < base**per_byte and max(digits) < len(levels):
            codes = unpack(packed, scheme.name, (per_byte,))
            assert codes.tolist() == [levels[digit] for digit in digits]
            assert pack(codes, scheme.name).tolist() == [byte]
        else:
            with pytest.raises(PackedFileError, match=f"does not hold codes of {scheme.name}"):
                unpack(packed, scheme.name, (per_byte,))


@every_narrow_scheme
def test_padding_other_than_zero_is_refused(scheme: Scheme) -> None:
    per_byte = DIGITS_PER_BYTE[scheme.name]
    full = pack(np.full(2 * per_byte, all_codes(scheme)[-1], dtype=np.float32), scheme.name)
    assert full[1] != 0
    for count in range(per_byte + 1, 2 * per_byte):
        with pytest.raises(PackedFileError, match=f"does not hold codes of {scheme.name}"):
            unpack(full, scheme.name, (count,))


@pytest.mark.parametrize("scheme", WIDE_CODES, ids=lambda s: s.name)
def test_lowest_twos_complement_is_no_code(scheme: Scheme) -> None:
    packed = np.array([0] * (int(scheme.bits) // 8 - 1) + [0x80], dtype=np.uint8)
    with pytest.raises(PackedFileError, match=f"not a code of {scheme.name}"):
        unpack(packed, scheme.name, (1,))


BEYOND = [float(np.nextafter(np.float32(LARGEST_FLOAT), np.float32(np.inf))), 3e38]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, *BEYOND, -BEYOND[0]])
def test_floats_that_are_not_finite_or_beyond_float16_are_refused(value: float) -> None:
    packed = np.array([1.0, value], dtype="<f4").view(np.uint8)
    match = "a weight is not a code of fp32, or not finite or beyond 65504"
    with pytest.raises(PackedFileError, match=match):
        unpack(packed, "fp32", (2,))
    with pytest.raises(AssertionError, match="codes beyond fp32"):
        pack(np.array([1.0, value], dtype=np.float32), "fp32")


@every_scheme
def test_unpacking_takes_at_most_twice_what_it_leaves(scheme: Scheme) -> None:
    n_codes = 100_000
    packed = pack(random_codes(scheme, 10, n_codes), scheme.name)
    tracemalloc.start()
    codes = unpack(packed, scheme.name, (n_codes,))
    left, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert codes.nbytes == np.dtype(STORED[scheme.name]).itemsize * n_codes
    assert left < codes.nbytes + 50_000
    assert peak < 2.2 * codes.nbytes + 50_000
