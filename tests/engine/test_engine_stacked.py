"""Stacked training on every device: against itself in other portions, and against a plain loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qwave.config import (
    SCHEMES,
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import TrainedFolds, captured, stacked, train_folds
from qwave.engine.captured import CapturedStep
from qwave.engine.precision import FloatName, Precision
from qwave.engine.rows import Rows
from qwave.engine.stacked import StackedTrainer, training_loss
from qwave.engine.task import Examples, TrainingTask
from qwave.nn import fused as fusion
from qwave.nn import quantizers as quant
from qwave.nn.dropout import Dropout
from qwave.nn.mixture import (
    Arithmetic,
    Mixture,
    MixtureOutput,
    StackedLinear,
    build_mixture,
    top_k_gates,
)

from .examples import mixtures, of_labels, steps

N_FOLDS, N_CLIPS, N_ROWS, N_FEATURES, N_CLASSES = 3, 60, 13, 75, 5
SINGLE = {
    f"{scheme} {hidden}": ModelConfig((scheme,), hidden)
    for scheme in SCHEMES
    for hidden in ((), (16,))
}
TOP_1 = ModelConfig(("int2", "int4", "int4", "int16"), (16, 8), router=RouterConfig(hidden=6))
TOP_2 = ModelConfig(("int1", "popcount", "fp32"), (16,), top_k=2)
IN_PORTIONS = {
    "linear": ModelConfig(("int4",), ()),
    "top-2 with dropout": dataclasses.replace(
        TOP_2, dropout=0.3, input_dropout=0.2, router=RouterConfig(hidden=6, dropout=0.4)
    ),
    "two of one scheme": ModelConfig(("int8", "int8"), (16,)),
}
IN_FLOATS = Arithmetic(is_quantized=False)
SHORT = Arithmetic(gradient_dtype=torch.bfloat16)

every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
)
in_portions = pytest.mark.parametrize("name", IN_PORTIONS)
of_both_kinds = pytest.mark.parametrize("is_mixed", [False, True], ids=["labels", "mixtures"])


@dataclass(frozen=True)
class _Task:
    """What a trainer is given, made anew for each trainer."""

    model: ModelConfig
    seed: int
    device: str = "cpu"
    arithmetic: Arithmetic = Arithmetic()
    is_mixed: bool = False

    @property
    def config(self) -> TrialConfig:
        train = TrainConfig(epochs=2, label_smoothing=0.1)
        return TrialConfig(model=self.model, train=train).canonical()

    def mixture(self, folds: Sequence[int] = range(N_FOLDS)) -> Mixture:
        generators = [torch.Generator().manual_seed(100 * self.seed + fold) for fold in folds]
        return build_mixture(self.config.model, N_FEATURES, N_CLASSES, generators)

    def rows(self) -> Rows:
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(N_CLIPS, N_FEATURES, generator=generator)
        offset, factor = torch.rand(2, N_FOLDS, 1, N_FEATURES, generator=generator) + 0.5
        return Rows(*(tensor.to(self.device) for tensor in (x, offset, factor)))

    def y(self) -> Tensor:
        generator = torch.Generator().manual_seed(1000 + self.seed)
        return torch.randint(N_CLASSES, (N_CLIPS,), generator=generator)

    def dropout(self) -> Dropout:
        seeds = [2**62 + 7 * self.seed + fold for fold in range(N_FOLDS)]
        place = torch.device(self.device)
        return Dropout(self.config.model, N_FEATURES, N_ROWS, seeds, place)

    def class_weight(self) -> Tensor:
        return torch.linspace(0.5, 1.5, N_FOLDS * N_CLASSES).reshape(N_FOLDS, N_CLASSES)

    def batches(self, n_steps: int) -> Examples:
        """Of folds that have two to four rows less than there is room for; on the CPU."""
        generator = torch.Generator().manual_seed(self.seed)
        index = torch.randint(N_CLIPS, (N_FOLDS, n_steps, N_ROWS), generator=generator)
        index[0, :, -2:] = index[1, :, 3:7] = index[2, :, ::5] = -1
        if self.is_mixed:
            seeds = [10 * self.seed + fold for fold in range(N_FOLDS)]
            return mixtures(index, N_CLIPS, N_CLASSES, seeds)
        return of_labels(index, self.y(), self.class_weight(), self.config.train.label_smoothing)

    def trainer(self) -> StackedTrainer:
        mixture = self.mixture().to(self.device)
        given = self.config, self.rows(), self.dropout(), N_CLASSES
        return self.trainer_of(TrainingTask(mixture, *given))

    def trainer_of(self, task: TrainingTask) -> StackedTrainer:
        precision: FloatName = "float32" if self.arithmetic.gradient_dtype is None else "bfloat16"
        is_quantized = self.arithmetic.is_quantized
        return StackedTrainer(task, is_quantized=is_quantized, precision=precision)


RATES = (1e-2, 9e-3, 8e-3, 7e-3, 6e-3, 5e-3, 4e-3, 3e-3, 2e-3, 0.0)


def _run(task: _Task, cuts: Sequence[int]) -> tuple[np.ndarray, StackedTrainer]:
    """Losses of steps in portions, and the trainer after them."""
    trainer = task.trainer()
    examples = task.batches(len(RATES))
    parts = [
        trainer.train(steps(examples, slice(first, last)), RATES[first:last])
        for first, last in zip(cuts, cuts[1:], strict=False)
    ]
    return np.concatenate(parts, axis=1), trainer


def _bits(losses: np.ndarray, trainer: StackedTrainer) -> bytes:
    parts = [p.detach().cpu().numpy().tobytes() for p in trainer.mixture.parameters()]
    return b"".join(parts) + losses.tobytes()


# --- portions and graphs ------------------------------------------------------------------------


@every_device
@of_both_kinds
@in_portions
@pytest.mark.parametrize("arithmetic", [Arithmetic(), SHORT], ids=["float32", "bfloat16"])
def test_steps_at_once_in_portions_and_one_by_one_give_the_same_bits(
    name: str, arithmetic: Arithmetic, is_mixed: bool, device: str
) -> None:
    task = _Task(IN_PORTIONS[name], 1, device, arithmetic, is_mixed)
    at_once = _bits(*_run(task, [0, 10]))
    for cuts in ([0, 10], [0, 5, 10], [0, 1, 4, 6, 10], range(11)):
        assert _bits(*_run(task, cuts)) == at_once, f"cut at {list(cuts)}, {task}"


@every_device
@of_both_kinds
@in_portions
def test_captured_steps_are_those_that_run_as_they_are(
    name: str, is_mixed: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU nothing is captured, and both are the same by nature."""
    task = _Task(IN_PORTIONS[name], 2, device, is_mixed=is_mixed)
    losses, trainer = _run(task, [0, 5, 10])
    if device == "cuda":
        assert isinstance(trainer.step, CapturedStep)
        assert trainer.step.graph is not None
    monkeypatch.setattr(captured, "N_WARM_UP", 1000)
    plain_losses, plain = _run(task, [0, 5, 10])
    if device == "cuda":
        assert isinstance(plain.step, CapturedStep)
        assert plain.step.graph is None
    assert _bits(losses, trainer) == _bits(plain_losses, plain), task


