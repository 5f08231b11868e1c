"""The header's text: round trips, its wording by hand, and everything that it refuses."""

from __future__ import annotations

import dataclasses

import pytest

from qwave.config import CuriosityConfig, ModelConfig, PackedFileError, RouterConfig
from qwave.packing import Header, PackedModel, from_bytes, to_bytes
from qwave.packing.header import header_from_text, header_to_text, rounded_rate

from .models import MIXTURE, PLAIN, as_stored, draw_model, in_file, join, small_model, split


def text_of(*schemes: str, hidden: tuple[int, ...] = (3,)) -> dict[str, str]:
    return header_to_text(small_model(*schemes, hidden=hidden).header)


# --- round trip ---------------------------------------------------------------------------------


def test_text_read_is_the_header_that_was_written() -> None:
    for seed in range(100):
        _, _, model = draw_model(4000 + seed)
        text = header_to_text(model.header)
        found = header_from_text(text)
        assert found == as_stored(model.header), f"seed {4000 + seed}: {text}"
        assert list(header_to_text(found).items()) == list(text.items()), f"seed {4000 + seed}"


@pytest.mark.parametrize("rate", [0.0, 2**-18, 2**-17, 0.1, 1 / 3, 0.5, 1 - 2**-17, 1 - 2**-53])
def test_rounded_rate_is_the_nearest_65536th_below_one(rate: float) -> None:
    assert rounded_rate(rate) == in_file(rate) < 1
    assert rounded_rate(rounded_rate(rate)) == rounded_rate(rate)


DATA, CONFIG = "da7a" * 4, "c0f1" * 4
HEADER = Header(ModelConfig(), "layer", 1280, ("Dog bark", "Rain"), 0x0123ABCD, DATA, CONFIG)

