from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from qwave.report import Column, Records, Table, front_png, report_html
from qwave.scores import Interval

from .samples import make_point, make_points

HOSTILE = "</script><script>alert('x')</script><img src=\"https://evil.example/\">&amp;"


def make_report(**changes: Any) -> str:
    """The report without Plotly's own source, which is a constant."""
    arguments: dict[str, Any] = {
        "title": "ESC-10",
        "summary": {"Folds": "5"},
        "points": make_points(),
        "hypervolume_by_trial": [(0, 0.1), (1, 0.15), (2, 0.15)],
        "importances": {"accuracy": {"quant.bits": Interval(0.7, 0.5, 0.9)}},
        "reference_accuracy": 0.9,
        "size_budget_bytes": 1_000_000,
        "commands": {"Run it again": "qwave sweep sweeps/esc10.yaml && echo 'done'"},
    }
    arguments |= changes
    html = report_html(**arguments)
    # Nothing draws in the page of an empty study.
    assert html.count(get_plotlyjs()) == (1 if arguments["points"] else 0)
    return html.replace(get_plotlyjs(), "")


SURE, UNSURE = Interval(0.5, 0.2, 0.8), Interval(0.1, -0.1, 0.3)


class Tags(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.references: list[str] = []
        self.scripts: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        if tag == "script":
            self.scripts.append(dict(attrs).get("type"))
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]


def test_report_refers_to_nothing_outside() -> None:
    html = make_report()
    tags = Tags(html)
    assert tags.references == []
    assert not {"link", "img", "iframe", "object"} & set(tags.names)
    assert "@import" not in html
    assert not re.findall(r"url\(", html)
    assert "default-src 'none'" in html


def test_plotly_source_cannot_load_by_tag() -> None:
    assert not re.findall(r"src=\"?http|link href", get_plotlyjs())


def test_report_is_deterministic() -> None:
    assert make_report() == make_report()


def test_report_names_every_trial() -> None:
    points = make_points()
    html = make_report(points=points)
    table = html[html.index("<table>") : html.index("</table>")]
    for point in points:
        assert point.digest in html
        assert point.mlflow_run_id in html
        assert (point.digest in table) == point.is_front
        assert (point.mlflow_run_id in table) == point.is_front


def test_shared_settings_stand_once_below_the_table() -> None:
    html = make_report()
    table = html[html.index("<table>") : html.index("</table>")]
    assert "quant.bits=1</code>" in table
    assert "train.epochs" not in table
    assert "The same in every row: <code>train.epochs=100</code>" in html


def test_single_member_shows_all_its_settings() -> None:
    html = make_report(points=[make_point(0)])
    assert "train.epochs=100</code></td>" in html
    assert "The same in every row" not in html


