"""Names that are Markdown, HTML or orders to a terminal are shown in a card, and do nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest

from qwave.exporting.card import model_card
from qwave.exporting.facts import Facts
from qwave.runtime import PackedClassifier
from qwave.text import for_markdown
from qwave.text import markdown_code_block as code_block
from qwave.text import markdown_table as table

from .examples import rows_of, section_of

pytestmark = pytest.mark.slow  # whole exports

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b\n\n# heading\x1b[2J",
    "[click](javascript:x) ![](http://evil.example/x.png) `code` **bold** \u202ereversed",
)


@pytest.fixture
def card(facts_of: Callable[..., Facts]) -> str:
    """Of a model whose classes, data and path have such names."""
    facts = facts_of("linear")
    packed = facts.model.packed
    header = dataclasses.replace(packed.header, class_names=HOSTILE)
    model = PackedClassifier(dataclasses.replace(packed, header=header))
    full = dataclasses.replace(facts.data.full, class_names=HOSTILE)
    searched = dataclasses.replace(facts.data.searched, class_names=HOSTILE)
    data = facts.data._replace(full=full, searched=searched)
    path = "my `set`|1\n```\n<img src=x onerror=alert(1)>\n.npz"
    config = dataclasses.replace(
        facts.config, data=dataclasses.replace(facts.config.data, path=path)
    )
    return model_card(dataclasses.replace(facts, model=model, data=data, config=config))


def _unfenced(card: str) -> str:
    """A card without its blocks and spans of code."""
    card = re.sub(r"^(`{3,})[^`\n]*\n.*?^\1$", "", card, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", card)


def test_no_name_becomes_html_a_link_a_heading_or_an_order(card: str) -> None:
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert len(headings) == 11
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", card)
    text = _unfenced(card)
    assert "<" not in text
    assert not re.search(r"(?<!\\)(\]\(|`)", text.replace("\\]\\(", ""))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\\x1b\\[2J" in text
    assert "\\*\\*bold\\*\\*" in text


def test_every_row_of_a_table_has_its_cells_and_shows_the_name(card: str) -> None:
    section = section_of(card, "Evaluation")
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    by_class = lines[-len(HOSTILE) :]
    for name, line in zip(HOSTILE, by_class, strict=True):
        assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
        assert line.startswith(f"| {for_markdown(name)} | 20 | "), line
    assert len(rows_of(card, "Provenance")["data digest"]) == 1


def test_a_path_stays_within_its_code(card: str) -> None:
    rows = rows_of(card, "Training data")
    assert rows["data"][0].startswith(
        "````my `set`|1\\n```\\n<img src=x onerror=alert(1)>\\n.npz````, digest `"
    )
    settings = section_of(card, "Provenance").split("\n````\n")[1]
    assert "data.path=my `set`|1\\n```\\n<img src=x onerror=alert(1)>\\n.npz" in settings
    assert "\n```\n" not in settings


def test_a_cell_may_hold_markdown_that_was_made_for_it() -> None:
    made = table(("a|b", "c"), [(for_markdown("x|y\\"), "`p|q`")])
    assert made.splitlines() == ["| a\\|b | c |", "| --- | --- |", "| x\\|y\\\\ | `p\\|q` |"]
    assert code_block(["a"]) == "```\na\n```"
    assert code_block(["a", "````"]) == "`````\na\n````\n`````"
