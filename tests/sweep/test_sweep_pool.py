"""Workers map the data instead of copying it, and train what they would train alone."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import SoftTargets, teacher_key, train_teacher
from qwave.engine.crossval import cross_validate
from qwave.sweep import pool as pool_module
from qwave.sweep.pool import SharedData, TrainingPool, run_trial

CONFIG = TrialConfig(
    data=DataConfig("some.npz", "layer", 3),
    model=ModelConfig(("int1", "int4"), (8,), dropout=0.1),
    train=TrainConfig(epochs=3, batch_size=16, distillation=0.0),
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


@pytest.mark.slow
def test_one_and_two_workers_train_the_same_bits_as_this_process(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0)
    wanted = cross_validate(CONFIG, data)
    for n_workers in (1, 2):
        with TrainingPool(n_workers, data, "cpu") as pool:
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


@pytest.mark.slow
def test_workers_have_one_thread_in_every_library(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    with TrainingPool(1, gaussians(0), "cpu") as pool:
        found = pool.workers.submit(_threads).result()
    assert len(found) > 1, "NumPy's library is among them"
    assert set(found) == {1}


# --- soft targets ---

DISTILLED = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, distillation=0.5))
OF_ONE_KEY = (
    DISTILLED,
    dataclasses.replace(DISTILLED, model=ModelConfig(("int1",), ())).canonical(),
    dataclasses.replace(DISTILLED, train=dataclasses.replace(DISTILLED.train, learning_rate=0.01)),
)


def _changed(folder: Path) -> dict[str, int]:
    """Files of a folder, and which file each is: one written anew is another."""
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


@pytest.mark.slow
def test_soft_targets_are_made_once_for_trials_of_one_key_and_shared_by_workers(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0)
    name = f"{teacher_key(DISTILLED)}.npz"
    with TrainingPool(2, data, "cpu") as pool:
        folder = pool.shared.file.parent
        found = [pool.submit(DISTILLED).result()]
        files = _changed(folder)
        assert set(files) == {"x.npy", name}
        futures = [pool.submit(config) for config in OF_ONE_KEY[1:]]
        found += [future.result() for future in futures]
        assert _changed(folder) == files
        # What lies there is used: a teacher that knows nothing, for all later trials.
        with np.load(folder / name) as arrays:
            dull = {key: arrays[key] for key in arrays}
        for fold in range(3):
            name_in_file = f"{fold}.teacher_probabilities"
            dull[name_in_file] = np.full_like(dull[name_in_file], 1 / 3)
        np.savez(folder / name, **dull)
        dulled = [pool.submit(DISTILLED) for _ in range(2)]
        losses = [future.result().result.train_loss for future in dulled]
    for config, trial in zip(OF_ONE_KEY, found, strict=True):
        wanted = cross_validate(config, data)
        np.testing.assert_array_equal(
            trial.result.predictions.probabilities, wanted.predictions.probabilities
        )
        np.testing.assert_array_equal(trial.result.train_loss, wanted.train_loss)
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], found[0].result.train_loss)


def test_a_teacher_is_trained_once_a_key_and_never_without_distillation(
    gaussians: Callable[..., EmbeddingSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(config: TrialConfig, *rest: Any, **options: Any) -> list[SoftTargets]:
        asked.append(teacher_key(config))
        return train_teacher(config, *rest, **options)

    monkeypatch.setattr(pool_module, "train_teacher", counted)
    shared = SharedData.write(gaussians(0), tmp_path)
    run_trial(CONFIG, shared, "cpu")
    assert set(_changed(tmp_path)) == {"x.npy"}
    for config in OF_ONE_KEY:
        run_trial(config, shared, "cpu")
    for seed in (0, 1, 0):
        run_trial(dataclasses.replace(DISTILLED, seed=seed), shared, "cpu")
    keys = [teacher_key(dataclasses.replace(DISTILLED, seed=seed)) for seed in (0, 1)]
    assert asked == keys
    assert set(_changed(tmp_path)) == {"x.npy", *(f"{key}.npz" for key in keys)}


def test_soft_targets_come_back_from_their_file_as_they_were_made(
    gaussians: Callable[..., EmbeddingSet], tmp_path: Path
) -> None:
    data = gaussians(0)
    folds = make_folds(data, DISTILLED.data)
    wanted = train_teacher(DISTILLED, data, folds)
    for _ in ("made", "read"):
        found = pool_module._soft_targets(DISTILLED, data, folds, tmp_path, "cpu")
        assert found is not None
        for one, other in zip(found, wanted, strict=True):
            for field in dataclasses.fields(SoftTargets):
                before, after = getattr(other, field.name), getattr(one, field.name)
                np.testing.assert_array_equal(after, before, err_msg=field.name)
                assert after.dtype == before.dtype, field.name