# Header to its text, in the order of the file.
BY_HAND: dict[str, tuple[ModelConfig, dict[str, str]]] = {
    "linear": (
        ModelConfig(("int1",), (), input_dropout=0.25),
        {"schemes": "int1", "mc": "20,0123abcd,4000"},
    ),
    "plain": (
        ModelConfig(
            ("ternary",),
            (64, 8),
            head_scheme="int8",
            dropout=1 / 3,
            input_dropout=1 - 2**-20,
            curiosity=CuriosityConfig(mc_samples=7),
        ),
        {
            "schemes": "ternary",
            "hidden": "64,8",
            "head": "int8",
            "mc": "7,0123abcd,ffff,5555",
        },
    ),
    "mixture": (
        ModelConfig(
            ("int1", "fp32"),
            (5,),
            top_k=2,
            router=RouterConfig(9, "int4", 0.5),
            curiosity=CuriosityConfig(1e-7, 1_000),
        ),
        {
            "schemes": "int1,fp32",
            "hidden": "5",
            "router": "9,int4",
            "top_k": "2",
            "alpha": "1e-07",
            "mc": "1000,0123abcd,8000",
        },
    ),
    "linear mixture": (
        ModelConfig(("int2", "int2", "int2"), (), curiosity=CuriosityConfig(0)),
        {
            "schemes": "int2,int2,int2",
            "router": "0,int8",
            "top_k": "1",
            "alpha": "0.0",
            "mc": "20,0123abcd,8000",
        },
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_text_is_the_one_written_by_hand(name: str) -> None:
    model, middle = BY_HAND[name]
    wanted = {
        "qwave": "2",
        "classes": "Dog bark,Rain",
        "features": "1280",
        "normalization": "layer",
        **middle,
        "sure": "0000",
        "digests": f"{DATA},{CONFIG}",
    }
    found = header_to_text(dataclasses.replace(HEADER, model=model))
    assert list(found.items()) == list(wanted.items())


# --- what is refused ----------------------------------------------------------------------------


def assert_refused(model: PackedModel, text: dict[str, str], match: str) -> None:
    """As text, and in a file, whose name the message then has."""
    with pytest.raises(PackedFileError, match=f"^{match}"):
        header_from_text(text)
    header, rest = split(to_bytes(model))
    with pytest.raises(PackedFileError, match=rf"^odd\.qwave: not a readable .*: {match}"):
        from_bytes(join({**header, "__metadata__": text}, rest), "odd.qwave")


MIXTURE_KEYS = [
    "qwave",
    "classes",
    "features",
    "normalization",
    "schemes",
    "hidden",
    "router",
    "top_k",
    "alpha",
    "mc",
    "sure",
    "digests",
]


def test_header_holds_what_this_file_tests() -> None:
    assert list(text_of(*MIXTURE)) == MIXTURE_KEYS


@pytest.mark.parametrize("key", sorted(set(MIXTURE_KEYS) - {"qwave", "hidden", "normalization"}))
def test_missing_key_is_refused(key: str) -> None:
    model = small_model(*MIXTURE)
    text = header_to_text(model.header)
    del text[key]
    assert_refused(model, text, f"the header has no '{key}'$")


WHOLE = "must be a whole number from"

# What stands under one key instead, of a mixture: key, value, message.
IMPOSSIBLE: dict[str, tuple[str, str, str]] = {
    "unknown scheme": ("schemes", "int1,int5,fp32", "impossible model: .*schemes.*'int5'"),
    "no scheme": ("schemes", "", "impossible model: .*schemes.*''"),
    "another name of a scheme": ("schemes", "binary,int4,fp32", "impossible model.*'binary'"),
    "capitals": ("schemes", "INT1,int4,fp32", "impossible model: .*'INT1'"),
    "space before a scheme": ("schemes", "int1, int4,fp32", "impossible model: .*' int4'"),
    "scheme in quotes": ("schemes", '"int1",int4,fp32', "impossible model: .*'\"int1\"'"),
    "comma after the schemes": ("schemes", "int1,int4,fp32,", "impossible model: .*''"),
    "unknown head": ("head", "int3", "impossible model: .*head_scheme.*'int3'"),
    "no head": ("head", "", "impossible model: .*head_scheme.*''"),
    "top_k beyond the experts": ("top_k", "4", "impossible model.*top_k=4, num_experts=3"),
    "no top_k": ("top_k", "0", f"top_k {WHOLE} 1 to 2147483648, not '0'"),
    "broken top_k": ("top_k", "1.5", f"top_k {WHOLE} 1 to 2147483648, not '1.5'"),
    "negative top_k": ("top_k", "-1", f"top_k {WHOLE}"),
    "top_k with a sign": ("top_k", "+2", f"top_k {WHOLE}"),
    "top_k after a space": ("top_k", " 2", f"top_k {WHOLE}"),
    "top_k and a newline": ("top_k", "2\n", f"top_k {WHOLE}"),
    "top_k in other digits": ("top_k", "\uff12", f"top_k {WHOLE}"),
    "top_k that is empty": ("top_k", "", f"top_k {WHOLE}"),
    "top_k with a zero": ("top_k", "02", "top_k='02' in the header, which would be '2'$"),
    "negative alpha": ("alpha", "-1.0", "impossible model: .*curiosity.alpha"),
    "NaN alpha": ("alpha", "nan", "alpha must be a number, not 'nan'$"),
    "infinite alpha": ("alpha", "inf", "alpha must be a number, not 'inf'$"),
    "alpha beyond floats": ("alpha", "1e999", "alpha must be a number, not '1e999'$"),
    "alpha in words": ("alpha", "much", "alpha must be a number, not 'much'$"),
    "empty alpha": ("alpha", "", "alpha must be a number, not ''$"),
    "endless alpha": ("alpha", "x" * 5000, "alpha must be a number, not 'x{50}'$"),
    "alpha and a zero": ("alpha", "0.50", "alpha='0.50' in the header, which would be '0.5'$"),
    "whole alpha": ("alpha", "1", r"alpha='1' in the header, which would be '1\.0'$"),
    "alpha of 60 digits": ("alpha", "0.5" + "0" * 60, "alpha='0.50{60}' in .* would be '0.5'$"),
    "alpha of 999 digits": ("alpha", "0.5" + "0" * 999, "alpha='0.50{196} in .* be '0.5'$"),
    "one sample": ("mc", "1,00000000,8000", f"mc samples {WHOLE} 2 to 2147483648, not '1'"),
    "broken samples": ("mc", "2.5,00000000,8000", f"mc samples {WHOLE}"),
    "many samples": (
        "mc",
        "1001,00000000,8000",
        "impossible model: .* at most 1000 MC-dropout samples, but this one has 1001$",
    ),
    "samples with a zero": ("mc", "04,00000000,8000", "mc='04,.*' in .* be '4,0{8},8000'$"),
    "no samples": ("mc", ",00000000,8000", f"mc samples {WHOLE} 2 to 2147483648, not ''"),
    "negative seed": (
        "mc",
        "4,-0000001,8000",
        "mc must be samples, .* not '4,-0000001,8000'$",
    ),
    "seed that is no number": ("mc", "4,xyz,8000", "mc must be samples, a seed"),
    "seed of seven digits": ("mc", "4,0000000,8000", "mc must be samples, a seed"),
    "seed in capitals": ("mc", "4,ABCDEF00,8000", "mc must be samples, a seed"),
    "dropout of everything": ("mc", "4,00000000,10000", "mc must be samples.* rates of four, not"),
    "negative dropout": ("mc", "4,00000000,-001", "mc must be samples.* rates of four, not"),
    "NaN dropout": ("mc", "4,00000000,nan", "mc must be samples.* rates of four, not"),
    "decimal dropout": ("mc", "4,00000000,0.1", "mc must be samples.* rates of four, not"),
    "no dropout": ("mc", "4,00000000", "mc must be samples"),
    "a rate too many": ("mc", "4,00000000,8000,0000", "mc='.*' in the header, .* '4,0{8},8000'$"),
    "three rates": ("mc", "4,00000000,8000,0000,0000", "mc must be samples"),
    "mc and a newline": ("mc", "4,00000000,8000\n", "mc must be samples"),
    "endless mc": ("mc", "4," * 5000, "mc must be samples.* not '(4,){25}'$"),
    "unknown router": ("router", "0,int9", "impossible model: .*model.router.scheme.*'int9'"),
    "negative router": ("router", "-1,int8", f"router {WHOLE} 0 to 2147483648, not '-1'"),
    "router too short": ("router", "0", "impossible model: .*model.router.scheme.*''"),
    "router too long": ("router", "0,int8,1999", "impossible model: .*router.*'int8,1999'"),
    "router of nothing": ("router", "", f"router {WHOLE} 0 to 2147483648, not ''"),
    "router with a zero": ("router", "00,int8", "router='00,int8' .* which would be '0,int8'$"),
    "hidden of nothing": ("hidden", "0", rf"hidden\[0\] {WHOLE} 1 to 2147483648, not '0'"),
    "endless hidden": ("hidden", "3,2147483649", rf"hidden\[1\] {WHOLE} 1 to 2147483648"),
    "broken hidden": ("hidden", "2.5", rf"hidden\[0\] {WHOLE}"),
    "hidden that is true": ("hidden", "true", rf"hidden\[0\] {WHOLE}"),
    "hidden that is empty": ("hidden", "", rf"hidden\[0\] {WHOLE}"),
    "comma after hidden": ("hidden", "3,", rf"hidden\[1\] {WHOLE}"),
    "hidden with a zero": ("hidden", "03", "hidden='03' in the header, which would be '3'$"),
    "no features": ("features", "0", f"features {WHOLE} 1 to 2147483648, not '0'"),
    "endless features": ("features", str(2**40), f"features {WHOLE} 1 to .*'1099511627776'"),
    "features in words": ("features", "five", f"features {WHOLE}"),
    "features with a zero": ("features", "05", "features='05' in the header, .* be '5'$"),
    "unknown normalization": (
        "normalization",
        "lazer",
        "impossible model: `data.normalization` must be one of .*, but got 'lazer' .*'layer'",
    ),
    "capital normalization": ("normalization", "Layer", "impossible .*normalization.* 'Layer'"),
    "no normalization": ("normalization", "", "impossible .*normalization.* but got ''$"),
    "usual normalization": (
        "normalization",
        "sqrt_layer",
        "normalization='sqrt_layer' in the header, which would be None$",
    ),
    "short digest": (
        "digests",
        f"0123456789abcde,{CONFIG}",
        "impossible model: the digest of the data must be 16 hexadecimal digits, not '0.*e'$",
    ),
    "digest in capitals": (
        "digests",
        f"0123456789ABCDEF,{CONFIG}",
        "impossible .*digest of the data.* 16 hex",
    ),
    "digest and a newline": (
        "digests",
        f"{DATA}\n,{CONFIG}",
        "impossible .*digest of the data",
    ),
    "no digest": ("digests", "", "impossible .*digest of the data .* 16 hex.*, not ''$"),
    "one digest": ("digests", DATA, "impossible .*digest of the configuration .*, not ''$"),
    "a digest too many": (
        "digests",
        f"{DATA},{CONFIG},{DATA}",
        "impossible .*digest of the configuration .* 16 hex.*, not 'c0f1.*,da7a.*'$",
    ),
    "nothing sure": ("sure", "", "sure must be four hexadecimal digits, not ''$"),
    "sure in decimals": ("sure", "0.65", "sure must be four hexadecimal digits, not '0.65'$"),
    "sure in capitals": ("sure", "ABCD", "sure must be four hexadecimal digits, not 'ABCD'$"),
    "sure of certain": ("sure", "10000", "sure must be four hexadecimal digits, not '10000'$"),
    "sure and a newline": ("sure", "8000\n", r"sure must be four .*, not '8000\\n'$"),
    "endless sure": ("sure", "0" * 5000, "sure must be four .*, not '0{20}'$"),
    "encoder of no name": (
        "features",
        "5,@1a2b3c4d",
        "impossible model: an encoder must be .*'@1",
    ),
    "encoder without digest": ("features", "5,mel", "impossible .* encoder must be .* got 'mel'$"),
    "empty encoder": ("features", "5,", "features='5,' in the header, which would be '5'$"),
    "two encoders": (
        "features",
        "5,a@00000000,b@00000000",
        "impossible .* encoder must be .* got 'a@00000000,b@00000000'$",
    ),
    "endless encoder": ("features", "5," + "x" * 5000, "impossible .* must be .* got 'x{100}'$"),
    "features after an encoder": ("features", "a@00000000,5", f"features {WHOLE} 1 to .*'a@0+'$"),
    "experts in another order": (
        "schemes",
        "int4,int1,fp32",
        r"model\.schemes=\['int4', 'int1', 'fp32'\], which would be \['int1', 'int4', 'fp32'\]$",
    ),
    "alpha among equal experts": (
        "schemes",
        "int4,int4,int4",
        r"model\.curiosity\.alpha=0\.5, which would be 0\.0$",
    ),
    "no class": ("classes", "", "classes must be one row of names, but got ''$"),
    "two rows of classes": ("classes", "a,b\nc", r"classes must be one row of names.*'a,b\\nc'$"),
    "an empty row": ("classes", "\n", r"classes must be one row of names, but got '\\n'$"),
    "a row and its end": ("classes", "a,b\r\n", r"classes='a,b\\r\\n' .* would be 'a,b'$"),
    "quotes that never end": (
        "classes",
        'a,"b',
        "classes must be a row of names, but: unexp",
    ),
    "quotes and more": (
        "classes",
        '"a"b',
        "classes must be a row of names, but: ',' exp",
    ),
    "quotes without need": ("classes", '"dog",rain', "classes='\"dog\",rain' .* 'dog,rain'$"),
    "unknown key": ("note", "hello", "note='hello' in the header, which would be None$"),
    "empty key": ("", "", "='' in the header, which would be None$"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_headers_are_refused_and_say_what_is_wrong(case: str) -> None:
    key, value, match = IMPOSSIBLE[case]
    model = small_model(*MIXTURE)
    assert_refused(model, {**header_to_text(model.header), key: value}, match)


# The same for a plain network: hidden widths, key, value, message.
IMPOSSIBLE_PLAIN: dict[str, tuple[tuple[int, ...], str, str, str]] = {
    "hidden of a linear model": ((), "hidden", "", rf"hidden\[0\] {WHOLE}"),
    "rate of what is not there": (
        (),
        "mc",
        "4,00000000,2000,4000",
        r"model\.dropout=0\.25, which would be 0\.0$",
    ),
    "a rate too few": (
        (3,),
        "mc",
        "4,00000000,2000",
        "mc='.*' in .* be '.*,2000,0000'$",
    ),
    "router": ((3,), "router", "0,int8", "router='0,int8' in the header, which would be None$"),
    "top_k": ((3,), "top_k", "1", "top_k='1' in the header, which would be None$"),
    "alpha": ((3,), "alpha", "0.0", "alpha='0.0' in the header, which would be None$"),
    "head of every layer's scheme": (
        (3,),
        "head",
        "int8",
        r"model\.head_scheme='int8', which would be None$",
    ),
    "head of a linear model": (
        (),
        "head",
        "int4",
        r"model\.head_scheme='int4', which would be None$",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE_PLAIN)
def test_keys_of_other_models_are_refused(case: str) -> None:
    hidden, key, value, match = IMPOSSIBLE_PLAIN[case]
    model = small_model(*PLAIN, hidden=hidden)
    assert_refused(model, {**header_to_text(model.header), key: value}, match)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("features", "{}"),
        ("top_k", "{}"),
        ("hidden", "3,{}"),
        ("router", "{},int8"),
        ("mc", "{},00000000,8000"),
    ],
)
@pytest.mark.parametrize(
    "digits",
    ["9" * 5000, "0" * 5000 + "3", "1" * 500_000, "1" * 11],
    ids=["thousands", "zeros before it", "half a million", "eleven"],
)
def test_endless_whole_numbers_are_refused_unread(key: str, value: str, digits: str) -> None:
    # Python itself refuses to read more than 4300 digits, in words of its own.
    model = small_model(*MIXTURE)
    match = rf"(mc samples|hidden\[1\]|{key}) {WHOLE} \d to \d+, not '{digits[:20]}'$"
    assert_refused(model, {**header_to_text(model.header), key: value.format(digits)}, match)
