"""Devices, seeds, batches and class weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qwave.config import DataConfig, DeviceError, TrainConfig, TrialConfig
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, fit_normalizer, make_folds
from qwave.engine import fold_generator, fold_seed, resolve_device
from qwave.engine.rows import batches, class_weights, fit_rows, rows_on_device

CPU = torch.device("cpu")


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "tpu", "", "CPU", "meta", ":0"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"device must be cpu, cuda or mps, but got '{name}'"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=f"device '{name}' is not there; found: cpu"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cpu:x", "cpu:0:0", "cpu:"])
def test_a_device_number_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"device '{name}' is not a device"):
        resolve_device(name)


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match=r"'cuda:2' is not there; found 2 CUDA device\(s\)"):
        resolve_device("cuda:2")


def test_seeds_differ_by_digest_fold_and_purpose_and_never_by_process(
    fresh_python: Callable[..., str],
) -> None:
    keys = [(d, f, p) for d in ("a", "b") for f in (0, 1, 11) for p in ("init", "order")]
    seeds = [fold_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    code = "import hashlib; h = hashlib.sha256(b'a/11/order').digest(); print(h[:8].hex())"
    elsewhere = int(fresh_python(code, PYTHONHASHSEED="5"), 16) >> 1
    assert fold_seed("a", 11, "order") == elsewhere


def test_a_generator_draws_the_same_numbers_again() -> None:
    one, two = (torch.rand(4, generator=fold_generator("a", 0, "init")) for _ in range(2))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    other = torch.rand(4, generator=fold_generator("a", 1, "init"))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("seed", range(20))
def test_every_row_trains_once_an_epoch_in_batches_of_almost_one_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_steps = int(rng.integers(1, 9))
    sizes = rng.integers(1, 60, size=rng.integers(1, 5))
    width = -(-int(sizes.max()) // n_steps) + int(rng.integers(0, 3))
    order = [np.random.default_rng(fold) for fold in range(len(sizes))]
    epoch = batches(sizes.tolist(), n_steps, width, order)
    assert epoch.dtype == np.int64
    assert epoch.shape == (len(sizes), n_steps, width), f"{seed=}"
    for fold, size in enumerate(sizes):
        taken = [[place for place in batch if place != -1] for batch in epoch[fold].tolist()]
        assert sorted(sum(taken, [])) == list(range(size)), f"{seed=} {fold=}"
        lengths = [len(part) for part in taken]
        assert max(lengths) - min(lengths) <= 1, f"{seed=} {lengths}"
        # Examples stand in front, padding behind them: masks hang on an example's column.
        for batch, part in zip(epoch[fold].tolist(), taken, strict=True):
            assert batch == part + [-1] * (width - len(part)), f"{seed=} {fold=}"


def test_a_fold_with_fewer_rows_than_steps_has_batches_of_padding_alone() -> None:
    order = [np.random.default_rng(0)]
    epoch = batches([2], 4, 3, order)[0]
    assert sorted(epoch[:, 0].tolist()) == [-1, -1, 0, 1]
    assert (epoch[:, 1:] == -1).all()


def test_every_epoch_has_an_order_of_its_own_and_a_fold_the_same_alone() -> None:
    # The second fold is smaller: its padding, too, is the same alone.
    sizes = [20, 15]

    def orders(sizes: list[int], seeds: list[int]) -> list[list[list[int]]]:
        generators = [np.random.default_rng(seed) for seed in seeds]
        return [batches(sizes, 3, 7, generators)[-1].tolist() for _ in range(2)]

    first, second = orders(sizes, [0, 1])
    assert first != second
    assert orders(sizes[1:], [1]) == [first, second]


@pytest.mark.parametrize("seed", range(5))
def test_class_weights_are_inverse_frequencies_with_mean_1_over_the_rows(
    seed: int, make_set: Callable[..., EmbeddingSet]
) -> None:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(4), rng.choice(4, p=[0.6, 0.2, 0.1, 0.1], size=96)])
    data = make_set(np.zeros((100, 2)), y)
    fit = [np.arange(60), np.arange(100)]
    weights = class_weights(data, fit, True)
    for fold, rows in enumerate(fit):
        for label in range(4):
            count = sum(y[row] == label for row in rows)
            assert weights[fold, label] == pytest.approx(len(rows) / (4 * count)), f"{seed=}"
        assert weights[fold][y[rows]].mean() == pytest.approx(1), f"{seed=}"
    assert class_weights(data, fit, False).tolist() == [[1.0] * 4] * 2


@pytest.mark.parametrize("normalization", ["layer", "standard", "min_max", "l2", "raw"])
def test_rows_on_the_device_are_what_each_folds_normalizer_says(
    normalization: Normalization, gaussians: Callable[..., EmbeddingSet]
) -> None:
    data = gaussians(0)
    config = TrialConfig(data=DataConfig(normalization=normalization, n_folds=3))
    folds = make_folds(data, config.data)
    normalizers = [fit_normalizer(data.x[f.train], config.data.normalization) for f in folds]
    rows = rows_on_device(config, data, normalizers, CPU)
    index = np.stack([fold.test[:7] for fold in folds])
    taken = rows.take(torch.from_numpy(index)).numpy()
    for fold, normalizer in enumerate(normalizers):
        expected = normalizer(data.x[index[fold]])
        np.testing.assert_array_equal(taken[fold], expected)
        alone = rows.take_fold(torch.from_numpy(index[fold]), fold).numpy()
        np.testing.assert_array_equal(alone, expected)


@pytest.mark.parametrize("normalization", ["layer", "standard"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_are_mixed_as_each_fold_sees_them(
    seed: int, normalization: Normalization, gaussians: Callable[..., EmbeddingSet]
) -> None:
    data = gaussians(seed)
    config = TrialConfig(data=DataConfig(normalization=normalization, n_folds=3))
    folds = make_folds(data, config.data)
    normalizers = [fit_normalizer(data.x[f.train], config.data.normalization) for f in folds]
    rows = rows_on_device(config, data, normalizers, CPU)
    rng = np.random.default_rng(seed)
    index, partner = rng.integers(len(data.y), size=(2, 3, 9))
    share = rng.uniform(0.5, 1.0, size=(3, 9)).astype(np.float32)
    share[:, 4] = 1.0
    mixed = rows.mix(*map(torch.from_numpy, (index, partner, share))).numpy()
    for fold, normalizer in enumerate(normalizers):
        first, second = (normalizer(data.x[part[fold]]) for part in (index, partner))
        part = share[fold][:, None]
        expected = part * first + (1 - part) * second
        np.testing.assert_allclose(mixed[fold], expected, rtol=0, atol=2e-6, err_msg=f"{seed=}")
    # Labels come with clips as they are: each is its own partner, to the bit.
    alone = rows.mix(*map(torch.from_numpy, (index, index, np.ones_like(share))))
    assert torch.equal(alone, rows.take(torch.from_numpy(index)))


def test_patience_takes_its_rows_from_the_training_rows(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0)
    folds = make_folds(data, DataConfig(n_folds=3))
    fit, validation = fit_rows(TrialConfig(), data, folds)
    assert validation == []
    for rows, fold in zip(fit, folds, strict=True):
        np.testing.assert_array_equal(rows, fold.train)
    fit, validation = fit_rows(TrialConfig(train=TrainConfig(patience=2)), data, folds)
    for rows, held_out, fold in zip(fit, validation, folds, strict=True):
        assert len(held_out) > 0
        assert sorted([*rows, *held_out]) == fold.train.tolist()


def test_class_weights_of_rows_without_a_class_have_mean_1_over_the_rows(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0)
    rows = np.flatnonzero(data.y != 1)[3:]
    (weights,) = class_weights(data, [rows], is_weighted=True)
    assert np.isfinite(weights).all()
    assert weights[data.y[rows]].mean() == pytest.approx(1, rel=1e-6)
