"""Known configurations, each trained once, in a store: what studies compare and report.

A result is kept under the digests of its data and of its configuration, seed included. What has
been trained is not trained again, whichever study asks, and a study that was stopped goes on.

Shapes: n clips, f folds, e experts, c classes.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from qwave.config import (
    QwaveError,
    StudyStoppedError,
    TrialConfig,
    TrialFailedError,
    WorkerLostError,
)
from qwave.data import EmbeddingSet, resolve_config
from qwave.engine import resolve_device
from qwave.engine.crossval import Predictions
from qwave.packing import packed_size_bytes
from qwave.processes import require_main_guard
from qwave.report import Section, study_html
from qwave.runtime import PackedClassifier, load_packed
from qwave.space import parse_config
from qwave.store import Store, Tracker, made_report_folder, opened_store
from qwave.sweep.launcher import FinishedTrial, Launcher
from qwave.sweep.plan import absolute_source
from qwave.sweep.pool import TrainingPool, worker_count
from qwave.sweep.record import Recorder, config_label
from qwave.sweep.stop import stop_requests

_log = logging.getLogger(__name__)
_ARRAYS = tuple(field.name for field in dataclasses.fields(Predictions))
_VALUES = ("scores", "pooled_scores", "expert_load", "seconds", "train_seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Repeat:
    """One configuration, trained with its seed: the lasting part of a `TrialResult`.

    Attributes:
        config: Canonical configuration.
        scores: Mean over folds of every score, as `TrialResult.scores`.
        pooled_scores: Scores of all predictions together, as `TrialResult.pooled_scores`.
        predictions: Out-of-fold predictions of all clips.
        expert_load: Mean gate of each expert, [e].
        seconds: Wall time of the whole trial.
        train_seconds: Wall time of the training in it.
        peak_memory_bytes: Highest memory of the process that trained the trial.
        mlflow_run_id: Id of the MLflow run that holds its record.
        folder: Folder of that run's artifacts; `Bench.train` guarantees the models in it.
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
        folders = sorted(self.folder.glob("fold_*"), key=lambda f: int(f.name.partition("_")[2]))
        return [load_packed(folder / "model.qwave") for folder in folders]


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """An opened store in which known configurations are trained and recorded.

    Attributes:
        store: The store, open.
        data: The data that are trained on.
        recorder: Writes into the study's MLflow experiment.
        launcher: Trains the configurations.
        is_stopped: Tells whether a person asked to stop.
        is_fresh: Whether what the store held when it was opened is trained again.
    """

    store: Store
    data: EmbeddingSet
    recorder: Recorder
    launcher: Launcher
    is_stopped: Callable[[], bool]
    is_fresh: bool = False
    _kept_here: set[Path] = dataclasses.field(default_factory=set)

    def train(self, configs: Mapping[str, TrialConfig]) -> dict[str, Repeat]:
        """Results by name, in the order given; those that the store holds are not trained.

        Raises:
            TrialFailedError: A configuration diverged, does not fit the data, or ended in another
                error; raised after all others have been trained and kept.
            StudyStoppedError: A person asked to stop.
            WorkerLostError: A worker was ended by the system.
        """
        configs = {name: resolve_config(config, self.data) for name, config in configs.items()}
        files = {name: self._file(config) for name, config in configs.items()}
        missing = {name: configs[name] for name, file in files.items() if not self._holds(file)}
        removed = sum(file.exists() for file in {files[name] for name in missing})
        if removed and not self.is_fresh:
            tqdm.write(
                f"note: the MLflow artifacts of {removed} trained configurations were removed "
                f"from {self.recorder.tracker.artifact_root}: these are trained again",
                sys.stderr,
            )
        # Equal configurations under two names are trained once.
        futures = {
            self.launcher.submit(configs[name]): name
            for name in {files[name]: name for name in missing}.values()
        }
        with tqdm(total=len(configs), unit="trial", dynamic_ncols=True) as bar:
            bar.update(len(configs) - len(futures))
            failures: dict[str, Exception] = {}
            for number, future in enumerate(as_completed(futures)):
                name = futures[future]
                try:
                    finished = future.result()
                except BrokenExecutor as error:
                    raise WorkerLostError(self.launcher.why_lost("workers")) from error
                except Exception as error:
                    failures[name] = error
                else:
                    self._keep(number, name, finished, files[name])
                bar.update()
                if self.is_stopped():
                    raise StudyStoppedError("stopped: the same command goes on from here")
        if failures:
            raise _failed(failures, len(configs))
        return {name: _read(file, self.recorder.tracker) for name, file in files.items()}

    def train_seeds(
        self, configs: Mapping[str, TrialConfig], seeds: Sequence[int]
    ) -> dict[str, list[Repeat]]:
        """Results by name: one for each seed, which replaces the configuration's own seed."""
        wanted = {
            f"{name}, seed {seed}": dataclasses.replace(config, seed=seed)
            for name, config in configs.items()
            for seed in seeds
        }
        repeats = self.train(wanted)
        return {name: [repeats[f"{name}, seed {seed}"] for seed in seeds] for name in configs}

    def _holds(self, file: Path) -> bool:
        if self.is_fresh or not file.exists():
            return file in self._kept_here
        return _has_models(file, self.recorder.tracker)

    def _file(self, config: TrialConfig) -> Path:
        name = f"{self.data.digest}-{config.digest}.npz"
        return self.store.repeats_folder / name

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
    store: Store | Path | str,
    *,
    device: str = "cpu",
    workers: int | None = None,
    is_fresh: bool = False,
    launcher: Launcher | None = None,
) -> Iterator[Bench]:
    """Open a store for a study of known configurations.

    Args:
        name: Name of the study, its MLflow experiment and its report.
        data: Embeddings to train on.
        source: Path that the data were read from.
        store: A store, or a folder that becomes one.
        device: ``cpu``, ``cuda`` or ``mps``.
        workers: Processes that train; None: one for each processor that may be used.
        is_fresh: Retire the study's earlier MLflow experiment, and train again what this study
            asks for; results that other studies kept are replaced one by one.
        launcher: Trains the configurations, on these data; None: `workers` processes of this
            machine.

    Raises:
        ConfigError: As `qwave.processes.require_main_guard`.
        DeviceError: The device is not there.
        StoreError: As `qwave.store.opened_store`: such as that the store is in use.
    """
    require_main_guard()
    resolve_device(device)
    store = Store.at(store)
    if launcher is None:
        launcher = TrainingPool(worker_count(workers, device), data, device)
    with opened_store(store), launcher, stop_requests() as is_stopped:
        made_report_folder(store, name)
        store.repeats_folder.mkdir(exist_ok=True)
        tracker = Tracker(store)
        if is_fresh:
            tracker.retire_experiment(name)
        recorder = Recorder(tracker, tracker.experiment(name), data, absolute_source(source))
        tracker.restore_runs(recorder.experiment_id)
        for run_id in tracker.open_runs(recorder.experiment_id, kind="trial"):
            recorder.fail(run_id, "interrupted", "its process ended; the trial runs again")
        yield Bench(store, data, recorder, launcher, is_stopped, is_fresh)


