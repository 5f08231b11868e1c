"""Parts of a compiled step by themselves: products, gradients, AdamW, moments and codes."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qwave.config import SCHEMES, ModelConfig, TrainConfig, TrialConfig
from qwave.engine.build import build_mixture
from qwave.engine.compiled import CompiledTrainer
from qwave.engine.precision import FloatName
from qwave.engine.stacked import StackedTrainer
from qwave.engine.structures import Layer
from qwave.engine.task import Examples, Rows
from qwave.nn.mixture import StackedLinear
from qwave.nn.quantizers import dequantize, quantize

from ..pairs import pairwise
from .examples import mixtures, of_labels, task_of

SMOOTHING, RATES = 0.1, [1e-3, 1e-3, 1e-3]
CODED = [name for name, scheme in SCHEMES.items() if scheme.weights is not None]


class _Expert:
    """One expert of one fold, compiled: widths from the inputs to the classes."""

    def __init__(
        self,
        native: ctypes.CDLL,
        scheme: str,
        widths: tuple[int, ...],
        *,
        seed: int = 0,
        n_clips: int = 60,
        n_rows: int = 9,
        is_short: bool = False,
        change: Callable[[Sequence[StackedLinear]], None] | None = None,
    ) -> None:
        n_features, *hidden, n_classes = widths
        self.n_classes = n_classes
        self.generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n_clips, n_features, generator=self.generator)
        self.y = torch.randint(n_classes, (n_clips,), generator=self.generator)
        train = TrainConfig(weight_decay=0.05, label_smoothing=SMOOTHING)
        config = TrialConfig(model=ModelConfig((scheme,), tuple(hidden)), train=train).canonical()
        self.mixture = build_mixture(config.model, n_features, n_classes, [self.generator])
        if change is not None:
            change(self.mixture.groups[0].layers)
        self.n_rows = n_rows
        rows = Rows(self.x, None, None)
        task = task_of(
            config, self.mixture, rows, n_rows=n_rows, seeds=[seed], n_classes=n_classes
        )
        self.stacked = StackedTrainer(task, precision="float32")
        precision: FloatName = "bfloat16" if is_short else "float32"
        self.compiled = CompiledTrainer(native, task, precision=precision)

    @property
    def layers(self) -> list[Layer]:
        return self.compiled.folds[0].experts[0]

    def index(self, n_steps: int) -> Tensor:
        """Rows without padding, [1, s, b]."""
        shape = 1, n_steps, self.n_rows
        return torch.randint(len(self.x), shape, generator=self.generator)

    def examples(self, index: Tensor) -> Examples:
        """Rows and their labels, one class as weighty as the other."""
        return of_labels(index, self.y, torch.ones(1, self.n_classes), SMOOTHING)

    def batches(self, n_steps: int) -> Examples:
        return self.examples(self.index(n_steps))

    def predict(self) -> Tensor:
        return self.compiled.predict(torch.arange(len(self.x)).unsqueeze(0))[0]


def _moments(layer: Layer) -> tuple[Tensor, Tensor]:
    """Of a layer's weight, in float32."""
    mean, square, words = layer.moments
    if words is not None:
        return (words & -(2**16)).view(torch.float32), (words << 16).view(torch.float32)
    assert mean is not None
    assert square is not None
    return mean, square


def _twins(
    native: ctypes.CDLL, scheme: str, widths: tuple[int, ...], seed: int, n_rows: int = 9
) -> tuple[_Expert, _Expert]:
    """With moments of two bytes and of four."""
    short, long = (
        _Expert(native, scheme, widths, seed=seed, n_rows=n_rows, is_short=is_short)
        for is_short in (True, False)
    )
    return short, long


def _largest(values: Tensor) -> float:
    return values.abs().max().item()


# --- products and gradients ---


