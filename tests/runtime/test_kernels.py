"""The compiled kernel against numpy, on models of random codes.

Codes are multiplied exactly by all of them. Means, deviations and exponentials may differ in a
last bit, which moves a code across a boundary of rounding in one clip of a thousand or so: such a
clip's probabilities may differ by what one code of one layer is worth, the others' by rounding.
"""

from __future__ import annotations

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from qwave.config import (
    SCHEMES,
    ConfigError,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    QwaveError,
    RouterConfig,
    TrialConfig,
)
from qwave.config.trial import Normalization
from qwave.data import Normalizer
from qwave.packing import PackedModel
from qwave.runtime import Kernel, PackedClassifier, load_packed, save_packed
from qwave.runtime import compiled as compiled_module
from qwave.runtime.arithmetic import NumpyNetwork
from qwave.runtime.kernels import network_maker
from tests.packing.models import NORMALIZATIONS, draw_model, make_data, make_model

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
KERNELS = [pytest.param("compiled", marks=needs_compiler)]
ALL = tuple(SCHEMES)


def made(
    model: ModelConfig, seed: int, *, normalization: str = "layer", d: int = 75
) -> PackedModel:
    config = TrialConfig(DataConfig(normalization=normalization), model).canonical()  # type: ignore[arg-type]
    data = make_data(d, ("dog", "rain", "sea", "wind", "cow"))
    return make_model(np.random.default_rng(seed), config, data)


def clips(seed: int, n: int, d: int = 75) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.gamma(0.5, 2, size=(n, d)) * rng.choice([-1, 1], size=(n, d), p=[0.1, 0.9])
    return x.astype(np.float32)


def assert_alike(found: np.ndarray, expected: np.ndarray, message: str) -> None:
    """Equal to rounding in nearly all clips (the last but one axis), and close in the rest."""
    worst = np.abs(found - expected).reshape(-1, found.shape[-1]).max(axis=1)
    assert found.dtype == expected.dtype == np.float32, message
    assert found.shape == expected.shape, message
    assert (worst > 1e-5).mean() <= 0.02, f"{message}: {worst.max()}"
    assert worst.max() < 0.05, f"{message}: {worst.max()}"


@needs_compiler
@pytest.mark.parametrize("hidden", [(), (7,), (130, 64)])
@pytest.mark.parametrize("scheme", ALL)
def test_every_scheme_gives_what_numpy_gives(scheme: str, hidden: tuple[int, ...]) -> None:
    """Widths beside and on the length of a vector; batches beside and beyond the 64 of C's."""
    model = ModelConfig((scheme,), hidden, dropout=0.3, input_dropout=0.2)
    for seed, d in enumerate((1, 3, 64, 75, 200)):
        packed = made(model, seed, d=d)
        fast, plain = PackedClassifier(packed, "compiled"), PackedClassifier(packed, "numpy")
        x = clips(seed, 131, d)
        assert_alike(fast.predict_proba(x), plain.predict_proba(x), f"seed {seed}, {d} features")


@needs_compiler
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_normalization_is_numpys(normalization: Normalization) -> None:
    for seed in range(5):
        packed = made(ModelConfig(("int4",), (16,)), seed, normalization=normalization)
        x = clips(seed, 50)
        x[0], x[1], x[2, 3] = 0, 5, 1e30  # nothing, a constant, and squares beyond float32
        found = PackedClassifier(packed, "compiled").predict_proba(x)
        expected = PackedClassifier(packed, "numpy").predict_proba(x)
        assert_alike(found, expected, f"seed {seed}")


@needs_compiler
@pytest.mark.parametrize("seed", range(10))
def test_everything_a_random_model_says_is_what_numpy_says(seed: int) -> None:
    """Mixtures, routers, other heads, curiosity: whatever a configuration allows."""
    _, data, packed = draw_model(seed)
    x = clips(seed, 40, data.x.shape[1])
    found = PackedClassifier(packed, "compiled").examine(x)
    expected = PackedClassifier(packed, "numpy").examine(x)
    # Where a router is undecided to rounding, a clip may take another route.
    alike = np.abs(found.gates - expected.gates).max(axis=1) < 1e-3
    assert alike.mean() >= 0.9, f"seed {seed}"
    for name in ("probabilities", "gates"):
        a, b = getattr(found, name)[alike], getattr(expected, name)[alike]
        assert np.abs(a - b).max() < 0.05, f"seed {seed}: {name}"
        assert np.median(np.abs(a - b)) < 1e-6, f"seed {seed}: {name}"
    for name in ("mutual_information", "variance"):
        a, b = getattr(found, name), getattr(expected, name)
        assert np.median(np.abs(a - b)) < 1e-5, f"seed {seed}: {name}"
        np.testing.assert_allclose(a, b, atol=0.02, err_msg=f"seed {seed}: {name}")


