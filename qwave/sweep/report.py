"""The report of a study: its front as a table, a picture and an interactive page."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from qwave.config import SweepConfig, TrialConfig
from qwave.config.trial import RETIRED_TRAIN_KEYS
from qwave.report import Records, front_png, report_html
from qwave.scores import FrontPoint, Interval
from qwave.scores.pareto import non_dominated
from qwave.space import parse_config
from qwave.store import Store
from qwave.sweep.mattered import MIN_TRIALS, choice_tables, parameter_importances
from qwave.sweep.progress import hypervolume_by_trial
from qwave.sweep.record import config_label
from qwave.sweep.study import trained_trials, with_data_path
from qwave.text import for_shell

_MOST_CHARACTERS = 45  # of a fact below a picture's title: three of them fill its line


def collect_points(study: Study) -> list[FrontPoint]:
    """All trained configurations as points of the front's picture, by trial number."""
    trials = trained_trials(study)
    accuracy, size = _scores(trials, "accuracy"), _scores(trials, "size_bytes")
    is_front = non_dominated(accuracy, size)
    points = []
    for trial, kept in zip(trials, is_front, strict=True):
        config = trial_config(trial)
        attributes = trial.user_attrs
        points.append(
            FrontPoint(
                number=trial.number,
                accuracy=attributes["scores"]["accuracy"],
                standard_error=attributes["scores"]["accuracy_standard_error"],
                size_bytes=int(attributes["scores"]["size_bytes"]),
                is_front=bool(kept),
                num_experts=config.model.num_experts,
                label=config_label(config),
                configuration=config.flat(),
                digest=attributes["digest"],
                mlflow_run_id=attributes["mlflow_run_id"],
            )
        )
    return points


def front_of(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """Members of the front, smallest first; of equal points the one that was found first."""
    members: dict[tuple[float, int], FrontPoint] = {}
    for point in points:
        if point.is_front:
            members.setdefault((point.accuracy, point.size_bytes), point)
    return sorted(members.values(), key=lambda point: point.size_bytes)


def trial_config(trial: FrozenTrial) -> TrialConfig:
    """The configuration that a trial carries."""
    return parse_config(trial.user_attrs["config"], f"trial {trial.number}")


def point_config(study: Study, point: FrontPoint) -> TrialConfig:
    """The configuration of a point of this study, with its data where they were found last."""
    return with_data_path(trial_config(study.get_trials(deepcopy=False)[point.number]), study)


def importances(study: Study, sweep: SweepConfig) -> dict[str, dict[str, Interval]]:
    """How much each searched parameter mattered for each measured objective, with intervals.

    Sizes are left out: they follow exactly from the configuration. Empty with too few trials; a
    score in which all trials are equal is missing. See `qwave.sweep.mattered`.
    """
    trials = trained_trials(study)
    found = {}
    for index, objective in enumerate(sweep.objectives):
        if objective.score.endswith("_bytes"):
            continue
        scores = [trial.values[index] for trial in trials]
        by_parameter = parameter_importances(trials, scores, seed=sweep.sampler.seed)
        if by_parameter:
            found[objective.score] = by_parameter
    return found


def export_command(number: int, sweep_name: str, store: Store) -> str:
    """The command that exports a trial, quoted for the shell, from any working directory."""
    return for_shell(
        "qwave", "export", str(number), "--sweep", sweep_name, "--store", store.folder
    )


def write_report(
    study: Study,
    sweep: SweepConfig,
    folder: Path,
    *,
    summary: dict[str, str],
    commands: dict[str, str],
    store: Store | None = None,
) -> list[Path]:
    """Write ``front.csv``, ``front.png`` and ``report.html``; returns their paths.

    Args:
        study: The study.
        sweep: Sweep of the study.
        folder: Where the files go; made if it is missing.
        summary: Facts by name, below the picture's title and at the end of the page.
        commands: Shell commands, by what each does.
        store: The store that holds the study; without one the page says neither how to export a
            trial nor how to see its run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    points = collect_points(study)
    shared: dict[str, Any] = {
        "reference_accuracy": study.user_attrs["reference_accuracy"],
        "size_budget_bytes": sweep.budget.max_size_bytes,
    }
    paths = [folder / name for name in ("front.csv", "front.png", "report.html")]
    _write_front_csv(paths[0], front_of(points))
    picture = front_png(
        points,
        title=f"{sweep.name}: accuracy at every size",
        subtitle=picture_subtitle(summary),
        **shared,
    )
    paths[1].write_bytes(picture)
    trials = trained_trials(study)
    html = report_html(
        title=f"{sweep.name}: accuracy at every size",
        summary=summary,
        points=[
            dataclasses.replace(
                point, configuration={k: _shown(v) for k, v in point.configuration.items()}
            )
            for point in points
        ],
        hypervolume_by_trial=hypervolume_by_trial(study),
        importances=importances(study, sweep),
        why_no_importances=_why_no_importances(len(trials)),
        choices=choice_tables(trials, list(sweep.search)),
        commands=commands,
        notes=[str(note) for note in study.user_attrs.get("notes", [])],
        picture=picture,
        records=_records(study, sweep, points, store),
        **shared,
    )
    paths[2].write_text(html, encoding="utf-8")
    return paths


def _records(
    study: Study, sweep: SweepConfig, points: Sequence[FrontPoint], store: Store | None
) -> Records:
    """Where a reader of the page finds what belongs to a trial."""
    if store is None:
        return Records()
    return Records(
        experiment_id=str(study.user_attrs.get("mlflow_experiment_id", "")),
        ui_command=store.ui_command,
        export_commands={
            point.number: export_command(point.number, sweep.name, store) for point in points
        },
    )


def _why_no_importances(n_trials: int) -> str:
    if n_trials < MIN_TRIALS:
        complete = "1 complete trial is" if n_trials == 1 else f"{n_trials} complete trials are"
        return f"{complete} too few to tell what mattered; it takes {MIN_TRIALS}."
    return "All complete trials score alike, or no parameter changed: nothing can have mattered."


def picture_subtitle(summary: Mapping[str, str]) -> str:
    """Facts on one line below a picture's title; of a long path its end, which says more."""
    facts = []
    for key, value in summary.items():
        is_long = len(value) > _MOST_CHARACTERS
        facts.append(f"{key} {f'…{value[1 - _MOST_CHARACTERS :]}' if is_long else value}")
    return " · ".join(facts)


def _write_front_csv(path: Path, front: Sequence[FrontPoint]) -> None:
    """The front, smallest first, with every key of its configurations.

    Neither run ids nor times: the same sweep with the same seed writes the same bytes.
    """
    retired = {f"train.{name}": value for name, value in RETIRED_TRAIN_KEYS.items()}
    keys = sorted({*retired, *(key for point in front for key in point.configuration)})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["size_bytes", "accuracy", "accuracy_standard_error", "digest", "trial", "label"]
        writer.writerow([*columns, *keys])
        for point in front:
            writer.writerow(
                [
                    point.size_bytes,
                    f"{point.accuracy:.6f}",
                    f"{point.standard_error:.6f}",
                    point.digest,
                    point.number,
                    point.label,
                    *(_cell(point.configuration.get(key, retired.get(key))) for key in keys),
                ]
            )


def _shown(value: object) -> str:
    """A value as the page shows it; the exact one is in front.csv and MLflow."""
    return f"{value:.4g}" if isinstance(value, float) else _cell(value) or "none"


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _scores(trials: Sequence[FrozenTrial], name: str) -> list[float]:
    return [float(trial.user_attrs["scores"][name]) for trial in trials]
