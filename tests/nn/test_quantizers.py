"""Conformance of every scheme: codes, scales, products and straight-through gradients.

Every quantizer is held against exact rational numbers, every product against whole numbers of
Python, every gradient against autograd over ``v + (fake_quantize(v) - v).detach()``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from qwave.config import SCHEMES, Grid, Scheme
from qwave.nn import quantizers as quant

QUANTIZED = [scheme for scheme in SCHEMES.values() if scheme.weights is not None]
SAMPLED = [scheme for scheme in QUANTIZED if scheme.activations is not None]
FLOATS_TIMES_CODES = [scheme for scheme in SCHEMES.values() if scheme.activations is None]
GRIDS = sorted(
    {grid for s in SCHEMES.values() for grid in (s.weights, s.activations) if grid},
    key=lambda grid: (grid.n_levels, grid.scale),
)

every_quantized = pytest.mark.parametrize("scheme", QUANTIZED, ids=lambda s: s.name)
every_sampled = pytest.mark.parametrize("scheme", SAMPLED, ids=lambda s: s.name)
every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda s: s.name)
every_grid = pytest.mark.parametrize(
    "grid", GRIDS, ids=lambda g: f"{g.n_levels}_levels_of_{g.scale}"
)

# Leading dimensions of x, of the weights: one layer, stacked experts, experts that share x,
# folds of experts that share x, folds of experts that each see their own.
BROADCASTS = [
    ((), ()),
    ((3,), (3,)),
    ((), (3,)),
    ((1,), (3,)),
    ((2, 1), (2, 3)),
    ((2, 3), (2, 3)),
    ((2, 3), ()),
]


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights_of(scheme: Scheme) -> Grid:
    assert scheme.weights is not None
    return scheme.weights


def activations_of(scheme: Scheme) -> Grid:
    assert scheme.activations is not None
    return scheme.activations


def exact_scale(row: list[float], grid: Grid) -> float:
    absolute = [abs(value) for value in row]
    measure = max(absolute) if grid.scale == "absmax" else math.fsum(absolute) / len(row)
    return measure * grid.scale_factor


def fake_quantize(weight: Tensor, grid: Grid) -> Tensor:
    return quant.dequantize(*quant.quantize(weight, grid), grid)


def fake_samples(x: Tensor, grid: Grid | None) -> Tensor:
    """Activations as they enter a product, in numpy."""
    if grid is None:
        return x.detach()
    values = x.detach().numpy()
    absolute = np.abs(values)
    measure = absolute.max(-1) if grid.scale == "absmax" else absolute.mean(-1)
    step = np.maximum(measure[..., None] * grid.scale_factor, 1e-30) / grid.denominator
    codes = np.clip(np.rint(values / step), -grid.highest, grid.highest)
    return torch.from_numpy((codes * step).astype(np.float32))


def fake_weights(weight: Tensor, grid: Grid | None) -> Tensor:
    return weight.detach() if grid is None else fake_quantize(weight.detach(), grid)


def sqnr_db(weight: Tensor, fake: Tensor) -> float:
    signal, noise = weight.double(), weight.double() - fake.double()
    return float(10 * torch.log10(signal.pow(2).mean() / noise.pow(2).mean()))


# --- codes and scales ---------------------------------------------------------------------------


@every_quantized
@pytest.mark.parametrize("seed", range(3))
def test_codes_lie_on_the_grid_and_none_is_nearer(scheme: Scheme, seed: int) -> None:
    grid = weights_of(scheme)
    weight = normals(seed, 5, 33) * 10.0 ** (seed - 1)
    codes, scale = quant.quantize(weight, grid)
    levels = set(range(-grid.highest, grid.highest + 1, grid.spacing))
    assert len(levels) == grid.n_levels
    for row in range(5):
        unit = Fraction(float(scale[row])) / Fraction(grid.denominator)
        for w, code in zip(weight[row].tolist(), codes[row].tolist(), strict=True):
            assert code in levels, f"{scheme.name}, seed {seed}: {w} has the code {code}"
            wanted = min(max(Fraction(w) / unit, Fraction(-grid.highest)), Fraction(grid.highest))
            distance = abs(wanted - Fraction(code))
            # Half a spacing, and float32's rounding of the value in code units.
            limit = grid.spacing / 2 + 2**-22 * grid.highest
            assert distance <= limit, f"{scheme.name}, seed {seed}: {w} is {distance} from {code}"


@every_quantized
@pytest.mark.parametrize("seed", range(3))
def test_scale_is_what_the_grid_measures(scheme: Scheme, seed: int) -> None:
    grid = weights_of(scheme)
    weight = normals(seed, 7, 1 + 20 * seed)
    scale = quant.stored_scale(weight, grid)
    assert scale.shape == (7, 1)
    for row, found in zip(weight.tolist(), scale[:, 0].tolist(), strict=True):
        # Rounding to a neighbour in float16 costs its relative spacing at most.
        wanted = exact_scale(row, grid)
        assert found == pytest.approx(wanted, rel=2**-10), f"{scheme.name}, seed {seed}"


@every_quantized
@pytest.mark.parametrize("factor", [0.0, 1e-38, 1e-6, 1.0, 1e3, 1e6, 1e30])
def test_stored_scale_is_a_positive_finite_float16(scheme: Scheme, factor: float) -> None:
    scale = quant.stored_scale(normals(1, 6, 9) * factor, weights_of(scheme))
    assert torch.isfinite(scale).all()
    assert (scale > 0).all(), f"{scheme.name}: scales {scale[:, 0].tolist()}"
    assert torch.equal(scale, scale.half().float())
    assert (scale >= 2.0**-14).all(), "a subnormal float16 loses precision"


@every_quantized
def test_row_of_zeros_stays_next_to_zero_and_leaves_other_rows_alone(scheme: Scheme) -> None:
    grid = weights_of(scheme)
    weight = normals(2, 4, 11)
    alone = fake_quantize(weight, grid)
    weight[2] = 0
    fake = fake_quantize(weight, grid)
    assert (fake[2].abs() <= 2.0**-14).all(), f"{scheme.name}: {fake[2].tolist()}"
    assert torch.equal(fake[[0, 1, 3]], alone[[0, 1, 3]])


@every_grid
def test_sample_of_zeros_has_a_scale_that_can_be_divided_by(grid: Grid) -> None:
    scale = quant.row_scale(torch.zeros(3, 5), grid)
    assert (scale > 0).all()
    assert torch.isfinite(grid.denominator / scale).all()
    assert (grid.denominator / scale * 0 == 0).all()


def test_ties_go_to_even_codes_or_up_where_codes_are_odd() -> None:
    even = Grid(1, 3, 3, "absmax")
    odd = Grid(2, 3, 2, "absmean")
    ties = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert quant.round_codes(ties.clone(), even).tolist() == [-2, -2, 0, 0, 2, 2]
    ties = torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0])
    assert quant.round_codes(ties.clone(), odd).tolist() == [-3, -1, 1, 3, 3]


@every_grid
def test_round_codes_works_in_place_and_clips(grid: Grid) -> None:
    u = torch.tensor([-1e9, -grid.highest - 0.4, grid.highest + 0.4, 1e9])
    found = quant.round_codes(u, grid)
    assert found is u
    highest = grid.highest
    assert found.tolist() == [-highest, -highest, highest, highest]


@pytest.mark.parametrize(("name", "n_levels"), [("int1", 2), ("ternary", 3), ("int2", 4)])
def test_few_bit_schemes_use_every_level_they_pay_for(name: str, n_levels: int) -> None:
    codes, _ = quant.quantize(normals(5, 4, 500), weights_of(SCHEMES[name]))
    for row in codes:
        assert len(row.unique()) == n_levels, f"{name} uses {row.unique().tolist()}"


@pytest.mark.parametrize("name", ["ternary", "popcount"])
def test_ternary_zeros_are_those_of_absmean_rounding(name: str) -> None:
    codes, _ = quant.quantize(normals(6, 100, 1000), weights_of(SCHEMES[name]))
    share = float((codes == 0).double().mean())
    wanted = 2 * stats.norm.cdf(0.5 * math.sqrt(2 / math.pi)) - 1  # |w| below half of E|w|
    assert wanted == pytest.approx(0.31, abs=0.001)
    assert share == pytest.approx(wanted, abs=0.006), f"{share:.1%} zeros, {wanted:.1%} expected"


@pytest.mark.parametrize("n_inputs", [8, 32, 1280])
def test_int16_loses_next_to_nothing_to_the_rounding_of_its_scale(n_inputs: int) -> None:
    scheme = SCHEMES["int16"]
    grid = weights_of(scheme)
    weight = normals(93, 400, n_inputs)
    exact = quant.row_scale(weight, grid)
    codes = quant.round_codes(weight * (grid.denominator / exact), grid)
    unrounded = sqnr_db(weight, quant.dequantize(codes, exact, grid))
    stored = sqnr_db(weight, fake_quantize(weight, grid))
    assert stored > unrounded - 1, (
        f"{n_inputs} inputs: SQNR {stored:.1f} dB, with scales before float16 {unrounded:.1f} dB"
    )


@every_quantized
def test_weights_beyond_float16_are_clipped_and_stay_finite(scheme: Scheme) -> None:
    fake = fake_quantize(normals(8, 3, 20) * 1e9, weights_of(scheme))
    assert torch.isfinite(fake).all()
    grid = weights_of(scheme)
    assert float(fake.abs().max()) == pytest.approx(65504 * grid.highest / grid.denominator)


# --- quantize and dequantize -------------------------------------------------------------------


@every_quantized
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 32), (2, 3, 4, 9), (0, 4)])
def test_codes_stand_for_their_values_bit_for_bit(scheme: Scheme, shape: tuple[int, ...]) -> None:
    grid = weights_of(scheme)
    weight = normals(9, *shape)
    codes, scale = quant.quantize(weight, grid)
    assert codes.shape == weight.shape
    assert scale.shape == (*shape[:-1], 1)
    fake = quant.dequantize(codes, scale, grid)
    # The twin: one value after the other, in float32.
    flat_scale = scale.expand(shape).reshape(-1).tolist()
    by_hand = [
        np.float32(code) * (np.float32(s) / np.float32(grid.denominator))
        for code, s in zip(codes.reshape(-1).tolist(), flat_scale, strict=True)
    ]
    assert fake.reshape(-1).tolist() == [float(value) for value in by_hand]


@every_quantized
@pytest.mark.parametrize("n_inputs", [1, 2, 3, 64, 501])
@pytest.mark.parametrize("seed", range(3))
def test_quantizing_twice_gives_the_same_codes(scheme: Scheme, n_inputs: int, seed: int) -> None:
    grid = weights_of(scheme)
    weight = normals(100 + seed, 8, n_inputs)
    weight[0] = 0
    codes, scale = quant.quantize(weight, grid)
    fake = quant.dequantize(codes, scale, grid)
    again, scale_again = quant.quantize(fake, grid)
    if scheme.name == "int16":
        # Its steps are finer than float16: rounding the largest weight to a code can carry the
        # scale over to a neighbour. Nothing then moves further than that.
        torch.testing.assert_close(scale_again, scale, rtol=2**-10, atol=0)
        is_back = (scale_again == scale).squeeze(-1)
        assert torch.equal(codes[is_back], again[is_back])
        assert int(is_back.sum()) >= 6, "hardly any row came back"
        return
    assert torch.equal(codes, again), f"{scheme.name}, {n_inputs} inputs, seed {seed}"
    # Absmean of ternary values is smaller than the scale (zeros count), that of four levels moves
    # a little: only where the scale is the outermost level's value does it come back exactly.
    if grid.scale == "absmax" or scheme.name == "int1":
        assert torch.equal(scale, scale_again), f"{scheme.name}, {n_inputs} inputs, seed {seed}"
        assert torch.equal(fake, fake_quantize(fake, grid))


@every_quantized
def test_quantizing_follows_powers_of_two(scheme: Scheme) -> None:
    weight = normals(11, 6, 41)
    grid = weights_of(scheme)
    codes, scale = quant.quantize(weight, grid)
    codes_4, scale_4 = quant.quantize(4 * weight, grid)
    assert torch.equal(codes, codes_4)
    assert torch.equal(4 * scale, scale_4)


def expected_sqnr_db(name: str, weight: Tensor) -> float:
    """Theory for normal weights of variance 1."""
    mean_absolute = math.sqrt(2 / math.pi)
    if name == "int1":  # error 1 - E|w|^2
        return -10 * math.log10(1 - mean_absolute**2)
    if name in ("ternary", "popcount"):
        threshold = mean_absolute / 2
        beyond = 2 * stats.norm.sf(threshold)
        error = 1 - 4 * mean_absolute * stats.norm.pdf(threshold) + mean_absolute**2 * beyond
        return float(-10 * math.log10(error))
    if name == "int2":
        return -10 * math.log10(0.1188)  # Max 1960, table I
    grid = weights_of(SCHEMES[name])
    step = quant.stored_scale(weight, grid).double() / grid.denominator
    return float(-10 * torch.log10((step**2 / 12).mean()))


@every_quantized
def test_sqnr_of_normal_weights_is_that_of_theory(scheme: Scheme) -> None:
    weight = normals(12, 64, 1280)
    measured = sqnr_db(weight, fake_quantize(weight, weights_of(scheme)))
    wanted = expected_sqnr_db(scheme.name, weight)
    # int16 loses about another decibel to largest weights that a float16 scale clips.
    tolerance = 1.5 if scheme.name == "int16" else 0.15
    assert abs(measured - wanted) < tolerance, (
        f"{scheme.name}: SQNR {measured:.2f} dB, theory {wanted:.2f} dB"
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_inputs", [16, 256, 1280])
def test_sqnr_rises_with_stored_bits(n_inputs: int, seed: int) -> None:
    weight = normals(200 + seed, 64, n_inputs)
    measured = {
        scheme.name: sqnr_db(weight, fake_quantize(weight, weights_of(scheme)))
        for scheme in QUANTIZED
    }
    for lower, higher in itertools.combinations(QUANTIZED, 2):
        if lower.bits < higher.bits:
            assert measured[lower.name] < measured[higher.name], f"seed {seed}: dB {measured}"
        if lower.bits == higher.bits:
            assert measured[lower.name] == measured[higher.name]


# --- products -----------------------------------------------------------------------------------


def sample_codes(x: Tensor, grid: Grid) -> tuple[list[list[int]], list[np.float32]]:
    """Codes of samples [b, i] and what one of them is worth, a row at a time."""
    codes, worth = [], []
    for row in x:
        scale = np.float32(quant.row_scale(row, grid).item())
        u = row.numpy() * (np.float32(grid.denominator) / scale)
        assert grid.spacing == 1
        codes.append([max(-grid.highest, min(grid.highest, round(value))) for value in u.tolist()])
        worth.append(scale / np.float32(grid.denominator))
    return codes, worth


@every_sampled
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_outputs"), [(1, 1, 1), (4, 37, 3), (3, 130, 2)])
def test_linear_is_a_loop_over_whole_numbers(
    scheme: Scheme, n_rows: int, n_inputs: int, n_outputs: int
) -> None:
    x, weight = normals(14, n_rows, n_inputs), normals(15, n_outputs, n_inputs)
    bias = normals(16, n_outputs)
    x[-1, 0] = 0
    grid = weights_of(scheme)
    weight_codes, weight_scale = quant.quantize(weight, grid)
    codes, worth = sample_codes(x, activations_of(scheme))
    found = quant.linear(x, weight, bias, scheme.name)
    assert found.shape == (n_rows, n_outputs)
    for row, output in itertools.product(range(n_rows), range(n_outputs)):
        whole = sum(
            a * int(b) for a, b in zip(codes[row], weight_codes[output].tolist(), strict=True)
        )
        unit = np.float32(weight_scale[output, 0]) / np.float32(grid.denominator)
        wanted = np.float32(whole) * unit * worth[row] + np.float32(bias[output])
        assert found[row, output].item() == wanted, f"{scheme.name}, row {row}, output {output}"


def test_whole_number_products_are_exact_up_to_1040_extreme_inputs() -> None:
    int8 = SCHEMES["int8"]
    x, weight = torch.ones(1, 1040), torch.ones(1, 1040)
    x[0, ::2], weight[0, 1::2] = -1, -1
    for sign in (-1, 1):
        found = quant.linear(x, sign * weight, torch.zeros(1), "int8")
        unit = np.float32(1) / np.float32(weights_of(int8).denominator)
        assert found.item() == np.float32(-sign * 1040 * 127 * 127) * unit * unit
    assert 1040 * 127**2 <= 2**24 < 1041 * 127**2


@pytest.mark.parametrize("scheme", FLOATS_TIMES_CODES, ids=lambda s: s.name)
def test_linear_of_float_activations_is_a_loop_over_floats(scheme: Scheme) -> None:
    x, weight, bias = normals(17, 4, 50), normals(18, 3, 50), normals(19, 3)
    values = fake_weights(weight, scheme.weights)
    found = quant.linear(x, weight, bias, scheme.name)
    for row, output in itertools.product(range(4), range(3)):
        terms = [a * b for a, b in zip(x[row].tolist(), values[output].tolist(), strict=True)]
        wanted = math.fsum(terms) + float(bias[output])
        assert found[row, output].item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_fp32_is_the_plain_product() -> None:
    x, weight, bias = normals(20, 4, 50), normals(21, 3, 50), normals(22, 3)
    plain = torch.nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(quant.linear(x, weight, bias, "fp32"), plain)


def bits_where(values: Sequence[float], wanted: int) -> int:
    return sum(1 << place for place, value in enumerate(values) if value == wanted)


@pytest.mark.parametrize("seed", range(5))
def test_popcount_is_the_true_ternary_dot_product_counted_in_bits(seed: int) -> None:
    scheme = SCHEMES["popcount"]
    x, weight = normals(300 + seed, 4, 131), normals(400 + seed, 3, 131)
    codes, worth = sample_codes(x, activations_of(scheme))
    weight_codes, scale = quant.quantize(weight, weights_of(scheme))
    found = quant.linear(x, weight, torch.zeros(3), "popcount")
    for row, output in itertools.product(range(4), range(3)):
        w = weight_codes[output].tolist()
        x_pos, x_neg = bits_where(codes[row], 1), bits_where(codes[row], -1)
        w_pos, w_neg = bits_where(w, 1), bits_where(w, -1)
        agree = (x_pos & w_pos).bit_count() + (x_neg & w_neg).bit_count()
        differ = (x_pos & w_neg).bit_count() + (x_neg & w_pos).bit_count()
        # The form of two Hamming distances that binary kernels compute.
        hamming_1 = (x_pos ^ w_pos).bit_count() + (x_neg ^ w_neg).bit_count()
        hamming_2 = (x_pos ^ w_neg).bit_count() + (x_neg ^ w_pos).bit_count()
        assert (hamming_2 - hamming_1) // 2 == agree - differ, f"seed {seed}"
        wanted = np.float32(agree - differ) * np.float32(scale[output, 0]) * worth[row]
        assert found[row, output].item() == wanted, f"seed {seed}, row {row}, output {output}"


@every_scheme
@pytest.mark.parametrize(("x_lead", "w_lead"), BROADCASTS)
def test_leading_dimensions_broadcast_like_a_loop(
    scheme: Scheme, x_lead: tuple[int, ...], w_lead: tuple[int, ...]
) -> None:
    x, weight = normals(23, *x_lead, 5, 8), normals(24, *w_lead, 4, 8)
    bias = normals(25, *w_lead, 4)
    found = quant.linear(x, weight, bias, scheme.name)
    lead = torch.broadcast_shapes(x_lead, w_lead)
    assert found.shape == (*lead, 5, 4)
    xs, ws, bs = x.expand(*lead, 5, 8), weight.expand(*lead, 4, 8), bias.expand(*lead, 4)
    for place in itertools.product(*map(range, lead)):
        one = quant.linear(xs[place], ws[place], bs[place], scheme.name)
        if scheme.activations is None:
            torch.testing.assert_close(found[place], one)
        else:
            assert torch.equal(found[place], one), f"{scheme.name} at {place}"


@every_scheme
def test_sample_of_zeros_gives_the_bias(scheme: Scheme) -> None:
    bias = normals(27, 4)
    found = quant.linear(torch.zeros(2, 8), normals(28, 4, 8), bias, scheme.name)
    assert torch.equal(found, bias.expand(2, 4))


@every_sampled
@pytest.mark.parametrize("n_inputs", [1, 7, 64, 333, 1024])
@pytest.mark.parametrize("seed", range(2))
def test_batch_mates_do_not_change_a_row_by_a_single_bit(
    scheme: Scheme, n_inputs: int, seed: int
) -> None:
    x, weight = normals(700 + seed, 9, n_inputs), normals(800 + seed, 5, n_inputs)
    bias = normals(900 + seed, 5)
    x[3], x[4], x[5] = 0, 1e30, x[5] * 1e-30
    together = quant.linear(x, weight, bias, scheme.name)
    for row in range(9):
        alone = quant.linear(x[row : row + 1], weight, bias, scheme.name)[0]
        assert torch.equal(together[row], alone), f"{scheme.name}, seed {seed}, row {row}"
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    shuffled = quant.linear(x[order], weight, bias, scheme.name)
    assert torch.equal(shuffled, together[order]), f"{scheme.name}, seed {seed}"
