"""Workers map the data instead of copying it, and train what they would train alone."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_info

from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.crossval import cross_validate
from qwave.data import EmbeddingSet
from qwave.sweep.pool import SharedData, training_pool

CONFIG = TrialConfig(
    data=DataConfig("some.npz", "layer", 3),
    model=ModelConfig(("int1", "int4"), (8,), dropout=0.1),
    train=TrainConfig(epochs=3, batch_size=16),
).canonical()


def test_shared_data_are_the_data(gaussians: Callable[..., EmbeddingSet], tmp_path: Path) -> None:
    data = gaussians(0)
    found = SharedData.write(data, tmp_path).open()
    for field in dataclasses.fields(data):
        one, other = getattr(data, field.name), getattr(found, field.name)
        np.testing.assert_array_equal(one, other, err_msg=field.name)
    assert isinstance(found.x, np.memmap)


def test_what_a_process_writes_into_shared_data_it_keeps_to_itself(
    gaussians: Callable[..., EmbeddingSet], tmp_path: Path
) -> None:
    shared = SharedData.write(gaussians(0), tmp_path)
    mine = shared.open()
    before = float(mine.x[0, 0])
    mine.x[0, 0] = before + 1
    assert float(shared.open().x[0, 0]) == before


def test_a_trial_travels_without_the_features(
    gaussians: Callable[..., EmbeddingSet], tmp_path: Path
) -> None:
    data = gaussians(0)
    data = dataclasses.replace(data, x=np.tile(data.x, (1, 500)))
    assert len(pickle.dumps(SharedData.write(data, tmp_path))) < data.x.nbytes / 50


def test_one_and_two_workers_train_the_same_bits_as_this_process(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0)
    wanted = cross_validate(CONFIG, data)
    for n_workers in (1, 2):
        with training_pool(n_workers, data, "cpu") as pool:
            futures = [pool.submit(CONFIG) for _ in range(n_workers)]
            for future in futures:
                found = future.result().result
                np.testing.assert_array_equal(
                    found.predictions.probabilities, wanted.predictions.probabilities
                )
                np.testing.assert_array_equal(found.train_loss, wanted.train_loss)


def _threads() -> list[int]:
    np.ones((8, 8)) @ np.ones((8, 8))  # libraries count from their first use
    return [torch.get_num_threads(), *(info["num_threads"] for info in threadpool_info())]


def test_workers_have_one_thread_in_every_library(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    with training_pool(1, gaussians(0), "cpu") as pool:
        found = pool._pool.submit(_threads).result()
    assert len(found) > 1, "NumPy's library is among them"
    assert set(found) == {1}