@pytest.mark.parametrize("n_features", [9, 518, 1040])
def test_products_of_codes_are_exact_even_if_all_are_extreme(
    native: ctypes.CDLL, n_features: int
) -> None:
    """Up to as many inputs as `qwave.nn.quantizers` says; all scales are powers of two here."""
    rng = np.random.default_rng(n_features)
    extreme = np.full((14, n_features), 127)
    extreme[1] = -127
    extreme[2, ::2] = -127
    extreme[3] = rng.choice([-127, 127], n_features)
    extreme[4:9] = rng.integers(100, 128, (5, n_features))
    extreme[9:] = rng.integers(-127, 128, (5, n_features))
    extreme[:, 0] = 127
    expert = _Expert(native, "int8", (n_features, 14), n_clips=14)
    trained = expert.mixture.groups[0].layers[0]
    with torch.no_grad():
        trained.weight[0, 0] = torch.from_numpy(extreme) * 2.0**-7
        trained.bias.zero_()
    expert.x[...] = torch.from_numpy(extreme[::-1].copy()) * 2.0**-5
    # A step of nothing: codes are made anew.
    expert.compiled.train(expert.batches(1), [0.0])
    assert np.array_equal(expert.layers[0].codes.numpy(), extreme)
    found = expert.predict().double().numpy() * 2**12
    assert np.array_equal(found, extreme[::-1].astype(np.int64) @ extreme.T)


@pairwise(scheme=["int16", "fp32"], is_mixed=[False, True], seed=range(0, 50, 2))
def test_gradients_of_any_shape_are_those_of_a_plain_network(
    native: ctypes.CDLL, scheme: str, seed: int, is_mixed: bool
) -> None:
    """Widths that leave a part of every block, vector and chunk over."""
    rng = np.random.default_rng(seed)
    most = 40 if seed < 40 else 300
    hidden = rng.integers(3, most, size=rng.integers(0, 3)).tolist()
    widths = (int(rng.integers(1, most)), *hidden, int(rng.integers(1, 10)))
    n_rows = int(rng.integers(1, 10))
    expert = _Expert(native, scheme, widths, seed=seed, n_rows=n_rows)
    where = f"{seed=} {widths=} {n_rows=}"
    parameters = []
    for layer in expert.layers:
        weight = layer.weight.clone()
        if layer.scheme.weights is not None:
            grid = layer.scheme.weights
            weight = dequantize(*quantize(weight, grid), grid)
        parameters.append((weight.double().requires_grad_(), layer.bias.double().requires_grad_()))

    def plain(hidden: Tensor) -> Tensor:
        for place, (weight, bias) in enumerate(parameters):
            if place > 0:
                hidden = torch.relu(nn.functional.layer_norm(hidden, hidden.shape[-1:]))
            hidden = nn.functional.linear(hidden, weight, bias)
        return hidden

    x = expert.x.double()
    logits = plain(x)
    torch.testing.assert_close(
        expert.predict().double(), logits, rtol=0.0, atol=5e-6, msg=lambda text: f"{where} {text}"
    )
    index = expert.index(1)
    rows = index[0, 0]
    if is_mixed:
        examples = mixtures(index, len(x), widths[-1], [seed])
        _, partner, share, target, weight = (tensor[0, 0] for tensor in examples)
        share = share.double().unsqueeze(1)
        mixed = plain(share * x[rows] + (1 - share) * x[partner])
        each = -(target.double() * torch.log_softmax(mixed, dim=1)).sum(dim=1)
        loss = (weight.double() * each).sum() / weight.double().sum()
    else:
        examples = expert.examples(index)
        loss = nn.functional.cross_entropy(logits[rows], expert.y[rows], label_smoothing=SMOOTHING)
    loss.backward()
    found = expert.compiled.train(examples, [1e-3])[0, 0]
    assert found == pytest.approx(loss.item(), rel=1e-6, abs=1e-7), where
    for layer, (weight, bias) in zip(expert.layers, parameters, strict=True):
        for parameter, mean in ((weight, _moments(layer)[0]), (bias, layer.bias_mean)):
            assert parameter.grad is not None
            largest = _largest(parameter.grad)
            error = _largest(mean.double() * 10 - parameter.grad)
            # The floor: with one class, gradients are 0.
            assert error < 1e-5 * largest + 1e-7, f"{where}: {error} of {largest}"


