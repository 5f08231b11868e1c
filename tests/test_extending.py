"""Each row of "Where to add what" in qwave/README.md, followed in a copy of the checkout.

A row is kept if the addition touches the files that it names and no others, and the suite that
covers such things, or a search that uses it, runs with the addition.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "qwave" / "README.md").read_text(encoding="utf-8")
ROWS = {
    row[0]: set(re.findall(r"`([\w/<>]+\.(?:py|yaml))`", row[1]))
    for row in re.findall(r"^\| (an? [^|]+) \| (.*) \|$", PAGE, re.MULTILINE)
}
FEW = ("model.hidden=[]", "train.epochs=2", "--trials", "2", "--store", "store", "-q")


class Addition(NamedTuple):
    """A change of a copy, and how to see that it works.

    Attributes:
        edits: File to a text in it and what replaces it; an empty text: the file is new.
        check: Words of a Python command, run in the copy.
    """

    edits: dict[str, tuple[str, str]]
    check: tuple[str, ...]


def search(*words: str) -> tuple[str, ...]:
    """A short search on the bundled data."""
    return ("-m", "qwave", "search", *words, *FEW)


def suite(keyword: str) -> tuple[str, ...]:
    """The conformance suite of the backends, of one scheme or normalisation."""
    return (
        *("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-k", keyword),
        "tests/conformance/test_arithmetic.py",
    )


ADDITIONS: dict[str, Addition] = {
    "a scheme": Addition(
        {
            "qwave/config/schemes.py": (
                '    Scheme("int4", Fraction(4)',
                '    Scheme("int3", Fraction(3), _integers(3), _INT8, ("3",)),\n'
                '    Scheme("int4", Fraction(4)',
            )
        },
        suite("int3"),
    ),
    "a score": Addition(
        {
            "qwave/scores/evaluate.py": (
                '        "macro_f1": float(f1.mean()),',
                '        "macro_f1": float(f1.mean()),\n        "worst_f1": float(f1.min()),',
            ),
            "qwave/config/sweep.py": (
                '    "macro_f1": "maximize",',
                '    "macro_f1": "maximize",\n    "worst_f1": "maximize",',
            ),
        },
        search(
            "objectives=[{score: accuracy, direction: maximize}, "
            "{score: size_bytes, direction: minimize}, {score: worst_f1, direction: maximize}]"
        ),
    ),
    "a normalisation": Addition(
        {
            "qwave/data/normalization.py": (
                '    "l2": ("unit",),',
                '    "l2": ("unit",),\n    "sqrt_l2": ("roots", "unit"),',
            ),
            "qwave/config/trial.py": (
                '"layer", "sqrt_layer"]',
                '"layer", "sqrt_layer", "sqrt_l2"]',
            ),
        },
        suite("sqrt_l2"),
    ),
    "an encoder": Addition(
        {
            "qwave/audio/encoders.py": (
                '    "logmel": _Entry(_logmel',
                '    "logmel2": _Entry(_logmel, takes_folder=False),\n'
                '    "logmel": _Entry(_logmel',
            )
        },
        (
            "-c",
            "from qwave.audio import make_encoder\n"
            "from tests.inference.sounds import make_clip\n"
            "from pathlib import Path\n"
            "from qwave.cli import main\n"
            "for label in range(2):\n"
            "    for take in range(3):\n"
            "        file = Path('clips') / str(label) / f'{take}.wav'\n"
            "        file.parent.mkdir(parents=True, exist_ok=True)\n"
            "        make_clip(file, label, seed=take)\n"
            "arguments = ['--out', 'a.npz', '--encoder', 'logmel2', '--workers', '1']\n"
            "assert main(['embed', 'clips', *arguments]) == 0\n",
        ),
    ),
    "a sampler": Addition(
        {
            "qwave/config/sweep.py": ('"random", "gp"]', '"random", "gp", "qmc"]'),
            "qwave/sweep/ask.py": (
                '        if name == "gp":',
                '        if name == "qmc":\n'
                "            return optuna.samplers.QMCSampler(seed=seed)\n"
                '        if name == "gp":',
            ),
        },
        search("sampler.name=qmc"),
    ),
    "a study": Addition(
        {
            "studies/widths.py": (
                "",
                "import sys\n\nfrom qwave.cli import main\n\n"
                "if __name__ == '__main__':\n"
                "    sys.exit(main(['search', 'widths', *sys.argv[1:]]))\n",
            ),
            "sweeps/widths.yaml": (
                "",
                "name: widths\ndata: {path: esc10}\nfixed: {model.schemes: [int1]}\n"
                "search: {model.hidden: {choice: {linear: [], small: [8]}}}\n",
            ),
        },
        ("-m", "studies.widths", "train.epochs=2", "--trials", "2", "--store", "store", "-q"),
    ),
    "a command": Addition(
        {
            "qwave/cli/hello.py": (
                "",
                '"""A command."""\nSUMMARY = DESCRIPTION = "say hello"\n\n\n'
                "def add_arguments(parser):\n    pass\n\n\n"
                "def run(arguments):\n    return 0\n",
            ),
            "qwave/cli/__init__.py": (
                '    "search": search,',
                '    "search": search,\n'
                '    "hello": __import__("qwave.cli.hello", fromlist=["run"]),',
            ),
        },
        ("-m", "qwave", "hello"),
    ),
}


def test_every_row_of_the_page_is_followed_here() -> None:
    assert ROWS.keys() == ADDITIONS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("row", ADDITIONS)
def test_an_addition_touches_what_its_row_names_and_works(
    row: str, tmp_path: Path, make_environment: Callable[[Path], dict[str, str]]
) -> None:
    addition = ADDITIONS[row]
    assert {re.sub("widths|hello", "<name>", file) for file in addition.edits} <= ROWS[row]
    for folder in ("qwave", "studies", "sweeps", "tests"):
        shutil.copytree(
            REPOSITORY / folder,
            tmp_path / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    for file, (old, new) in addition.edits.items():
        path = tmp_path / file
        text = path.read_text(encoding="utf-8") if old else ""
        assert text.count(old) == 1 or not old, f"{file} holds {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new) if old else new, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *addition.check],
        cwd=tmp_path,
        env=make_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def make_environment() -> Callable[[Path], dict[str, str]]:
    """The environment of a process that imports a copy of the checkout, wherever it runs."""

    def make(tree: Path) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(tree),
            "XDG_CACHE_HOME": str(tree / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    return make
