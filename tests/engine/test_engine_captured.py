"""A stacked step can be one CUDA graph: replayed it trains on, and it asks the host nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qwave.config import (
    SCHEMES,
)
from qwave.engine import stacked
from qwave.engine.stacked import StackedTrainer
from qwave.engine.task import Examples, Rows
from qwave.nn import fused as fusion
from qwave.nn import quantizers as quant
from qwave.nn.mixture import (
    Arithmetic,
    StackedLinear,
)

from ..pairs import pairwise
from .examples import steps
from .stacked_task import (
    IN_PORTIONS,
    MODELS,
    N_FOLDS,
    RATES,
    SHORT,
    StackedTask,
    bits_of,
)

# --- what a graph would replay ------------------------------------------------------------------


class _Tape(TorchDispatchMode):
    """A CUDA graph of a kind: operations of one step, that can be run again on the same tensors.

    Python is run once; what it read then, and the memory that was meant then, is what counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                # Views and what is done in place are there already.
                if isinstance(old, Tensor) and _memory(old) != _memory(new):
                    old.copy_(new)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _TapedStep:
    """The first call is run and recorded, later ones are replayed."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.tape: _Tape | None = None

    def __call__(self) -> None:
        if self.tape is not None:
            self.tape.replay()
            return
        self.tape = _Tape()
        with self.tape:
            self.function()


@pairwise(
    name=[*IN_PORTIONS, "quantized afterwards"],
    arithmetic=[Arithmetic(), SHORT],
    is_mixed=[False, True],
)
def test_replaying_a_recorded_step_goes_on_training(
    name: str, arithmetic: Arithmetic, is_mixed: bool
) -> None:
    """Its twin on a GPU is `test_captured_steps_are_those_that_run_as_they_are`."""
    if name == "quantized afterwards":
        name, arithmetic = "two of one scheme", arithmetic._replace(is_quantized=False)
    task = StackedTask(IN_PORTIONS[name], 6, arithmetic=arithmetic, is_mixed=is_mixed)
    plain, taped = task.trainer(), task.trainer()
    examples = task.batches(9)
    for trainer in (plain, taped):
        trainer.train(steps(examples, slice(3)), RATES[:3])
    taped.step = _TapedStep(taped._step)
    for first in (3, 6):
        part, rates = steps(examples, slice(first, first + 3)), RATES[first : first + 3]
        expected, found = plain.train(part, rates), taped.train(part, rates)
        assert bits_of(found, taped) == bits_of(expected, plain), f"from step {first}, {task}"


def test_a_tape_would_tell_what_it_cannot_replay() -> None:
    """A number that Python reads stays as it was."""
    rate, total = torch.ones(()), torch.zeros(())

    def add() -> None:
        total.add_(rate.item())
        rate.add_(1.0)

    step = _TapedStep(add)
    step()
    step()
    assert total.item() == 2.0, "with what was read in the first call, not 1 + 2"


# --- a step asks nothing of the host ------------------------------------------------------------


class _OneDevice(TorchDispatchMode):
    """Operations whose tensors, and results, are not all on one device are errors."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor) and tensor.device.type != self.device:
                raise AssertionError(f"{func} meets a tensor on {tensor.device}")
        return result


class _NoOptimizer:
    """In place of AdamW, whose kernel does not run without numbers: looks at gradients only."""

    def __init__(self, parameters: Iterator[nn.Parameter], **_: Any) -> None:
        self.parameters = list(parameters)
        self.n_steps = 0

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        assert all(parameter.grad is not None for parameter in self.parameters)
        self.n_steps += 1