@pairwise(scheme=SCHEMES, hidden=[(), (16,), (16, 8)], is_short=[False, True])
def test_what_is_not_a_number_stays_none_as_in_stacked_training(
    native: ctypes.CDLL, scheme: str, hidden: tuple[int, ...], is_short: bool
) -> None:
    for value in (torch.nan, torch.inf):
        for where in ("first weight", "last weight", "first bias", "clip"):
            change = functools.partial(_spoil, where=where, value=value)
            runs = []
            for is_stacked in (True, False):
                expert = _Expert(
                    native, scheme, (20, *hidden, 3), is_short=is_short, change=change
                )
                if where == "clip":
                    expert.x[4, 3] = value
                index = torch.arange(9).expand(1, 3, -1)
                trainer = expert.stacked if is_stacked else expert.compiled
                logits = trainer.predict(index[:, 0])
                losses = trainer.train(expert.examples(index), RATES)
                runs.append((logits.isnan().any(dim=-1), np.isnan(losses)))
            assert torch.equal(runs[1][0], runs[0][0]), f"{value} in {where}: predictions"
            assert np.array_equal(runs[1][1], runs[0][1]), f"{value} in {where}: losses"
            assert value == torch.inf or runs[0][1].all(), f"{value} in {where}: stacked losses"


def _spoil(layers: Sequence[StackedLinear], where: str, value: float) -> None:
    if where == "first weight":
        layers[0].weight.data[0, 0, 1, 1] = value
    elif where == "last weight":
        layers[-1].weight.data[0, 0, 1, 1] = value
    elif where == "first bias":
        layers[0].bias.data[0, 0, 1] = value


# --- AdamW ---


