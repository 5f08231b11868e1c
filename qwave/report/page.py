"""The frame of a report: one HTML page that needs nothing but itself.

No web font and no library beside Plotly: the page has to open, look and sort the same from an
attachment, years later, without a network. A policy in its head forbids every address, so that no
part of it, present or future, can send what it shows anywhere. Style and script are files in
``assets``; the style knows dark mode, narrow screens and print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

from qwave.text import for_html

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""Inline script and style only; images from the page itself, for saving a chart as a picture."""


def page_html(title: str, sections: Sequence[str], *, script: str = "", end: str = "") -> str:
    """The page, complete from doctype to ``</html>``.

    Args:
        title: Title of the page, and its first heading unless a section brings one (``<h1``).
        sections: HTML, one below the other.
        script: JavaScript that runs after that of all pages, when all sections are there.
        end: HTML at the very end, behind everything that is seen: what may load last.
    """
    parts = list(sections)
    if not any("<h1" in part for part in parts):
        parts.insert(0, f"<h1>{for_html(title)}</h1>")
    body = "\n".join(part for part in parts if part)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{for_html(title)}</title>
<style>{asset("page.css")}</style>
</head>
<body>
<main>
{body}
</main>
<script>{asset("page.js")}{script}</script>
{end}</body>
</html>
"""


def asset(name: str) -> str:
    """The text of a file in ``qwave/report/assets``."""
    return files("qwave.report").joinpath("assets", name).read_text(encoding="utf-8")


def facts_html(facts: Mapping[str, str]) -> str:
    """Facts by name, in the order given, as a row of boxes."""
    boxes = "\n".join(
        f"<div><dt>{for_html(name)}</dt><dd>{for_html(fact)}</dd></div>"
        for name, fact in facts.items()
    )
    return f'<dl class="facts">\n{boxes}\n</dl>' if boxes else ""


def notes_html(notes: Sequence[str]) -> str:
    """What a reader should know before the numbers, as a list; nothing without notes."""
    if not notes:
        return ""
    items = "\n".join(f"<li>{for_html(note)}</li>" for note in notes)
    heading = "<strong>Please note</strong>"
    return f'<div class="notes" role="note">{heading}\n<ul>\n{items}\n</ul></div>'


def commands_html(commands: Mapping[str, str]) -> str:
    """What shell commands do, and the commands, with a button that copies each."""
    if not commands:
        return '<p class="muted">None were recorded.</p>'
    return "\n".join(
        f'<div class="command"><p>{for_html(purpose)}</p>'
        f"<div><pre><code>{for_html(command)}</code>"
        '</pre><button type="button">Copy</button></div></div>'
        for purpose, command in commands.items()
    )
