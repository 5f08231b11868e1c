"""Tables as the world writes them: each is read as the plain one is, or refused with a remedy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwave.config import DataError
from qwave.data import EmbeddingSet, load_embeddings

N = 12
CLASSES = ("dog", "rain")


def rows(row: Callable[[int], str], end: str = "\n") -> str:
    """Twelve rows; row i is of class i % 2, in fold i % 3, with features i.5 and i.25."""
    return "".join(row(i) + end for i in range(N))


def comma(i: int) -> str:
    return f"{CLASSES[i % 2]},{i % 3},{i}.5,{i}.25"


def semicolon(i: int) -> str:
    return f"{CLASSES[i % 2]};{i % 3};{i},5;{i},25"


HEAD = "label,fold,f0,f1\n"
PLAIN = HEAD + rows(comma)
EUROPEAN = HEAD.replace(",", ";") + rows(semicolon)
IDS = [f"{i % 2},{comma(i)}" for i in range(N)]


def is_plain(data: EmbeddingSet) -> None:
    """What is read from any of the tables below that can be read."""
    index = np.arange(N)
    np.testing.assert_array_equal(data.x, np.stack([index + 0.5, index + 0.25], 1))
    assert data.y.tolist() == (index % 2).tolist()
    assert data.fold is not None
    assert data.fold.tolist() == (index % 3).tolist()
    assert data.group is None
    assert data.class_names == CLASSES
    assert data.names == tuple(map(str, index))


SAME: dict[str, str | bytes] = {
    "plain": PLAIN,
    "semicolons and decimal commas": EUROPEAN,
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "quoted decimal commas": HEAD + rows(lambda i: f'{CLASSES[i % 2]},{i % 3},"{i},5","{i},25"'),
    "the separator in the first line": f"sep=;\r\n{EUROPEAN}",
    "the separator quoted": f'"sep=;"\r\n{EUROPEAN}',
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "CR": PLAIN.replace("\n", "\r"),
    "no end of the last line": PLAIN.rstrip("\n"),
    "UTF-8 with a mark": PLAIN.encode("utf-8-sig"),
    "UTF-16, little end first": b"\xff\xfe" + PLAIN.replace(",", "\t").encode("utf-16-le"),
    "a comment above": f"# made by a recorder, 2024\n{PLAIN}",
    "comments and blank lines above": f"\n# one\n\n  # two; three\n\n{PLAIN}",
    "the header in a comment": f"# {PLAIN}",
    "blank lines": PLAIN.replace("\n", "\n\n"),
    "rows of commas": PLAIN + ",,,\n,,,\n",
    "a comma at the ends of rows": HEAD + rows(lambda i: f"{comma(i)},"),
    "three commas at all ends": PLAIN.replace("\n", ",,,\n"),
    "spaces around": PLAIN.replace(",", " , "),
    "spaces before quotes": re.sub(r"[^,\n]+", lambda cell: f'"{cell[0]}"', PLAIN).replace(
        ",", ", "
    ),
    "a line break in a name": PLAIN.replace("label,", '"lab\nel",').replace("\nel", "el", 1),
    "names in capitals": PLAIN.replace(HEAD, "Label, Fold,F0,F1\n"),
    "whole folds as decimals": HEAD
    + rows(lambda i: comma(i).replace(f",{i % 3},", f",{i % 3}.0,")),
    "exponents and signs": PLAIN.replace("5.25", "+525e-2").replace("10.5", "1.05E+1"),
    "Class ID and LABEL": "Class ID,LABEL,fold,f0,f1\n" + "\n".join(IDS),
    "class_id, label and category": "class_id,label,category,fold,f0,f1\n"
    + rows(lambda i: f"{i % 2}," + comma(i).replace(",", ",sound,", 1)),
}
# With a note, of which a part is given.
NOTED: dict[str, tuple[str, str]] = {
    "target and category": (
        "target,category,fold,f0,f1\n" + "\n".join(IDS),
        "the label is column 'target'",
    ),
    "label and target": (
        PLAIN.replace(HEAD, "label,target,fold,f0,f1\n")
        .replace("dog,", "dog,7,")
        .replace("rain,", "rain,3,"),
        "not used: 'target'",
    ),
    "label and category": (
        "label,category,fold,f0,f1\n" + rows(lambda i: comma(i).replace(",", ",sound,", 1)),
        "not used: 'category'",
    ),
}
# What the message says besides the file and a remedy.
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "the label twice": (
        HEAD.replace("label", "label,label") + rows(lambda i: f"{CLASSES[i % 2]},{comma(i)}"),
        "has several columns named 'label'",
    ),
    "a feature twice, renamed": (PLAIN.replace("f1", "f0.1"), "column 'f0.1' is a second 'f0'"),
    "a class_id with two labels": (
        "class_id," + HEAD + rows(lambda i: f"0,{comma(i)}"),
        "class_id 0 has several labels: dog, rain (row 3)",
    ),
    "two classes of one name": (
        "class_id," + HEAD + rows(lambda i: f"{i % 4},{comma(i)}"),
        "two classes have one name: class_id 0 and 2 are both label dog (row 4)",
    ),
    "a column named #": (
        f"#,{HEAD}" + rows(lambda i: f"{i * i},{comma(i)}"),
        "column '#' looks like an index or a note about the clip",
    ),
    "a column without a name": (
        f",{HEAD}" + rows(lambda i: f"{i},{comma(i)}"),
        "column 1 has no name",
    ),
    "ascending numbers": (
        f"sample,{HEAD}" + rows(lambda i: f"{i * i},{comma(i)}"),
        "column 'sample' numbers the rows",
    ),
    "a misspelt fold": (PLAIN.replace("fold", "flod"), "column 'flod' may be no feature; name it"),
    "a fold of two words": (PLAIN.replace("fold", "official_fold"), "column 'official_fold' may"),
    "words with points and commas": (
        f"who,{HEAD}" + rows(lambda i: f'"Dr. No, Jr.",{comma(i)}'),
        "row 2, column 'who': 'Dr. No, Jr.' is not a number; write a number, or, if the column",
    ),
    "lists as text": (
        "label,embedding\n" + rows(lambda i: f'{CLASSES[i % 2]},"[{i}, 1]"'),
        "row 2, column 'embedding': '[0, 1]' is not a number; write one column for each feature",
    ),
    "separators of thousands": (
        HEAD + rows(lambda i: f'{CLASSES[i % 2]},0,"1,{100 + i}",2'),
        "row 2, column 'f0': '1,100' may be one number with a separator of thousands",
    ),
    "separators of thousands and points": (
        HEAD + rows(lambda i: f'{CLASSES[i % 2]},0,"1,{100 + i}.5",2'),
        "row 2, column 'f0': '1,100.5' is not a number",
    ),
    "points of thousands": (
        EUROPEAN.replace("4,5", "1.234,5"),
        "row 6, column 'f0': '1.234,5' is not a number",
    ),
    "points and commas": (
        EUROPEAN.replace("4,5", "4.5"),
        "row 6, column 'f0': '4.5' is not a number beside '0,5' (row 2, column 'f0')",
    ),
    "an underscore": (PLAIN.replace("10.5", "1_0.5"), "row 12, column 'f0': '1_0.5' is not a"),
    "an error of Excel": (PLAIN.replace("10.5", "#N/A"), "row 12, column 'f0': '#N/A' is not a"),
    "an empty feature": (PLAIN.replace("10.5", ""), "row 12, column 'f0': nan is not a finite"),
    "an empty label": (PLAIN.replace("dog,2,2", ",2,2"), "row 4: the label is empty"),
    "an empty fold": (
        PLAIN.replace("dog,2,2", "dog,,2"),
        "'fold' must hold whole numbers, but it is empty in row 4",
    ),
    "folds as words": (
        PLAIN.replace("dog,", "dog,fold").replace("rain,", "rain,fold"),
        "'fold' must hold whole numbers, but it is fold0 in row 2",
    ),
    "a number missing among class ids": (
        "class_id,f0\n0,1\n1,2\nnan,3\n",
        "whole numbers from 0, but found nan; the first in row 4",
    ),
    "a short row": (PLAIN.replace(",10.25", ""), "row 12 has 3 cells, but the header names 4"),
    "a long row": (PLAIN.replace("10.25", "10,25"), "row 12 has 5 cells, but the header names 4"),
    "a quote without an end": (
        PLAIN.replace("rain,1,1.5", '"rain,1,1.5'),
        "row 3: unexpected end",
    ),
    "after a quoted line break": (
        "name," + HEAD + rows(lambda i: f'"a\n{i}",{comma(i)}').replace("10.5", "loud"),
        "row 22, column 'f0': 'loud' is not a number",
    ),
    "half of a column true": (
        PLAIN.replace("10.5", "true"),
        "column 'f0': 1 rows hold true or false and 11 do not",
    ),
    "a title": ("My sounds\n" + PLAIN, "row 1 has one cell only, 'My sounds'"),
    "a header alone": (HEAD, "has a header but no rows"),
    "comments alone": ("# label\n# dog\n", "has no header"),
    "no features": ("label,fold\ndog,1\nrain,2\n", "has no features: all of its columns (label"),
    "a byte of zero": (PLAIN.encode().replace(b"10.5", b"\0"), "row 12 holds a byte of zero"),
    "no text": (PLAIN.encode().replace(b"dog,1,10", b"\xff\xfe\x80,1,10"), "row 12: byte 0xff is"),
    "a pointer of Git LFS": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "it is a Git LFS pointer, which only names the data; fetch them with `git lfs pull`",
    ),
    "a workbook": (
        b"PK\x03\x04....[Content_Types].xml",
        "an Excel workbook; save it as CSV UTF-8",
    ),
}
# What to do is said by one of these words.
REMEDY = re.compile(
    "write|drop|keep|give|save|fetch|download|unpack|put|name it|number every|must name|name the"
)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "odd.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", SAME)
def test_odd_tables_are_read_as_the_plain_one(tmp_path: Path, name: str) -> None:
    data = load_embeddings(written(tmp_path, SAME[name]))
    is_plain(data)
    assert data.digest == load_embeddings(written(tmp_path, PLAIN)).digest


@pytest.mark.parametrize("name", NOTED)
def test_what_a_name_does_not_say_plainly_is_noted(tmp_path: Path, name: str) -> None:
    text, note = NOTED[name]
    with pytest.warns(UserWarning, match=re.escape(note)) as caught:
        data = load_embeddings(written(tmp_path, text))
    assert len(caught) == 1
    is_plain(data)


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_misread_is_refused_with_a_remedy(tmp_path: Path, name: str) -> None:
    text, found = REFUSED[name]
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=f"^data.path: {re.escape(str(path))}") as caught:
        load_embeddings(path)
    message = str(caught.value)
    assert found in message
    assert REMEDY.search(message), message


@pytest.mark.parametrize("suffix", [".txt", ".TSV"])
def test_text_goes_by_several_suffixes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"some{suffix}"
    path.write_text(EUROPEAN)
    is_plain(load_embeddings(path))


@pytest.mark.parametrize("words", [("None", "NA", "nan"), ("null", "N/A", "true"), ("-", "inf")])
@pytest.mark.parametrize("column", ["label", "class_id"])
def test_words_for_nothing_are_names_of_classes(
    tmp_path: Path, words: tuple[str, ...], column: str
) -> None:
    text = f"{column},f0\n" + rows(lambda i: f"{words[i % len(words)]},{i}.5")
    data = load_embeddings(written(tmp_path, text))
    assert data.class_names == tuple(sorted(words))
    assert [data.class_names[label] for label in data.y] == [
        words[i % len(words)] for i in range(N)
    ]


def test_names_of_classes_beside_class_ids_may_be_words_for_nothing(tmp_path: Path) -> None:
    words = ("None", "NA", "dog")
    text = "class_id,label,f0\n" + rows(lambda i: f"{i % 3},{words[i % 3]},{i}.5")
    assert load_embeddings(written(tmp_path, text)).class_names == words


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_umlauts_are_read_in_the_encodings_of_excel(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "label;f0\r\nTür;1,5\r\nKüche;2,5\r\n".encode(encoding))
    if encoding == "cp1252":
        with pytest.warns(UserWarning, match="is not in UTF-8 .row 2. and was read as Windows-12"):
            data = load_embeddings(path)
    else:
        data = load_embeddings(path)
    assert data.class_names == ("Küche", "Tür")


def test_decimal_commas_of_three_places_are_told_from_thousands(tmp_path: Path) -> None:
    text = "label;f0;f1\n" + rows(lambda i: f"{CLASSES[i % 2]};{i + 1},125;0,{100 + i}")
    data = load_embeddings(written(tmp_path, text))
    np.testing.assert_array_equal(data.x[:, 0], np.arange(N) + 1.125)


def test_true_and_false_are_numbers(tmp_path: Path) -> None:
    text = "label,f0,f1\n" + rows(lambda i: f"{CLASSES[i % 2]},{i % 3 == 0},{str(i < 5).upper()}")
    data = load_embeddings(written(tmp_path, text))
    assert data.x.tolist() == [[float(i % 3 == 0), float(i < 5)] for i in range(N)]


def test_groups_are_numbers_where_all_are(tmp_path: Path) -> None:
    for cells, expected in (
        (["7", "8"] * 6, [7, 8] * 6),
        (["07", "8"] * 6, [7, 8] * 6),
        (["07", "7"] * 6, ["07", "7"] * 6),
        (["a", "7"] * 6, ["a", "7"] * 6),
        (["1.5", "2"] * 6, ["1.5", "2.0"] * 6),
    ):
        lines = [f"{CLASSES[i % 2]},{cell},{i}.5" for i, cell in enumerate(cells)]
        text = "\n".join(["label,group,f0", *lines])
        group = load_embeddings(written(tmp_path, text)).group
        assert group is not None
        assert group.tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_whatever_bytes_a_table_has_nothing_but_a_data_error_leaves(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    given = [text if isinstance(text, bytes) else text.encode() for text in SAME.values()]
    splices = [bytes([byte]) for byte in b'",;\t\r\n\0#\xff_-\x1f']
    splices += [text.encode() for text in ("\ufeff", "1e999", "sep=", "nan", "fold", ".1", "٣")]
    for turn in range(60):
        content = bytearray(given[int(rng.integers(len(given)))])
        if turn % 10 == 0:
            content = bytearray(rng.bytes(int(rng.integers(1, 400))))
        for _ in range(int(rng.integers(1, 6))):
            place = int(rng.integers(len(content) + 1))
            length = int(rng.integers(0, 4))
            content[place : place + length] = splices[int(rng.integers(len(splices)))]
        path = written(tmp_path, bytes(content) or b"x")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                data = load_embeddings(path)
            except DataError:
                continue
            except Exception as error:
                pytest.fail(f"{seed=} {turn=}: {error!r} of {bytes(content)!r}")
        assert np.isfinite(data.x).all(), f"{seed=} {turn=}: {bytes(content)!r}"


def test_a_wide_table_is_read_in_one_pass(tmp_path: Path) -> None:
    n, d = 6, 20_000
    x = np.random.default_rng(0).integers(-999, 1000, size=(n, d)) / 8
    header = ",".join(["label", *(f"f{column}" for column in range(d))])
    lines = [",".join([CLASSES[i % 2], *map(str, x[i])]) for i in range(n)]
    data = load_embeddings(written(tmp_path, "\n".join([header, *lines])))
    np.testing.assert_array_equal(data.x, x.astype(np.float32))
