"""Dropout masks: a hash that behaves like chance, and the same wherever it is asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from qwave.engine import fold_seed
from qwave.nn.dropout import DropMask, mask_keys


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mask_seeds(*numbers: int) -> list[int]:
    return [fold_seed("dropout", number, "dropout") for number in numbers]


def mask_of(
    shape: tuple[int, int], rate: float, numbers: Sequence[int], *, step: int = 1, slot: int = 0
) -> DropMask:
    mask = DropMask(slot, shape, rate)
    draw(mask, mask_seeds(*numbers), step)
    return mask


def draw(mask: DropMask, seeds: Sequence[int], step: int) -> None:
    keys = mask_keys(seeds, [step], mask.slot + 1)[0, mask.slot]
    halves = np.stack([keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32)], axis=1)
    mask.draw(torch.from_numpy(halves.astype(np.uint32).view(np.int32)))


def mask_key(seed: int, step: int, slot: int) -> int:
    return int(mask_keys([seed], [step], slot + 1)[0, slot, 0])


def dropped_by(mask: DropMask, n_folds: int = 1) -> Tensor:
    """1 where an input is dropped, else 0: [f, b, i]."""
    return (mask(torch.ones(n_folds, *mask.shape)) == 0).double()


def splitmix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 in unsigned arithmetic, which wraps around of itself."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def plain_bits(key: int, n_rows: int, width: int) -> np.ndarray:
    """The 16 bits of every element of one fold's mask, written out: uint16 [b, i]."""
    row, column = np.indices((n_rows, width), dtype=np.uint32)
    # Two neighbours share a hash; where rows are odd, half of their last one is left over.
    h = row * np.uint32((width + 1) // 2) + column // np.uint32(2)
    h = h * np.uint32(0x9E3779B1) + np.uint32(key & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = ((h ^ (h >> np.uint32(15))) + np.uint32(key >> 32)) * np.uint32(0x846CA68B)
    h = h ^ (h >> np.uint32(16))
    return (h >> (column % np.uint32(2) * np.uint32(16))).astype(np.uint16)


def test_keys_of_masks_are_splitmix64_three_times() -> None:
    # The generator's published numbers for seed 1234567: finalised multiples of the golden ratio.
    golden = np.arange(1, 6, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert splitmix(np.uint64(1234567) + golden).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 2**63, size=200, dtype=np.uint64)
    seeds[:4] = [0, 1, 2**62, 2**63 - 1]
    steps = rng.integers(1, 10**6, size=200, dtype=np.uint64)
    slots = rng.integers(0, 20, size=200, dtype=np.uint64)
    wanted = splitmix(splitmix(splitmix(seeds) + steps) + slots)
    for seed, step, slot, key in zip(seeds, steps, slots, wanted, strict=True):
        found = mask_key(int(seed), int(step), int(slot))
        assert found == int(key), f"seed {seed}, step {step}, slot {slot}"
    assert len(set(wanted.tolist())) == 200


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (6, 3), (5, 8), (64, 31), (33, 1280)])
def test_masks_are_their_hash_written_out(shape: tuple[int, int], rate: float) -> None:
    seeds = mask_seeds(1, 2, 3)
    for step, slot in [(1, 0), (2, 1), (123_456, 7)]:
        mask = mask_of(shape, rate, (1, 2, 3), step=step, slot=slot)
        assert mask.drawn is not None
        kept = mask(torch.ones(3, *shape)).numpy()
        for fold, seed in enumerate(seeds):
            bits = plain_bits(mask_key(seed, step, slot), *shape)
            text = f"seed {seed}, step {step}, slot {slot}, {shape}"
            # Stored as they are, read as signed numbers.
            assert np.array_equal(mask.drawn[fold].numpy().view(np.uint16), bits), text
            signed = bits.astype(np.int64) - 2**16 * (bits >= 2**15)
            wanted = np.where(signed + 2**15 >= round(rate * 2**16), 1 / (1 - rate), 0)
            np.testing.assert_allclose(kept[fold], wanted, rtol=1e-6, atol=0, err_msg=text)


