"""Fused functions: plain on a CPU, the same to rounding where PyTorch's compiler made them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import qwave
from qwave.config import SCHEMES, Grid
from qwave.nn import fused as fusion
from qwave.nn import quantizers as quant

# What modules that PyTorch's compiler imports say.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")

every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
)


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- when functions are compiled ----------------------------------------------------------------


class SaysCuda(Tensor):
    """A tensor of the CPU that says that it is on a GPU."""

    is_cuda = True


CUDA = torch.device("cuda")


def increment(x: Tensor, by: int = 1) -> Tensor:
    """Adds."""
    return x + by


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("nothing is compiled on a CPU")


@pytest.fixture
def fresh_answer() -> Iterator[None]:
    """`can_fuse` keeps its answer: not from here to other tests."""
    fusion.can_fuse.cache_clear()
    yield
    fusion.can_fuse.cache_clear()


def test_on_a_cpu_a_fused_function_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(fusion, "can_fuse", lambda device: True)
    ours = fusion.fused(increment)
    assert torch.equal(ours(torch.zeros(3)), torch.ones(3))
    assert torch.equal(ours(torch.zeros(3), by=4), torch.full((3,), 4.0))
    assert ours.__name__ == "increment"
    assert ours.__doc__ == "Adds."
    x, weight = normals(0, 2, 5, 8).requires_grad_(), normals(1, 2, 4, 8).requires_grad_()
    quant.linear(x, weight, torch.zeros(2, 4), "int4").sum().backward()


@pytest.mark.parametrize("has_compiler", [True, False])
def test_on_a_gpu_it_is_compiled_once_for_all_sizes_where_it_can_be(
    monkeypatch: pytest.MonkeyPatch, has_compiler: bool
) -> None:
    seen: list[tuple[object, object]] = []

    def compile_(function: Callable[..., Tensor], **options: object) -> Callable[..., Tensor]:
        seen.append((function, options))
        return lambda x: x - 1

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(fusion, "can_fuse", lambda device: has_compiler)
    ours = fusion.fused(increment)
    assert not seen, "nothing is compiled before it is needed"
    for n in (2, 3):
        found = ours(torch.zeros(n).as_subclass(SaysCuda)).as_subclass(Tensor)
        assert torch.equal(found, torch.full((n,), -1.0 if has_compiler else 1.0))
    assert seen == ([(increment, {"dynamic": True})] if has_compiler else [])


@pytest.mark.usefixtures("fresh_answer")
def test_without_triton_the_log_says_once_that_nothing_is_fused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch, "compile", refuse)
    with caplog.at_level(logging.INFO):
        assert [fusion.can_fuse(CUDA) for _ in range(3)] == [False] * 3
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Triton" in record.getMessage()


@pytest.mark.usefixtures("fresh_answer")
def test_the_log_says_once_why_triton_cannot_compile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._inductor.exc import InductorError  # takes a second or more to load

    def fail(x: Tensor) -> Tensor:
        raise InductorError(RuntimeError("Failed to find C compiler.\nTry CC."), None)

    zeros = torch.zeros
    # The device may not be there either.
    monkeypatch.setattr(torch, "zeros", lambda n, device: zeros(n))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch, "compile", lambda function, **_: fail)
    assert issubclass(InductorError, torch._dynamo.exc.BackendCompilerFailed)
    with caplog.at_level(logging.INFO):
        assert [fusion.can_fuse(CUDA) for _ in range(3)] == [False] * 3
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Failed to find C compiler" in record.getMessage()
    assert "Try CC" not in record.getMessage()


@pytest.mark.usefixtures("fresh_answer")
def test_what_compiles_is_fused_and_not_talked_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda n, device: zeros(n))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert fusion.can_fuse(CUDA)
    assert not caplog.records


# --- every fused function, compiled -------------------------------------------------------------


def fused_functions() -> set[str]:
    """Names of all functions under `@fused`, read from the source."""
    root = Path(qwave.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        module = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = {ast.unparse(decorator) for decorator in node.decorator_list}
                if names & {"fused", "fusion.fused"}:
                    found.add(f"{module}.{node.name}")
    return found


Call = tuple[Any, ...]


def hashes() -> Iterator[Call]:
    for n_folds, n in ((5, 640), (3, 1283)):
        generator = torch.Generator().manual_seed(n)
        keys = torch.randint(-(2**31), 2**31, (n_folds, 2), generator=generator)
        yield keys.to(torch.int32), n


def drops() -> Iterator[Call]:
    generator = torch.Generator().manual_seed(0)
    for shape, threshold, factor in (
        ((5, 4, 8, 32), 100, 1.25),
        ((2, 3, 9, 30), -3000, 1.1),
        ((3, 8, 31), 20000, 5.0),
    ):
        x = normals(threshold % 97, *shape)
        drawn = torch.randint(-(2**15), 2**15, (shape[0], 1, *shape[-2:]), generator=generator)
        drawn = drawn.to(torch.int16)
        yield x, drawn if x.dim() == 4 else drawn.squeeze(1), threshold, factor


def rows(seed: int, n: int, width: int) -> Tensor:
    """Normal rows in units of 2^-10: whatever their order, sums are exact."""
    x = normals(seed, n, width).mul(2.0**10).round().div(2.0**10)
    x[1] = 0
    return x


def weights(grid: Grid) -> Iterator[Call]:
    for seed, (n, width) in enumerate(((35, 32), (24, 75))):
        yield rows(seed, n, width), grid, torch.float32


def samples(grid: Grid) -> Iterator[Call]:
    for seed, (n, width) in enumerate(((35, 32), (24, 75))):
        yield rows(2 + seed, n, width), grid, torch.bfloat16


def products() -> Iterator[Call]:
    for seed, (e, b) in enumerate(((2, 7), (3, 6))):
        product, bias = normals(seed, 5, e, b, 9), normals(10 + seed, 5, e, 9)
        tx, tw = normals(20 + seed, 5, 1, b, 1), normals(30 + seed, 5, e, 1, 9)
        yield product, tx, tw, bias
    yield product, None, tw, bias


def gradients() -> Iterator[Call]:
    for seed, e in enumerate((2, 3)):
        g = normals(seed, 5, e, 7, 9)
        yield g, normals(10 + seed, 5, 1, 7, 1), torch.bfloat16
        yield g, normals(20 + seed, 5, e, 1, 9), None


def activations() -> Iterator[Call]:
    for seed, shape in enumerate(((5, 3, 7, 32), (2, 4, 6, 75))):
        yield (normals(seed, *shape),)


def probabilities(seed: int, e: int) -> Tensor:
    return torch.softmax(2 * normals(seed, 5, 7, e), dim=-1)


def routings() -> Iterator[Call]:
    for seed, (e, top_k) in enumerate(((4, 1), (5, 3))):
        yield probabilities(seed, e), top_k


def row_weights() -> Tensor:
    """One fold has rows of padding, another nothing else."""
    weight = torch.ones(5, 7)
    weight[1, 4:] = weight[2] = 0
    return weight


def balances() -> Iterator[Call]:
    for seed, e in enumerate((2, 4)):
        gates = (normals(10 + seed, 5, 7, e) > 0).float()
        yield probabilities(seed, e), gates, row_weights()


def entropies() -> Iterator[Call]:
    for seed, c in enumerate((10, 50)):
        target = torch.softmax(2 * normals(10 + seed, 5, 7, c), dim=-1)
        weight = (normals(30 + seed, 5, 7).abs() + 0.5) * row_weights()
        yield normals(20 + seed, 5, 7, c), target, weight


GRIDS = {
    "signs": SCHEMES["int1"].weights,
    "trits": SCHEMES["ternary"].weights,
    "pairs": SCHEMES["int2"].weights,
    "int8": SCHEMES["int8"].weights,
    "int16": SCHEMES["int16"].weights,
}
GRIDS_OF_SAMPLES = "trits", "int8"
CALLS: dict[str, Callable[[], Iterator[Call]]] = {
    "qwave.nn.dropout._hash": hashes,
    "qwave.nn.dropout._drop": drops,
    "qwave.nn.quantizers._with_scales": products,
    "qwave.nn.quantizers._gradient": gradients,
    "qwave.nn.mixture._activate": activations,
    "qwave.nn.mixture.top_k_gates": routings,
    "qwave.nn.mixture.load_balance_loss": balances,
    "qwave.engine.stacked._cross_entropy": entropies,
}
# What autograd goes through.
HAS_GRADIENT = {
    "qwave.nn.dropout._drop",
    "qwave.nn.mixture._activate",
    "qwave.nn.mixture.top_k_gates",
    "qwave.nn.mixture.load_balance_loss",
    "qwave.engine.stacked._cross_entropy",
}
IS_EXACT = {"qwave.nn.dropout._hash", "qwave.nn.dropout._drop", "qwave.nn.quantizers._gradient"}
# Of the largest value, elsewhere: some of the last bits of float32.
BOUND = 2.0**-20


def test_every_fused_function_is_tested_here() -> None:
    assert fused_functions() == {
        *CALLS,
        "qwave.nn.quantizers._weight_codes",
        "qwave.nn.quantizers._sample_codes",
    }


def named(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def compiled_whole(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """What `fused` makes of a function on a GPU; an error where that takes more than one part."""
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        pytest.skip("no Triton here")
    compilers = ("CC", "gcc", "clang", "cc") if device == "cuda" else ("CXX", "g++", "clang++")
    if not any(shutil.which(os.environ.get(name, name)) for name in compilers):
        pytest.skip("no C or C++ compiler here")
    torch._dynamo.reset()
    whole: Callable[..., Any] = torch.compile(plain(function), dynamic=True, fullgraph=True)
    return whole


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    inner: Callable[..., Any] = function.__wrapped__  # type: ignore[attr-defined]
    return inner


def on(device: str, call: Call) -> Call:
    return tuple(x.to(device) if isinstance(x, Tensor) else x for x in call)


def assert_near(found: Tensor, wanted: Tensor, bound: float, where: str) -> None:
    assert found.dtype == wanted.dtype, where
    assert found.shape == wanted.shape, where
    largest = float(wanted.double().abs().max())
    worst = float((found.double() - wanted.double()).abs().max())
    assert worst <= bound * largest, f"{where}: {worst} off, the largest is {largest}"


def with_gradient(function: Callable[..., Tensor], call: Call) -> tuple[Tensor, ...]:
    """Result and gradient of the first argument."""
    x = call[0].detach().requires_grad_()
    result = function(x, *call[1:])
    upstream = normals(99, *result.shape).to(x.device)
    (gradient,) = torch.autograd.grad(result, x, upstream)
    return result.detach(), gradient


@pytest.mark.slow
@every_device
@pytest.mark.parametrize("name", CALLS)
def test_a_fused_function_is_the_plain_one_to_rounding(name: str, device: str) -> None:
    function = named(name)
    whole = compiled_whole(function, device)
    bound = 0.0 if name in IS_EXACT else BOUND
    for place, made in enumerate(CALLS[name]()):
        call = on(device, made)
        if name in HAS_GRADIENT:
            found, wanted = (with_gradient(f, call) for f in (whole, plain(function)))
        else:
            found, wanted = (whole(*call),), (plain(function)(*call),)
        for what, one, other in zip(("result", "gradient"), found, wanted, strict=False):
            assert_near(one, other, bound, f"{what} of {name}, call {place}")


def check_codes(
    function: Callable[..., tuple[Tensor, Tensor]], calls: Iterator[Call], device: str
) -> None:
    """Scales are the same to rounding, codes unless rounding decides about a value on the edge."""
    whole = compiled_whole(function, device)
    for place, made in enumerate(calls):
        values, grid, _ = call = on(device, made)
        where = f"call {place} of {grid}"
        codes, scale = whole(*call)
        wanted_codes, wanted_scale = plain(function)(*call)
        assert_near(scale, wanted_scale, BOUND, where)
        is_off = codes != wanted_codes
        assert float(is_off.float().mean()) < 0.05, where
        u = values.double() / wanted_scale.double()
        from_edge = (u - (codes.double() + wanted_codes.double()) / 2).abs()
        is_on_edge = from_edge <= BOUND * grid.highest
        assert (is_on_edge | ~is_off).all(), f"{where}: {codes[is_off]}, {wanted_codes[is_off]}"


@pytest.mark.slow
@every_device
@pytest.mark.parametrize("name", GRIDS)
def test_fused_codes_of_weights_are_the_plain_ones(name: str, device: str) -> None:
    grid = GRIDS[name]
    assert grid is not None
    check_codes(quant._weight_codes, weights(grid), device)


@pytest.mark.slow
@every_device
@pytest.mark.parametrize("name", GRIDS_OF_SAMPLES)
def test_fused_codes_of_samples_are_the_plain_ones(name: str, device: str) -> None:
    grid = GRIDS[name]
    assert grid is not None
    check_codes(quant._sample_codes, samples(grid), device)
