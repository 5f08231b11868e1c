"""What the page of a search draws: the interactive chart as JSON, the course of the search.

Two things are special to the JSON, which Plotly draws. Colours are names of the page's style
(``@ink`` is ``--ink``), which ``assets/report.js`` replaces by what the reader's colour scheme
makes of them; and Plotly reads a small part of HTML in every text it shows, so all data are
escaped on their way in.

The chart is a plain dictionary and not a ``plotly.graph_objects.Figure``, which refuses such
colours.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from qwave.report.front import accuracy_limits
from qwave.report.headline import accuracy_interval, percent_text
from qwave.report.table import size_text
from qwave.scores import FrontPoint, attainment_staircase, front_members
from qwave.text import for_html

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LINE_CHARACTERS = 36  # 240 pixels: a label has to fit into a chart on a telephone
_SYMBOLS = {False: "circle", True: "diamond"}


def front_chart(
    points: Sequence[FrontPoint], *, reference_accuracy: float, size_budget_bytes: int
) -> dict[str, Any]:
    """Accuracy against file size: all trials, the front with error bars, its staircase.

    Args:
        points: Complete trials in any order; may be empty.
        reference_accuracy: Accuracy drawn as a horizontal line, 0..1.
        size_budget_bytes: Size drawn as a vertical line.

    Returns:
        ``data`` and ``layout`` for Plotly; ``narrow``, the changes of the layout on a narrow
        screen; and ``chosen``, the index of the empty trace that marks the chosen trial. The
        ``customdata`` of a mark is the index of its point in ``points``.
    """
    lower, upper = accuracy_limits(points, reference_accuracy)
    sizes = [point.size_bytes for point in points] + [size_budget_bytes]
    left, right = math.log10(min(sizes)), math.log10(max(sizes))
    margin = max(0.06 * (right - left), 0.12)
    left, right = left - margin, right + margin
    data: list[dict[str, Any]] = []
    rest = [index for index, point in enumerate(points) if not point.is_front]
    if rest:
        data.append(_marks(points, rest, "other complete trials", "@soft", 8, is_front=False))
    steps, accuracies = attainment_staircase(points)
    if steps:
        data.append(
            {
                "type": "scatter",
                "x": [*steps, 10**right],
                "y": [100 * share for share in [*accuracies, accuracies[-1]]],
                "mode": "lines",
                "line": {"shape": "hv", "color": "@single", "width": 2},
                "name": "best accuracy up to a size",
                "hoverinfo": "skip",
            }
        )
    for is_mixture, name in ((False, "front, one expert"), (True, "front, mixture of experts")):
        members = [
            index
            for index, point in enumerate(points)
            if point.is_front and point.is_mixture == is_mixture
        ]
        if members:
            colour = "@mixture" if is_mixture else "@single"
            data.append(_marks(points, members, name, colour, 12, is_front=True))
    data.append(
        {
            "type": "scatter",
            "x": [],
            "y": [],
            "mode": "markers",
            "marker": {"symbol": "circle-open", "size": 22, "color": "@ink", "line": {"width": 2}},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    )
    layout = _layout()
    layout["xaxis"] |= {
        "type": "log",
        "title": {"text": "file size (log scale; 1 kB = 1000 bytes)", "standoff": 12},
        "range": [left, right],
        **_size_ticks(left, right, is_narrow=False),
    }
    layout["yaxis"] |= {
        "title": {"text": "cross-validated accuracy (%)", "standoff": 12},
        "range": [100 * lower, 100 * upper],
        "automargin": True,
    }
    layout |= _rules(reference_accuracy, size_budget_bytes, (lower, upper))
    ticks = _size_ticks(left, right, is_narrow=True)
    narrow = {
        **{f"xaxis.{key}": value for key, value in ticks.items()},
        "xaxis.title.text": "file size (log scale)",
        "yaxis.title.text": "accuracy (%)",
        "margin": {"l": 54, "r": 8, "t": 8, "b": 136},
        "legend.y": -0.2,
        "legend.yanchor": "top",
        "dragmode": False,
    }
    return {"data": data, "layout": layout, "narrow": narrow, "chosen": len(data) - 1}


def hover_lines(point: FrontPoint, points: Sequence[FrontPoint]) -> list[str]:
    """Six to eight short lines about a trial, as text: title, `fact_lines`, and a hint.

    Args:
        point: The trial.
        points: All trials, to say which one is better.
    """
    return [
        *_title_lines(point.label),
        *fact_lines(point, points),
        "click: configuration, run, export",
    ]


def fact_lines(point: FrontPoint, points: Sequence[FrontPoint]) -> list[str]:
    """Five short lines about a trial: accuracy, its interval, size, experts, and standing.

    Args:
        point: The trial.
        points: All trials, to say which one is better.
    """
    low, high = accuracy_interval(point)
    experts = "one expert"
    if point.is_mixture:
        top_k = point.configuration.get("model.top_k")
        experts = f"{point.num_experts} experts" + (f", top-{top_k}" if top_k else "")
    if point.is_front:
        standing = "on the front"
    else:
        rival = _rival(point, points)
        standing = f"behind trial {rival.number}" if rival else "not on the front"
    return [
        f"accuracy {percent_text(point.accuracy)}",
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %",
        f"size {size_text(point.size_bytes)} ({point.size_bytes:,} bytes)",
        experts,
        f"trial {point.number}, {standing}",
    ]


def _title_lines(label: str) -> list[str]:
    """A label on one line or two, of a long one the beginning."""
    lines = textwrap.wrap(label, _LINE_CHARACTERS) or ["(no label)"]
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1][: _LINE_CHARACTERS - 2]} …"]
    return lines


def _rival(point: FrontPoint, points: Sequence[FrontPoint]) -> FrontPoint | None:
    """The most accurate member of the front that is no larger than ``point``."""
    able = [p for p in front_members(points) if p.size_bytes <= point.size_bytes]
    return max(able, key=lambda p: (p.accuracy, -p.size_bytes, -p.number), default=None)


def _marks(
    points: Sequence[FrontPoint],
    indices: Sequence[int],
    name: str,
    colour: str,
    size: int,
    *,
    is_front: bool,
) -> dict[str, Any]:
    shown = [points[index] for index in indices]
    front = front_members(points)
    return {
        "type": "scatter",
        "x": [point.size_bytes for point in shown],
        "y": [100 * point.accuracy for point in shown],
        "error_y": {
            "type": "data",
            "array": [100 * point.standard_error for point in shown],
            "visible": is_front,
            "color": colour,
            "thickness": 1.4,
            "width": 4,
        },
        "mode": "markers",
        "marker": {
            "symbol": [_SYMBOLS[point.is_mixture] for point in shown],
            "color": colour,
            "size": size,
            "line": {"color": "@paper", "width": 1},
        },
        "name": name,
        "customdata": list(indices),
        "hovertext": [_hover_html(hover_lines(point, front)) for point in shown],
        "hoverinfo": "text",
    }


def _hover_html(lines: Sequence[str]) -> str:
    first, *others = [for_html(line) for line in lines]
    return "<br>".join([f"<b>{first}</b>", *others])


def _size_ticks(left: float, right: float, *, is_narrow: bool) -> dict[str, list[Any]]:
    """Round sizes between two logarithms, few enough to be read side by side."""
    most = 5 if is_narrow else 12
    decades = range(math.floor(left), math.ceil(right) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [step * 10.0**decade for decade in decades for step in steps]
        values = [value for value in values if left <= math.log10(value) <= right]
        if len(values) <= most:
            break
    values = values[:: math.ceil(len(values) / most) or 1]
    return {"tickvals": values, "ticktext": [size_text(value) for value in values]}


def _rules(
    reference_accuracy: float, size_budget_bytes: int, limits: tuple[float, float]
) -> dict[str, Any]:
    """The lines of the budget and of the reference, and what is written at them."""
    line = {"color": "@muted", "width": 1.2}
    text = {"showarrow": False, "font": {"size": 12, "color": "@muted"}}
    shapes: list[dict[str, Any]] = [
        {
            "type": "line",
            "x0": size_budget_bytes,
            "x1": size_budget_bytes,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {**line, "dash": "dash"},
        }
    ]
    notes: list[dict[str, Any]] = [
        {
            # A text on a log axis is placed by the logarithm, a line by the value.
            "x": math.log10(size_budget_bytes),
            "y": 1,
            "yref": "paper",
            "text": f"size budget {size_text(size_budget_bytes)}",
            "xanchor": "right",
            "xshift": -3,
            "yanchor": "top",
            **text,
        }
    ]
    lower, upper = limits
    if lower <= reference_accuracy <= upper:
        height = 100 * reference_accuracy
        shapes.append(
            {
                "type": "line",
                "x0": 0,
                "x1": 1,
                "xref": "paper",
                "y0": height,
                "y1": height,
                "line": {**line, "dash": "dot"},
            }
        )
        notes.append(
            {
                "x": 0,
                "xref": "paper",
                "y": height,
                "text": f"reference {percent_text(reference_accuracy)}",
                "xanchor": "left",
                "yanchor": "bottom",
                **text,
            }
        )
    return {"shapes": shapes, "annotations": notes}


def _layout() -> dict[str, Any]:
    axis = {
        "gridcolor": "@grid",
        "linecolor": "@soft",
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "@soft",
        "tickangle": 0,
    }
    return {
        "autosize": True,
        "margin": {"l": 70, "r": 20, "t": 50, "b": 60},
        "font": {"family": FONT, "size": 13, "color": "@ink"},
        "paper_bgcolor": "@paper",
        "plot_bgcolor": "@paper",
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "@paper",
            "bordercolor": "@muted",
            "align": "left",
            "font": {"family": FONT, "size": 12, "color": "@ink"},
        },
        "modebar": {"bgcolor": "@paper", "color": "@muted", "activecolor": "@ink"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }


def history_steps(hypervolume_by_trial: Sequence[tuple[int, float]]) -> dict[str, Any] | None:
    """The dominated hypervolume after each trial as a staircase, drawn without a script.

    The drawing is stretched to the width of the page, and its numbers are text of the page beside
    it, so that they stay readable on a telephone.

    Args:
        hypervolume_by_trial: Trial number and hypervolume, in trial order.

    Returns:
        ``path`` of an SVG of 100 x 100; ``x_ticks`` and ``y_ticks``, percent from the left and
        from below with their texts; ``label`` for readers who do not see it. None without trials.
    """
    if not hypervolume_by_trial:
        return None
    numbers, values = zip(*hypervolume_by_trial, strict=True)
    first, last = min(numbers), max(max(numbers), min(numbers) + 1)
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * max(abs(low), 1e-9), high + 0.5 * max(abs(high), 1e-9)
    locator = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
    ticks = [float(tick) for tick in locator.tick_values(low, high)]
    bottom, top = min(low, ticks[0]), max(high, ticks[-1])

    def right(number: float) -> float:
        return 100 * (number - first) / (last - first)

    def up(value: float) -> float:
        return 100 * (value - bottom) / (top - bottom)

    path = f"M{right(numbers[0]):.2f} {100 - up(values[0]):.2f}"
    for number, value in hypervolume_by_trial[1:]:
        path += f"H{right(number):.2f}V{100 - up(value):.2f}"
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) + 1
    return {
        "path": f"{path}H100",
        "y_ticks": [(up(tick), f"{tick:.{digits}f}".rstrip("0").rstrip(".")) for tick in ticks],
        "x_ticks": [
            (right(tick), f"{tick:.0f}")
            for tick in locator.tick_values(first, last)
            if tick == int(tick) and first <= tick <= last
        ],
        "label": f"hypervolume {values[0]:.5g} after trial {numbers[0]}, {values[-1]:.5g} after "
        f"trial {numbers[-1]}",
    }