@every_device
def test_a_call_leaves_the_losses_of_earlier_ones_alone(device: str) -> None:
    task = _Task(IN_PORTIONS["linear"], 3, device)
    trainer, examples = task.trainer(), task.batches(4)
    first = trainer.train(examples, RATES[:4])
    kept = first.copy()
    second = trainer.train(examples, RATES[:4])
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


@every_device
@pytest.mark.parametrize("n_calls", range(1, 7))
def test_a_step_that_is_captured_on_its_way_happens_once_a_call(n_calls: int, device: str) -> None:
    place = torch.device(device)
    counter = torch.zeros(1, dtype=torch.int64, device=place)

    def count() -> None:
        counter.add_(1)

    step = CapturedStep(count, place) if device == "cuda" else count
    for call in range(1, n_calls + 1):
        step()
        assert counter.item() == call
    if isinstance(step, CapturedStep):
        assert (step.graph is not None) == (n_calls > captured.N_WARM_UP)


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


@of_both_kinds
@pytest.mark.parametrize("arithmetic", [Arithmetic(), SHORT], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", [*IN_PORTIONS, "quantized afterwards"])
def test_replaying_a_recorded_step_goes_on_training(
    name: str, arithmetic: Arithmetic, is_mixed: bool
) -> None:
    """Its twin on a GPU is `test_captured_steps_are_those_that_run_as_they_are`."""
    if name == "quantized afterwards":
        name, arithmetic = "two of one scheme", arithmetic._replace(is_quantized=False)
    task = _Task(IN_PORTIONS[name], 6, arithmetic=arithmetic, is_mixed=is_mixed)
    plain, taped = task.trainer(), task.trainer()
    examples = task.batches(9)
    for trainer in (plain, taped):
        trainer.train(steps(examples, slice(3)), RATES[:3])
    taped.step = _TapedStep(taped._step)
    for first in (3, 6):
        part, rates = steps(examples, slice(first, first + 3)), RATES[first : first + 3]
        expected, found = plain.train(part, rates), taped.train(part, rates)
        assert _bits(found, taped) == _bits(expected, plain), f"from step {first}, {task}"


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


def _trainer_without_numbers(mode: FakeTensorMode, task: _Task, device: str) -> StackedTrainer:
    """A trainer on a device that need not be there, before the first of two steps."""
    mixture, rows = task.mixture(), task.rows()
    examples, dropout = task.batches(2), task.dropout()
    keys = dropout.keys([1, 2])
    with mode:
        for layer in mixture.modules():
            if isinstance(layer, StackedLinear):
                layer.weight = nn.Parameter(_empty(layer.weight, device))
                layer.bias = nn.Parameter(_empty(layer.bias, device))
        assert rows.offset is not None
        assert rows.factor is not None
        rows = Rows(*(_empty(t, device) for t in (rows.x, rows.offset, rows.factor)))
        trainer = task.trainer_of(TrainingTask(mixture, task.config, rows, dropout, N_CLASSES))
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
MODELS = {**SINGLE, "top-1": TOP_1, **IN_PORTIONS}
every_model = pytest.mark.parametrize("name", MODELS)


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
@every_model
def test_a_step_asks_nothing_of_the_host(
    without_numbers: FakeTensorMode, name: str, device: str
) -> None:
    task = _Task(MODELS[name], 0, arithmetic=SHORT)
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


# --- the dumb twin ------------------------------------------------------------------------------


def _plain_training(task: _Task, fold: int, rates: Sequence[float]) -> tuple[list[float], Tensor]:
    """A fold alone, without padding, on the CPU: losses before each step, logits after all."""
    config, rows = task.config, dataclasses.replace(task, device="cpu").rows()
    assert rows.offset is not None
    assert rows.factor is not None
    x = (rows.x - rows.offset[fold]) * rows.factor[fold]
    mixture = task.mixture([fold])
    optimizer = torch.optim.AdamW(
        mixture.parameters(), lr=1.0, weight_decay=config.train.weight_decay
    )
    losses = []
    examples = Examples(*(tensor[fold] for tensor in task.batches(len(rates))))
    for step, rate in enumerate(rates):
        clips, partners, shares, targets, weights = (tensor[step] for tensor in examples)
        kept = clips >= 0
        clips = clips[kept]
        if task.is_mixed:
            part = shares[kept].unsqueeze(1)
            seen = part * x[clips] + (1 - part) * x[partners[kept]]
            wanted, weight, smoothing = targets[kept], weights[kept], 0.0
        else:
            seen, wanted = x[clips], task.y()[clips]
            weight = task.class_weight()[fold, wanted]
            smoothing = config.train.label_smoothing
        output = mixture(seen.unsqueeze(0), arithmetic=task.arithmetic)
        each = nn.functional.cross_entropy(
            output.logits[0], wanted, reduction="none", label_smoothing=smoothing
        )
        loss = (each * weight).sum() / weight.sum()
        if output.probabilities is not None:
            used = (output.gates[0] > 0).float()
            share = used.sum(dim=0) / used.sum()
            balance = (share * output.probabilities[0].mean(dim=0)).sum() * used.shape[1]
            loss = loss + config.model.load_balance_weight * balance
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return losses, mixture(x.unsqueeze(0), arithmetic=task.arithmetic).logits[0]


def _without_dropout(model: ModelConfig) -> ModelConfig:
    router = dataclasses.replace(model.router, dropout=0.0)
    return dataclasses.replace(model, dropout=0.0, input_dropout=0.0, router=router)


# Rounding decides about a code on its edge: two devices may see it on different sides. In floats,
# it decides about AdamW's first step where a gradient is nearly 0: in one seed of fifty of the
# mixtures, none of these, logits are off by up to 4e-4.
ARITHMETICS = {"in floats": (IN_FLOATS, 1e-5), "quantized": (Arithmetic(), 0.02)}


@every_device
@of_both_kinds
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize(
    "name", ["int4 ()", "int8 (16,)", "fp32 (16,)", "top-1", "top-2 with dropout"]
)
def test_folds_together_are_a_plain_loop_over_folds(
    name: str, arithmetic: str, is_mixed: bool, device: str
) -> None:
    products, bound = ARITHMETICS[arithmetic]
    for seed in range(3):
        task = _Task(_without_dropout(MODELS[name]), seed, device, products, is_mixed)
        trainer = task.trainer()
        losses = trainer.train(task.batches(5), RATES[:5])
        logits = trainer.predict(torch.arange(N_CLIPS).expand(N_FOLDS, -1))
        for fold in range(N_FOLDS):
            wanted, wanted_logits = _plain_training(task, fold, RATES[:5])
            where = f"{seed=}, {fold=}"
            np.testing.assert_allclose(losses[fold], wanted, rtol=bound, err_msg=where)
            largest = float(wanted_logits.abs().max())
            worst = float((logits[fold] - wanted_logits).abs().max())
            assert worst <= bound * largest, f"{where}: logits are {worst} off, {largest=}"


def _plain_loss(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """Of one fold, row by row."""
    total = 0.0
    for row in range(len(weight)):
        log_p = logits[row] - np.log(np.exp(logits[row]).sum())
        total -= weight[row] * sum(target[row] * log_p)
    return total / weight.sum() if weight.any() else 0.0


def _plain_balance(probabilities: np.ndarray, gates: np.ndarray, weight: np.ndarray) -> float:
    """Of one fold: padding counts for nothing, and how much a row weighs does not matter."""
    is_row = weight > 0
    if not is_row.any():
        return 0.0
    used = (gates[is_row] > 0).sum(axis=0)
    n_experts = probabilities.shape[1]
    return float(n_experts * (used / used.sum() * probabilities[is_row].mean(axis=0)).sum())


@pytest.mark.parametrize("n_experts", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_a_plain_sum_over_rows(seed: int, n_experts: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(width: int) -> Tensor:
        return 3 * torch.randn(4, 9, width, generator=generator, dtype=torch.float64)

    logits, target = draw(6), torch.softmax(draw(6), dim=-1)
    weight = torch.rand(4, 9, generator=generator, dtype=torch.float64) + 0.5
    weight[1, 5:] = weight[2] = 0.0  # padding, in one fold nothing else
    probabilities = gates = None
    if n_experts > 1:
        probabilities = torch.softmax(draw(n_experts), dim=-1)
        gates = top_k_gates(probabilities, top_k=min(n_experts - 1, 2))
    output = MixtureOutput(logits, probabilities, gates)
    losses = training_loss(output, target, weight, 0.3)
    for fold in range(4):
        wanted = _plain_loss(*(tensor[fold].numpy() for tensor in (logits, target, weight)))
        if probabilities is not None and gates is not None:
            given = (tensor[fold].numpy() for tensor in (probabilities, gates, weight))
            wanted += 0.3 * _plain_balance(*given)
        assert float(losses[fold]) == pytest.approx(wanted, rel=1e-12), f"{seed=}, {fold=}"


# --- training as a whole ------------------------------------------------------------------------


def _train(
    data: EmbeddingSet, device: str, *, mode: Literal["qat", "ptq"], precision: Precision
) -> TrainedFolds:
    router = RouterConfig(hidden=5)
    model = ModelConfig(("int1", "int8", "int8"), (8,), top_k=2, router=router)
    config = TrialConfig(
        data=DataConfig(normalization="layer", n_folds=3),
        model=model,
        train=TrainConfig(mode=mode, epochs=15, batch_size=16, learning_rate=0.01),
    ).canonical()
    folds = make_folds(data, config.data)
    return train_folds(config, data, folds, device=device, way="stacked", precision=precision)


@every_device
@pytest.mark.parametrize("mode", ["qat", "ptq"])
def test_training_on_a_device_learns_and_repeats_itself(
    gaussians: Callable[..., EmbeddingSet], mode: Literal["qat", "ptq"], device: str
) -> None:
    data = gaussians(0)
    one, two = (_train(data, device, mode=mode, precision="auto") for _ in range(2))
    assert np.mean(one.checkpoints[-1].accuracy) >= 0.9, one.checkpoints[-1]
    assert one.train_loss.tobytes() == two.train_loss.tobytes()
    for now, then in zip(one.checkpoints, two.checkpoints, strict=True):
        assert now.loss == then.loss
    for p, q in zip(one.mixture.parameters(), two.mixture.parameters(), strict=True):
        assert p.device.type == "cpu"
        assert torch.equal(p, q)


@every_device
@pytest.mark.parametrize(("mode", "bound"), [("ptq", 1e-3), ("qat", 1e-2)])
def test_training_ends_where_it_ends_on_the_cpu(
    gaussians: Callable[..., EmbeddingSet],
    mode: Literal["qat", "ptq"],
    bound: float,
    device: str,
) -> None:
    for seed in range(2):
        data = gaussians(seed)
        here = _train(data, "cpu", mode=mode, precision="float32").train_loss
        there = _train(data, device, mode=mode, precision="float32").train_loss
        np.testing.assert_allclose(there[0], here[0], rtol=bound, err_msg=f"{seed=}")
        np.testing.assert_allclose(there[-1], here[-1], rtol=0, atol=bound, err_msg=f"{seed=}")
