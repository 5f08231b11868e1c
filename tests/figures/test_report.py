from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from qwave.figures import report_html

from .samples import make_point, make_points

HOSTILE = "</script><script>alert('x')</script><img src=\"https://evil.example/\">&amp;"


def make_report(**changes: Any) -> str:
    """The report without Plotly's own source, which is a constant."""
    arguments: dict[str, Any] = {
        "title": "ESC-10",
        "summary": {"Folds": "5"},
        "points": make_points(),
        "hypervolume_by_trial": [(0, 0.1), (1, 0.15), (2, 0.15)],
        "importances": {"accuracy": {"quant.bits": 0.7}, "size": {"quant.bits": 1.0}},
        "reference_accuracy": 0.9,
        "size_budget_bytes": 1_000_000,
        "commands": {"Run it again": "qwave sweep sweeps/esc10.yaml && echo 'done'"},
    }
    html = report_html(**{**arguments, **changes})
    assert html.count(get_plotlyjs()) == 1
    return html.replace(get_plotlyjs(), "")


class Tags(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.references: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
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
        importances={HOSTILE: {HOSTILE: 0.5}},
        commands={HOSTILE: HOSTILE},
    )
    plain = make_report(
        title="a",
        summary={"a": "a"},
        points=[make_point(0, configuration={"a": 1}), make_point(1, is_front=False)],
        importances={"a": {"a": 0.5}},
        commands={"a": "a"},
    )
    assert Tags(hostile).names == Tags(plain).names
    assert Tags(hostile).references == []
    assert hostile.lower().count("</script>") == plain.lower().count("</script>")
    assert "<script>alert" not in hostile
    # Plotly shows `<` in a text as markup too, so it has to arrive there as an entity.
    assert "\\u003cscript\\u003ealert" not in hostile


def test_command_is_shown_exactly() -> None:
    html = make_report()
    assert "qwave sweep sweeps/esc10.yaml &amp;&amp; echo &#x27;done&#x27;</code>" in html


@pytest.mark.parametrize("importances", [{}, {"accuracy": {}}])
def test_too_few_trials_are_said_in_words(importances: dict[str, dict[str, float]]) -> None:
    html = make_report(importances=importances)
    assert "Too few complete trials to estimate importances." in html
    assert "qwave-importances" not in html


def test_report_of_an_empty_study() -> None:
    html = make_report(points=[], summary={}, hypervolume_by_trial=[], importances={}, commands={})
    assert html.count("No trial is complete yet.") == 2
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