@pytest.mark.parametrize("width", [1000, 999, 1])
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_dropout_drops_its_share_in_every_lane_of_a_draw(rate: float, width: int) -> None:
    found = dropped_by(mask_of((200_000 // width, width), rate, (1, 2)), 2)
    for fold, seed in enumerate(mask_seeds(1, 2)):
        # Two neighbours come from one hash of 32 bits.
        for lane in range(min(width, 2)):
            each = found[fold, :, lane::2]
            n, dropped = each.numel(), int(each.sum())
            spread = math.sqrt(n * rate * (1 - rate)) + n * 2**-17
            assert abs(dropped - n * rate) < 5 * spread, (
                f"rate {rate}, seed {seed}, lane {lane}: {dropped} of {n} dropped"
            )


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("shape", [(200, 1000), (200, 999), (1000, 200), (199_999, 1)])
def test_neighbours_in_a_draw_are_dropped_independently(
    shape: tuple[int, int], rate: float
) -> None:
    dropped = dropped_by(mask_of(shape, rate, [3]))[0]
    flat = dropped.flatten()[: dropped.numel() // 4 * 4].reshape(-1, 4)
    correlation = torch.corrcoef(flat.T) - torch.eye(4)
    worst = float(correlation.abs().max())
    assert worst < 5 / math.sqrt(len(flat)), f"seed 3, {shape}, four in a row: {worst}"
    for lag in (1, 2, 3, 4, 8):
        # Of clips one after another, and of features.
        for one, other in ((dropped[lag:], dropped[:-lag]), (dropped[:, lag:], dropped[:, :-lag])):
            if one.numel() == 0:
                continue
            pair = torch.stack([one.flatten(), other.flatten()])
            found = float(torch.corrcoef(pair)[0, 1])
            assert abs(found) < 5 / math.sqrt(one.numel()), f"seed 3, {shape}, {lag=}: {found}"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_of_different_steps_seeds_and_slots_are_uncorrelated(rate: float) -> None:
    shape = (300, 1001)
    keys = list(itertools.product((1, 2), (1, 2, 1000), (0, 1)))
    masks = [mask_of(shape, rate, [number], step=step, slot=slot) for number, step, slot in keys]
    dropped = torch.stack([dropped_by(mask).flatten().float() for mask in masks])
    correlation = torch.corrcoef(dropped).fill_diagonal_(0.0)
    # Correlations of n independent pairs spread by 1 / sqrt(n). That one of these 66 is beyond
    # five times as much has a chance of 4e-5.
    worst = int(correlation.abs().argmax())
    found = float(correlation.flatten()[worst])
    assert abs(found) < 5 / math.sqrt(dropped.shape[1]), (
        f"rate {rate}: {found} between (seed, step, slot) {keys[worst // len(keys)]} and "
        f"{keys[worst % len(keys)]}"
    )


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_every_place_is_dropped_at_its_rate_over_the_steps_in_no_order(rate: float) -> None:
    n_steps, places = 1000, (8, 15)
    mask = DropMask(0, places, rate)
    steps = []
    for step in range(1, n_steps + 1):
        draw(mask, mask_seeds(4), step)
        steps.append(dropped_by(mask).flatten())
    dropped = torch.stack(steps)
    spread = math.sqrt(rate * (1 - rate) / n_steps)
    worst = float((dropped.mean(dim=0) - rate).abs().max())
    assert worst < 5 * spread, f"seed 4, rate {rate}: a place is dropped {worst} too often"
    # Nor do places differ more than chance has them: chi square, one degree of freedom each.
    excess = float(((dropped.mean(dim=0) - rate) / spread).square().sum())
    n_places = math.prod(places)
    assert abs(excess - n_places) < 5 * math.sqrt(2 * n_places), f"seed 4, rate {rate}: {excess}"
    pair = torch.stack([dropped[1:].flatten(), dropped[:-1].flatten()])
    found = float(torch.corrcoef(pair)[0, 1])
    assert abs(found) < 5 / math.sqrt(pair.shape[1]), f"seed 4, rate {rate}: {found}"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.875])
def test_dropout_scales_what_it_keeps_and_zeroes_the_rest(rate: float) -> None:
    x = normals(4, 2, 50, 31)
    found = mask_of((50, 31), rate, (5, 6))(x)
    is_kept = found != 0
    torch.testing.assert_close(found[is_kept], x[is_kept] / (1 - rate), rtol=1e-6, atol=0)
    assert 0 < int(is_kept.sum()) < x.numel()


def test_dropout_keeps_the_mean() -> None:
    found = mask_of((400, 1000), 0.25, [7])(torch.ones(1, 400, 1000))
    assert float(found.mean()) == pytest.approx(1, abs=5 * math.sqrt(1 / 3 / 400_000))


def test_rate_0_is_the_identity_and_draws_nothing() -> None:
    mask = mask_of((3, 5), 0.0, [8])
    x = normals(9, 1, 3, 5)
    assert mask(x) is x
    assert mask.drawn is None


@pytest.mark.parametrize("rate", [1 - 2**-16, 1 - 2**-17, 0.999999])
def test_rate_next_to_1_keeps_next_to_nothing(rate: float) -> None:
    kept = int((1 - dropped_by(mask_of((100, 1000), rate, [10]))).sum())
    assert kept <= 20, f"rate {rate} keeps {kept} of 100000"


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (1, 3), (2, 2), (5, 1), (7, 3), (6, 20), (0, 4)]
)
def test_each_folds_masks_are_the_same_alone_and_in_a_stack(shape: tuple[int, int]) -> None:
    x = torch.ones(3, *shape)
    for step in range(1, 6):
        together = mask_of(shape, 0.5, (11, 12, 13), step=step)(x)
        assert together.shape == x.shape
        for fold, seed in enumerate((11, 12, 13)):
            one = mask_of(shape, 0.5, [seed], step=step)(x[fold : fold + 1])[0]
            assert torch.equal(one, together[fold]), f"step {step}, seed {seed}"


def test_a_rows_mask_does_not_depend_on_how_many_rows_follow() -> None:
    long, short = (dropped_by(mask_of((n_rows, 7), 0.5, [16])) for n_rows in (40, 9))
    assert torch.equal(long[:, :9], short)


def test_dropout_masks_differ_between_folds_steps_and_slots() -> None:
    shape = (10, 20)
    first = dropped_by(mask_of(shape, 0.5, (14, 15)), 2)
    assert not torch.equal(first[0], first[1])
    for step, slot in ((2, 0), (1, 1)):
        other = dropped_by(mask_of(shape, 0.5, (14, 15), step=step, slot=slot), 2)
        for fold in range(2):
            assert not torch.equal(first[fold], other[fold]), f"fold {fold}, {step=}, {slot=}"


def test_dropout_masks_the_gradient_alike() -> None:
    x = normals(16, 2, 8, 40).requires_grad_()
    found = mask_of((8, 40), 0.5, (17, 18))(x)
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, found)
    assert 0 < int((x.grad == 0).sum()) < x.numel()


def test_experts_share_the_masks_of_a_clip() -> None:
    mask = mask_of((4, 30), 0.5, (19, 20))
    x = normals(19, 2, 3, 4, 30)
    found = mask(x)
    assert found.shape == x.shape
    for expert in range(3):
        assert torch.equal(found[:, expert], mask(x[:, expert])), f"expert {expert}"
