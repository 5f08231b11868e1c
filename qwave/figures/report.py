"""The report of a search: its front, how it was found, what mattered; with Plotly (4.5 MB)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from plotly.offline import get_plotlyjs

from qwave.figures.charts import chart_html, front_chart, hypervolume_chart, importance_chart
from qwave.figures.page import commands_html, facts_html, page_html
from qwave.figures.points import FrontPoint, accuracy_limits, check_frame, front_members, size_text

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
    importances: Mapping[str, Mapping[str, float]],
    reference_accuracy: float,
    size_budget_bytes: int,
    commands: Mapping[str, str],
) -> str:
    """The page, complete from doctype to ``</html>``; equal input gives equal text.

    Args:
        title: Heading of the page.
        summary: Facts by name, in the order to be shown.
        points: Complete trials in any order; may be empty.
        hypervolume_by_trial: Trial number and hypervolume after it; may be empty.
        importances: Objective, then parameter, then importance 0..1. Empty, or without any
            parameter, when there are too few trials: a sentence then says so.
        reference_accuracy: Accuracy drawn as a line, 0..1.
        size_budget_bytes: Size drawn as a line.
        commands: What a shell command does, and the command.

    Raises:
        ValueError: If ``reference_accuracy`` is not in 0..1 or the budget is not positive.
    """
    check_frame(reference_accuracy, size_budget_bytes)
    sections = [
        facts_html(summary),
        "<h2>Accuracy against file size</h2>",
        _front(points, reference_accuracy, size_budget_bytes),
        "<h2>The front</h2>",
        _table(front_members(points)),
        "<h2>Hypervolume by trial</h2>",
        _hypervolume(hypervolume_by_trial),
        "<h2>What mattered</h2>",
        _importances(importances),
        "<h2>Commands</h2>",
        commands_html(commands),
        _footer(),
    ]
    return page_html(title, sections, library=get_plotlyjs())


def _front(points: Sequence[FrontPoint], reference_accuracy: float, budget: int) -> str:
    if not points:
        return '<p class="muted">No trial is complete yet.</p>'
    chart = front_chart(points, reference_accuracy=reference_accuracy, size_budget_bytes=budget)
    n_front = len(front_members(points))
    lower, _ = accuracy_limits(points, reference_accuracy)
    n_below = sum(point.accuracy < lower for point in points)
    below = f" Of the others, {n_below} lie below the axis; autoscale shows them." * bool(n_below)
    return f"""<p>{n_front} of {len(points)} complete trials are on the front: no other trial is
at least as accurate and as small, and better in one of the two. Point at a mark for its
configuration; click an entry of the legend to hide or show it, twice to see it alone.{below}</p>
{chart_html(chart, "qwave-front")}"""


def _table(members: Sequence[FrontPoint]) -> str:
    if not members:
        return '<p class="muted">The front is empty.</p>'
    shared = _shared_configuration(members)
    head = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{name}</button></th>'
        for name, kind in _COLUMNS
    )
    rows = "\n".join(_row(point, shared) for point in members)
    note = ""
    if shared:
        note = f'<p class="shared muted">The same in every row: {_settings(shared)}</p>'
    return f"""<p class="muted">Smallest file first; click a heading to sort.</p>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
{note}"""


def _shared_configuration(members: Sequence[FrontPoint]) -> dict[str, object]:
    """The settings all members agree on; none for a single member, whose row shows them all."""
    if len(members) < 2:
        return {}
    first, *others = [point.configuration for point in members]
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def _row(point: FrontPoint, shared: Mapping[str, object]) -> str:
    own = {key: value for key, value in point.configuration.items() if key not in shared}
    accuracy = f"{100 * point.accuracy:.2f} ± {100 * point.standard_error:.2f} %"
    # What each cell sorts by, and what it shows, in the order of `_COLUMNS`.
    cells = (
        (point.label, escape(point.label)),
        (point.accuracy, accuracy),
        (
            point.size_bytes,
            f'<span title="{point.size_bytes:,} bytes">{size_text(point.size_bytes)}</span>',
        ),
        (point.num_experts, str(point.num_experts)),
        (point.number, str(point.number)),
        (str(own), _settings(own)),
        (point.digest, f"<code>{escape(point.digest)}</code>"),
        (point.mlflow_run_id, f"<code>{escape(point.mlflow_run_id)}</code>"),
    )
    columns = "".join(
        f'<td class="{kind or name}" data-value="{escape(str(value))}">{shown}</td>'
        for (name, kind), (value, shown) in zip(_COLUMNS, cells, strict=True)
    )
    return f"<tr>{columns}</tr>"


def _settings(configuration: Mapping[str, object]) -> str:
    return " ".join(
        f"<code>{escape(key)}={escape(str(value))}</code>" for key, value in configuration.items()
    )


def _hypervolume(hypervolume_by_trial: Sequence[tuple[int, float]]) -> str:
    if not hypervolume_by_trial:
        return '<p class="muted">No trial is complete yet.</p>'
    return f"""<p>The area that the front dominates, up to a fixed worst corner. Where the line has
been level for long, further trials add little.</p>
{chart_html(hypervolume_chart(hypervolume_by_trial), "qwave-hypervolume")}"""


def _importances(importances: Mapping[str, Mapping[str, float]]) -> str:
    if not any(importances.values()):
        return '<p class="muted">Too few complete trials to estimate importances.</p>'
    return f"""<p>How much of the spread of each objective over the trials goes with each
parameter. It describes the trials made, not parameters the study did not vary.</p>
{chart_html(importance_chart(importances), "qwave-importances")}"""


def _footer() -> str:
    return """<footer><p>How to read this page. Accuracy is the mean over the folds of a
cross-validation; bars and ± show one standard error of that mean. The best of many trials is
flattering by choice alone, and neighbours on the front whose bars overlap may well be equal. File
size is the saved model in bytes, 1 kB being 1000 bytes. The digest identifies a configuration; the
MLflow run holds its record.</p></footer>"""
