"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_OPEN_PIPE = re.compile(r"(?<!\\)\|")


def percent(share: float) -> str:
    """A share of 1 in hundredths, with two decimals."""
    return f"{100 * share:.2f} %"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what would end a cell or a row is written so that it does not.

    Args:
        head: Markdown of the heading's cells.
        rows: Markdown of the cells; text of other people goes through `qwave.text.for_markdown`.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code_block(lines: Sequence[str]) -> str:
    """Lines as they are, between fences that no line of them ends."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def _cell(text: str) -> str:
    return " ".join(_OPEN_PIPE.sub(r"\|", text).split())
