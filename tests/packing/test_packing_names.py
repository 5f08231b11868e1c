"""Names of classes in the header: a row of CSV, whatever they are made of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from qwave.packing.header import header_from_text, header_to_text

from .models import PLAIN, small_model

HEADER = small_model(*PLAIN).header
PIECES = ",\"\n\r\0'\\ ;\t\x0b\x85\u2028a犬"


def row_by_hand(names: tuple[str, ...]) -> str:
    """A row of CSV: fields in quotes where they must be, and quotes doubled."""
    fields = []
    for name in names:
        is_quoted = any(mark in name for mark in ',"\r\n') or names == ("",)
        fields.append('"' + name.replace('"', '""') + '"' if is_quoted else name)
    return ",".join(fields)


def assert_names_survive(names: tuple[str, ...], what: str) -> None:
    text = header_to_text(dataclasses.replace(HEADER, class_names=names))
    assert text["classes"] == row_by_hand(names), what
    assert header_from_text(text).class_names == names, what


@pytest.mark.parametrize("name", ["", *PIECES, "\r\n", '""', '","', "a,b", '"a"', "a\n", "\n\n"])
def test_odd_name_of_a_class_survives_alone_and_among_others(name: str) -> None:
    for names in ((name,), (name, name), ("x", name), (name, "x"), ("", name, "")):
        assert_names_survive(names, repr(names))


def test_random_names_of_classes_survive() -> None:
    rng = np.random.default_rng(0)
    for draw in range(500):
        lengths = rng.integers(0, 6, size=rng.integers(1, 5))
        names = tuple(
            "".join(PIECES[piece] for piece in rng.integers(len(PIECES), size=length))
            for length in lengths
        )
        assert_names_survive(names, f"draw {draw} of seed 0: {names!r}")
