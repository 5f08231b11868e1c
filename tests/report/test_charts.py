"""The interactive chart's JSON, the labels of its points, and the drawing of a search's course."""

from __future__ import annotations

import json
import re
from typing import Any

import plotly.graph_objects as go
import pytest

from qwave.report.charts import front_chart, history_steps, hover_lines
from qwave.report.templates import asset

from .samples import make_point, make_points


def make_chart(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "points": make_points(),
        "reference_accuracy": 0.9,
        "size_budget_bytes": 10**7,
    }
    arguments |= changes
    return front_chart(arguments.pop("points"), **arguments)


def with_colours(value: Any) -> Any:
    """A chart whose names of colours are colours."""
    if isinstance(value, dict):
        return {key: with_colours(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_colours(item) for item in value]
    return "#123456" if isinstance(value, str) and value.startswith("@") else value


@pytest.mark.parametrize("n_points", [0, 1, 2, 12])
def test_plotly_knows_every_key_and_value(n_points: int) -> None:
    chart = with_colours(make_chart(points=make_points(n_points)))
    figure = go.Figure(data=chart["data"], layout=chart["layout"])
    # The changes for a narrow screen have to be keys of a layout as well.
    figure.update_layout(
        {path.replace(".", "_"): value for path, value in chart["narrow"].items()}
    )
    assert json.loads(json.dumps(chart)) == chart


def test_every_colour_is_a_name_of_the_style() -> None:
    text = json.dumps(make_chart())
    names = set(re.findall(r'"@([a-z]+)"', text))
    assert names
    assert "#" not in text
    styles = asset("page.css").split("@media screen and (prefers-color-scheme: dark)")
    for name in names:
        assert f"--{name}: #" in styles[0], name
        assert f"--{name}: #" in styles[1], f"{name} in the dark"


def test_marks_know_their_points() -> None:
    points = make_points()
    seen = []
    for trace in make_chart()["data"]:
        for index, x, y in zip(trace.get("customdata", []), trace["x"], trace["y"], strict=False):
            assert (x, y) == (points[index].size_bytes, 100 * points[index].accuracy)
            seen.append(index)
    assert sorted(seen) == list(range(len(points)))


def test_the_last_trace_waits_for_the_chosen_point() -> None:
    chart = make_chart()
    assert chart["data"][chart["chosen"]]["x"] == []
    assert chart["data"][chart["chosen"]]["hoverinfo"] == "skip"


@pytest.mark.parametrize(
    "label", ["", "int1", "int1, linear " * 4, "x" * 500, "int1+" * 40, "a b " * 300]
)
def test_labels_have_six_to_eight_lines_that_fit_a_telephone(label: str) -> None:
    for is_front in (True, False):
        for experts in (1, 2):
            point = make_point(3, label=label, is_front=is_front, num_experts=experts)
            lines = hover_lines(point, [point, *make_points()])
            # Plotly drops a label that is higher than its chart: 8 lines are 130 of 400 pixels.
            assert 6 <= len(lines) <= 8, lines
            assert max(map(len, lines)) <= 36, lines
            assert all(lines), lines


def test_a_label_says_what_how_good_how_large_and_where_from() -> None:
    point = make_point(
        3, accuracy=0.95, size_bytes=2051, num_experts=4, configuration={"model.top_k": 2}
    )
    assert hover_lines(point, [point]) == [
        "int4, 24",
        "accuracy 95.0 %",
        "95 % interval 93.0 to 97.0 %",
        "size 2.05 kB (2,051 bytes)",
        "4 experts, top-2",
        "trial 3, on the front",
        "click: configuration, run, export",
    ]


def test_a_label_names_the_trial_that_is_better() -> None:
    points = make_points()
    beaten = points[5]
    assert not beaten.is_front
    assert "trial 5, behind trial 4" in hover_lines(beaten, points)


@pytest.mark.parametrize("n_points", [1, 12])
def test_ticks_are_few_and_differ(n_points: int) -> None:
    chart = make_chart(points=make_points(n_points))
    for ticks, most in (
        (chart["layout"]["xaxis"]["ticktext"], 12),
        (chart["narrow"]["xaxis.ticktext"], 5),
    ):
        assert 1 < len(ticks) <= most
        assert len(set(ticks)) == len(ticks)


def test_a_reference_far_below_is_not_drawn() -> None:
    assert len(make_chart()["layout"]["shapes"]) == 2
    assert len(make_chart(reference_accuracy=0.1)["layout"]["shapes"]) == 1


@pytest.mark.parametrize(
    "course",
    [
        [(0, 0.5)],
        [(4, 0.0), (5, 0.0)],
        [(0, 2.756), (1, 2.78), (7, 2.85)],
        [(number, 1 - 1 / (1 + number)) for number in range(2000)],
    ],
)
def test_a_course_is_drawn_within_its_frame(course: list[tuple[int, float]]) -> None:
    steps = history_steps(course)
    assert steps is not None
    assert f"{course[-1][1]:.5g} after trial {course[-1][0]}" in steps["label"]
    path = steps["path"]
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    assert all(-0.01 <= number <= 100.01 for number in numbers), path
    heights = [float(number) for number in re.findall(r"V([\d.]+)", path)]
    # What grows rises: on the page, downwards is more.
    assert heights == sorted(heights, reverse=True)
    assert path.count("V") == len(course) - 1
    for ticks in (steps["y_ticks"], steps["x_ticks"]):
        texts = [text for _, text in ticks]
        assert len(set(texts)) == len(texts) <= 7, ticks
        assert all(-0.01 <= share <= 100.01 for share, _ in ticks), ticks
    assert len(steps["y_ticks"]) >= 2


def test_no_course_is_no_drawing() -> None:
    assert history_steps([]) is None
