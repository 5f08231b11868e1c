"""Escapes text of other people, such as names of files and classes, where it leaves qwave.

Inside, names are kept unchanged. They are escaped once, for a terminal, for a command to be
pasted, for Markdown, for HTML. Files for programs (CSV, JSON, ``.npz``) hold them unchanged,
because their formats quote, and must give back what was written. The last functions read paths as
a person types them on a command line.
"""

from __future__ import annotations

import html
import os
import re
import shlex
import unicodedata
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

# Marks of Markdown: "_" only without letters on both sides, so that class names stay readable in
# the source; ":" and "." only where an address would become a link. < > & are not among them: few
# renderers know them after a backslash.
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_TICKS = re.compile("`+")
_OPEN_PIPE = re.compile(r"(?<!\\)\|")


def for_terminal(text: object, *, keeps_lines: bool = False) -> str:
    """Text on one line that a terminal shows and does not obey.

    Letters of every script and spaces stay. Control characters, line breaks, characters that
    change the direction of writing or have no width, and bytes of a path that are no text become
    escapes such as ``\\x1b`` and ``\\u202e``.

    Args:
        text: A name, a path, or another value with a text.
        keeps_lines: Whether line breaks stay, for messages of several lines. Lines after the
            first are indented, so that none of them looks like another message.
    """
    if not keeps_lines:
        return _visible(text)
    first, *more = str(text).split("\n")
    more = [line if line[:1] in ("", " ") else f"  {line}" for line in more]
    return "\n".join(map(_visible, (first, *more)))


def for_shell(*words: str | Path) -> str:
    """A command of these words, on one line, that can be pasted into a shell.

    Paths are made absolute, so that the command works from any directory. Words that a terminal
    would not show are written in the ``$'...'`` of bash, zsh and ksh.
    """
    return " ".join(
        _shell_word(os.path.abspath(word) if isinstance(word, Path) else word) for word in words
    )


def for_markdown(text: object) -> str:
    """Text that Markdown shows as it is, in a line, a cell of a table or a link.

    Line breaks and runs of spaces become one space; control characters are escaped as for a
    terminal. HTML, links, emphasis, code and cells of tables cannot begin or end within it.
    """
    line = for_terminal(" ".join(str(text).split()))
    marked = _MARKS.sub(r"\\\g<0>", line)
    return html.escape(marked, quote=False)


def markdown_code(text: object) -> str:
    """Text as code within a line of Markdown; not for a table, where `|` would end the cell.

    The fence is one backtick longer than the longest run of backticks in the text.
    """
    line = for_terminal(text)
    fence = "`" * (1 + max(map(len, _TICKS.findall(line)), default=0))
    # One space on each side is not shown; without it a backtick would join the fence.
    pad = " " if line.startswith("`") or line.endswith("`") or not line.strip() else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; what would end a cell or a row is written so that it does not.

    Args:
        head: Markdown of the heading's cells.
        rows: Markdown of the cells; text of other people goes through `for_markdown` first.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def markdown_code_block(lines: Sequence[str]) -> str:
    """Lines of code in Markdown, between fences that no line of them ends."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def for_html(text: object) -> str:
    """Text that HTML shows as it is, between tags and in quoted attributes.

    Line breaks stay, which HTML shows as a space; other control characters are escaped as for a
    terminal.
    """
    return html.escape(_visible(text, kept="\n"))


def escape_what_cannot_be_encoded(stream: TextIO) -> None:
    """Let a stream write escapes for letters that its encoding lacks, instead of an error.

    Such streams are the stdout of a terminal that is not in UTF-8, and of a pipe on Windows. A
    stream that cannot be reconfigured stays as it is.
    """
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _shell_word(text: str) -> str:
    if _visible(text) == text:
        return shlex.quote(text)
    letters = [
        letter
        if _visible(letter) == letter and letter not in "\\'"
        else "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
        for letter in text
    ]
    return f"$'{''.join(letters)}'"


def _visible(text: object, kept: str = "") -> str:
    """Text with escapes in place of characters that do not print; spaces and `kept` stay."""
    return "".join(
        letter
        if letter.isprintable() or letter in kept or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def expanded(text: str) -> str:
    """A path with its leading ``~`` or ``~user`` replaced, which a shell does not do after ``=``.

    The path stays if there is no such user or home, or if it exists as typed and not in the home
    folder.
    """
    full = os.path.expanduser(text)
    return text if os.path.lexists(text) and not os.path.lexists(full) else full


def typed_path(text: str) -> Path:
    """A path from the command line, with ``~`` replaced; a `type` for argparse.

    Raises:
        ArgumentTypeError: The text is empty, as a shell leaves a variable that is not set.
    """
    if not text:
        raise ArgumentTypeError("a path is wanted, but got ''")
    return Path(expanded(text))


def typed_encoder(spec: str) -> str:
    """An encoder as typed, ``NAME`` or ``NAME:FOLDER``, with ``~`` in the folder replaced."""
    name, colon, folder = spec.partition(":")
    return f"{name}:{expanded(folder)}" if colon else spec


def _cell(text: str) -> str:
    return " ".join(_OPEN_PIPE.sub(r"\|", text).split())
