"""Text of other people at the edges: shown as it is, and never obeyed."""

from __future__ import annotations

import html
import io
import random
import re
import subprocess
import sys
import unicodedata

import pytest

from qwave.text import (
    escape_what_cannot_be_encoded,
    for_html,
    for_markdown,
    for_shell,
    for_terminal,
    markdown_code,
)

# Of which hostile names are made.
PIECES = (
    *(
        "dog",
        "Vögel",
        "犬",
        "كلب",
        "a_b",
        " ",
        "\u3000",
        "\u00a0",
        "&amp;",
        "&",
        "<",
        ">",
        '"',
        "'",
    ),
    *("<script>alert(1)</script>", "<!--", "[a](http://b.c)", "![x](y)", "www.a.de", "https://a"),
    *("|", "\\", "`", "``", "```", "*", "**", "_", "__", "~~", "$", "#", "\n", "\r", "\t", "\n\n"),
    *(
        "\x1b[2J",
        "\x1b]0;t\x07",
        "\x00",
        "\x7f",
        "\x9b31m",
        "\u202e",
        "\u200b",
        "\u2066",
        "\ufeff",
    ),
    *("\u2028", "\udcff", "\U0001f436", "\U000e0041", "=cmd()", "- x", "1. x", "$(id)", "!"),
)


def _random_name(seed: int) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 8)))


def _is_obeyed(letter: str) -> bool:
    """Whether a terminal may do something else than show a letter."""
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def test_a_terminal_obeys_no_name() -> None:
    for seed in range(200):
        name = _random_name(seed)
        shown = for_terminal(name)
        assert not any(map(_is_obeyed, shown)), f"seed {seed}: {name!r}"
        kept = [letter for letter in name if not _is_obeyed(letter)]
        assert re.sub(r"\\([nrt]|x..|u....|U0.......)", "", shown) == re.sub(
            r"\\([nrt]|x..|u....|U0.......)", "", "".join(kept)
        ), f"seed {seed}: {name!r}"
        shown.encode()  # no surrogate is left


def test_letters_of_every_script_stay() -> None:
    for name in (
        "Vögel im Garten",
        "犬の鳴き声",
        "كلب ينبح",
        "e\u0301 and é",
        "\U0001f436\u3000x",
    ):
        assert for_terminal(name) == name
    assert for_terminal("a\x1b[31m\r\u202e\u200b\n\udcff") == (
        "a\\x1b[31m\\r\\u202e\\u200b\\n\\udcff"
    )


def test_lines_of_a_message_stay_and_none_passes_for_another_message() -> None:
    assert for_terminal("a\nerror: b\n  c\n\x07", keeps_lines=True) == (
        "a\n  error: b\n  c\n  \\x07"
    )


def test_markdown_shows_every_name_and_nothing_else_comes_of_it() -> None:
    for seed in range(200):
        name = _random_name(seed)
        markdown = for_markdown(name)
        where = f"seed {seed}: {name!r}: {markdown!r}"
        assert "\n" not in markdown, where
        # Marks without a backslash before them; "_" between letters is none.
        bare = re.sub(r"\\[^A-Za-z0-9\s]", "!", markdown)
        assert not re.search(r"[\\`*\[\]|~$<>]|(?<![^\W_])_|_(?![^\W_])|://", bare), where
        assert not re.search(r"&(?!(lt|gt|amp);)", markdown), where
        # What Markdown makes of it: backslashes go, then entities.
        read = html.unescape(re.sub(r"\\([^A-Za-z0-9\s])", r"\1", markdown))
        assert read == for_terminal(" ".join(name.split())), where


def test_markdown_of_ordinary_names_stays_readable() -> None:
    for name in ("dog", "children_playing", "Hund (bellt), laut!", "車 1-2", "a.b", "C#"):
        assert for_markdown(name) == name
    assert for_markdown("rain|<b>") == "rain\\|&lt;b&gt;"
    assert for_markdown("[x](http://e.com) www.e.com _x_") == (
        "\\[x\\](http\\://e.com) www\\.e.com \\_x\\_"
    )


def test_code_ends_where_the_text_ends() -> None:
    for seed in range(100):
        name = _random_name(seed)
        code = markdown_code(name)
        where = f"seed {seed}: {name!r}: {code!r}"
        fence = re.match("`+", code)
        assert fence is not None, where
        inside = code[fence.end() : -fence.end()]
        assert fence[0] not in re.findall("`+", inside), where
        assert for_terminal(name) in inside, where
        assert "\n" not in code, where


def test_html_shows_every_name() -> None:
    for seed in range(200):
        name = _random_name(seed)
        shown = for_html(name)
        where = f"seed {seed}: {name!r}: {shown!r}"
        assert not re.search("[<>\"']", shown), where
        assert not any(_is_obeyed(letter) for letter in shown if letter != "\n"), where
        lines = [for_terminal(line) for line in name.split("\n")]
        assert html.unescape(shown) == "\n".join(lines), where


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_a_shell_gives_back_the_words() -> None:
    # But NUL, which no argument can hold.
    names = [_random_name(seed).replace("\x00", "") for seed in range(150)]
    words = [name for name in names if name]
    command = for_shell("printf", r"%s\0", *words)
    assert not any(map(_is_obeyed, command))
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    found = done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
    assert found == words
    assert for_shell("a", "my set #2.npz") == "a 'my set #2.npz'"


def test_what_an_encoding_lacks_is_written_as_an_escape() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with pytest.raises(UnicodeEncodeError):
        stream.write("ü")
    escape_what_cannot_be_encoded(stream)
    stream.write("Vögel 犬")
    stream.flush()
    assert stream.buffer.getvalue() == b"V\\xf6gel \\u72ac"
    escape_what_cannot_be_encoded(io.StringIO())  # which has no encoding
