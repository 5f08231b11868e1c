"""The compiled step against torch.optim.AdamW and `qwave.quant`, for every scheme."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from qwave.config import SCHEMES
from qwave.engine import kernels
from qwave.engine.kernels import WeightState, step_and_codes, weight_state
from qwave.quant import quantize

CODES = {
    f"{scheme} as {str(dtype).removeprefix('torch.')}": (scheme, dtype)
    for scheme, spec in SCHEMES.items()
    for dtype in (torch.int8, torch.float32)
    if dtype == torch.float32 or (spec.weights is not None and spec.weights.highest <= 127)
}


@pytest.fixture(params=["compiled", "without a compiler"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways of `step_and_codes`."""
    kernels.compiled.cache_clear()
    if request.param == "compiled":
        if kernels.compiled() is None:
            pytest.skip("no C compiler here")
    else:
        monkeypatch.setenv("CC", "no-such-compiler")
        assert kernels.compiled() is None
    yield request.param
    kernels.compiled.cache_clear()


def _state(
    name: str, seed: int, shape: tuple[int, int] = (17, 75)
) -> tuple[WeightState, torch.Generator]:
    scheme, dtype = CODES[name]
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * 10 ** (seed - 2)
    return weight_state(weight, SCHEMES[scheme].weights, dtype), generator


@pytest.mark.parametrize("gradient_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CODES)
def test_steps_are_those_of_adamw_and_codes_those_of_the_quantizer(
    way: str, name: str, seed: int, gradient_dtype: torch.dtype
) -> None:
    state, generator = _state(name, seed)
    twin = torch.nn.Parameter(state.weight.clone())
    optimizer = torch.optim.AdamW([twin], lr=0.1, weight_decay=0.05)
    for step in range(1, 8):
        learning_rate = 0.1 / step
        gradient = torch.randn(state.weight.shape, generator=generator).to(gradient_dtype)
        step_and_codes(state, gradient, step, learning_rate, 0.05)
        twin.grad = gradient.float()
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        # Rounding of steps as large as the weights themselves, seven of them.
        bound = 5e-6 * float(twin.detach().abs().max())
        torch.testing.assert_close(state.weight, twin.detach(), rtol=1e-5, atol=bound)
        if state.grid is None:
            assert state.codes.numel() == 0
            continue
        codes, scale = quantize(state.weight, state.grid)
        # A mean summed in another order may round to the next float16.
        torch.testing.assert_close(state.scale, scale.squeeze(-1), rtol=2**-10, atol=0.0)
        same = state.scale == scale.squeeze(-1)
        assert same.float().mean() > 0.9
        wrong = (state.codes[same].float() - codes[same]).abs()
        # Values that lie on the edge of two codes to the last bit.
        assert wrong.max() <= state.grid.spacing
        assert (wrong > 0).float().mean() < 0.01


@pytest.mark.parametrize("name", CODES)
def test_codes_before_the_first_step_are_the_quantizers(name: str) -> None:
    state, _ = _state(name, 1)
    if state.grid is not None:
        codes, scale = quantize(state.weight, state.grid)
        assert torch.equal(state.codes.float(), codes)
        assert torch.equal(state.scale, scale.squeeze(-1))


@pytest.mark.parametrize("name", CODES)
def test_rows_of_zeros_and_of_one_value_have_codes(way: str, name: str) -> None:
    state, _ = _state(name, 1, (3, 9))
    state.weight[0] = 0.0
    state.weight[1] = 0.25
    step_and_codes(state, torch.zeros(3, 9), 1, 0.0, 0.0)
    if state.grid is not None:
        codes, scale = quantize(state.weight, state.grid)
        assert torch.equal(state.codes.float(), codes)
        assert torch.equal(state.scale, scale.squeeze(-1))


def test_what_is_not_a_number_stays_one(way: str) -> None:
    state, _ = _state("int4 as int8", 1)
    gradient = torch.zeros_like(state.weight)
    gradient[3, 5] = torch.nan
    step_and_codes(state, gradient, 1, 0.1, 0.0)
    assert state.weight.isnan().nonzero().tolist() == [[3, 5]]


def test_weights_that_are_a_part_of_a_larger_tensor_are_stepped_in_place(way: str) -> None:
    whole = torch.ones(2, 3, 4, 8)
    state = weight_state(whole[1, 2], SCHEMES["int8"].weights, torch.int8)
    step_and_codes(state, torch.ones(4, 8), 1, 0.5, 0.0)
    assert (whole[1, 2] < 0.6).all()
    whole[1, 2] = 1.0
    assert (whole == 1.0).all()


def test_a_compiler_that_fails_is_no_compiler_and_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.compiled.cache_clear()
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels.compiled() is None
    assert "could not compile kernels.c; training goes on without it, slower" in caplog.text
    kernels.compiled.cache_clear()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_the_library_is_kept_in_the_cache_folder_or_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernels.compiled.cache_clear()
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels.compiled() is not None
    (made,) = (tmp_path / "qwave").iterdir()
    assert made.name.startswith("kernels-")
    before = made.stat().st_mtime_ns
    kernels.compiled.cache_clear()
    assert kernels.compiled() is not None
    assert made.stat().st_mtime_ns == before, "not compiled twice"
    # A file where the folder should be: nothing can be kept there, not even by root.
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kernels.compiled.cache_clear()
    assert kernels.compiled() is not None
    assert list(tmp_path.glob("qwave-*/kernels-*.so"))
    kernels.compiled.cache_clear()
