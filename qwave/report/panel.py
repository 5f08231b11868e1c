"""The panel of one trial: its configuration, its record, and the command that exports it.

The page holds one empty panel and the facts of all trials as JSON; ``assets/report.js`` fills the
one from the other, as text. What all trials have in common is written once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwave.report.charts import fact_lines
from qwave.scores import FrontPoint, front_members

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

    ``order`` holds the indices of the points from the smallest file to the largest, the way that
    the panel's two arrows go.
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


def json_script(value: object, element_id: str) -> str:
    """A value as JSON inside a page, in an element that no browser runs or shows.

    ``<``, ``>`` and ``&`` are written as escapes of JSON, so that no text in it can end it.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{element_id}">{text}</script>'


PANEL = """<aside class="panel" id="panel" role="dialog" aria-labelledby="panel-title"
tabindex="-1" hidden>
<header><h2 id="panel-title"></h2>
<div class="tools"><button type="button" data-step="-1" title="next smaller file"
aria-label="next smaller file">&larr;</button><button type="button" data-step="1"
title="next larger file" aria-label="next larger file">&rarr;</button><button type="button"
data-close title="close (Esc)" aria-label="close">&times;</button></div></header>
<ul data-slot="facts"></ul>
<h3>Configuration</h3>
<dl data-slot="settings"></dl>
<details data-part="shared"><summary>The same in every trial</summary><dl
data-slot="shared"></dl></details>
<div data-part="address"><h3>Its run in MLflow</h3>
<p><a data-slot="address" target="_blank" rel="noopener noreferrer"></a></p>
<div class="command" data-part="ui"><p>The link works while this command runs:</p>
<div><pre><code data-slot="ui"></code></pre><button type="button">Copy</button></div></div></div>
<div class="command" data-part="export"><h3>Export this model</h3>
<div><pre><code data-slot="export"></code></pre><button type="button">Copy</button></div></div>
<p class="muted">digest <code data-slot="digest"></code><br>MLflow run
<code data-slot="run"></code></p>
</aside>"""