@pytest.mark.parametrize("seed", range(4))
def test_steps_are_those_of_adamw(native: ctypes.CDLL, seed: int) -> None:
    expert = _Expert(native, "fp32", (75, 7), seed=seed)
    (layer,) = expert.layers
    plain = nn.Linear(75, 7)
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
        plain.bias.copy_(layer.bias)
    optimizer = torch.optim.AdamW(plain.parameters(), weight_decay=0.05)
    index = expert.index(30)
    for step, rows in enumerate(index[0]):
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        logits = plain(expert.x[rows])
        loss = nn.functional.cross_entropy(logits, expert.y[rows], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expert.compiled.train(expert.examples(index), [0.1 / (step + 1) for step in range(30)])
    mean, square = _moments(layer)
    for parameter, found in (
        (plain.weight, (layer.weight, mean, square)),
        (plain.bias, (layer.bias, layer.bias_mean, layer.bias_square)),
    ):
        moments = optimizer.state[parameter]
        expected = parameter.detach(), moments["exp_avg"], moments["exp_avg_sq"]
        for one, two in zip(found, expected, strict=True):
            bound = 1e-5 * float(two.abs().max())
            torch.testing.assert_close(one, two, rtol=0.0, atol=bound, msg=f"{seed=}")


@pytest.mark.parametrize("n_rows", [9, 40])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_first_step_with_short_moments_is_that_with_long_ones(
    native: ctypes.CDLL, scheme: str, n_rows: int
) -> None:
    """They are rounded after use. Of many clips, gradients are bfloat16 on some processors."""
    rate, slopes = 0.01, []
    for seed in range(8):
        short, long = _twins(native, scheme, (75, 17, 5), seed=seed, n_rows=n_rows)
        examples = long.batches(1)
        expected, found = (expert.compiled.train(examples, [rate]) for expert in (long, short))
        assert np.array_equal(found, expected), f"{seed=}: products forward are the same"
        for one, two in zip(short.layers, long.layers, strict=True):
            mean = _moments(two)[0]
            # A first step hangs on the gradient's sign alone.
            is_sure = mean.abs() > 0.05 * mean.abs().max()
            assert _largest((one.weight - two.weight)[is_sure]) < 2e-5 * rate, f"{seed=}"
            assert torch.equal(one.bias, two.bias), f"{seed=}"
        found_mean, mean = (_moments(expert.layers[0])[0] for expert in (short, long))
        slopes.append(float((found_mean * mean).sum() / mean.square().sum()))
    # Cut off instead of rounded to nearest, they would be smaller by a thousandth and more.
    assert np.mean(slopes) == pytest.approx(1.0, abs=5e-4), slopes


@pairwise(
    scheme=["int1", "int8", "int16", "fp32"],
    widths=[(75, 17, 5), (75, 70, 5), (40, 70, 33, 5)],
    n_rows=[1, 9, 40],
)
def test_short_first_moments_are_long_ones_to_a_few_roundings(
    native: ctypes.CDLL, scheme: str, widths: tuple[int, ...], n_rows: int
) -> None:
    """Gradients of later layers' inputs, whole tiles of them and rests, are seen in the first."""
    for seed in range(3):
        short, long = _twins(native, scheme, widths, seed=seed, n_rows=n_rows)
        examples = long.batches(100)
        # Weights stay where they are: both see the same gradients.
        rates = [0.0] * 100
        expected, found = (expert.compiled.train(examples, rates) for expert in (long, short))
        assert np.array_equal(found, expected), f"{seed=}"
        for one, two in zip(short.layers, long.layers, strict=True):
            off, mean = _moments(one)[0] - _moments(two)[0], _moments(two)[0]
            assert float(off.norm() / mean.norm()) < 0.02, f"{seed=}"
            assert _largest(off) < 0.05 * _largest(mean), f"{seed=}"
            off, mean = one.bias_mean - two.bias_mean, two.bias_mean
            assert float(off.norm() / mean.norm()) < 0.02, f"{seed=}"


def test_short_second_moments_are_right_on_average_and_do_not_stand_still(
    native: ctypes.CDLL,
) -> None:
    """Steps with gradients, then ones without, in which squares fall by a thousandth each."""
    short, long = _twins(native, "fp32", (300, 40), seed=0)
    busy, n_steps = long.index(1000), 1000
    squares = []
    for index in (busy, torch.full_like(busy, -1)):
        for expert in (short, long):
            expert.compiled.train(long.examples(index), [0.0] * n_steps)
        squares.append([_moments(expert.layers[0])[1].clone() for expert in (short, long)])
    for found, expected in squares:
        ratio = found / expected
        # A weight's own error is a walk of roundings; over 12,000 weights it averages out.
        assert 0.01 < float(ratio.std()) < 0.2
        assert float(ratio.mean()) == pytest.approx(1.0, abs=0.005)
    # The twin: a thousandth is less than half of what two numbers of bfloat16 differ by.
    nearest = start = squares[0][0]
    for _ in range(n_steps):
        nearest = (0.999 * nearest).bfloat16().float()
    assert torch.equal(nearest, start)
    assert float((squares[1][0] / start).mean()) == pytest.approx(0.999**n_steps, rel=0.005)


# --- codes ---


@pairwise(scheme=CODED, seed=range(4), is_short=[False, True])
def test_codes_after_steps_are_those_of_the_quantizer(
    native: ctypes.CDLL, scheme: str, seed: int, is_short: bool
) -> None:
    """Of weights from 0.001 to 1; see `_check_codes`."""

    def resize(layers: Sequence[StackedLinear]) -> None:
        for layer in layers:
            layer.weight.data.mul_(10.0 ** (seed - 2))

    expert = _Expert(native, scheme, (75, 40, 5), seed=seed, is_short=is_short, change=resize)
    for step in range(1, 8):
        expert.compiled.train(expert.batches(1), [0.1 / step])
        for layer in expert.layers:
            _check_codes(layer, f"{seed=} {step=}")


@pytest.mark.parametrize("scheme", CODED)
def test_codes_that_are_written_past_the_caches_are_those_of_the_quantizer(
    native: ctypes.CDLL, scheme: str
) -> None:
    """Of layers beyond 2^19 weights, with rows that end between blocks of 64 and without."""
    for widths in ((1024, 513, 3), (1003, 523, 3)):
        expert = _Expert(native, scheme, widths, n_clips=20, is_short=True)
        for step in range(1, 4):
            expert.compiled.train(expert.batches(1), [0.01])
            for layer in expert.layers:
                _check_codes(layer, f"{widths=} {step=}")


@pytest.mark.parametrize("scheme", CODED)
def test_weights_beyond_the_largest_scale_have_the_outermost_codes(
    native: ctypes.CDLL, scheme: str
) -> None:
    """Also those that no whole number of four bytes is as large as."""
    expert = _Expert(native, scheme, (130, 4))
    (layer,) = expert.layers
    for value, row in zip((1e5, -1e8, 1e20, -1e30), layer.weight, strict=True):
        row[:] = value
        row[1::2] = -value
    expert.compiled.train(expert.batches(1), [0.0])
    grid = layer.scheme.weights
    assert grid is not None
    signs = torch.sign(layer.weight)
    assert torch.equal(layer.codes.float(), signs * grid.highest)
    assert (layer.scale == 65504).all()


def _check_codes(layer: Layer, where: str) -> None:
    grid = layer.scheme.weights
    assert grid is not None
    codes, scale = quantize(layer.weight, grid)
    scale = scale.flatten()
    # A mean summed in another order may round to the next float16.
    torch.testing.assert_close(layer.scale, scale, rtol=2**-10, atol=0.0, msg=where)
    same = layer.scale == scale
    assert (~same).sum() <= 1, where
    wrong = (layer.codes[same].float() - codes[same]).abs()
    # Values that lie on the edge of two codes to the last bit.
    assert wrong.max() <= grid.spacing, where
    assert (wrong > 0).float().mean() < 0.01, where
    if layer.inputs.narrow is not None:
        assert torch.equal(layer.code_sum, layer.codes.sum(dim=1, dtype=torch.int32)), where


@pytest.mark.parametrize("is_short", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("scheme", CODED)
def test_rows_of_zeros_and_of_one_value_have_the_codes_of_the_quantizer(
    native: ctypes.CDLL, scheme: str, is_short: bool
) -> None:
    expert = _Expert(native, scheme, (9, 4), is_short=is_short)
    (layer,) = expert.layers
    for value, row in zip((0.0, 0.25, -3.0, 1e-30), layer.weight, strict=True):
        row[:] = value
    expert.compiled.train(expert.batches(1), [0.0])  # a step of nothing: codes are made anew
    assert layer.scheme.weights is not None
    codes, scale = quantize(layer.weight, layer.scheme.weights)
    assert torch.equal(layer.codes.float(), codes)
    assert torch.equal(layer.scale, scale.flatten())


@pytest.mark.parametrize("scheme", CODED)
def test_codes_before_the_first_step_are_those_of_the_quantizer(
    native: ctypes.CDLL, scheme: str
) -> None:
    for layer in _Expert(native, scheme, (75, 17, 5)).layers:
        assert layer.scheme.weights is not None
        codes, scale = quantize(layer.weight, layer.scheme.weights)
        assert torch.equal(layer.codes.float(), codes)
        assert torch.equal(layer.scale, scale.flatten())
        assert torch.equal(layer.code_sum, layer.codes.sum(dim=1, dtype=torch.int32))