def test_data_cannot_become_markup() -> None:
    point = make_point(
        0, label=HOSTILE, digest=HOSTILE, mlflow_run_id=HOSTILE, configuration={HOSTILE: HOSTILE}
    )
    other = make_point(1, is_front=False, label=HOSTILE, configuration={HOSTILE: [HOSTILE]})
    hostile = make_report(
        title=HOSTILE,
        summary={HOSTILE: HOSTILE},
        points=[point, other],
        importances={HOSTILE: {HOSTILE: SURE}, HOSTILE + "2": {HOSTILE: UNSURE}},
        commands={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        choices={HOSTILE: Table((Column(HOSTILE),), ((HOSTILE,),))},
        records=Records(HOSTILE, HOSTILE, {0: HOSTILE, 1: HOSTILE}),
        why_no_importances=HOSTILE,
    )
    plain = make_report(
        title="a",
        summary={"a": "a"},
        points=[make_point(0, configuration={"a": 1}), make_point(1, is_front=False)],
        importances={"a": {"a": SURE}, "b": {"a": UNSURE}},
        commands={"a": "a"},
        notes=["a"],
        choices={"a": Table((Column("a"),), (("a",),))},
        records=Records("a", "a", {0: "a", 1: "a"}),
        why_no_importances="a",
    )
    assert Tags(hostile).names == Tags(plain).names
    assert Tags(hostile).references == []
    assert hostile.lower().count("</script>") == plain.lower().count("</script>")
    assert "<script>alert" not in hostile
    # Plotly shows `<` in a text as markup too, so it has to arrive there as an entity.
    figure = read_json(hostile, "qwave-figure")
    texts = [text for trace in figure["data"] for text in trace.get("hovertext", [])]
    assert len(texts) == 2
    assert not [text for text in texts if "<script" in text or "<img" in text]


def test_command_is_shown_exactly() -> None:
    html = make_report()
    assert "qwave sweep sweeps/esc10.yaml &amp;&amp; echo &#x27;done&#x27;</code>" in html


@pytest.mark.parametrize("importances", [{}, {"accuracy": {}}])
def test_too_few_trials_are_said_in_words(importances: dict[str, dict[str, Interval]]) -> None:
    html = make_report(importances=importances)
    assert "Too few complete trials to estimate importances." in html
    assert 'id="qwave-importances"' not in html
    given = make_report(importances=importances, why_no_importances="3 < 20.")
    assert "3 &lt; 20." in given
    assert "Too few" not in given


def test_importances_of_which_none_is_sure_are_words_and_no_bars() -> None:
    html = make_report(importances={"roc_auc": {"a": UNSURE, "b": UNSURE}})
    assert "For the roc auc, none of the 2 searched parameters can be told from chance" in html
    assert 'class="bar"' not in html
    mixed = make_report(importances={"accuracy": {"zero": UNSURE, "much": SURE, "more": SURE}})
    assert mixed.count('class="bar"') == 3
    assert mixed.count('class="track unsure"') == 1
    # What is sure stands first, of those the largest and then by name.
    bars = mixed[mixed.index('class="bars"') :]
    places = [bars.index(f"<code>{name}</code>") for name in ("more", "much", "zero")]
    assert places == sorted(places)
    assert "50 % <span" in bars
    assert "(20 % to 80 %)" in bars
    assert "(0 % to 30 %)" in bars


def test_several_scores_have_bars_of_their_own() -> None:
    html = make_report(importances={"accuracy": {"a": SURE}, "roc_auc": {"b": SURE}})
    assert 'id="qwave-importances"' in html
    assert 'id="qwave-importances-1"' in html


def test_the_answer_comes_first_and_digests_come_last() -> None:
    html = make_report(notes=["Folds were made."], summary={"sweep": "digest-of-the-sweep"})
    body = html[html.index("<body>") :]
    order = [
        "<h1",
        'class="lead">90.6 % in 256 kB, 87.4 % in 16 kB, 85.0 % in 2 kB; beyond 256 kB',
        "Folds were made.",
        "Accuracy against file size",
        "The front",
        "What mattered",
        "Commands",
        "digest-of-the-sweep",
        'id="qwave-points"',
        'id="qwave-plotly"',
    ]
    places = [body.index(words) for words in order]
    assert places == sorted(places), list(zip(places, order, strict=True))
    assert body.index("digest0000") > body.index("The front")


def test_the_picture_is_in_the_page_and_plotly_is_text_at_its_end() -> None:
    picture = front_png(make_points(), reference_accuracy=0.9, size_budget_bytes=10**6, title="x")
    html = make_report(picture=picture)
    prefix = "data:image/png;base64,"
    (source,) = Tags(html).references
    assert base64.b64decode(source.removeprefix(prefix)) == picture
    assert html.index(source) < html.index('<script type="text/plain" id="qwave-plotly"></script>')
    # A browser runs one script by itself, and that one does not hold Plotly.
    assert Tags(html).scripts == ["application/json", "application/json", None, "text/plain"]


def read_json(html: str, element_id: str) -> Any:
    start = html.index(">", html.index(f'id="{element_id}"')) + 1
    return json.loads(html[start : html.index("</script>", start)])


def test_the_panel_knows_each_trial_its_run_and_its_export() -> None:
    points = make_points()
    commands = {p.number: f"qwave export {p.number} --store '/a b'" for p in points[:-1]}
    html = make_report(points=points, records=Records("3", "mlflow ui", commands))
    facts = read_json(html, "qwave-points")
    assert facts["ui"] == "mlflow ui"
    assert facts["shared"] == {"train.epochs": "100"}
    assert [points[index].size_bytes for index in facts["order"]] == sorted(
        point.size_bytes for point in points
    )
    for point, fact in zip(points, facts["points"], strict=True):
        assert fact["number"] == point.number
        assert fact["title"] == point.label
        assert fact["settings"] == {"quant.bits": str(point.number + 1)}
        assert fact["digest"] == point.digest
        assert fact["run"] == point.mlflow_run_id
        assert fact["address"] == (
            f"http://127.0.0.1:5000/#/experiments/3/runs/{point.mlflow_run_id}"
            "?workflowType=machine_learning"
        )
        assert fact["export"] == commands.get(point.number, "")
        assert len(fact["facts"]) == 5


def test_without_records_the_panel_has_neither_link_nor_command() -> None:
    facts = read_json(make_report(), "qwave-points")
    assert facts["ui"] == ""
    assert {(fact["address"], fact["export"]) for fact in facts["points"]} == {("", "")}


def test_rows_lead_to_their_points_in_whatever_order_these_come() -> None:
    points = make_points()[::-1]
    html = make_report(points=points)
    facts = read_json(html, "qwave-points")["points"]
    rows = re.findall(r'<tr data-point="(\d+)" tabindex="0"><td[^>]*data-value="([^"]*)"', html)
    assert len(rows) == sum(point.is_front for point in points)
    for index, label in rows:
        assert facts[int(index)]["title"] == label


def test_equal_points_each_have_a_row() -> None:
    twins = [make_point(0), make_point(1, accuracy=0.85, size_bytes=2000)]
    assert re.findall(r'<tr data-point="(\d+)"', make_report(points=twins)) == ["0", "1"]


def test_texts_that_look_like_colours_stay_texts() -> None:
    point = make_point(0, label="@ink")
    figure = read_json(make_report(points=[point]), "qwave-figure")
    assert figure["data"][-2]["hovertext"][0].startswith("<b>@ink</b>")


def test_report_of_an_empty_study() -> None:
    html = make_report(points=[], summary={}, hypervolume_by_trial=[], importances={}, commands={})
    assert html.count("No trial is complete yet.") == 3
    assert "The front is empty." in html
    assert "None were recorded." in html


def test_trials_below_the_axis_are_counted() -> None:
    far = make_point(20, accuracy=0.1, is_front=False, size_bytes=5000)
    assert "1 lie below the axis" in make_report(points=[*make_points(), far])
    assert "below the axis" not in make_report()


def test_impossible_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`reference_accuracy` must lie in 0..1, but got -0.1"):
        make_report(reference_accuracy=-0.1)
    with pytest.raises(ValueError, match=r"`size_budget_bytes` must be at least 1, but got -5"):
        make_report(size_budget_bytes=-5)
