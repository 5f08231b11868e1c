"""The frame of a report: one HTML page that needs nothing but itself.

No web font and no library beside Plotly: the page has to open, look and sort the same from an
attachment, years later, without a network. A policy in its head forbids every address, so that no
part of it, present or future, can send what it shows anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""Inline script and style only; images from the page itself, for saving a chart as a picture."""


def page_html(title: str, sections: Sequence[str], *, library: str = "") -> str:
    """The page, complete from doctype to ``</html>``.

    Args:
        title: Of the page and of its first heading.
        sections: HTML, one below the other.
        library: JavaScript that the sections need.
    """
    body = "\n".join([f"<h1>{escape(title)}</h1>", *sections])
    script = f"<script>{library}</script>\n" if library else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
{script}</head>
<body>
<main>
{body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def facts_html(facts: Mapping[str, str]) -> str:
    """Facts by name, in the order given, as a row of boxes."""
    boxes = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>"
        for name, fact in facts.items()
    )
    return f'<dl class="facts">\n{boxes}\n</dl>' if boxes else ""


def commands_html(commands: Mapping[str, str]) -> str:
    """What shell commands do, and the commands, with a button that copies each."""
    if not commands:
        return '<p class="muted">None were recorded.</p>'
    return "\n".join(
        f'<div class="command"><p>{escape(purpose)}</p><div><pre><code>{escape(command)}</code>'
        '</pre><button type="button">Copy</button></div></div>'
        for purpose, command in commands.items()
    )


STYLE = """
:root { --ink: #1f2428; --muted: #6b7379; --line: #dfe3e6; --soft: #f6f7f8; --accent: #0072b2;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system,
  'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1120px; margin: 0 auto; padding: 48px 28px 40px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 20px; }
h2 { font-size: 20px; line-height: 1.3; margin: 52px 0 6px; }
p { max-width: 74ch; margin: 6px 0 14px; }
.muted, footer { color: var(--muted); }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr));
  gap: 1px; margin: 0; border: 1px solid var(--line);
  border-radius: 8px; overflow: hidden; }
dl.facts div { padding: 12px 16px; box-shadow: 0 0 0 1px var(--line); }
dl.facts dt { color: var(--muted); font-size: 13px; }
dl.facts dd { margin: 2px 0 0; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 9px 10px;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover { background: var(--soft); }
th { background: var(--soft); white-space: nowrap; padding: 0; }
th button { all: unset; box-sizing: border-box; width: 100%; padding: 9px 10px; font-weight: 600;
  cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
th button::after { content: '\\2195'; color: #b4bcc2; padding-left: 6px; font-weight: 400; }
th[aria-sort='ascending'] button::after { content: '\\2191'; color: var(--accent); }
th[aria-sort='descending'] button::after { content: '\\2193'; color: var(--accent); }
.number, th.number button { text-align: right; white-space: nowrap; }
img { max-width: 100%; height: auto; }
code, pre { font-family: var(--mono); font-size: 12.5px; }
td.model { min-width: 130px; }
td.id code { display: block; width: 16ch; overflow-wrap: anywhere; }
td.configuration { min-width: 240px; }
td.configuration code, .shared code { white-space: normal; overflow-wrap: anywhere;
  display: inline-block; margin-right: 12px; }
.command { margin: 14px 0; }
.command p { margin: 0 0 4px; }
.command div { position: relative; }
pre { margin: 0; padding: 12px 84px 12px 14px; background: var(--soft); border-radius: 8px;
  border: 1px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; }
.command button { position: absolute; top: 6px; right: 6px; font: inherit; font-size: 13px;
  padding: 3px 12px; border: 1px solid var(--line); border-radius: 6px; background: #fff;
  color: var(--ink); cursor: pointer; }
.command button:hover { border-color: var(--accent); color: var(--accent); }
footer { margin-top: 56px; padding-top: 18px; border-top: 1px solid var(--line); font-size: 14px; }
@media print {
  main { max-width: none; padding: 0; }
  body { font-size: 11pt; }
  h2 { break-after: avoid; margin-top: 24px; }
  tr, .command, dl.facts div, .plotly-graph-div { break-inside: avoid; }
  .command button, .modebar-container, th button::after { display: none !important; }
  .scroll { overflow: visible; }
  table, code { font-size: 8pt; }
  pre { padding-right: 14px; }
}
"""

SCRIPT = """
'use strict';
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const header = button.parentElement;
    const table = header.closest('table');
    const column = header.cellIndex;
    const isAscending = header.getAttribute('aria-sort') !== 'ascending';
    const isNumber = header.classList.contains('number');
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) =>
      isNumber ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b), 'en');
    const rows = [...table.tBodies[0].rows].sort(compare);
    if (!isAscending) rows.reverse();
    table.tBodies[0].append(...rows);
    for (const other of table.querySelectorAll('th')) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', isAscending ? 'ascending' : 'descending');
  });
}
for (const button of document.querySelectorAll('.command button')) {
  button.addEventListener('click', async () => {
    const code = button.parentElement.querySelector('code');
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    } catch {
      // Pages opened from a disk may not write the clipboard: select the text for the reader.
      getSelection().selectAllChildren(code);
    }
  });
}
"""
