"""What a study ends with: the front as a table, a picture and an interactive page."""

from __future__ import annotations

import csv
import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from qwave.config import SweepConfig, TrialConfig
from qwave.figures import FrontPoint, front_png, report_html
from qwave.pareto import hypervolume, non_dominated
from qwave.space import parse_config
from qwave.sweep.record import config_label
from qwave.sweep.study import trained_trials, with_data_place

# Importances of fewer trials say more about the sampler than about the space.
_MIN_TRIALS_FOR_IMPORTANCE = 10
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


def front_scores(study: Study) -> list[tuple[float, float]]:
    """(accuracy, size in bytes) of the front's members, smallest first, without repeats."""
    trials = trained_trials(study)
    accuracy, size = _scores(trials, "accuracy"), _scores(trials, "size_bytes")
    kept = non_dominated(accuracy, size)
    members = {(a, s) for a, s, k in zip(accuracy, size, kept, strict=True) if k}
    return sorted(members, key=lambda member: member[1])


def trial_config(trial: FrozenTrial) -> TrialConfig:
    """The configuration that a trial carries."""
    return parse_config(trial.user_attrs["config"], f"trial {trial.number}")


def point_config(study: Study, point: FrontPoint) -> TrialConfig:
    """The configuration of a point of this study, with its data where they were found last."""
    return with_data_place(trial_config(study.get_trials(deepcopy=False)[point.number]), study)


def study_hypervolume(study: Study) -> float:
    """Hypervolume of the trained trials."""
    trials = trained_trials(study)
    return hypervolume(
        _scores(trials, "accuracy"),
        _scores(trials, "size_bytes"),
        reference_accuracy=study.user_attrs["reference_accuracy"],
        reference_bytes=study.user_attrs["reference_bytes"],
    )


def hypervolume_by_trial(study: Study) -> list[tuple[int, float]]:
    """(trial number, hypervolume of the trained trials up to it)."""
    trials = trained_trials(study)
    accuracy, size = _scores(trials, "accuracy"), _scores(trials, "size_bytes")
    return [
        (
            trial.number,
            hypervolume(
                accuracy[: index + 1],
                size[: index + 1],
                reference_accuracy=study.user_attrs["reference_accuracy"],
                reference_bytes=study.user_attrs["reference_bytes"],
            ),
        )
        for index, trial in enumerate(trials)
    ]


def importances(study: Study, sweep: SweepConfig) -> dict[str, dict[str, float]]:
    """Importance of each parameter that all trials have, for each objective; sums to 1.

    Sizes are taken as logarithms, as on the front's axis. Empty with too few trials, or when all
    trials score alike.
    """
    trials = trained_trials(study)
    found: dict[str, dict[str, float]] = {}
    if len(trials) < _MIN_TRIALS_FOR_IMPORTANCE:
        return found
    for index, objective in enumerate(sweep.objectives):

        def target(trial: FrozenTrial, index: int = index, score: str = objective.score) -> float:
            value = trial.values[index]
            return math.log10(value) if score.endswith("_bytes") else value

        if len({target(trial) for trial in trials}) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found[objective.score] = optuna.importance.get_param_importances(
                study,
                target=target,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=sweep.sampler.seed),
            )
    return found


def write_report(
    study: Study,
    sweep: SweepConfig,
    folder: Path,
    *,
    summary: dict[str, str],
    commands: dict[str, str],
) -> list[Path]:
    """Write ``front.csv``, ``front.png`` and ``report.html``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    points = collect_points(study)
    shared: dict[str, Any] = {
        "reference_accuracy": study.user_attrs["reference_accuracy"],
        "size_budget_bytes": sweep.budget.max_size_bytes,
    }
    paths = [folder / name for name in ("front.csv", "front.png", "report.html")]
    _write_front_csv(paths[0], front_of(points))
    paths[1].write_bytes(
        front_png(
            points,
            title=f"{sweep.name}: accuracy at every size",
            subtitle=picture_subtitle(summary),
            **shared,
        )
    )
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
        commands=commands,
        **shared,
    )
    paths[2].write_text(html, encoding="utf-8")
    return paths


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
    keys = sorted({key for point in front for key in point.configuration})
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
                    *(_cell(point.configuration.get(key)) for key in keys),
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
