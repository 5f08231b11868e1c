"""Known configurations, each trained once, in a store: what studies compare.

A result is kept under the digests of its data and of its configuration, seed included. What has
been trained is not trained again, whichever study asks, and a study that was stopped goes on.

Shapes: n clips, f folds, e experts, c classes.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, as_completed
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from qwave.config import TrialConfig
from qwave.crossval import Predictions
from qwave.data import EmbeddingSet, resolve_config
from qwave.engine import resolve_device
from qwave.packing import packed_size_bytes
from qwave.runtime import PackedClassifier, load_packed
from qwave.space import parse_config
from qwave.sweep.pool import TrainingPool, WorkerLostError, training_pool, worker_count
from qwave.sweep.record import FinishedTrial, Recorder, config_label
from qwave.sweep.stop import stop_requests
from qwave.sweep.store import opened_store, repeats_folder
from qwave.tracking import Tracker

_ARRAYS = tuple(field.name for field in dataclasses.fields(Predictions))
_VALUES = ("scores", "pooled_scores", "expert_load", "seconds", "train_seconds")


class StudyStoppedError(RuntimeError):
    """A person stopped the study; what was trained is kept."""


@dataclasses.dataclass(frozen=True, eq=False)
class Repeat:
    """One configuration, trained with its seed: the lasting part of a `TrialResult`.

    Attributes:
        config: Canonical configuration.
        scores: See `TrialResult.scores`.
        pooled_scores: See `TrialResult.pooled_scores`.
        predictions: Out-of-fold, of all clips.
        expert_load: Mean gate of each expert, [e].
        seconds: Of the whole trial; ``train_seconds`` of training.
        peak_memory_bytes: Of the process that trained it.
        mlflow_run_id: The run that holds its record.
        folder: Artifacts of that run.
    """

    config: TrialConfig
    scores: Mapping[str, float]
    pooled_scores: Mapping[str, float]
    predictions: Predictions
    expert_load: tuple[float, ...]
    seconds: float
    train_seconds: float
    peak_memory_bytes: int
    mlflow_run_id: str
    folder: Path

    def models(self) -> list[PackedClassifier]:
        """The packed model of each fold."""
        files = sorted(self.folder.glob("fold_*/model.qwave"), key=_fold_number)
        return [load_packed(file) for file in files]


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """A place where configurations are trained and recorded.

    Attributes:
        store: An opened store.
        data: What is trained on.
        recorder: Of the study's experiment.
        pool: Workers.
        is_stopped: Whether a person asked to stop.
        is_fresh: Train again what the store held when the bench was opened.
    """

    store: Path
    data: EmbeddingSet
    recorder: Recorder
    pool: TrainingPool
    is_stopped: Callable[[], bool]
    is_fresh: bool = False
    _kept_here: set[Path] = dataclasses.field(default_factory=set)

    def train(self, configs: Mapping[str, TrialConfig]) -> dict[str, Repeat]:
        """Results by name, in the order given; those that the store holds are not trained.

        Raises:
            ConfigError: A configuration diverged, or does not fit the data.
            StudyStoppedError: A person asked to stop.
            WorkerLostError: A worker was ended by the system.
        """
        configs = {name: resolve_config(config, self.data) for name, config in configs.items()}
        files = {name: self._file(config) for name, config in configs.items()}
        missing = {name: configs[name] for name, file in files.items() if not self._holds(file)}
        # Equal configurations under two names are trained once.
        futures = {
            self.pool.submit(configs[name]): name
            for name in {files[name]: name for name in missing}.values()
        }
        with tqdm(total=len(configs), unit="trial", dynamic_ncols=True) as bar:
            bar.update(len(configs) - len(futures))
            for number, future in enumerate(as_completed(futures)):
                self._keep(number, futures[future], _result_of(future), files[futures[future]])
                bar.update()
                if self.is_stopped():
                    raise StudyStoppedError("stopped: the same command goes on from here")
        return {name: _read(file, self.recorder.tracker) for name, file in files.items()}

    def train_seeds(
        self, configs: Mapping[str, TrialConfig], seeds: Sequence[int]
    ) -> dict[str, list[Repeat]]:
        """Results of every configuration by name, one for each seed in place of its own."""
        wanted = {
            f"{name}, seed {seed}": dataclasses.replace(config, seed=seed)
            for name, config in configs.items()
            for seed in seeds
        }
        repeats = self.train(wanted)
        return {name: [repeats[f"{name}, seed {seed}"] for seed in seeds] for name in configs}

    def _holds(self, file: Path) -> bool:
        return file in self._kept_here if self.is_fresh else file.exists()

    def _file(self, config: TrialConfig) -> Path:
        name = f"{self.data.digest}-{config.digest}.npz"
        return repeats_folder(self.store) / name

    def _keep(self, number: int, name: str, finished: FinishedTrial, file: Path) -> None:
        """Record a trial in MLflow, then keep its result."""
        result = finished.result
        run_id = self.recorder.start(
            number,
            result.config,
            packed_size_bytes(result.config, self.data),
            name=f"{name}: {config_label(result.config)}",
        )
        self.recorder.finish(run_id, finished)
        values = {key: getattr(result, key) for key in _VALUES}
        values |= {
            "config": dataclasses.asdict(result.config),
            "peak_memory_bytes": result.peak_memory_bytes,
            "mlflow_run_id": run_id,
        }
        arrays = {key: getattr(result.predictions, key) for key in _ARRAYS}
        # A file that bears its name is whole.
        unfinished = file.with_name(f"{file.stem}.{os.getpid()}.unfinished")
        with unfinished.open("wb") as target:
            np.savez(target, values=np.array(json.dumps(values)), **arrays)
        unfinished.replace(file)
        self._kept_here.add(file)


@contextmanager
def opened_bench(
    name: str,
    data: EmbeddingSet,
    source: str,
    store: Path,
    *,
    device: str = "cpu",
    workers: int | None = None,
    is_fresh: bool = False,
) -> Iterator[Bench]:
    """Open a store for a study of known configurations.

    Args:
        name: Of the study: its MLflow experiment and its report.
        data: What is trained on.
        source: Where the data were read from.
        store: A store, or a folder that becomes one.
        device: ``cpu``, ``cuda`` or ``mps``.
        workers: Processes that train; None: one for each processor that may be used.
        is_fresh: Retire the study's earlier MLflow experiment, and train again what this study
            asks for; what others kept stays until then.

    Raises:
        DeviceError: The device is not there.
        StoreError: As `qwave.sweep.check_store`, or the store is in use.
    """
    resolve_device(device)
    with (
        opened_store(store),
        training_pool(worker_count(workers, device), data, device) as pool,
        stop_requests() as is_stopped,
    ):
        tracker = Tracker(store)
        repeats_folder(store).mkdir(exist_ok=True)
        if is_fresh:
            tracker.retire_experiment(name)
        recorder = Recorder(tracker, tracker.experiment(name), data, source)
        for run_id in tracker.open_runs(recorder.experiment_id, kind="trial"):
            recorder.fail(run_id, "interrupted", "its process ended; the trial runs again")
        yield Bench(store, data, recorder, pool, is_stopped, is_fresh)


def _result_of(future: Future[FinishedTrial]) -> FinishedTrial:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise WorkerLostError(
            "a training process was ended by the system (out of memory?); the same command goes "
            "on from here, with less memory under workers=1"
        ) from error


def _read(file: Path, tracker: Tracker) -> Repeat:
    with np.load(file) as arrays:
        values = json.loads(str(arrays["values"]))
        predictions = Predictions(**{key: arrays[key] for key in _ARRAYS})
    config = parse_config(values.pop("config"), str(file))
    folder = tracker.artifact_folder(values["mlflow_run_id"])
    values["expert_load"] = tuple(values["expert_load"])
    return Repeat(config=config, predictions=predictions, folder=folder, **values)


def _fold_number(file: Path) -> int:
    return int(file.parent.name.removeprefix("fold_"))
