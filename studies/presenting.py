"""How studies print their results."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from qwave.report import Section, terminal_width
from qwave.text import for_terminal

# Longer tables would push the answer out of the window.
MAX_ROWS = 30


def show_study(sections: Sequence[Section], files: Iterable[Path]) -> None:
    """Print the text and tables of a study, and the paths of its files.

    Tables of more than `MAX_ROWS` rows are not printed; their file is named.
    """
    for section in sections:
        text = "\n".join(map(for_terminal, section.text.split("\n")))
        print(f"\n{for_terminal(section.heading)}\n{text}")
        if section.table is not None and len(section.table.rows) > MAX_ROWS:
            print(f"\n({len(section.table.rows)} rows in {section.name}.csv)")
        elif section.table is not None:
            print(f"\n{section.table.text(terminal_width(sys.stdout))}")
    print()
    for file in files:
        print(f"  {for_terminal(file)}")


def metric_name(name: str) -> str:
    """A name without the characters that MLflow refuses in names of metrics."""
    return "".join(c if c.isalnum() or c in "_-. /" else " " for c in name)
