"""A sweep from beginning to end: check, ask, train, tell, record, report, resume.

Trials are told in the order in which they were asked, and always `sampler.in_flight` of them are
under way: what the sampler knows when it draws a trial depends on the trial's number alone, not on
which worker was faster. The same sweep in two fresh stores therefore draws the same trials.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from optuna.study import Study
from optuna.trial import TrialState
from tqdm import tqdm

from qwave.config import ConfigError, QwaveError, SweepConfig
from qwave.data import EmbeddingSet, load_embeddings, make_folds
from qwave.engine import resolve_device
from qwave.figures import FrontPoint
from qwave.packing import packed_size_bytes
from qwave.space import extreme_configs, suggest
from qwave.sweep.pool import WorkerLostError, run_trial, training_pool, worker_count
from qwave.sweep.record import FinishedTrial, Recorder
from qwave.sweep.report import (
    collect_points,
    front_of,
    front_scores,
    hypervolume_by_trial,
    study_hypervolume,
    write_report,
)
from qwave.sweep.store import check_store, journal_path, opened_store, report_folder
from qwave.sweep.study import (
    Draw,
    ask,
    count_trials,
    give_back,
    open_study,
    repair,
    trained_trials,
    trials_left,
)
from qwave.tracking import Tracker, ui_command

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A sweep that has been checked against its data; nothing is written yet.

    Attributes:
        sweep: The sweep.
        data: Its rows.
        device: Where trials train.
        smallest_bytes: Smallest file of the space.
        largest_bytes: Largest file of the space, within the budget or not.
    """

    sweep: SweepConfig
    data: EmbeddingSet
    device: str
    smallest_bytes: int
    largest_bytes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a study came to.

    Attributes:
        counts: ``trials``, ``complete``, ``pruned`` (over the size budget) and ``failed``.
        front: Members, smallest first.
        hypervolume: Of the front, see `qwave.pareto.hypervolume`.
        seconds: Wall time of this start.
        is_interrupted: Whether a person stopped it.
        first_failure: Why the first failed trial of this start failed, or None.
        reports: Files written.
        commands: What each does, and the exact command.
    """

    counts: dict[str, int]
    front: list[FrontPoint]
    hypervolume: float
    seconds: float
    is_interrupted: bool
    first_failure: str | None
    reports: list[Path]
    commands: dict[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class _InFlight:
    """A trial under way; without a future it repeats the configuration of an earlier one."""

    draw: Draw
    run_id: str
    future: Future[FinishedTrial] | None


def plan_sweep(sweep: SweepConfig, device: str = "cpu") -> Plan:
    """Check a sweep against its data and the machine, before anything is written.

    Raises:
        QwaveError: The data cannot be used or split, the device is not there, or no
            configuration fits the size budget.
    """
    resolve_device(device)
    data = load_embeddings(sweep.data.path)
    make_folds(data, sweep.data)
    sizes = sorted(packed_size_bytes(config, data) for config in extreme_configs(sweep))
    if sweep.budget.max_size_bytes < sizes[0]:
        raise ConfigError(
            f"budget.max_size_bytes={sweep.budget.max_size_bytes}: the smallest configuration of "
            f"this space takes {sizes[0]} bytes; allow at least that, or fewer hidden units, bits "
            "or experts"
        )
    return Plan(sweep, data, device, sizes[0], sizes[-1])


def run_sweep(plan: Plan, store: Path, *, is_fresh: bool = False) -> Outcome:
    """Run a sweep, or go on with it, until its budget is spent or a person stops it.

    Raises:
        StoreError: The store is not one, is in use, or holds another study of the same name.
    """
    start = time.perf_counter()
    sweep = plan.sweep
    check_store(store)
    n_workers = worker_count(sweep.budget.workers, plan.device)
    with opened_store(store), training_pool(n_workers) as pool, _stop_requests() as is_stopped:
        attributes = {
            "sweep_digest": sweep.digest,
            "data_digest": plan.data.digest,
            "reference_accuracy": 1 / plan.data.num_classes,
            "reference_bytes": sweep.budget.max_size_bytes,
        }
        study = open_study(sweep, store, attributes, is_fresh=is_fresh)
        tracker = Tracker(store)
        if is_fresh:
            tracker.retire_experiment(sweep.name)
        recorder = Recorder(tracker, tracker.experiment(sweep.name), plan.data, sweep.data.path)
        _repair(study, recorder)
        study_run = _open_study_run(study, plan, recorder)
        failure = _Loop(plan, study, recorder, pool, is_stopped).run()
        outcome = _finish(plan, study, recorder, study_run, store, start)
        return dataclasses.replace(outcome, is_interrupted=is_stopped(), first_failure=failure)


class _Loop:
    """The trials under way, oldest first."""

    def __init__(
        self,
        plan: Plan,
        study: Study,
        recorder: Recorder,
        pool: ProcessPoolExecutor,
        is_stopped: Callable[[], bool],
    ) -> None:
        self.plan, self.study, self.recorder, self.pool = plan, study, recorder, pool
        self.is_stopped = is_stopped
        self.queue: deque[_InFlight] = deque()
        # MLflow run of every configuration that is trained or under way.
        self.run_ids = {
            trial.user_attrs["digest"]: str(trial.user_attrs["mlflow_run_id"])
            for trial in trained_trials(study)
        }
        self.first_failure: str | None = None

    def run(self) -> str | None:
        """Ask and tell until nothing is left; returns why the first failure failed."""
        sweep, study = self.plan.sweep, self.study
        total = sweep.budget.n_trials
        with tqdm(total=total, unit="trial", desc=sweep.name, dynamic_ncols=True) as bar:
            bar.n = total - trials_left(study, sweep)
            self._show(bar)
            try:
                while not self.is_stopped():
                    if len(self.queue) < sweep.sampler.in_flight and trials_left(
                        study, sweep
                    ) > len(self.queue):
                        self._ask()
                    elif not self.queue:
                        break
                    elif self._is_done(self.queue[0]):
                        self._tell(self.queue[0])
                        self.queue.popleft()
                        bar.n = total - trials_left(study, sweep)
                        self._show(bar)
            finally:
                for entry in self.queue:
                    if entry.future is not None:
                        self.recorder.fail(entry.run_id, "interrupted", "stopped; runs again")
                    give_back(study, entry.draw.trial.number)
        return self.first_failure

    def _ask(self) -> None:
        """Draw a trial, and start it unless it is known or too big."""
        draw = ask(self.study, self.plan.sweep, suggest)
        trial, limit = draw.trial, self.plan.sweep.budget.max_size_bytes
        size = packed_size_bytes(draw.config, self.plan.data)
        trial.set_constraint("size_bytes", float(size - limit))
        trial.set_user_attr("size_bytes", size)
        is_known = draw.digest in self.run_ids
        if is_known:
            run_id = self.run_ids[draw.digest]
        else:
            run_id = self.recorder.start(trial.number, draw.config, size)
        trial.set_user_attr("mlflow_run_id", run_id)
        if is_known:
            self.queue.append(_InFlight(draw, run_id, None))
        elif size > limit:
            trial.set_user_attr("outcome", "over_budget")
            self.study.tell(trial, state=TrialState.PRUNED)
            self.recorder.refuse(run_id, size, limit)
        else:
            self.run_ids[draw.digest] = run_id
            future = self.pool.submit(run_trial, draw.config, self.plan.data, self.plan.device)
            self.queue.append(_InFlight(draw, run_id, future))

    def _is_done(self, entry: _InFlight) -> bool:
        """Whether a trial has ended; waits for it half a second at most."""
        if entry.future is None:
            return True
        return bool(wait([entry.future], timeout=_POLL_SECONDS).done)

    def _tell(self, entry: _InFlight) -> None:
        """Tell Optuna how a trial ended, and write its record."""
        if entry.future is None:
            self._tell_duplicate(entry.draw)
            return
        error = entry.future.exception()
        if isinstance(error, BrokenExecutor):
            raise WorkerLostError(
                "a training process was ended by the system (out of memory?); the same command "
                "goes on from here, with less memory under budget.workers=1"
            ) from error
        if error is not None:
            self._tell_failure(entry, error)
            return
        finished = entry.future.result()
        trial, scores = entry.draw.trial, finished.result.scores
        trial.set_user_attr("scores", dict(scores))
        fold_scores = {name: list(v) for name, v in finished.result.fold_scores.items()}
        trial.set_user_attr("fold_scores", fold_scores)
        trial.set_user_attr("seconds", round(finished.result.seconds, 3))
        # Recorded first: a trial that Optuna calls complete has its files.
        self.recorder.finish(entry.run_id, finished)
        objectives = self.plan.sweep.objectives
        self.study.tell(trial, [scores[objective.score] for objective in objectives])

    def _tell_duplicate(self, draw: Draw) -> None:
        """The result of an equal configuration, asked earlier and therefore told already."""
        trial = draw.trial
        trial.set_user_attr("outcome", "duplicate")
        for twin in trained_trials(self.study):
            if twin.user_attrs["digest"] == draw.digest:
                for name in ("scores", "fold_scores", "seconds"):
                    trial.set_user_attr(name, twin.user_attrs[name])
                trial.set_user_attr("duplicate_of", twin.number)
                self.study.tell(trial, twin.values)
                return
        self.study.tell(trial, state=TrialState.FAIL)  # as its twin did

    def _tell_failure(self, entry: _InFlight, error: BaseException) -> None:
        trial = entry.draw.trial
        if not isinstance(error, QwaveError):
            _log.error("trial %d failed", trial.number, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        self.first_failure = self.first_failure or f"trial {trial.number}: {reason}"
        del self.run_ids[entry.draw.digest]
        trial.set_user_attr("outcome", "failed")
        trial.set_user_attr("reason", reason)
        self.recorder.fail(entry.run_id, "failed", reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def _show(self, bar: tqdm) -> None:
        front = front_scores(self.study)
        best = f"{front[-1][0]:.1%}" if front else "none"
        volume = study_hypervolume(self.study)
        bar.set_postfix_str(f"front {len(front)}, best {best}, hypervolume {volume:.3f}")


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a question that the loop asks; a second one kills."""
    requests: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)
        tqdm.write("stopping: writing what there is (once more to stop at once)")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _repair(study: Study, recorder: Recorder) -> None:
    """Queue what a killed process left running, and close its MLflow runs."""
    for trial in repair(study):
        run_id = trial.user_attrs.get("mlflow_run_id")
        if run_id and recorder.tracker.is_running(run_id):
            recorder.fail(run_id, "interrupted", "its process ended; runs again")
        tqdm.write(f"trial {trial.number} was cut off last time; it runs again")


