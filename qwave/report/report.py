"""The report of a search: what came out in one sentence, the front, what mattered, the record.

All that answers is in the page at once; Plotly (4.8 MB), which makes the picture of the front an
interactive chart, stands at the end and starts when the rest has been painted.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from plotly.offline import get_plotlyjs

from qwave.report.charts import front_chart
from qwave.report.headline import accuracy_interval, headline, leading_steps, percent_text
from qwave.report.history import history_html
from qwave.report.importance import importance_html, is_sure
from qwave.report.page import asset, commands_html, facts_html, notes_html, page_html
from qwave.report.panel import PANEL, Records, json_script, panel_facts, shared_settings
from qwave.report.points import accuracy_limits, check_frame, size_text
from qwave.report.table import Estimate, Table
from qwave.scores import FrontPoint, front_members
from qwave.text import for_html

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


def report_html(
    *,
    title: str,
    summary: Mapping[str, str],
    points: Sequence[FrontPoint],
    hypervolume_by_trial: Sequence[tuple[int, float]],
    importances: Mapping[str, Mapping[str, Estimate]],
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
        commands: What a shell command does, and the command.
        notes: What a reader should know before the numbers, one sentence or more each; text.
        picture: The front as a PNG (`front_png`), shown until the interactive chart is there and
            in print; empty for none.
        choices: For each searched parameter with few choices, a table of what each choice gave.
        records: Where the trials' records are, for the panel of a trial.
        why_no_importances: The reason when ``importances`` is empty, a whole sentence.

    Raises:
        ValueError: If ``reference_accuracy`` is not in 0..1 or the budget is not positive.
    """
    check_frame(reference_accuracy, size_budget_bytes)
    records = records or Records()
    sections = [
        f'<h1 class="small">{for_html(title)}</h1>',
        _answer(points, reference_accuracy),
        notes_html(notes),
        "<h2>Accuracy against file size</h2>",
        _front(points, reference_accuracy, picture),
        "<h2>The front</h2>",
        _table(points),
        "<h2>What mattered</h2>",
        _importances(importances, why_no_importances),
        _choices(choices or {}),
        "<h2>Hypervolume by trial</h2>",
        _hypervolume(hypervolume_by_trial),
        "<h2>Commands</h2>",
        commands_html(commands),
        "<h2>This search</h2>",
        facts_html(summary) or '<p class="muted">Nothing was recorded.</p>',
        _footer(),
    ]
    if not points:
        return page_html(title, sections)
    chart = front_chart(
        points, reference_accuracy=reference_accuracy, size_budget_bytes=size_budget_bytes
    )
    sections += [
        PANEL,
        json_script(panel_facts(points, records), "qwave-points"),
        json_script(chart, "qwave-figure"),
    ]
    # Of a type that no browser runs: the page's own script runs it when there is time.
    library = f'<script type="text/plain" id="qwave-plotly">{get_plotlyjs()}</script>\n'
    return page_html(title, sections, script=asset("report.js"), end=library)


def _answer(points: Sequence[FrontPoint], reference_accuracy: float) -> str:
    sentence = headline(points, reference_accuracy)
    if not points:
        return f'<p class="lead">{for_html(sentence)}</p>'
    first = leading_steps(points)[:1] or list(points)[:1]
    low, high = accuracy_interval(first[0])
    rule = " More than chance: ahead by over 1.96 &times; &radic;2 standard errors."
    return f"""<p class="lead">{for_html(sentence)}</p>
<p class="muted">The 95 % interval of the first is {100 * low:.1f} to
{percent_text(high)}.{rule * (len(points) > 1)}</p>"""


def _front(points: Sequence[FrontPoint], reference_accuracy: float, picture: bytes) -> str:
    if not points:
        return '<p class="muted">No trial is complete yet.</p>'
    n_front = len(front_members(points))
    lower, _ = accuracy_limits(points, reference_accuracy)
    n_below = sum(point.accuracy < lower for point in points)
    below = f" Of the others, {n_below} lie below the axis; autoscale shows them." * bool(n_below)
    image = ""
    if picture:
        content = base64.b64encode(picture).decode()
        image = f'<img alt="accuracy against file size" src="data:image/png;base64,{content}">'
    complete = "1 complete trial is" if len(points) == 1 else f"{len(points)} complete trials are"
    return f"""<figure>
<div class="chart">{image}<div id="qwave-front" hidden></div></div>
<figcaption>{n_front} of {complete} on the front: nothing else is at least as accurate and as
small, and better in one of the two. Marks whose bars (one standard error) overlap may well be
equal. Point at a mark to read it, click it for its configuration and its files.{below}
</figcaption>
</figure>"""


