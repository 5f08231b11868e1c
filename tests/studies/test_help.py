"""``-h`` of every study answers without the libraries that only running it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ["moe_pareto", *(path.parent.name for path in ROOT.glob("studies/*/__main__.py"))]
CODE = """
import runpy
import sys

sys.argv = ["study", "-h"]
try:
    runpy.run_module("studies.NAME", run_name="__main__")
except SystemExit as end:
    print(end.code, sorted({"mlflow", "optuna", "torch"} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_help_of_a_study_loads_neither_torch_nor_mlflow_nor_optuna(
    name: str, fresh_python: Callable[..., str]
) -> None:
    text, _, end = fresh_python(CODE.replace("NAME", name)).rpartition("\n")
    assert end == "0 []"
    assert text.startswith("usage: ")
