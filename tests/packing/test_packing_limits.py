"""What no packed file may ask for: refused before training, and when such a file is read."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest

from qwave.config import (
    ConfigError,
    CuriosityConfig,
    ModelConfig,
    PackedFileError,
    RouterConfig,
    TrialConfig,
)
from qwave.packing import (
    from_bytes,
    make_header,
    packed_size_bytes,
    packed_size_parts,
    to_bytes,
)
from qwave.packing.header import header_to_text

from .models import (
    MIXTURE,
    PLAIN,
    changed,
    join,
    make_data,
    make_model,
    outcome,
    small_model,
    split,
    with_head,
)

TWO = ("dog", "rain")


def model_of(schemes: tuple[str, ...], hidden: tuple[int, ...], n_samples: int = 2) -> ModelConfig:
    return ModelConfig(schemes, hidden, curiosity=CuriosityConfig(0.0, n_samples))


def router_of(num_experts: int, hidden: int, n_samples: int) -> ModelConfig:
    curiosity = CuriosityConfig(0.0, n_samples)
    return ModelConfig(
        ("int1",) * num_experts, (), router=RouterConfig(hidden), curiosity=curiosity
    )


# The largest that is allowed, one more, number of features, what the message says.
LIMITS: dict[str, tuple[ModelConfig, ModelConfig, int, str]] = {
    "hidden layers": (
        model_of(("int1",), (1,) * 999),
        model_of(("int1",), (1,) * 1000),
        1,
        "at most 1000 layers, but this one has 1001$",
    ),
    "experts": (
        router_of(998, 1, 2),
        router_of(999, 1, 2),
        1,
        "at most 1000 layers, but this one has 1001$",
    ),
    "weights": (
        model_of(("int1",), (2**14,)),
        model_of(("int1",), (2**14 + 1,)),
        2**14 - 2,  # and two classes
        f"at most {2**28} weights, but this one has {2**28 + 2**14}$",
    ),
    "samples": (
        model_of(("int1",), (), 1000),
        model_of(("int1",), (), 1001),
        3,
        "at most 1000 MC-dropout samples, but this one has 1001$",
    ),
    "masks of an expert": (
        model_of(("int1",), (500,), 1000),
        model_of(("int1",), (501,), 1000),
        3692,
        f"at most {2**22} MC-dropout samples times masked units, but this one has 4195000$",
    ),
    "masks of a router": (
        router_of(2, 500, 1000),
        router_of(2, 501, 1000),
        3692,
        f"at most {2**22} MC-dropout samples times masked units, but this one has 4195000$",
    ),
    "alpha": (
        ModelConfig(("int1", "int4"), (), curiosity=CuriosityConfig(1e6, 2)),
        ModelConfig(("int1", "int4"), (), curiosity=CuriosityConfig(1e6 + 1, 2)),
        3,
        "at most 1000000 of model.curiosity.alpha, but this one has 1000001.0$",
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_size_is_known_up_to_the_limit_and_refused_beyond_it(case: str) -> None:
    largest, beyond, num_features, match = LIMITS[case]
    data = make_data(num_features, TWO)
    assert packed_size_bytes(TrialConfig(model=largest), data) > 0
    for find in (packed_size_bytes, packed_size_parts, make_header):
        with pytest.raises(ConfigError, match=f"^a packed model has {match}"):
            find(TrialConfig(model=beyond), data)


@pytest.mark.parametrize("case", LIMITS)
def test_file_beyond_a_limit_is_refused_before_anything_of_its_size_is_made(case: str) -> None:
    largest, beyond, num_features, match = LIMITS[case]
    header = make_header(TrialConfig(model=largest), make_data(num_features, TWO))
    object.__setattr__(header, "model", beyond)  # which `Header` itself refuses
    content = join({"__metadata__": header_to_text(header)}, b"")
    tracemalloc.start()
    with pytest.raises(PackedFileError, match=f"^big: not a .*: impossible model: .* {match}"):
        from_bytes(content, "big")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("case", ["hidden layers", "experts", "samples", "alpha"])
def test_largest_model_is_written_and_read_and_predicts(case: str) -> None:
    largest, _, num_features, _ = LIMITS[case]
    config = TrialConfig(model=largest).canonical()
    model = make_model(np.random.default_rng(0), config, make_data(num_features, TWO))
    assert outcome(to_bytes(model)) == "accepted"


@pytest.mark.parametrize(("key", "value"), [("schemes", "int1"), ("hidden", "1")])
@pytest.mark.parametrize("n_listed", [1001, 190_000])
def test_endless_lists_are_refused_by_their_number_alone(
    key: str, value: str, n_listed: int
) -> None:
    content = changed(to_bytes(small_model(*MIXTURE)), {key: ",".join([value] * n_listed)})
    match = f"{key} lists {n_listed}, but a packed model has at most 1000 layers$"
    with pytest.raises(PackedFileError, match=f"^big: not a readable packed model: {match}"):
        from_bytes(content, "big")


# --- names of classes ---------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["x", '"', ",", "犬", "\n"])
def test_longest_name_of_a_class_is_read_and_a_longer_one_refused(letter: str) -> None:
    config = TrialConfig(model=ModelConfig(("int1",), ()))
    longest = make_data(3, ("dog", letter * 100_000))
    model = make_model(np.random.default_rng(1), config.canonical(), longest)
    content = to_bytes(model)
    assert len(content) == packed_size_bytes(config, longest)
    assert from_bytes(content, "long").header.class_names == longest.class_names
    match = "^the name of class 1 has 100001 characters, but a packed file's have at most 100000: "
    with pytest.raises(ConfigError, match=match):
        packed_size_bytes(config, make_data(3, ("dog", letter * 100_001)))


def test_longer_names_than_a_header_holds_are_refused_before_training() -> None:
    config = TrialConfig(model=ModelConfig(("int1",), ()))
    rest = packed_size_parts(config, make_data(3, ("",)))["container"] - 8

    def names(n_bytes: int) -> tuple[str, ...]:
        """Class names of so many bytes, with their commas."""
        short = tuple("x" * 99_999 for _ in range(n_bytes // 100_000))
        return (*short, "x" * (n_bytes - 100_000 * len(short)))

    fits = names(1_000_000 - rest - 8)
    assert 999_980 < packed_size_parts(config, make_data(3, fits))["container"] <= 1_000_008
    model = make_model(np.random.default_rng(2), config.canonical(), make_data(3, fits))
    assert from_bytes(to_bytes(model), "long").header.class_names == fits
    match = r"at most 1000000 bytes, but with these 10 class names it would have 1\d{6}; shorten"
    with pytest.raises(ConfigError, match=match):
        packed_size_bytes(config, make_data(3, names(1_000_000 - rest + 16)))


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", "\udc80" * 100])
def test_names_that_utf8_cannot_hold_are_refused(name: str) -> None:
    config = TrialConfig(model=ModelConfig(("int1",), ()))
    match = r"^the name of class 1 is no text that UTF-8 can hold: '.*\\ud"
    with pytest.raises(ConfigError, match=match):
        packed_size_bytes(config, make_data(3, ("dog", name)))


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\udc00\\ud800", "\\ud83dx"])
@pytest.mark.parametrize("place", ['"dog', '"da', '"int8"', '"feat'])
def test_lone_surrogates_anywhere_in_a_header_are_refused(escape: str, place: str) -> None:
    content = to_bytes(small_model(*PLAIN))
    _, rest = split(content)
    text = content[8 : -len(rest)].decode().replace(place, place[0] + escape + place[1:])
    assert escape in text
    with pytest.raises(PackedFileError, match="^odd: not a readable packed model: "):
        from_bytes(with_head(text.encode(), rest), "odd")


def test_model_without_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="^`in_features >= 1` must hold, but got 0$"):
        packed_size_bytes(TrialConfig(), make_data(0, TWO))


@pytest.mark.parametrize("mc_seed", [-1, 2**32])
def test_seeds_of_more_than_32_bits_are_refused(mc_seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"^`0 <= mc_seed < 2\^32` must .* but got {mc_seed}$"):
        make_header(TrialConfig(), make_data(5, TWO), mc_seed)


@pytest.mark.parametrize("digest", ["", "0123456789abcde", "0123456789ABCDEF", "\ud800" * 16])
def test_digests_other_than_16_hexadecimal_digits_are_refused(digest: str) -> None:
    data = dataclasses.replace(make_data(5, TWO), digest=digest)
    with pytest.raises(ConfigError, match="^the digest of the data must be 16 hexadecimal digits"):
        make_header(TrialConfig(), data)