@needs_compiler
@pytest.mark.parametrize("scheme", ALL)
def test_samples_under_masks_are_numpys(scheme: str) -> None:
    packed = made(ModelConfig((scheme,), (40, 9)), 1)
    layers = list(packed.layers.values())
    rng = np.random.default_rng(2)
    masks = [rng.choice([0, 2], size=(6, width)).astype(np.float32) for width in (75, 40, 9)]
    normalizer = Normalizer("sqrt_layer")
    found = network_maker("compiled")(normalizer, layers).sample(clips(3, 70), masks)
    expected = NumpyNetwork(normalizer, layers).sample(clips(3, 70), masks)
    assert found.shape == (6, 70, 5)
    assert_alike(found, expected, scheme)


@pytest.mark.parametrize("kernel", [*KERNELS, "numpy"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_place(
    value: float, kernel: Kernel
) -> None:
    x = clips(0, 100)
    x[70, 74] = value  # in C's second batch
    for schemes in (("int8",), ("int8", "int1")):
        model = PackedClassifier(made(ModelConfig(schemes, ()), 0), kernel)
        for name in ("predict_proba", "predict", "examine", "expert_probabilities"):
            with pytest.raises(QwaveError, match=rf"x must be finite, but x\[70, 74\] is {value}"):
                getattr(model, name)(x)


@pytest.mark.parametrize("kernel", [*KERNELS, "numpy"])
def test_arrays_of_any_layout_are_read_and_left_alone(kernel: Kernel) -> None:
    model = PackedClassifier(made(ModelConfig(("int4",), (8,)), 0), kernel)
    x = clips(0, 9)
    expected = model.predict_proba(x)
    locked = x.copy()
    locked.flags.writeable = False
    wide = np.zeros((18, 150), dtype=np.float32)
    wide[::2, ::2] = x
    layouts = (locked, wide[::2, ::2], np.asfortranarray(x), x.astype(np.float64), x.tolist(), x)
    for given in layouts:
        np.testing.assert_array_equal(model.predict_proba(given), expected)
    np.testing.assert_array_equal(locked, clips(0, 9))
    repeated = np.broadcast_to(x[0], (3, 75))
    np.testing.assert_array_equal(model.predict_proba(repeated)[2], expected[0])


@pytest.mark.parametrize("kernel", [*KERNELS, "numpy"])
def test_threads_may_share_a_model(kernel: Kernel) -> None:
    packed = made(
        ModelConfig(
            ("int1", "int8"),
            (64,),
            router=RouterConfig(dropout=0.4),
            curiosity=CuriosityConfig(alpha=1.0),
        ),
        0,
    )
    model = PackedClassifier(packed, kernel)
    parts = [clips(seed, 30) for seed in range(16)]
    expected = [PackedClassifier(packed, kernel).predict_proba(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, wanted in zip(pool.map(model.predict_proba, parts), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kernel", [*KERNELS, "numpy"])
def test_copies_and_pickles_predict_the_same(kernel: Kernel) -> None:
    model = PackedClassifier(made(ModelConfig(("int1", "int8"), (8,)), 0), kernel)
    x = clips(0, 5)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.kernel == kernel
        np.testing.assert_array_equal(twin.predict_proba(x), model.predict_proba(x))


@pytest.mark.parametrize("kernel", ["fast", "onnx", ""])
def test_an_unknown_kernel_is_refused_with_those_there_are(kernel: str, tmp_path: Path) -> None:
    save_packed(made(ModelConfig(), 0), tmp_path / "m.qwave")
    wanted = f"kernel must be one of auto, compiled, numpy, not '{kernel}'"
    with pytest.raises(ConfigError, match=wanted):
        load_packed(tmp_path / "m.qwave", kernel)  # type: ignore[arg-type]


def test_without_a_compiler_auto_goes_on_and_compiled_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled_module, "compiled", lambda *_: None)
    packed = made(ModelConfig(("int4",), (8,)), 0)
    with pytest.raises(ConfigError, match="kernel='compiled' needs a C compiler"):
        PackedClassifier(packed, "compiled")
    x = clips(0, 5)
    expected = PackedClassifier(packed, "numpy").predict_proba(x)
    np.testing.assert_array_equal(PackedClassifier(packed).predict_proba(x), expected)
