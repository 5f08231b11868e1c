"""The report of a study: complete, in order, escaped, and without an address."""

from __future__ import annotations

import base64
import re
from html import escape
from html.parser import HTMLParser
from typing import Any

import pytest

from qwave.report import Column, Section, Table, study_html
from qwave.scores import Interval

HOSTILE = "</script><script>alert('x')</script><img src=\"https://evil.example/\">&amp;"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TABLE = Table(
    (Column("model"), Column("accuracy", "share")),
    (("int1", Interval(0.5, 0.4, 0.6)), ("int8", 0.75)),
)
SECTIONS = (
    Section("first", "What was asked", "One.\n\nTwo < three & four.", TABLE, PNG),
    Section("second", "What came out", "Three."),
    Section("third", "A table alone", "", TABLE),
    Section("fourth", "A picture alone", "", None, PNG),
)


def make_page(**changes: Any) -> str:
    values: dict[str, Any] = {
        "title": "The front, confirmed",
        "summary": {"study": "moe", "points": "12"},
        "sections": SECTIONS,
        "commands": {"browse": "mlflow ui --port 1 && echo 'x'"},
    }
    return study_html(**{**values, **changes})


class Tags(HTMLParser):
    """What a browser would load, and the texts by tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.references: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        self.texts.append((tag, ""))

    def handle_data(self, data: str) -> None:
        if self.texts and data.strip():
            tag, text = self.texts[-1]
            self.texts[-1] = (tag, text + data)

    def of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def test_a_page_is_complete_and_its_parts_stand_in_order() -> None:
    html = make_page()
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    tags = Tags(html)
    assert tags.of("title") == tags.of("h1") == ["The front, confirmed"]
    assert tags.of("h2") == [*(section.heading for section in SECTIONS), "Commands"]
    assert tags.of("dt") == ["study", "points"]
    assert tags.of("dd") == ["moe", "12"]
    paragraphs = [text for text in tags.of("p") if text]
    assert paragraphs[:3] == ["One.", "Two < three & four.", "Three."]
    assert tags.of("code") == ["mlflow ui --port 1 && echo 'x'"]
    places = [html.index(part) for part in ("<dl", "<h2>What was", "One.", "<img", "<table>")]
    assert places == sorted(places)
    assert html.count(TABLE.html()) == 2


def test_pictures_are_in_the_page_itself() -> None:
    tags = Tags(make_page())
    prefix = "data:image/png;base64,"
    assert len(tags.references) == 2
    for reference in tags.references:
        assert base64.b64decode(reference.removeprefix(prefix)) == PNG
    assert make_page().count('<img alt="A picture alone"') == 1


def test_a_page_refers_to_nothing_outside() -> None:
    html = make_page()
    assert not {"link", "iframe", "object", "form"} & set(Tags(html).names)
    assert not re.findall(r"https?://|//[a-z]+\.|url\(|@import", html)
    assert "default-src 'none'" in html


def test_equal_input_gives_equal_pages() -> None:
    assert make_page() == make_page()
    assert make_page(title="other") != make_page()


@pytest.mark.parametrize(
    "change",
    [
        {"summary": {"study": "other"}},
        {"commands": {}},
        {"sections": SECTIONS[::-1]},
        {"sections": ()},
    ],
)
def test_changed_input_changes_the_page(change: dict[str, Any]) -> None:
    assert make_page(**change) != make_page()


def test_data_cannot_become_markup() -> None:
    def page(text: str) -> str:
        table = Table((Column(text),), ((text,),))
        return make_page(
            title=text,
            summary={text: text},
            sections=[Section(text, text, text, table, PNG)],
            commands={text: text},
        )

    hostile, plain = Tags(page(HOSTILE)), Tags(page("a"))
    assert hostile.names == plain.names
    assert hostile.references == plain.references
    assert "<script>alert" not in page(HOSTILE)
    assert page(HOSTILE).lower().count("</script>") == page("a").lower().count("</script>")
    # Title twice, a fact and its name, a heading and its picture, a text, a column, a cell, its
    # key and its label, a command and its purpose.
    assert page(HOSTILE).count(escape(HOSTILE)) == 13


def test_an_empty_study_is_a_page_too() -> None:
    html = make_page(summary={}, sections=(), commands={})
    assert "None were recorded." in html
    assert Tags(html).of("h2") == ["Commands"]
    assert "<dl" not in html
