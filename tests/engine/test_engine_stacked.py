"""Stacked training on every device: against itself in other portions, and against a plain loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qwave.config import (
    DataConfig,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import TrainedFolds, stacked, train_folds
from qwave.engine.precision import Precision
from qwave.engine.stacked import CapturedStep, training_loss
from qwave.engine.task import Examples
from qwave.nn.mixture import (
    Arithmetic,
    MixtureOutput,
    top_k_gates,
)

from ..pairs import pairwise
from .stacked_task import (
    IN_FLOATS,
    IN_PORTIONS,
    MODELS,
    N_CLIPS,
    N_FOLDS,
    RATES,
    SHORT,
    StackedTask,
    bits_of,
    every_device,
    in_portions,
    of_both_kinds,
    run_in_portions,
)

# --- portions and graphs ------------------------------------------------------------------------


@every_device
@pairwise(name=IN_PORTIONS, arithmetic=[Arithmetic(), SHORT], is_mixed=[False, True])
def test_steps_at_once_in_portions_and_one_by_one_give_the_samebits_of(
    name: str, arithmetic: Arithmetic, is_mixed: bool, device: str
) -> None:
    task = StackedTask(IN_PORTIONS[name], 1, device, arithmetic, is_mixed)
    at_once = bits_of(*run_in_portions(task, [0, 10]))
    for cuts in ([0, 10], [0, 1, 4, 6, 10], range(11)):
        assert bits_of(*run_in_portions(task, cuts)) == at_once, f"cut at {list(cuts)}, {task}"


@every_device
@of_both_kinds
@in_portions
def test_captured_steps_are_those_that_run_as_they_are(
    name: str, is_mixed: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU nothing is captured, and both are the same by nature."""
    task = StackedTask(IN_PORTIONS[name], 2, device, is_mixed=is_mixed)
    losses, trainer = run_in_portions(task, [0, 5, 10])
    if device == "cuda":
        assert isinstance(trainer.step, CapturedStep)
        assert trainer.step.graph is not None
    monkeypatch.setattr(stacked, "N_WARM_UP", 1000)
    plain_losses, plain = run_in_portions(task, [0, 5, 10])
    if device == "cuda":
        assert isinstance(plain.step, CapturedStep)
        assert plain.step.graph is None
    assert bits_of(losses, trainer) == bits_of(plain_losses, plain), task


@every_device
def test_a_call_leaves_the_losses_of_earlier_ones_alone(device: str) -> None:
    task = StackedTask(IN_PORTIONS["linear"], 3, device)
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
        assert (step.graph is not None) == (n_calls > stacked.N_WARM_UP)


# --- the dumb twin ------------------------------------------------------------------------------


def _plain_training(
    task: StackedTask, fold: int, rates: Sequence[float]
) -> tuple[list[float], Tensor]:
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
@pairwise(
    name=["int4 ()", "int8 (16,)", "fp32 (16,)", "top-1", "top-2 with dropout"],
    arithmetic=ARITHMETICS,
    is_mixed=[False, True],
)
def test_folds_together_are_a_plain_loop_over_folds(
    name: str, arithmetic: str, is_mixed: bool, device: str
) -> None:
    products, bound = ARITHMETICS[arithmetic]
    for seed in range(2):
        task = StackedTask(_without_dropout(MODELS[name]), seed, device, products, is_mixed)
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
        train=TrainConfig(mode=mode, epochs=8, batch_size=16, learning_rate=0.01),
    ).canonical()
    folds = make_folds(data, config.data)
    return train_folds(config, data, folds, device=device, backend="stacked", precision=precision)


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


@pytest.mark.slow
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
