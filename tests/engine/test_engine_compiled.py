"""Compiled training against stacked training: the same steps, computed another way.

Masks of dropout are drawn in C here and by `qwave.nn.dropout.DropMask` there: wherever these tests
drop something, they also test that both draw the same.
"""

from __future__ import annotations

import ctypes
import dataclasses
import multiprocessing
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from qwave import compiler
from qwave.config import (
    DataConfig,
    ModelConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import train_folds
from qwave.engine.compiled import CompiledTrainer, training_library
from qwave.engine.structures import Layer
from qwave.nn.mixture import Mixture

from ..pairs import pairwise
from .compiled_task import (
    MIXTURES,
    MODELS,
    N_CLIPS,
    N_FEATURES,
    N_FOLDS,
    N_SEEDS,
    RATE,
    CompiledTask,
    Precision,
    of_both_kinds,
    with_dropout,
)
from .examples import steps


@pytest.fixture(scope="module", params=["-mno-avx512f", "-mno-avx"])
def shorter_vectors(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    """The library as processors with shorter vectors get it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these flags are those of x86")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "_FLAGS", (*compiler._FLAGS, request.param))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        compiler.compiled.cache_clear()
        found = training_library()
    compiler.compiled.cache_clear()
    if found is None:
        pytest.skip("no C compiler here, or none that knows this flag")
    return found


def _layers(mixture: Mixture, trainer: CompiledTrainer) -> Iterator[tuple[list[Tensor], Layer]]:
    """Weight and bias of each layer of each fold, and the same layer as C sees it."""
    stacks = [
        (layer, member)
        for group in mixture.groups
        for member in range(group.layers[0].weight.shape[1])
        for layer in group.layers
    ]
    stacks += [(layer, 0) for layer in ([] if mixture.router is None else mixture.router.layers)]
    for place, fold in enumerate(trainer.folds):
        layers = [*sum(fold.experts, []), *fold.router]
        for (stack, member), layer in zip(stacks, layers, strict=True):
            gradients = [p.grad for p in (stack.weight, stack.bias) if p.grad is not None]
            yield [gradient[place, member] for gradient in gradients], layer


def _relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) / largest if largest > 0 else float(found.any())


def _errors(native: ctypes.CDLL, task: CompiledTask) -> dict[str, float]:
    """Largest differences between a compiled and a stacked step from the same parameters."""
    one, two = task.mixture(), task.mixture()
    stacked, compiled = task.stacked(one), task.compiled(native, two)
    clips = torch.arange(N_CLIPS).expand(len(task.folds), -1)  # more than a batch has room for
    errors = {"predictions": _relative(compiled.predict(clips), stacked.predict(clips))}
    examples = task.batches(1)
    expected, found = (trainer.train(examples, [RATE]) for trainer in (stacked, compiled))
    errors["losses"] = float((np.abs(found - expected) / expected).max())
    errors["gradients"] = errors["steps"] = 0.0
    for gradients, layer in _layers(one, compiled):
        assert layer.moments[0] is not None
        for gradient, mean in zip(gradients, (layer.moments[0], layer.bias_mean), strict=True):
            error = _relative(mean * 10, gradient)
            errors["gradients"] = max(errors["gradients"], error)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert p.grad is not None
        # A first step of AdamW is the sign of a gradient, which rounding turns where it is 0.
        is_sure = p.grad.abs() > 1e-3 * p.grad.abs().max()
        difference = (p - q).detach().abs() / RATE
        errors["steps"] = max(errors["steps"], float((difference * is_sure).max()))
        assert (difference <= 2.0).all(), task
    return errors


# About five times the largest of 24 seeds on vectors of three lengths. Gradients are the least
# alike: those of a router are sums over clips that nearly cancel each other. Of mixtures, top-1 is
# beyond that bound with two other seeds, where stacked training is as far from a step in float64.
BOUNDS = {"predictions": 3e-6, "losses": 1.5e-6, "gradients": 2e-5, "steps": 1.5e-4}
# With hidden layers, rounding decides about a value on the edge of two codes, in one seed of a
# hundred: that seed is off by what one code of one clip is worth.
FLIPPED = {"predictions": 0.02, "losses": 0.01, "gradients": 0.1, "steps": 2.0}


def _check_step(
    native: ctypes.CDLL, model: ModelConfig, *, is_mixed: bool, is_quantized: bool
) -> None:
    errors = [
        _errors(native, CompiledTask(model, seed, is_quantized=is_quantized, is_mixed=is_mixed))
        for seed in range(N_SEEDS)
    ]
    for what, bound in BOUNDS.items():
        by_seed = [error[what] for error in errors]
        *others, worst = sorted(by_seed)
        assert max(others) < bound, f"{what} by seed: {by_seed}"
        flipped = FLIPPED[what] if is_quantized and model.hidden else bound
        assert worst < flipped, f"{what} by seed: {by_seed}"


@pairwise(name=MODELS, rate=[0.0, 0.5], is_mixed=[False, True], is_quantized=[True, False])
def test_a_step_is_that_of_stacked_training(
    native: ctypes.CDLL, name: str, rate: float, is_mixed: bool, is_quantized: bool
) -> None:
    model = with_dropout(MODELS[name], rate)
    _check_step(native, model, is_mixed=is_mixed, is_quantized=is_quantized)


@pytest.mark.slow
@pairwise(name=MIXTURES, is_mixed=[False, True], is_quantized=[True, False])
def test_a_step_is_that_of_stacked_training_on_shorter_vectors(
    shorter_vectors: ctypes.CDLL, name: str, is_mixed: bool, is_quantized: bool
) -> None:
    model = with_dropout(MIXTURES[name], 0.5)
    _check_step(shorter_vectors, model, is_mixed=is_mixed, is_quantized=is_quantized)


@pytest.mark.parametrize("seed", range(N_SEEDS))
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.97])
def test_masks_are_those_of_dropmask(native: ctypes.CDLL, rate: float, seed: int) -> None:
    """Read from what layers see; elsewhere in this file equal losses say it."""
    task = CompiledTask(with_dropout(ModelConfig(("fp32",), (17, 9)), rate), seed)
    mixture = task.mixture()
    given = task.given(mixture)
    ones = dataclasses.replace(given.rows, x=torch.ones(N_CLIPS, N_FEATURES), offset=None)
    given = dataclasses.replace(given, rows=ones)
    compiled = CompiledTrainer(native, given, precision="float32")
    everywhere = task.index(3).clamp_min(0)  # so that a place in the batch is a row of inputs
    compiled.train(task.examples(everywhere), [RATE] * 3)
    dropout = given.dropout
    dropout.draw(dropout.keys([3])[0])
    for place, fold in enumerate(compiled.folds):
        first, *others = fold.experts[0]
        masks = [mask(torch.ones(N_FOLDS, *mask.shape))[place] for mask in dropout.experts]
        assert torch.equal(first.inputs.values, masks[0]), f"{seed=}"
        assert 0 < float((masks[0] == 0).float().mean()) < 1, f"{seed=}"
        for layer, mask in zip(others, masks[1:], strict=True):
            normal, slope, _ = layer.made
            assert torch.equal(slope, mask * (normal > 0)), f"{seed=}"


@of_both_kinds
@pytest.mark.parametrize("name", MIXTURES)
def test_three_steps_with_dropout_are_those_of_stacked_training(
    native: ctypes.CDLL, name: str, is_mixed: bool
) -> None:
    """Not quantized: codes would flip, see above."""
    for seed in range(N_SEEDS):
        model = with_dropout(MIXTURES[name], 0.5)
        task = CompiledTask(model, seed, is_quantized=False, is_mixed=is_mixed)
        examples = task.batches(3)
        stacked = task.stacked(task.mixture()).train(examples, [1e-2, 3e-3, 1e-3])
        compiled = task.compiled(native, task.mixture()).train(examples, [1e-2, 3e-3, 1e-3])
        assert not np.allclose(stacked[:, 0], stacked[:, 2], rtol=1e-2)
        np.testing.assert_allclose(compiled, stacked, rtol=5e-5, err_msg=f"{seed=}")


def _differences(native: ctypes.CDLL, task: CompiledTask) -> tuple[float, float]:
    """Between three compiled and three stacked steps.

    Returns:
        The largest of losses, as a share of them, and the largest share of a parameter's values
        that are off by a fiftieth of a step.
    """
    one, two = task.mixture(), task.mixture()
    examples = task.batches(3)
    stacked = task.stacked(one).train(examples, [RATE] * 3)
    compiled = task.compiled(native, two).train(examples, [RATE] * 3)
    off = [
        # See `_errors`: where gradients are 0, steps are anything up to the rate.
        float(((p - q).abs() > 0.02 * RATE).float().mean())
        for p, q in zip(one.parameters(), two.parameters(), strict=True)
    ]
    return float((np.abs(compiled - stacked) / stacked).max()), max(off)


@pairwise(name=MODELS, is_mixed=[False, True], is_quantized=[True, False])
def test_losses_and_parameters_of_three_steps_are_those_of_stacked_training(
    native: ctypes.CDLL, name: str, is_mixed: bool, is_quantized: bool
) -> None:
    model = with_dropout(MODELS[name], 0.5)
    tasks = [
        CompiledTask(model, seed, is_quantized=is_quantized, is_mixed=is_mixed)
        for seed in range(N_SEEDS)
    ]
    by_seed = [_differences(native, task) for task in tasks]
    # A code that flips, in one seed of a hundred, is more often one of a weight by now.
    may_flip = FLIPPED["losses"], 0.1
    for values, bound, flipped in zip(
        zip(*by_seed, strict=True), (5e-5, 0.01), may_flip, strict=True
    ):
        *others, worst = sorted(values)
        assert max(others) < bound, f"losses and parameters by seed: {by_seed}"
        assert worst < (flipped if is_quantized else bound), f"by seed: {by_seed}"


@pairwise(
    name=[*MIXTURES, "int1 ()", "int8 (16, 8)", "fp32 (16,)"],
    precision=["float32", "bfloat16"],
    seed=[4, 5],
)
def test_a_mixture_of_two_clips_trains_like_a_clip_that_was_mixed_before(
    native: ctypes.CDLL, name: str, precision: Precision, seed: int
) -> None:
    task = CompiledTask(with_dropout(MODELS[name], 0.4), seed, is_mixed=True)
    examples = task.batches(5)
    rows = task.rows()
    first, second = rows.x[examples.row.clamp_min(0)].double(), rows.x[examples.partner].double()
    share = examples.share.double().unsqueeze(-1)
    mixed = (share * first + (1 - share) * second).float().flatten(end_dim=2)
    place = torch.arange(len(mixed)).view_as(examples.row)
    unmixed = examples._replace(
        row=torch.where(examples.row < 0, -1, place),
        partner=torch.zeros_like(place),
        share=torch.ones_like(examples.share),
    )
    runs = []
    for x, given in ((rows.x, examples), (mixed, unmixed)):
        mixture = task.mixture()
        own = dataclasses.replace(task.given(mixture), rows=dataclasses.replace(rows, x=x))
        trainer = CompiledTrainer(native, own, precision=precision)
        losses = trainer.train(given, [1e-2] * 5)
        runs.append(_bits(list(mixture.parameters()), losses))
    assert runs[0] == runs[1]


@pairwise(name=MIXTURES, precision=["float32", "bfloat16"], is_mixed=[False, True])
def test_many_steps_lower_the_loss_like_stacked_training(
    native: ctypes.CDLL, name: str, precision: Precision, is_mixed: bool
) -> None:
    task = CompiledTask(MIXTURES[name], 7, is_mixed=is_mixed)
    examples = steps(task.batches(1), [0] * 40)
    stacked = task.stacked(task.mixture()).train(examples, [1e-2] * 40)
    compiled = task.compiled(native, task.mixture(), precision).train(examples, [1e-2] * 40)
    np.testing.assert_allclose(compiled[:, 0], stacked[:, 0], rtol=1e-6)
    for losses in (stacked, compiled):
        assert (losses[:, -1] < 0.8 * losses[:, 0]).all(), losses[:, -1]
    # Codes that flip at other moments make two runs of one training differ a little.
    np.testing.assert_allclose(compiled[:, -1], stacked[:, -1], rtol=0.15, atol=0.05)


def _bits(parts: list[Tensor], losses: np.ndarray) -> bytes:
    return b"".join(part.detach().numpy().tobytes() for part in parts) + losses.tobytes()


@pairwise(
    name=[*MIXTURES, "int8 (16, 8)", "fp32 (16,)"],
    precision=["float32", "bfloat16"],
    is_mixed=[False, True],
)
def test_a_fold_alone_takes_the_steps_that_it_takes_in_a_stack_bit_for_bit(
    native: ctypes.CDLL, name: str, precision: Precision, is_mixed: bool
) -> None:
    model = with_dropout(MODELS[name], 0.4)

    def train(folds: range) -> tuple[list[Tensor], np.ndarray, Tensor]:
        task = CompiledTask(model, 4, folds, n_rows=30, is_mixed=is_mixed)
        mixture = task.mixture()
        compiled = task.compiled(native, mixture, precision)
        losses = compiled.train(task.batches(5), [1e-2] * 5)
        clips = torch.arange(N_CLIPS).expand(len(folds), -1)
        return list(mixture.parameters()), losses, compiled.predict(clips)

    parameters, losses, logits = train(range(N_FOLDS))
    for fold in range(N_FOLDS):
        alone, alone_losses, alone_logits = train(range(fold, fold + 1))
        for one, stack in zip(alone, parameters, strict=True):
            assert torch.equal(one[0], stack[fold]), f"{fold=}"
        assert np.array_equal(alone_losses[0], losses[fold]), f"{fold=}"
        assert torch.equal(alone_logits[0], logits[fold]), f"{fold=}"


@of_both_kinds
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_at_once_and_one_by_one_give_the_same_bits(
    native: ctypes.CDLL, precision: Precision, is_mixed: bool
) -> None:
    task = CompiledTask(with_dropout(MIXTURES["top-2"], 0.4), 5, is_mixed=is_mixed)
    examples, rates = task.batches(6), [1e-2, 9e-3, 8e-3, 5e-3, 2e-3, 0.0]
    runs = []
    for cuts in ([0, 6], [0, 6], [0, 1, 4, 6]):
        mixture = task.mixture()
        compiled = task.compiled(native, mixture, precision)
        parts = [
            compiled.train(steps(examples, slice(first, last)), rates[first:last])
            for first, last in zip(cuts, cuts[1:], strict=False)
        ]
        runs.append(_bits(list(mixture.parameters()), np.concatenate(parts, axis=1)))
    assert runs[0] == runs[1] == runs[2]


def test_an_expert_that_gets_no_clip_only_decays(native: ctypes.CDLL) -> None:
    task = CompiledTask(ModelConfig(("int1", "int4"), (16,)), 0)
    mixture = task.mixture()
    assert mixture.router is not None
    with torch.no_grad():
        mixture.router.layers[0].weight.zero_()
        mixture.router.layers[0].bias[...] = torch.tensor([9.0, -9.0])
    before = [layer.weight.detach().clone() for layer in mixture.groups[1].layers]
    task.compiled(native, mixture).train(task.batches(1), [1e-2])
    decay = 1 - 1e-2 * task.config.train.weight_decay
    for layer, old in zip(mixture.groups[1].layers, before, strict=True):
        torch.testing.assert_close(layer.weight.detach(), old * decay, rtol=2e-7, atol=0.0)


@of_both_kinds
@pytest.mark.parametrize("name", [*MIXTURES, "int8 (16,)"])
def test_a_fold_without_rows_in_a_step_goes_on_by_its_moments(
    native: ctypes.CDLL, name: str, is_mixed: bool
) -> None:
    task = CompiledTask(MODELS[name], 3, is_quantized=False, is_mixed=is_mixed)
    index = task.index(3)
    index[1, 1] = -1
    examples = task.examples(index)
    one, two = task.mixture(), task.mixture()
    stacked = task.stacked(one).train(examples, [RATE] * 3)
    compiled = task.compiled(native, two).train(examples, [RATE] * 3)
    assert compiled[1, 1] == stacked[1, 1] == 0.0
    np.testing.assert_allclose(compiled, stacked, rtol=1e-5)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert q.isfinite().all()
        # See `_errors`: where gradients are 0, steps are anything up to the rate.
        is_off = (p - q).abs() > 0.02 * RATE
        assert float(is_off.float().mean()) < 0.01


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_of_equally_likely_experts_those_listed_first_win(native: ctypes.CDLL, top_k: int) -> None:
    model = ModelConfig(("int1", "int4", "int8", "fp32"), (16,), top_k=top_k)
    task = CompiledTask(model, 0)
    one, two = task.mixture(), task.mixture()
    for mixture in (one, two):
        assert mixture.router is not None
        with torch.no_grad():
            for parameter in mixture.router.parameters():
                parameter.zero_()
    stacked, compiled = task.stacked(one), task.compiled(native, two)
    clips = torch.arange(N_CLIPS).expand(N_FOLDS, -1)
    expected = stacked.predict(clips)
    torch.testing.assert_close(compiled.predict(clips), expected, rtol=0.0, atol=1e-5)
    compiled.train(task.batches(1), [0.0])
    for fold in compiled.folds:
        is_used = [bool(layer.bias_mean.any()) for *_, layer in fold.experts]
        assert is_used == [place < top_k for place in range(4)]


@pytest.mark.slow
def test_processes_at_once_give_the_bits_of_one(
    native: ctypes.CDLL, gaussians: Callable[..., EmbeddingSet]
) -> None:
    data = gaussians(0)
    config = TrialConfig(
        data=DataConfig(normalization="layer", n_folds=3),
        model=with_dropout(MIXTURES["top-2"], 0.1),
        train=TrainConfig(epochs=12, batch_size=16, learning_rate=0.01),
    ).canonical()
    folds = make_folds(data, config.data)
    here = train_folds(config, data, folds, backend="compiled", precision="bfloat16")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        runs = [
            pool.submit(train_folds, config, data, folds, backend="compiled", precision="bfloat16")
            for _ in range(2)
        ]
        for run in runs:
            there = run.result(timeout=120)
            expected, found = (
                _bits(list(trained.mixture.parameters()), trained.train_loss)
                for trained in (here, there)
            )
            assert found == expected
