"""The page of a study that compares known configurations: tables and pictures, no chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwave.report.table import Table
from qwave.report.templates import render


@dataclass(frozen=True)
class Section:
    """A part of a study's report.

    Attributes:
        name: Name of the section's files, without a suffix.
        heading: Subject of the section, in a few words.
        text: Findings and how to read them; paragraphs are divided by empty lines.
        table: The numbers, or None.
        picture: A PNG, or None.
    """

    name: str
    heading: str
    text: str
    table: Table | None = None
    picture: bytes | None = None


def study_html(
    *,
    title: str,
    summary: Mapping[str, str],
    sections: Sequence[Section],
    commands: Mapping[str, str],
) -> str:
    """The page of a study that compares known configurations; equal input gives equal text.

    Args:
        title: Heading of the page.
        summary: Facts by name, in the order to be shown.
        sections: The parts, one below the other.
        commands: Shell commands, by what each does.
    """
    return render(
        "study.html.j2", title=title, summary=summary, sections=sections, by_purpose=commands
    )
