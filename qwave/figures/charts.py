"""The interactive charts of the report, as Plotly figures.

Plotly reads a small part of HTML in every text it shows, so all data are escaped on their way in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from qwave.figures.colours import BLUE, GRID, INK, MUTED, ORANGE, SKY_BLUE, SOFT, VERMILION, tint
from qwave.figures.points import (
    FrontPoint,
    accuracy_limits,
    attainment_staircase,
    front_members,
    size_text,
)

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_SYMBOLS = {False: "circle", True: "diamond"}
_BAR_COLOURS = (BLUE, ORANGE, SKY_BLUE, VERMILION)
_BAR_PATTERNS = ("", "/", ".", "x")


def front_chart(
    points: Sequence[FrontPoint], *, reference_accuracy: float, size_budget_bytes: int
) -> go.Figure:
    """Accuracy against file size: all trials, the front with error bars, its staircase.

    Args:
        points: Complete trials; may be empty.
        reference_accuracy: Horizontal line, 0..1.
        size_budget_bytes: Vertical line.
    """
    lower, upper = accuracy_limits(points, reference_accuracy)
    sizes = [point.size_bytes for point in points] + [size_budget_bytes]
    left, right = math.log10(min(sizes)), math.log10(max(sizes))
    margin = max(0.06 * (right - left), 0.12)
    figure = go.Figure(layout=_layout(height=540))
    rest = [point for point in points if not point.is_front]
    if rest:
        figure.add_trace(_scatter(rest, "other complete trials", SOFT, 7, is_front=False))
    steps, accuracies = attainment_staircase(points)
    if steps:
        figure.add_trace(
            go.Scatter(
                x=[*steps, 10 ** (right + margin)],
                y=[100 * share for share in [*accuracies, accuracies[-1]]],
                mode="lines",
                line={"shape": "hv", "color": BLUE, "width": 2},
                name="best accuracy up to a size",
                hoverinfo="skip",
            )
        )
    for is_mixture, name in ((False, "front, one expert"), (True, "front, mixture of experts")):
        members = [p for p in front_members(points) if p.is_mixture == is_mixture]
        if members:
            colour = VERMILION if is_mixture else BLUE
            figure.add_trace(_scatter(members, name, colour, 12, is_front=True))
    figure.update_xaxes(
        type="log",
        title_text="file size (log scale; 1 kB = 1000 bytes)",
        range=[left - margin, right + margin],
        tickmode="array",
        **_size_ticks(left - margin, right + margin),
    )
    figure.update_yaxes(title_text="accuracy (%)", range=[100 * lower, 100 * upper])
    rule = {"color": MUTED, "width": 1.2}
    figure.add_vline(x=size_budget_bytes, line={**rule, "dash": "dash"})
    # Apart from the line: a text on a log axis is placed by the logarithm, a line by the value.
    figure.add_annotation(
        x=math.log10(size_budget_bytes),
        y=1.0,
        yref="paper",
        text=f"size budget {size_text(size_budget_bytes)}",
        font_size=12,
        showarrow=False,
        xanchor="right",
        yanchor="top",
    )
    figure.add_hline(
        y=100 * reference_accuracy,
        line={**rule, "dash": "dot"},
        annotation={"text": f"reference {100 * reference_accuracy:.1f} %", "font_size": 12},
        annotation_position="top left",
    )
    return figure


def _scatter(
    points: Sequence[FrontPoint], name: str, colour: str, size: int, *, is_front: bool
) -> go.Scatter:
    return go.Scatter(
        x=[point.size_bytes for point in points],
        y=[100 * point.accuracy for point in points],
        error_y={
            "type": "data",
            "array": [100 * point.standard_error for point in points],
            "visible": is_front,
            "color": tint(colour, 0.7),
            "thickness": 1.4,
            "width": 4,
        },
        mode="markers",
        marker={
            "symbol": [_SYMBOLS[point.is_mixture] for point in points],
            "color": colour,
            "size": size,
            "line": {"color": "white", "width": 1},
        },
        name=name,
        hovertext=[_hover_text(point) for point in points],
        hoverinfo="text",
    )


def _hover_text(point: FrontPoint) -> str:
    lines = [
        f"<b>{escape(point.label)}</b>",
        f"{100 * point.accuracy:.2f} ± {100 * point.standard_error:.2f} %, "
        f"{point.size_bytes:,} bytes",
        f"trial {point.number}",
        f"digest {escape(point.digest)}",
        f"MLflow run {escape(point.mlflow_run_id)}",
        "",
        *(f"{escape(key)}: {escape(str(value))}" for key, value in point.configuration.items()),
    ]
    return "<br>".join(lines)


def _size_ticks(left: float, right: float) -> dict[str, list[object]]:
    steps = (1, 2, 5) if right - left < 2.5 else (1,)
    decades = range(math.floor(left), math.ceil(right) + 1)
    values = [step * 10.0**decade for decade in decades for step in steps]
    return {"tickvals": [*values], "ticktext": [size_text(value) for value in values]}


def hypervolume_chart(hypervolume_by_trial: Sequence[tuple[int, float]]) -> go.Figure:
    """The dominated hypervolume after each trial.

    Args:
        hypervolume_by_trial: Trial number and hypervolume, in trial order.
    """
    figure = go.Figure(layout=_layout(height=320))
    figure.add_trace(
        go.Scatter(
            x=[number for number, _ in hypervolume_by_trial],
            y=[value for _, value in hypervolume_by_trial],
            mode="lines+markers",
            line={"shape": "hv", "color": BLUE, "width": 2},
            marker={"size": 4, "color": BLUE},
            hovertemplate="after trial %{x}: %{y:.5g}<extra></extra>",
        )
    )
    figure.update_layout(showlegend=False, margin_t=20)
    figure.update_xaxes(title_text="trial", rangemode="nonnegative")
    figure.update_yaxes(title_text="hypervolume")
    return figure


def importance_chart(importances: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Importance of each parameter for each objective, as grouped bars.

    Args:
        importances: Objective, then parameter, then importance 0..1; at least one of each. The
            parameter most important for any objective stands at the top.
    """
    highest: dict[str, float] = {}
    for by_parameter in importances.values():
        for parameter, value in by_parameter.items():
            highest[parameter] = max(value, highest.get(parameter, 0.0))
    parameters = sorted(highest, key=lambda parameter: (-highest[parameter], parameter))
    figure = go.Figure(layout=_layout(height=130 + (14 + 16 * len(importances)) * len(parameters)))
    for index, (objective, by_parameter) in enumerate(importances.items()):
        figure.add_trace(
            go.Bar(
                orientation="h",
                y=[escape(parameter) for parameter in parameters],
                x=[by_parameter.get(parameter) for parameter in parameters],
                name=escape(objective),
                marker={
                    "color": _BAR_COLOURS[index % len(_BAR_COLOURS)],
                    "pattern": {
                        "shape": _BAR_PATTERNS[index % len(_BAR_PATTERNS)],
                        "fillmode": "overlay",
                        "fgcolor": "white",
                        "size": 6,
                    },
                },
                hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            )
        )
    figure.update_layout(barmode="group", bargap=0.28, bargroupgap=0.06)
    figure.update_layout(legend_traceorder="normal")
    figure.update_xaxes(title_text="importance (0 to 1)", rangemode="tozero")
    # Plotly stacks rows and bars from the bottom; reversed, the first stands at the top.
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, ticklabelstandoff=6)
    return figure


def chart_html(figure: go.Figure, div_id: str) -> str:
    """A chart as a ``<div>`` and a script that needs Plotly on the page, and no network.

    Args:
        figure: The chart.
        div_id: Id of the element, given so that equal charts give equal text.
    """
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        div_id=div_id,
        default_width="100%",
        config={
            "displaylogo": False,
            "responsive": True,
            # A full list, for by default there is a button that uploads the chart.
            "modeBarButtons": [
                ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"],
                ["toImage"],
            ],
        },
    )
    return html


def _layout(height: int) -> go.Layout:
    axis = {
        "gridcolor": GRID,
        "linecolor": SOFT,
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": SOFT,
        "title": {"standoff": 12},
    }
    return go.Layout(
        # No template: Plotly's own adds 7 kB to each chart and colours that are not ours.
        template="none",
        height=height,
        margin={"l": 70, "r": 20, "t": 50, "b": 60},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "bordercolor": SOFT, "align": "left"},
        hoverlabel_font={"family": FONT, "size": 12, "color": INK},
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        xaxis=axis,
        yaxis=axis,
    )
