"""Names, order and levels of the quantization schemes."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from qwave.config import SCHEMES, ConfigError, nearest, scheme_name, scheme_rank
from qwave.config.schemes import require_scheme

# Name, stored bits, levels of the weights (None: floats), other names. From the design.
TABLE = [
    ("int1", Fraction(1), 2, ["1", 1]),
    ("ternary", Fraction(8, 5), 3, ["bitnet", "BitNet"]),
    ("popcount", Fraction(8, 5), 3, ["qesc", "QESC"]),
    ("int2", Fraction(2), 4, ["2", 2]),
    ("int4", Fraction(4), 15, ["4", 4]),
    ("int8", Fraction(8), 255, ["8", 8]),
    ("int16", Fraction(16), 65535, ["16", 16]),
    ("fp32", Fraction(32), None, ["esc", "ESC"]),
]


@pytest.mark.parametrize(("name", "bits", "levels", "others"), TABLE)
def test_a_scheme_goes_by_its_name_its_aliases_and_its_bits(
    name: str, bits: Fraction, levels: int | None, others: list[object]
) -> None:
    for other in [name, name.upper(), *others]:
        assert scheme_name(other) == name, f"{other=}"
    assert SCHEMES[name].bits == bits
    weights = SCHEMES[name].weights
    assert (None if weights is None else weights.n_levels) == levels


def test_schemes_are_those_of_the_design_in_the_order_of_their_bits() -> None:
    assert list(SCHEMES) == [row[0] for row in TABLE]
    bits = [scheme.bits for scheme in SCHEMES.values()]
    assert bits == sorted(bits)
    assert [scheme_rank(name) for name in SCHEMES] == list(range(len(TABLE)))


def test_no_alias_stands_for_two_schemes() -> None:
    aliases = [a for s in SCHEMES.values() for a in (s.name, *s.aliases)]
    assert len(aliases) == len(set(aliases))


@pytest.mark.parametrize("name", [name for name in SCHEMES if SCHEMES[name].weights])
def test_levels_of_a_grid_are_as_many_as_a_plain_count_of_its_codes(name: str) -> None:
    grid = SCHEMES[name].weights
    assert grid is not None
    codes = range(-grid.highest, grid.highest + 1, grid.spacing)
    assert grid.n_levels == len(codes)
    assert codes[-1] == grid.highest


def test_the_table_of_schemes_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        SCHEMES["int3"] = SCHEMES["int4"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bitnte", "'bitnte' (did you mean 'bitnet'?); allowed: int1, ternary"),
        ("tenary", "'tenary' (did you mean 'ternary'?); allowed:"),
        ("qecs", "'qecs' (did you mean 'qesc'?); allowed:"),
        ("popcont", "'popcont' (did you mean 'popcount'?); allowed:"),
        ("zzzz", "'zzzz'; allowed: int1, ternary, popcount, int2, int4, int8, int16, fp32 (also"),
        (3, "3 (did you mean '32'?); allowed:"),
        (None, "None; allowed:"),
        (8.0, "8.0"),
        ("", "''; allowed:"),
        (["int8"], "['int8']"),
    ],
)
def test_an_unknown_scheme_is_refused_with_the_nearest_name(name: object, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"unknown scheme {hint}")):
        scheme_name(name)


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_no_scheme_although_it_is_a_whole_number(value: bool) -> None:
    with pytest.raises(ConfigError, match=f"unknown scheme {value}"):
        scheme_name(value)


def test_a_configuration_key_takes_a_schemes_own_name_only() -> None:
    require_scheme("ternary", "model.router.scheme")
    message = "`model.router.scheme` must be one of int1, .*, but got 'bitnet'"
    with pytest.raises(ConfigError, match=message):
        require_scheme("bitnet", "model.router.scheme")
    with pytest.raises(ConfigError, match=r"'tenary' \(did you mean 'ternary'\?\)"):
        require_scheme("tenary", "mix")


def test_a_hint_names_the_nearest_candidate_or_nothing() -> None:
    assert nearest("accurcy", ["accuracy", "nll"]) == " (did you mean 'accuracy'?)"
    assert nearest("xyz", ["accuracy", "nll"]) == ""
    assert nearest("anything", []) == ""
