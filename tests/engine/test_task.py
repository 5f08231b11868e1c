"""Devices, seeds, and rows as each fold normalises them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qwave.config import DataConfig, DeviceError
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, fit_normalizer, make_folds
from qwave.engine import fold_generator, fold_seed, resolve_device
from qwave.engine.task import rows_on_device

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


@pytest.mark.parametrize("normalization", ["layer", "standard", "min_max", "l2", "raw"])
def test_rows_on_the_device_are_what_each_folds_normalizer_makes_of_them(
    normalization: Normalization, gaussians: Callable[..., EmbeddingSet]
) -> None:
    data = gaussians(0)
    folds = make_folds(data, DataConfig(n_folds=3))
    normalizers = [fit_normalizer(data.x[fold.train], normalization) for fold in folds]
    rows = rows_on_device(data.x, normalizers, CPU)
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
    folds = make_folds(data, DataConfig(n_folds=3))
    normalizers = [fit_normalizer(data.x[fold.train], normalization) for fold in folds]
    rows = rows_on_device(data.x, normalizers, CPU)
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
