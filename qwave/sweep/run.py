"""A sweep from beginning to end: open the store, repair, run the trials, report."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from pathlib import Path

from optuna.study import Study
from tqdm import tqdm

from qwave.config import SweepConfig
from qwave.processes import require_main_guard
from qwave.scores import FrontPoint
from qwave.store import Store, Tracker, made_report_folder, opened_store
from qwave.sweep.launcher import Launcher
from qwave.sweep.loop import Loop
from qwave.sweep.pictures import draw_front
from qwave.sweep.plan import Plan
from qwave.sweep.pool import TrainingPool, worker_count
from qwave.sweep.progress import Progress, hypervolume_by_trial
from qwave.sweep.record import Recorder
from qwave.sweep.report import collect_points, front_of, write_report
from qwave.sweep.stop import stop_requests
from qwave.sweep.study import first_failure, open_study, repair, retry_failed, set_data_path
from qwave.text import for_shell

_RUN_ID = "mlflow_run_id"  # attribute of the study: its own run
# Size of the model that a person is shown how to export, where there is one.
_OFFERED_BYTES = 50_000


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a study.

    Attributes:
        counts: Number of ``trials``, and how many of them are ``complete``, ``pruned`` (over the
            size budget) and ``failed``.
        front: Members of the front, smallest first.
        hypervolume: Hypervolume of the front, see `qwave.scores.pareto.hypervolume`.
        seconds: Wall time of this start.
        record_seconds: Wall time that this process spent on MLflow and figures, while others
            trained.
        is_interrupted: Whether a person stopped the study.
        first_failure: Why the first failed trial failed, in this start or an earlier one, or None.
        reports: Files of the report; none without a trained trial.
        commands: Shell commands, by what each does.
    """

    counts: dict[str, int]
    front: list[FrontPoint]
    hypervolume: float
    seconds: float
    record_seconds: float
    is_interrupted: bool
    first_failure: str | None
    reports: list[Path] = dataclasses.field(repr=False)
    commands: dict[str, str] = dataclasses.field(repr=False)


def run_sweep(
    plan: Plan,
    store: Store | Path | str,
    *,
    is_fresh: bool = False,
    is_retry: bool = False,
    launcher: Launcher | None = None,
) -> Outcome:
    """Run a sweep, or go on with it, until its budget is spent or a person stops it.

    Called from a thread other than the main one it cannot be stopped by signals.

    Args:
        plan: The sweep, checked.
        store: A store, or a folder that becomes one.
        is_fresh: Drop the sweep's earlier trials.
        is_retry: Train again what failed in earlier starts, without extending the budget.
        launcher: Trains the trials, on the plan's data; None: `budget.workers` processes of this
            machine.

    Raises:
        ConfigError: As `qwave.processes.require_main_guard`.
        StoreError: The store is not one, is in use, or holds another study of the same name.
        WorkerLostError: A worker was ended from outside.
    """
    start = time.perf_counter()
    require_main_guard()
    sweep, store = plan.sweep, Store.at(store)
    if launcher is None:
        n_workers = worker_count(sweep.budget.workers, plan.device)
        launcher = TrainingPool(n_workers, plan.data, plan.device, plan.folds)
    with opened_store(store), launcher, stop_requests() as is_stopped:
        attributes = {
            "sweep_digest": sweep.digest,
            "data_digest": plan.data.digest,
            "reference_accuracy": 1 / plan.data.num_classes,
            "reference_bytes": sweep.budget.max_size_bytes,
        }
        made_report_folder(store, sweep.name)
        tracker = Tracker(store)
        study = open_study(sweep, store, attributes, is_fresh=is_fresh)
        set_data_path(study, sweep.data.path)
        if is_fresh:
            tracker.retire_experiment(sweep.name)
        else:
            _set_lost_study_aside(study, tracker)
        recorder = Recorder(tracker, tracker.experiment(sweep.name), plan.data, sweep.data.path)
        _repair(study, sweep, recorder)
        if is_retry:
            n_again = retry_failed(study)
            tqdm.write(f"{n_again} failed trials run again", sys.stderr)
        study_run = _open_study_run(study, plan, recorder)
        _keep_notes(study, plan, tracker.artifact_folder(study_run))
        loop = Loop(plan, study, recorder, launcher, is_stopped)
        loop.run()
        # Not while workers still train what a person stopped; the next start draws the pictures.
        drawn = [] if is_stopped() else draw_front(collect_points(study), tracker, launcher.run)
        outcome = _finish(loop, study_run, store, start)
        for future in drawn:
            future.result()
        return outcome