def write_study(
    bench: Bench,
    name: str,
    *,
    title: str,
    summary: Mapping[str, str],
    sections: Sequence[Section],
    params: Mapping[str, object],
    metrics: Mapping[str, float],
) -> list[Path]:
    """Write a study's report into the store and into its MLflow run; returns the files.

    The run is named ``study`` and is the same one at every start. Each section leaves its table as
    ``<name>.csv`` and its picture as ``<name>.png``, beside ``report.html``.

    Args:
        bench: Where the study ran.
        name: Name of the study.
        title: Heading of the report.
        summary: Facts by name.
        sections: Parts of the report, in order.
        params: Parameters of the MLflow run; written when it is made.
        metrics: Metrics of the MLflow run.
    """
    folder = made_report_folder(bench.store, name)
    commands = {"browse the trials": bench.store.ui_command}
    files = [folder / "report.html"]
    page = study_html(title=title, summary=summary, sections=sections, commands=commands)
    files[0].write_text(page, encoding="utf-8")
    for section in sections:
        if section.table is not None:
            files.append(folder / f"{section.name}.csv")
            files[-1].write_text(section.table.csv(), encoding="utf-8")
        if section.picture is not None:
            files.append(folder / f"{section.name}.png")
            files[-1].write_bytes(section.picture)
    tracker, experiment_id = bench.recorder.tracker, bench.recorder.experiment_id
    run_id = tracker.find_run(experiment_id, kind="study")
    if run_id is None:
        tags = {"qwave.kind": "study", "qwave.data_digest": bench.data.digest}
        run_id = tracker.start_run(experiment_id, "study", params=params, tags=tags)
    tracker.log(run_id, metrics=metrics)
    target = tracker.artifact_folder(run_id) / "report"
    target.mkdir(exist_ok=True)
    for file in files:
        shutil.copyfile(file, target / file.name)
    tracker.end_run(run_id)
    return files


def _failed(failures: Mapping[str, Exception], n_trials: int) -> TrialFailedError:
    """One error for all that failed, with the reason of the first."""
    name, error = next(iter(failures.items()))
    reason = str(error)
    if not isinstance(error, QwaveError):
        _log.error("%s failed", name, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
    rest = "" if len(failures) == n_trials else "What was trained is kept. "
    failed = TrialFailedError(
        f"{len(failures)} of {n_trials} trials failed; the first, {name}: {reason}. {rest}"
        "The same command trains again what failed"
    )
    failed.__cause__ = error
    return failed


def _read(file: Path, tracker: Tracker) -> Repeat:
    with np.load(file) as arrays:
        values = json.loads(str(arrays["values"]))
        predictions = Predictions(**{key: arrays[key] for key in _ARRAYS})
    config = parse_config(values.pop("config"), str(file))
    folder = tracker.artifact_folder(values["mlflow_run_id"])
    values["expert_load"] = tuple(values["expert_load"])
    return Repeat(config=config, predictions=predictions, folder=folder, **values)


def _has_models(file: Path, tracker: Tracker) -> bool:
    """Whether the models of a result are still among the artifacts of its run."""
    with np.load(file) as arrays:
        run_id, fold = json.loads(str(arrays["values"]))["mlflow_run_id"], arrays["fold"]
    folder = tracker.find_artifacts(run_id)
    return folder is not None and all(
        (folder / f"fold_{index}" / "model.qwave").is_file() for index in np.unique(fold).tolist()
    )
