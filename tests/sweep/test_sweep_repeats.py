"""Known configurations in a store: each trained once, whichever study asks, and kept exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from qwave.config import (
    ConfigError,
    CuriosityConfig,
    DataConfig,
    DeviceError,
    ModelConfig,
    StoreError,
    StudyStoppedError,
    TrainConfig,
    TrialConfig,
    TrialFailedError,
    WorkerLostError,
)
from qwave.data import EmbeddingSet, make_folds
from qwave.engine.crossval import Predictions, cross_validate
from qwave.packing import to_bytes
from qwave.sweep import Repeat, opened_bench, repeats
from tests.sweep.launchers import InProcess

FEW = CuriosityConfig(mc_samples=3)
PLAIN = TrialConfig(
    data=DataConfig("some.npz", "layer", 3),
    model=ModelConfig(("int4",), (4,), curiosity=FEW),
    train=TrainConfig(epochs=2, batch_size=16, distillation=0.0),
)
MIXTURE = dataclasses.replace(
    PLAIN, model=ModelConfig(("int8", "int1"), (), curiosity=CuriosityConfig(0.5, 3)), seed=4
)
TAUGHT = dataclasses.replace(PLAIN, train=dataclasses.replace(PLAIN.train, distillation=0.5))
CONFIGS = {"plain": PLAIN, "mixture": MIXTURE, "taught": TAUGHT}


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(2)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[InProcess]:
    """The pools of all benches that are opened, in which everything is trained here."""
    made: list[InProcess] = []

    def pool(n_workers: int, data: EmbeddingSet, device: str) -> InProcess:
        made.append(InProcess(data))
        return made[-1]

    monkeypatch.setattr(repeats, "TrainingPool", pool)
    return made


def runs(store: Path, name: str = "study") -> list[Any]:
    mlflow = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiment = mlflow.get_experiment_by_name(name)
    return [] if experiment is None else list(mlflow.search_runs([experiment.experiment_id]))


def written(store: Path) -> dict[str, tuple[int, int]]:
    """Every result that the store holds, and which file it is: one written anew is another."""
    return {
        file.name: (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in (store / "repeats").glob("*.npz")
    }


def assert_is_result(found: Repeat, config: TrialConfig, data: EmbeddingSet) -> None:
    wanted = cross_validate(config, data)
    assert found.config == wanted.config
    assert found.scores == wanted.scores
    assert found.pooled_scores == wanted.pooled_scores
    assert found.expert_load == wanted.expert_load
    for field in dataclasses.fields(Predictions):
        one, other = (
            getattr(found.predictions, field.name),
            getattr(wanted.predictions, field.name),
        )
        assert one.dtype == other.dtype, field.name
        np.testing.assert_array_equal(one, other, err_msg=field.name)
    assert found.seconds >= found.train_seconds > 0
    assert found.peak_memory_bytes > 0
    models = found.models()
    assert len(models) == len(wanted.models)
    for one, other in zip(models, wanted.models, strict=True):
        assert to_bytes(one.packed) == to_bytes(other.packed)


@pytest.mark.slow
def test_a_result_is_that_of_a_cross_validation_bit_for_bit_also_when_it_is_read_again(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    with opened_bench("study", data, "some.npz", store) as bench:
        first = bench.train(CONFIGS)
    before, n_runs = written(store), len(runs(store))
    assert len(before) == n_runs == len(pools[0].trained) == 3
    with opened_bench("study", data, "some.npz", store) as bench:
        second = bench.train(dict(reversed(CONFIGS.items())))
    assert list(first) == list(CONFIGS)
    assert list(second) == list(CONFIGS)[::-1]
    for name, config in CONFIGS.items():
        assert_is_result(first[name], config, data)
        assert_is_result(second[name], config, data)
        assert second[name].mlflow_run_id == first[name].mlflow_run_id
        assert second[name].folder == first[name].folder
    assert pools[1].trained == []
    assert written(store) == before
    assert len(runs(store)) == n_runs


def test_every_trial_has_its_run_with_name_digest_and_scores(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    with opened_bench("study", data, "some.npz", store) as bench:
        found = bench.train({"small one": PLAIN, "other": MIXTURE})
    by_id = {run.info.run_id: run for run in runs(store)}
    for name, repeat in found.items():
        run = by_id[repeat.mlflow_run_id]
        assert run.info.status == "FINISHED"
        assert run.info.run_name.startswith(f"{name}: "), run.info.run_name
        assert run.data.tags["qwave.config_digest"] == repeat.config.digest
        assert run.data.tags["qwave.data_digest"] == data.digest
        assert run.data.metrics["accuracy"] == repeat.scores["accuracy"]
        assert run.data.metrics["size_bytes"] == repeat.scores["size_bytes"]
        assert run.data.params["seed"] == str(repeat.config.seed)
        assert repeat.folder == Path(run.info.artifact_uri.removeprefix("file://"))


def test_equal_configurations_are_trained_once(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    turned = dataclasses.replace(
        MIXTURE,
        model=dataclasses.replace(MIXTURE.model, schemes=("int1", "int8")),
        data=dataclasses.replace(MIXTURE.data, path="elsewhere.npz"),
    )
    with opened_bench("study", data, "some.npz", store) as bench:
        found = bench.train({"one": MIXTURE, "two": PLAIN, "three": turned})
        again = bench.train({"four": turned})
        other_seed = bench.train({"five": dataclasses.replace(PLAIN, seed=1)})
    assert len(pools[0].trained) == len(runs(store)) == 3
    assert all(config == config.canonical() for config in pools[0].trained)
    assert found["one"].mlflow_run_id == found["three"].mlflow_run_id
    assert again["four"].mlflow_run_id == found["one"].mlflow_run_id
    assert other_seed["five"].mlflow_run_id != found["two"].mlflow_run_id
    assert_is_result(other_seed["five"], dataclasses.replace(PLAIN, seed=1), data)


def test_other_studies_share_what_was_trained_on_the_same_data_only(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    changed = dataclasses.replace(data, x=data.x + 1, digest="f" * 16)
    for name, rows in (("study", data), ("other", data), ("third", changed)):
        with opened_bench(name, rows, "some.npz", store) as bench:
            bench.train({"plain": PLAIN})
    assert [len(pool.trained) for pool in pools] == [1, 0, 1]
    assert [len(runs(store, name)) for name in ("study", "other", "third")] == [1, 0, 1]
    assert sorted(written(store)) == sorted(
        f"{digest}-{PLAIN.digest}.npz" for digest in (data.digest, changed.digest)
    )


def test_models_stand_in_the_order_of_their_folds_also_beyond_ten(
    store: Path, gaussians: Callable[..., EmbeddingSet], pools: list[InProcess]
) -> None:
    many = gaussians(3, n_per_class=24, n_folds=12, distance=0.3)
    config = dataclasses.replace(PLAIN, data=DataConfig("some.npz", "layer", 12))
    with opened_bench("study", many, "some.npz", store) as bench:
        repeat = bench.train({"many": config})["many"]
    models = repeat.models()
    assert len(models) == 12
    for fold, model in zip(make_folds(many, config.data), models, strict=True):
        np.testing.assert_array_equal(
            model.predict_proba(many.x[fold.test]),
            repeat.predictions.probabilities[fold.test],
            err_msg=f"fold {fold.index}",
        )


@pytest.mark.slow
def test_runs_that_a_killed_process_left_open_are_closed(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    with opened_bench("study", data, "some.npz", store) as bench:
        tracker, experiment = bench.recorder.tracker, bench.recorder.experiment_id
        trial, study = (
            tracker.start_run(experiment, kind, tags={"qwave.kind": kind})
            for kind in ("trial", "study")
        )
        elsewhere = tracker.start_run(
            tracker.experiment("other"), "a", tags={"qwave.kind": "trial"}
        )
    with opened_bench("study", data, "some.npz", store) as bench:
        tracker = bench.recorder.tracker
        assert tracker.status(trial) == "KILLED"
        assert (tracker.status(study), tracker.status(elsewhere)) == ("RUNNING", "RUNNING")
        bench.train({"plain": PLAIN})
    tags = next(run.data.tags for run in runs(store) if run.info.run_id == trial)
    assert tags["qwave.outcome"] == "interrupted"
    assert len(pools[1].trained) == 1


def test_a_fresh_start_trains_again_what_it_asks_for_and_leaves_the_rest(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    with opened_bench("other", data, "some.npz", store) as bench:
        bench.train({"plain": PLAIN, "mixture": MIXTURE})
    before = written(store)
    with opened_bench("study", data, "some.npz", store, is_fresh=True) as bench:
        assert runs(store) == []
        again = bench.train({"plain": PLAIN})["plain"]
        bench.train({"the same": PLAIN})
    assert [config.digest for config in pools[1].trained] == [PLAIN.digest], "once, not twice"
    (run,) = runs(store)
    assert again.mlflow_run_id == run.info.run_id
    assert set(written(store)) == set(before)
    with opened_bench("other", data, "some.npz", store) as bench:
        kept = bench.train({"plain": PLAIN, "mixture": MIXTURE})
    assert pools[2].trained == []
    assert kept["plain"].mlflow_run_id == again.mlflow_run_id
    assert_is_result(kept["mixture"], MIXTURE, data)


def test_a_half_written_result_is_ignored(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    (store / "repeats").mkdir(exist_ok=True)
    name = f"{data.digest}-{PLAIN.digest}"
    torn = store / "repeats" / f"{name}.123.unfinished"
    torn.write_bytes(b"PK\x03\x04 half a file")
    with opened_bench("study", data, "some.npz", store) as bench:
        found = bench.train({"plain": PLAIN})
    assert_is_result(found["plain"], PLAIN, data)
    assert len(pools[0].trained) == 1
    names = {file.name for file in (store / "repeats").iterdir()}
    assert names == {f"{name}.npz", torn.name}


@pytest.mark.slow
@pytest.mark.parametrize("n_kept", [1, 3])
def test_a_stopped_study_keeps_what_was_trained_and_goes_on(
    store: Path, data: EmbeddingSet, pools: list[InProcess], n_kept: int
) -> None:
    with opened_bench("study", data, "some.npz", store) as bench:
        asked = iter([False] * (n_kept - 1) + [True])
        stopped = dataclasses.replace(bench, is_stopped=lambda: next(asked))
        with pytest.raises(
            StudyStoppedError, match=r"^stopped: the same command goes on from here"
        ):
            stopped.train(CONFIGS)
    kept = written(store)
    assert len(kept) == len(runs(store)) == n_kept
    with opened_bench("study", data, "some.npz", store) as bench:
        found = bench.train(CONFIGS)
    assert len(pools[1].trained) == 3 - n_kept
    assert {name: written(store)[name] for name in kept} == kept
    for name, config in CONFIGS.items():
        assert_is_result(found[name], config, data)


def test_a_configuration_that_diverges_is_an_error_and_keeps_nothing(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    wild = dataclasses.replace(PLAIN, train=TrainConfig(epochs=2, learning_rate=1e9))
    with (
        opened_bench("study", data, "some.npz", store) as bench,
        pytest.raises(ConfigError, match=r"training diverged: .* lower train\.learning_rate"),
    ):
        bench.train({"wild": wild})
    assert written(store) == {}
    assert runs(store) == []


def test_what_fails_is_named_after_all_others_are_kept_and_is_trained_again(
    store: Path, data: EmbeddingSet, pools: list[InProcess]
) -> None:
    def fault(number: int, config: TrialConfig) -> Exception | None:
        is_mixture = config.model.num_experts > 1
        return AssertionError("rows do not lie one after another") if is_mixture else None

    message = (
        r"^1 of 3 trials failed; the first, mixture: AssertionError: rows do not lie one after "
        r"another\. What was trained is kept\. The same command trains again what failed$"
    )
    failing = InProcess(data, fault)
    with (
        opened_bench("study", data, "some.npz", store, launcher=failing) as bench,
        pytest.raises(TrialFailedError, match=message),
    ):
        bench.train(CONFIGS)
    assert len(written(store)) == 2
    with opened_bench("study", data, "some.npz", store) as bench:
        found = bench.train(CONFIGS)
    assert [config.model.num_experts for config in pools[0].trained] == [2]
    assert_is_result(found["mixture"], MIXTURE, data)


def test_a_worker_that_the_system_ended_is_said_in_words(store: Path, data: EmbeddingSet) -> None:
    lost = InProcess(data, lambda *_: BrokenProcessPool("gone"))
    with (
        opened_bench("study", data, "some.npz", store, launcher=lost) as bench,
        pytest.raises(WorkerLostError, match=r"ended by the system \(out of memory\?\); the sa"),
    ):
        bench.train({"plain": PLAIN})


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    data: EmbeddingSet, tmp_path: Path
) -> None:
    with (
        pytest.raises(DeviceError, match="device must be cpu, cuda or mps, but got 'tpu'"),
        opened_bench("study", data, "some.npz", tmp_path / "store", device="tpu"),
    ):
        pass
    assert not (tmp_path / "store").exists()


def test_a_store_in_use_and_a_folder_that_is_none_are_refused(
    store: Path, data: EmbeddingSet, pools: list[InProcess], tmp_path: Path
) -> None:
    with (
        opened_bench("study", data, "some.npz", store),
        pytest.raises(StoreError, match="in use by another process"),
        opened_bench("other", data, "some.npz", store),
    ):
        pass
    with (
        pytest.raises(StoreError, match="is not a qwave store"),
        opened_bench("study", data, "some.npz", tmp_path),
    ):
        pass


@pytest.mark.slow
def test_workers_train_what_this_process_trains(tmp_path: Path, data: EmbeddingSet) -> None:
    for _ in ("trained", "read"):
        with opened_bench("study", data, "some.npz", tmp_path / "store", workers=2) as bench:
            found = bench.train(CONFIGS)
        for name, config in CONFIGS.items():
            assert_is_result(found[name], config, data)
    assert len(runs(tmp_path / "store")) == 3