def _open_study_run(study: Study, plan: Plan, recorder: Recorder) -> str:
    """The MLflow run of the study itself; the same one at every start."""
    run_id = study.user_attrs.get("mlflow_run_id")
    if run_id:
        recorder.tracker.resume_run(run_id)
        return str(run_id)
    sweep = plan.sweep
    searched = {f"search.{key}": domain for key, domain in sweep.search.items()}
    run_id = recorder.tracker.start_run(
        recorder.experiment_id,
        "study",
        params={**sweep.base.flat(), **searched},
        tags={
            "qwave.kind": "study",
            "qwave.sweep_digest": sweep.digest,
            "qwave.data_digest": plan.data.digest,
        },
    )
    study.set_user_attr("mlflow_run_id", run_id)
    study.set_user_attr("mlflow_experiment_id", recorder.experiment_id)
    return run_id


def _finish(
    plan: Plan, study: Study, recorder: Recorder, run_id: str, store: Path, start: float
) -> Outcome:
    """Write the report and the study's run."""
    sweep, tracker = plan.sweep, recorder.tracker
    counts = count_trials(study)
    front = front_of(collect_points(study))
    volume = study_hypervolume(study)
    commands = {
        "browse the trials": ui_command(store),
        "inspect the study": f"optuna-dashboard {journal_path(store).resolve()}",
    }
    summary = {
        "data": f"{plan.sweep.data.path} ({plan.data.digest})",
        "trials": f"{counts['complete']} complete, {counts['pruned']} over the size budget",
        "sweep": sweep.digest,
    }
    folder = report_folder(store, sweep.name)
    reports = write_report(study, sweep, folder, summary=summary, commands=commands)
    tracker.log_folder(run_id, folder, "report")
    history = hypervolume_by_trial(study)
    metrics = {f"n_{name}": float(value) for name, value in counts.items()}
    metrics |= {"hypervolume": volume, "front_size": float(len(front))}
    tracker.log(run_id, metrics=metrics, series={"hypervolume_by_trial": history})
    tracker.end_run(run_id)
    return Outcome(
        counts, front, volume, time.perf_counter() - start, False, None, reports, commands
    )
