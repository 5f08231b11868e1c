"""The runtime's C: exact sums for any width and processor, and what it leaves to others."""

from __future__ import annotations

import ctypes
import platform
from fractions import Fraction

import numpy as np
import pytest

from qwave import compiler
from qwave.config import SCHEMES, Scheme
from qwave.data import Normalizer
from qwave.packing import PackedLayer
from qwave.runtime import arithmetic, compiled
from qwave.runtime.arithmetic import NumpyNetwork, quantise_samples, row_factor
from qwave.runtime.compiled import CompiledNetwork, fits_compiled, forward_library
from qwave.runtime.kernels import network_maker

INTEGER = [name for name, scheme in SCHEMES.items() if scheme.activations is not None]
# As this processor, and as ones with shorter vectors get it.
SHORTER = ("-mno-avx512f", "-mno-avx")


@pytest.fixture(
    scope="module", params=["", *(pytest.param(f, marks=pytest.mark.slow) for f in SHORTER)]
)
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    flags = (request.param,) if request.param else ()
    if flags and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these flags are those of x86")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "_FLAGS", (*compiler._FLAGS, *flags))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        compiler.compiled.cache_clear()
        found = forward_library()
    compiler.compiled.cache_clear()
    if found is None:
        pytest.skip("no C compiler here, or none that knows this flag")
    return found


def _layer(scheme: str, codes: np.ndarray) -> PackedLayer:
    n_out = len(codes)
    ones = np.ones(n_out, dtype=np.float16)
    return PackedLayer(scheme, codes.astype(np.float32), ones, np.zeros(n_out, dtype=np.float16))


@pytest.mark.parametrize("scheme", INTEGER)
def test_sums_of_codes_are_those_of_whole_numbers(library: ctypes.CDLL, scheme: str) -> None:
    """On inputs that are codes already: a sample's scale is then that of the grid."""
    grid, inputs = SCHEMES[scheme].weights, SCHEMES[scheme].activations
    assert grid is not None
    assert inputs is not None
    for seed, (n_out, n_in) in enumerate([(1, 1), (5, 7), (33, 64), (10, 1281), (3, 2**16)]):
        rng = np.random.default_rng(seed)
        levels = np.arange(-grid.highest, grid.highest + 1, grid.spacing)
        codes = rng.choice(levels, size=(n_out, n_in))
        x = rng.integers(-inputs.highest, inputs.highest + 1, size=(9, n_in))
        x[:, 0] = inputs.highest
        codes[0], x[0] = grid.highest, inputs.highest
        if n_out > 1:
            codes[1] = -grid.highest
        layer = _layer(scheme, codes)
        # The mean absolute of ternary inputs is not 1: their codes are those of numpy's rounding.
        rounded, factor = quantise_samples(_floats(x), inputs)
        sums = (rounded.astype(np.int64) @ codes.T).astype(np.float32)
        expected = sums * row_factor(layer) * factor
        found = CompiledNetwork(library, Normalizer("raw"), [layer]).logits(_floats(x))
        np.testing.assert_array_equal(found, expected, err_msg=f"seed {seed}")


def _floats(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, dtype=np.float32)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_layers_are_numpys_on_any_processor(library: ctypes.CDLL, scheme: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        grid = SCHEMES[scheme].weights
        highest = 3 if grid is None else grid.highest
        spacing = 1 if grid is None else grid.spacing
        levels = np.arange(-highest, highest + 1, spacing)
        layers = [_layer(scheme, rng.choice(levels, size=size)) for size in ((37, 70), (5, 37))]
        x = rng.normal(size=(70, 70)).astype(np.float32)
        expected = NumpyNetwork(Normalizer("sqrt_layer"), layers).probabilities(x)
        found = CompiledNetwork(library, Normalizer("sqrt_layer"), layers).probabilities(x)
        differs = np.abs(found - expected).max(axis=1) > 1e-5
        assert differs.sum() <= 1, f"seed {seed}: a code on a boundary of rounding, if at all"


def test_a_layer_of_more_inputs_than_32_bits_can_sum_is_left_to_others() -> None:
    narrow = _layer("int8", np.full((1, 2**16), 127))
    wide = _layer("int8", np.full((1, 2**16 + 1), 127))
    raw = Normalizer("raw")
    assert fits_compiled([narrow])
    assert not fits_compiled([narrow, wide])
    if forward_library() is None:
        pytest.skip("no C compiler here")
    make = network_maker("compiled")
    assert isinstance(make(raw, [narrow]), CompiledNetwork)
    assert isinstance(make(raw, [wide]), NumpyNetwork)


@pytest.mark.parametrize(("weights", "inputs"), [("int16", "int8"), ("int8", "int16")])
def test_codes_beyond_a_byte_are_left_to_numpy(
    weights: str, inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = Scheme("wide", Fraction(16), SCHEMES[weights].weights, SCHEMES[inputs].weights)
    monkeypatch.setattr(arithmetic, "SCHEMES", {**SCHEMES, "wide": scheme})
    monkeypatch.setattr(compiled, "SCHEMES", {**SCHEMES, "wide": scheme})
    layer = _layer("wide", np.ones((2, 3)))
    assert not fits_compiled([layer])
    assert isinstance(network_maker("auto")(Normalizer("raw"), [layer]), NumpyNetwork)


def test_a_structure_of_another_size_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if forward_library() is None:
        pytest.skip("no C compiler here")
    fields = [*compiled._Layer._fields_, ("one_more", ctypes.c_int64)]
    monkeypatch.setattr(
        compiled, "_Layer", type("_Layer", (ctypes.Structure,), {"_fields_": fields})
    )
    message = r"`layer` of .*forward\.c has \d+ bytes, but `_Layer`.* has \d+: give both the same"
    with pytest.raises(RuntimeError, match=message):
        forward_library()