@pytest.fixture
def without_numbers(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Tensors that have a shape and a device, which need not be there, and no values."""
    monkeypatch.setattr(fusion, "can_fuse", lambda device: False)
    monkeypatch.setattr(torch.optim, "AdamW", _NoOptimizer)
    return FakeTensorMode()


def _empty(tensor: Tensor, device: str) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)


def _trainer_without_numbers(
    mode: FakeTensorMode, task: StackedTask, device: str
) -> StackedTrainer:
    """A trainer on a device that need not be there, before the first of two steps."""
    mixture, rows = task.mixture(), task.rows()
    examples, keys = task.batches(2), task.dropout().keys([1, 2])
    with mode:
        for layer in mixture.modules():
            if isinstance(layer, StackedLinear):
                layer.weight = nn.Parameter(_empty(layer.weight, device))
                layer.bias = nn.Parameter(_empty(layer.bias, device))
        assert rows.offset is not None
        assert rows.factor is not None
        rows = Rows(*(_empty(t, device) for t in (rows.x, rows.offset, rows.factor)))
        trainer = task.trainer_of(mixture, rows)
        trainer.schedule = stacked._Schedule(
            Examples(*(_empty(tensor, device) for tensor in examples)),
            torch.empty(2, device=device),
            _empty(keys, device),
            torch.empty(N_FOLDS, 2, device=device),
            torch.zeros(1, dtype=torch.int64, device=device),
        )
    return trainer


# Like a GPU, `meta` is not where the host's numbers are, and autograd goes there everywhere:
# on `cuda` it takes a PyTorch that was built for it.
every_far_device = pytest.mark.parametrize(
    "device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)]
)


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_tensors_without_numbers_tell_when_the_host_is_asked(
    without_numbers: FakeTensorMode, device: str
) -> None:
    with without_numbers:
        here, there = torch.ones(3), torch.ones(3, device=device)
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(DataDependentOutputException):
            bool((there > 0).all())
        with pytest.raises(RuntimeError, match="two (different )?devices"):
            there + here
        with _OneDevice(device):
            assert (2 * there + 1).device.type == device
            with pytest.raises(AssertionError, match="meets a tensor on cpu"):
                torch.zeros(3)


@every_far_device
@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("()")])
def test_a_step_asks_nothing_of_the_host(
    without_numbers: FakeTensorMode, name: str, device: str
) -> None:
    task = StackedTask(MODELS[name], 0, arithmetic=SHORT)
    trainer = _trainer_without_numbers(without_numbers, task, device)
    with without_numbers, _OneDevice(device):
        trainer._step()
        trainer._step()
    assert isinstance(trainer.optimizer, _NoOptimizer)
    assert trainer.optimizer.n_steps == 2


class _Context:
    """What autograd hands to both halves of a function."""

    needs_input_grad = (True, True, True)
    saved_tensors: tuple[Tensor | None, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved_tensors = tensors


@pytest.mark.parametrize("gradient_dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("name", SCHEMES)
def test_on_cuda_short_codes_are_multiplied_in_bfloat16(
    without_numbers: FakeTensorMode,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    gradient_dtype: torch.dtype | None,
) -> None:
    factors = []
    product = quant._product

    def spy(a: Tensor, b: Tensor) -> Tensor:
        factors.append((a.dtype, b.dtype))
        return product(a, b)

    monkeypatch.setattr(quant, "_product", spy)
    context = _Context()
    with without_numbers, torch.no_grad(), _OneDevice("cuda"):
        shapes = (3, 1, 13, 75), (3, 2, 6, 75), (3, 2, 6)
        x, weight, bias = (torch.empty(shape, device="cuda") for shape in shapes)
        y = quant._Linear.forward(context, x, weight, bias, SCHEMES[name], gradient_dtype)
        gradients = quant._Linear.backward(context, torch.empty_like(y))
    assert y.shape == (3, 2, 13, 6)
    for tensor, shape in zip((y, *gradients[:3]), (y.shape, *shapes), strict=True):
        assert tensor is not None
        assert tensor.dtype == torch.float32
        assert tensor.shape == shape
    of_codes = of_gradients = torch.float32
    if name not in ("int16", "fp32"):
        of_codes, of_gradients = torch.bfloat16, gradient_dtype or torch.float32
    assert factors == [(of_codes, of_codes), *[(of_gradients, of_codes)] * 2]
