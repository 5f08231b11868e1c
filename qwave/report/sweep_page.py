"""The page of a search: what came out in one sentence, the front, what mattered, the record.

All that answers is in the page at once; Plotly (4.8 MB), which makes the picture of the front an
interactive chart, stands at the end and starts when the rest has been painted.

The panel of one trial (its configuration, its record, the command that exports it) is empty in
the page; ``assets/report.js`` fills it from the facts of all trials, which the page holds as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from qwave.report.charts import fact_lines, front_chart, history_steps
from qwave.report.front import accuracy_limits, check_frame
from qwave.report.headline import accuracy_interval, headline, leading_steps, percent_text
from qwave.report.table import Table, size_text
from qwave.report.templates import render
from qwave.scores import FrontPoint, Interval, front_members

_COLUMNS = (
    ("model", ""),
    ("accuracy", "number"),
    ("size", "number"),
    ("experts", "number"),
    ("trial", "number"),
    ("configuration", ""),
    ("digest", "id"),
    ("MLflow run", "id"),
)
"""Heading and class of each column of the front's table."""

MLFLOW_ADDRESS = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves unless it is told another port."""


@dataclass(frozen=True)
class Records:
    """Where the records of a search's trials are, and how to come by them.

    Attributes:
        experiment_id: The MLflow experiment; empty for none, and then no run has a link.
        ui_command: The shell command that serves the MLflow UI at ``http://127.0.0.1:5000``.
        export_commands: The shell command that exports a trial, by the trial's number.
    """

    experiment_id: str = ""
    ui_command: str = ""
    export_commands: Mapping[int, str] = field(default_factory=dict)

    def run_address(self, run_id: str) -> str:
        """The page of a run in the MLflow UI; empty without an experiment or a run."""
        if not (self.experiment_id and run_id):
            return ""
        page = f"experiments/{self.experiment_id}/runs/{run_id}"
        # Without the question MLflow 3.17 shows the run among those of its GenAI pages.
        return f"{MLFLOW_ADDRESS}/#/{page}?workflowType=machine_learning"


def report_html(
    *,
    title: str,
    summary: Mapping[str, str],
    points: Sequence[FrontPoint],
    hypervolume_by_trial: Sequence[tuple[int, float]],
    importances: Mapping[str, Mapping[str, Interval]],
    reference_accuracy: float,
    size_budget_bytes: int,
    commands: Mapping[str, str],
    notes: Sequence[str] = (),
    picture: bytes = b"",
    choices: Mapping[str, Table] | None = None,
    records: Records | None = None,
    why_no_importances: str = "",
) -> str:
    """The page, complete from doctype to ``</html>``; equal input gives equal text.

    Args:
        title: Heading of the page.
        summary: Facts by name, in the order to be shown; they stand at the end of the page.
        points: Complete trials in any order; may be empty.
        hypervolume_by_trial: Trial number and hypervolume after it; may be empty.
        importances: Score, then parameter, then the share of the score's spread that goes with
            the parameter, with its 95 % interval. Where it is empty, or no interval of a score
            lies above 0, a sentence stands instead of the bars.
        reference_accuracy: Accuracy drawn as a line, 0..1.
        size_budget_bytes: Size drawn as a line.
        commands: Shell commands, by what each does.
        notes: Warnings to read before the numbers, one sentence or more each; text.
        picture: The front as a PNG (`front_png`), shown until the interactive chart is there and
            in print; empty for none.
        choices: For each searched parameter with few choices, a table of what each choice gave.
        records: Where the trials' records are, for the panel of a trial.
        why_no_importances: The reason when ``importances`` is empty, a whole sentence.

    Raises:
        ValueError: If ``reference_accuracy`` is not in 0..1 or the budget is not positive.
    """
    check_frame(reference_accuracy, size_budget_bytes)
    members = front_members(points)
    shared = shared_settings(members)
    lower, _ = accuracy_limits(points, reference_accuracy)
    values: dict[str, Any] = {
        "title": title,
        "headline": headline(points, reference_accuracy),
        "notes": notes,
        "points": points,
        "picture": picture,
        "n_below": sum(point.accuracy < lower for point in points),
        "columns": _COLUMNS,
        "members": _numbered(points, members, shared),
        "shared": shared,
        "importances": [_bars(*found) for found in importances.items()]
        if any(importances.values())
        else [],
        "why_no_importances": why_no_importances,
        "choices": choices or {},
        "history": history_steps(hypervolume_by_trial),
        "by_purpose": commands,
        "summary": summary,
        "size_text": size_text,
    }
    if points:
        first = leading_steps(points)[:1] or list(points)[:1]
        low, high = accuracy_interval(first[0])
        values |= {
            "first_interval": f"{100 * low:.1f} to {percent_text(high)}",
            "panel": panel_facts(points, records or Records()),
            "chart": front_chart(
                points, reference_accuracy=reference_accuracy, size_budget_bytes=size_budget_bytes
            ),
            "plotly": Markup(get_plotlyjs()),
        }
    return render("sweep.html.j2", **values)


def _numbered(
    points: Sequence[FrontPoint], members: Sequence[FrontPoint], shared: Mapping[str, object]
) -> list[tuple[int, FrontPoint, dict[str, object]]]:
    """Members of the front with their index in ``points`` and the settings not in ``shared``."""
    index_of = {id(point): index for index, point in enumerate(points)}
    return [
        (
            index_of[id(point)],
            point,
            {key: value for key, value in point.configuration.items() if key not in shared},
        )
        for point in members
    ]


def _bars(score: str, importances: Mapping[str, Interval]) -> dict[str, Any]:
    """What the template shows of one score: a bar for each parameter, the most important first.

    Bars whose interval reaches 0 are not sure: they can be chance. Without a sure one there are
    no bars.
    """
    found: dict[str, Any] = {
        "name": score.replace("_", " "),
        "n_parameters": len(importances),
        "bars": [],
    }
    if not any(share.low > 0 for share in importances.values()):
        return found
    end = max(0.01, *(max(share.high, share.estimate) for share in importances.values()))
    ranked = sorted(importances.items(), key=lambda i: (i[1].low <= 0, -i[1].estimate, i[0]))
    for parameter, share in ranked:
        # Shuffling a parameter that does nothing can help by luck: less than nothing is nothing.
        value, low, high = (max(0.0, x) for x in (share.estimate, share.low, share.high))
        found["bars"].append(
            {
                "parameter": parameter,
                "is_sure": share.low > 0,
                "value": f"{100 * value / end:.1f}",
                "low": f"{100 * low / end:.1f}",
                "width": f"{100 * (high - low) / end:.1f}",
                "text": f"{100 * value:.0f} %",
                "interval": f"{100 * low:.0f} % to {100 * high:.0f} %",
            }
        )
    return found


def shared_settings(points: Sequence[FrontPoint]) -> dict[str, object]:
    """The settings that all points have in common; none for fewer than two points."""
    if len(points) < 2:
        return {}
    first, *others = [point.configuration for point in points]
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def panel_facts(points: Sequence[FrontPoint], records: Records) -> dict[str, Any]:
    """What the panel shows of each trial, in the order of ``points``, ready for JSON.

    ``order`` holds the indices of the points from the smallest file to the largest: the order of
    the panel's two arrows.
    """
    shared = shared_settings(points)
    front = front_members(points)
    return {
        "shared": {key: str(value) for key, value in shared.items()},
        "ui": records.ui_command,
        "order": sorted(
            range(len(points)),
            key=lambda index: (points[index].size_bytes, points[index].number),
        ),
        "points": [
            {
                "title": point.label,
                "x": point.size_bytes,
                "y": 100 * point.accuracy,
                "number": point.number,
                "facts": fact_lines(point, front),
                "settings": {
                    key: str(value)
                    for key, value in point.configuration.items()
                    if key not in shared
                },
                "digest": point.digest,
                "run": point.mlflow_run_id,
                "address": records.run_address(point.mlflow_run_id),
                "export": records.export_commands.get(point.number, ""),
            }
            for point in points
        ],
    }
