"""The report of a study that compares known configurations: tables and pictures, no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwave.report.page import commands_html, facts_html, page_html
from qwave.report.table import Table
from qwave.text import for_html


@dataclass(frozen=True)
class Section:
    """A part of a study's report.

    Attributes:
        name: Name of the section's files, without a suffix.
        heading: What it is about.
        text: What was found and how to read it; paragraphs are divided by empty lines.
        table: Or None.
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
    """The page, complete; equal input gives equal text.

    Args:
        title: Heading of the page.
        summary: Facts by name, in the order to be shown.
        sections: One below the other.
        commands: What a shell command does, and the command.
    """
    parts = [facts_html(summary)]
    for section in sections:
        parts.append(f"<h2>{for_html(section.heading)}</h2>")
        parts += [f"<p>{for_html(text)}</p>" for text in section.text.split("\n\n") if text]
        if section.picture is not None:
            content = base64.b64encode(section.picture).decode()
            name = for_html(section.heading)
            parts.append(f'<p><img alt="{name}" src="data:image/png;base64,{content}"></p>')
        if section.table is not None:
            parts.append(section.table.html())
    parts += ["<h2>Commands</h2>", commands_html(commands)]
    return page_html(title, parts)
