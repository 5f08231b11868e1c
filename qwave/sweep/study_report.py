"""What a study of known configurations leaves: tables, pictures, a page, and an MLflow run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwave.report import Section, study_html
from qwave.store import made_report_folder
from qwave.sweep.repeats import Bench


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