def _set_lost_study_aside(study: Study, tracker: Tracker) -> None:
    """Keep the runs of a study that Optuna does not know apart from those of the new one."""
    if _RUN_ID in study.user_attrs or not tracker.has_runs(study.study_name):
        return
    renamed = tracker.retire_experiment(study.study_name, is_kept=True)
    tqdm.write(
        f"note: the store holds MLflow runs of {study.study_name!r}, but not its study (was it "
        "deleted in optuna-dashboard?): the search begins anew; those runs stay, in the "
        f"experiment {renamed!r}",
        sys.stderr,
    )


def _repair(study: Study, sweep: SweepConfig, recorder: Recorder) -> None:
    """Queue what a killed process left running, and close the MLflow runs that it left open."""
    tracker = recorder.tracker
    tracker.restore_runs(recorder.experiment_id)
    # All open runs, not only those that trials name: the process may have ended between the
    # start of a run and the note of its id.
    for run_id in tracker.open_runs(recorder.experiment_id, kind="trial"):
        recorder.fail(run_id, "interrupted", "its process ended; the trial runs again")
    for trial in repair(study, sweep, lambda run_id: tracker.status(run_id) == "FINISHED"):
        tqdm.write(f"trial {trial.number} was cut off last time; it runs again", sys.stderr)


def _open_study_run(study: Study, plan: Plan, recorder: Recorder) -> str:
    """The MLflow run of the study itself; the same one at every start."""
    run_id = study.user_attrs.get(_RUN_ID)
    if run_id and recorder.tracker.resume_run(run_id):
        return str(run_id)
    if run_id:
        tqdm.write(
            "note: MLflow has no run of this study any more (was it deleted for good?): a new one "
            "is made; the trials that were run are still known",
            sys.stderr,
        )
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
    study.set_user_attr(_RUN_ID, run_id)
    study.set_user_attr("mlflow_experiment_id", recorder.experiment_id)
    return run_id


def _keep_notes(study: Study, plan: Plan, folder: Path) -> None:
    """Keep the notes about the data where the report, the card and MLflow find them.

    The study's attribute ``notes`` and the file ``notes.txt`` are those of the latest start.
    """
    notes = list(plan.notes)
    if study.user_attrs.get("notes") != notes:
        study.set_user_attr("notes", notes)
    text = "".join(f"{' '.join(note.split())}\n" for note in notes)
    (folder / "notes.txt").write_text(text, encoding="utf-8")


def _finish(loop: Loop, run_id: str, store: Store, start: float) -> Outcome:
    """Write the report and the study's run."""
    study, sweep, tracker = loop.study, loop.plan.sweep, loop.recorder.tracker
    # Read anew: a study that was stopped has queued again what was under way.
    progress = Progress(study)
    counts = {"trials": progress.n_told, **progress.counts}
    front = front_of(collect_points(study))
    commands = {
        "browse the trials": store.ui_command,
        "inspect the study": store.dashboard_command,
    }
    reports: list[Path] = []
    if front:
        named = ("--sweep", sweep.name, "--store", store.folder)
        fits = front[0].size_bytes <= _OFFERED_BYTES
        which = ("--budget", f"{_OFFERED_BYTES // 1000}kB") if fits else ("--front",)
        commands["hand over a model"] = for_shell("qwave", "export", *which, *named)
        summary = {
            "data": f"{sweep.data.path} ({loop.plan.data.digest})",
            "trials": f"{counts['complete']} complete, {counts['pruned']} over the size budget",
            "sweep": sweep.digest,
        }
        folder = made_report_folder(store, sweep.name)
        reports = write_report(
            study, sweep, folder, summary=summary, commands=commands, store=store
        )
        shutil.copytree(folder, tracker.artifact_folder(run_id) / "report", dirs_exist_ok=True)
    metrics = {f"n_{name}": float(value) for name, value in counts.items()}
    metrics |= {
        "hypervolume": progress.hypervolume,
        "front_size": float(len(front)),
        "record_seconds": loop.record_seconds,
        "record_cpu_seconds": loop.record_cpu_seconds,
    }
    series = {"hypervolume_by_trial": hypervolume_by_trial(study)}
    tracker.log(run_id, metrics=metrics, series=series)
    tracker.end_run(run_id)
    return Outcome(
        counts=counts,
        front=front,
        hypervolume=progress.hypervolume,
        seconds=time.perf_counter() - start,
        record_seconds=loop.record_seconds,
        is_interrupted=loop.is_stopped(),
        first_failure=first_failure(study),
        reports=reports,
        commands=commands,
    )