def _table(points: Sequence[FrontPoint]) -> str:
    members = front_members(points)
    if not members:
        return '<p class="muted">The front is empty.</p>'
    index_of = {id(point): index for index, point in enumerate(points)}
    shared = shared_settings(members)
    head = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{name}</button></th>'
        for name, kind in _COLUMNS
    )
    rows = "\n".join(_row(point, shared, index_of[id(point)]) for point in members)
    note = ""
    if shared:
        note = f'<p class="shared muted">The same in every row: {_settings(shared)}</p>'
    return f"""<p class="muted">Smallest file first; ± is one standard error. Click a heading to
sort, a row (or Enter on it) for its configuration, its run and the command that exports it.</p>
<div class="scroll cards"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
{note}"""


def _row(point: FrontPoint, shared: Mapping[str, object], index: int) -> str:
    own = {key: value for key, value in point.configuration.items() if key not in shared}
    accuracy = f"{100 * point.accuracy:.2f} ± {100 * point.standard_error:.2f} %"
    # What each cell sorts by, and what it shows, in the order of `_COLUMNS`.
    cells = (
        (point.label, for_html(point.label)),
        (point.accuracy, accuracy),
        (
            point.size_bytes,
            f'<span title="{point.size_bytes:,} bytes">{size_text(point.size_bytes)}</span>',
        ),
        (point.num_experts, str(point.num_experts)),
        (point.number, str(point.number)),
        (str(own), _settings(own)),
        (point.digest, f"<code>{for_html(point.digest)}</code>"),
        (point.mlflow_run_id, f"<code>{for_html(point.mlflow_run_id)}</code>"),
    )
    columns = "".join(
        f'<td class="{kind or name}" data-label="{name}" data-value="{for_html(str(value))}">'
        f"{shown}</td>"
        for (name, kind), (value, shown) in zip(_COLUMNS, cells, strict=True)
    )
    return f'<tr data-point="{index}" tabindex="0">{columns}</tr>'


def _settings(configuration: Mapping[str, object]) -> str:
    return " ".join(
        f"<code>{for_html(key)}={for_html(str(value))}</code>"
        for key, value in configuration.items()
    )


def _hypervolume(hypervolume_by_trial: Sequence[tuple[int, float]]) -> str:
    if not hypervolume_by_trial:
        return '<p class="muted">No trial is complete yet.</p>'
    return f"""<figure>{history_html(hypervolume_by_trial)}
<figcaption>The area that the front dominates, up to a fixed worst corner. Where the line has been
level for long, further trials add little.</figcaption></figure>"""


def _importances(importances: Mapping[str, Mapping[str, Estimate]], reason: str) -> str:
    if not any(importances.values()):
        reason = reason or "Too few complete trials to estimate importances."
        return f'<p class="muted">{for_html(reason)}</p>'
    parts = []
    for number, (score, by_parameter) in enumerate(importances.items()):
        name = for_html(score.replace("_", " "))
        if not any(is_sure(estimate) for estimate in by_parameter.values()):
            parts.append(
                f'<p class="muted">For the {name}, none of the {len(by_parameter)} searched '
                "parameters can be told from chance: every interval reaches 0.</p>"
            )
            continue
        where = "qwave-importances" if number == 0 else f"qwave-importances-{number}"
        parts.append(
            f"""<figure>{importance_html(by_parameter, where)}
<figcaption>How much of the trials' order by {name} goes with each parameter, with 95 % intervals;
what is grey can be chance. It is what a forest of decision trees can no longer predict when the
parameter's values are shuffled; a parameter that only some trials have is judged among them. Size
has no bars: the configuration determines it exactly.</figcaption></figure>"""
        )
    return "\n".join(parts)


def _choices(choices: Mapping[str, Table]) -> str:
    if not choices:
        return ""
    parts = [
        f"<div><h3><code>{for_html(parameter)}</code></h3>{table.html(is_compact=True)}</div>"
        for parameter, table in choices.items()
    ]
    return f"""<h3>Choice by choice</h3>
<p class="muted">The most accurate trial of each choice. More trials find a better best one, so
small differences between choices mean nothing.</p>
<div class="choices">{"".join(parts)}</div>"""


def _footer() -> str:
    return """<footer><p>How to read this page. Accuracy is measured by cross-validation, on clips
that a model was not trained on; bars and ± show one standard error over recordings. The first
sentence names the smallest model that no larger one beats by more than chance, then the same
among all that are smaller. To beat is to be ahead by more than 1.96 &times; &radic;2 standard
errors, the larger of the two models': a careful rule, which takes the two for independent though
they were tried on the same recordings. The best of many trials is flattering by choice alone:
<code>python -m studies.confirm</code> tries the front again with fresh seeds. File size is the
saved model in bytes, 1 kB being 1000 bytes. The digest identifies a configuration; the MLflow run
holds its record.</p></footer>"""
