"""The style sheet and the script of the report, as text to be put into its page.

No web font and no library beside Plotly: the page has to open, look and sort the same from an
attachment, years later, without a network.
"""

from __future__ import annotations

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
