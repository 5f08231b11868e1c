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
from qwave.figures import FrontPoint
from qwave.sweep.loop import Loop
from qwave.sweep.plan import Plan
from qwave.sweep.pool import training_pool, worker_count
from qwave.sweep.record import Recorder
from qwave.sweep.report import (
    collect_points,
    front_of,
    hypervolume_by_trial,
    study_hypervolume,
    write_report,
)
from qwave.sweep.stop import stop_requests
from qwave.sweep.store import check_store, journal_path, opened_store, report_folder
from qwave.sweep.study import count_trials, open_study, repair
from qwave.tracking import Tracker, ui_command


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a study came to.

    Attributes:
        counts: ``trials``, ``complete``, ``pruned`` (over the size budget) and ``failed``.
        front: Members, smallest first.
        hypervolume: Of the front, see `qwave.pareto.hypervolume`.
        seconds: Wall time of this start.
        record_seconds: Part of it that this process spent on MLflow and figures, while others
            trained.
        is_interrupted: Whether a person stopped it.
        first_failure: Why the first failed trial of this start failed, or None.
        reports: Files written.
        commands: What each does, and the exact command.
    """

    counts: dict[str, int]
    front: list[FrontPoint]
    hypervolume: float
    seconds: float
    record_seconds: float
    is_interrupted: bool
    first_failure: str | None
    reports: list[Path]
    commands: dict[str, str]


def run_sweep(plan: Plan, store: Path, *, is_fresh: bool = False) -> Outcome:
    """Run a sweep, or go on with it, until its budget is spent or a person stops it.

    Raises:
        StoreError: The store is not one, is in use, or holds another study of the same name.
    """
    start = time.perf_counter()
    sweep = plan.sweep
    check_store(store)
    n_workers = worker_count(sweep.budget.workers, plan.device)
    with (
        opened_store(store),
        training_pool(n_workers, plan.data, plan.device) as pool,
        stop_requests() as is_stopped,
    ):
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
        _repair(study, sweep, recorder)
        study_run = _open_study_run(study, plan, recorder)
        _keep_notes(study, plan, recorder.tracker.artifact_folder(study_run))
        loop = Loop(plan, study, recorder, pool, is_stopped)
        loop.run()
        cost = {
            "record_seconds": loop.record_seconds,
            "record_cpu_seconds": loop.record_cpu_seconds,
        }
        tracker.log(study_run, metrics=cost)
        outcome = _finish(plan, study, recorder, study_run, store, start)
        return dataclasses.replace(
            outcome,
            is_interrupted=is_stopped(),
            first_failure=loop.first_failure,
            record_seconds=loop.record_seconds,
        )


def _repair(study: Study, sweep: SweepConfig, recorder: Recorder) -> None:
    """Queue what a killed process left running, and close the MLflow runs that it left open."""
    tracker = recorder.tracker
    # All open runs, not only those that trials name: the process may have ended between the
    # start of a run and the note of its id.
    for run_id in tracker.open_runs(recorder.experiment_id, kind="trial"):
        recorder.fail(run_id, "interrupted", "its process ended; the trial runs again")
    for trial in repair(study, sweep, lambda run_id: tracker.status(run_id) == "FINISHED"):
        tqdm.write(f"trial {trial.number} was cut off last time; it runs again", sys.stderr)


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


def _keep_notes(study: Study, plan: Plan, folder: Path) -> None:
    """Leave what was said about the data where the report, the card and MLflow find it.

    The study's attribute ``notes`` and the file ``notes.txt`` are those of the latest start.
    """
    notes = list(plan.notes)
    if study.user_attrs.get("notes") != notes:
        study.set_user_attr("notes", notes)
    text = "".join(f"{' '.join(note.split())}\n" for note in notes)
    (folder / "notes.txt").write_text(text, encoding="utf-8")


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
        "hand over a model": (
            f"qwave export --budget 50kB --sweep {sweep.name} --store {store.resolve()}"
        ),
    }
    summary = {
        "data": f"{plan.sweep.data.path} ({plan.data.digest})",
        "trials": f"{counts['complete']} complete, {counts['pruned']} over the size budget",
        "sweep": sweep.digest,
    }
    folder = report_folder(store, sweep.name)
    reports = write_report(study, sweep, folder, summary=summary, commands=commands)
    shutil.copytree(folder, tracker.artifact_folder(run_id) / "report", dirs_exist_ok=True)
    history = hypervolume_by_trial(study)
    metrics = {f"n_{name}": float(value) for name, value in counts.items()}
    metrics |= {"hypervolume": volume, "front_size": float(len(front))}
    tracker.log(run_id, metrics=metrics, series={"hypervolume_by_trial": history})
    tracker.end_run(run_id)
    return Outcome(
        counts, front, volume, time.perf_counter() - start, 0.0, False, None, reports, commands
    )
