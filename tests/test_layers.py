"""The layers of the design, proved by reading every import under qwave/.

A module is a file or a package directly under qwave/; a package counts as one module.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import qwave

LAYERS: dict[str, int] = {
    "config": 0,
    "caching": 0,
    "text": 0,
    "compiler": 1,
    "processes": 1,
    "data": 1,
    "nn": 1,
    "scores": 1,
    "space": 1,
    "audio": 2,
    "packing": 2,
    "store": 2,
    "report": 2,
    "runtime": 3,
    "engine": 4,
    "pyfunc": 4,
    "inference": 4,
    "sweep": 5,
    "exporting": 6,
    "classifier": 6,
    "cli": 7,
    "__main__": 8,
}
# These must import without torch.
TORCHLESS = ("config", "scores", "space", "store", "report", "runtime", "packing", "pyfunc")
# The only homes of a library.
HOMES = {
    "optuna": {"space", "store", "sweep"},
    "mlflow": {"store"},
    "pydantic": {"space"},
    "matplotlib": {"report"},
    "plotly": {"report"},
    "onnx": {"exporting"},
    "onnxruntime": {"exporting"},
    "soundfile": {"audio"},
    "soxr": {"audio"},
    "transformers": {"audio"},
}
# All that a GPU machine needs for the engine.
ENGINE_LIBRARIES = {"torch", "numpy", "sklearn"}
HEAVY = (
    "torch",
    "mlflow",
    "optuna",
    "matplotlib",
    "plotly",
    "pydantic",
    "pandas",
    "sklearn",
    "onnx",
    "onnxruntime",
)


class Import(NamedTuple):
    """One import: where it stands, what it names, whether it runs when its file is imported."""

    module: str  # "" for qwave/__init__.py itself
    file: str
    line: int
    name: str  # dotted, absolute
    runs_on_import: bool
    is_for_types: bool

    @property
    def library(self) -> str:
        return self.name.split(".")[0]

    @property
    def target(self) -> str | None:
        """The module of qwave that is imported, if it is one; "" for qwave itself."""
        if self.library != "qwave":
            return None
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


@functools.cache
def read_imports(root: Path) -> list[Import]:
    """All imports of all files of a package named qwave at `root`."""
    found = []
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        module = "" if parts == ("__init__",) else parts[0]
        package = ["qwave", *parts[:-1]]
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
        for node, runs, for_types in _walk(tree, True, False):
            for name in _names(node, package):
                name = name.removesuffix(".*")
                found.append(
                    Import(module, str(file.relative_to(root)), node.lineno, name, runs, for_types)
                )
    return found


def _walk(
    node: ast.AST, runs: bool, for_types: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, runs and not for_types, for_types
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _walk(child, False, for_types)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), runs, True)
            for statement in child.orelse:
                yield from _walk(ast.Module([statement], []), runs, for_types)
        else:
            yield from _walk(child, runs, for_types)


def _names(node: ast.Import | ast.ImportFrom, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
    if base == "qwave":  # `from qwave import nn` names a module
        return [f"qwave.{alias.name}" for alias in node.names]
    return [base]


def modules_of(root: Path) -> set[str]:
    """Names of the files and packages directly under `root`."""
    files = {path.stem for path in root.glob("*.py")} - {"__init__"}
    return files | {path.parent.name for path in root.glob("*/__init__.py")}


def unplaced(root: Path) -> set[str]:
    """Modules without a layer: a subject that is cut wrong."""
    with_code = {path.relative_to(root).parts[0] for path in root.rglob("*/*.py")}
    return (modules_of(root) | with_code) - set(LAYERS)


def upward_imports(root: Path) -> list[str]:
    """Imports of a module of the same or a higher layer, or of qwave as a whole."""
    return [
        str(found)
        for found in read_imports(root)
        if found.module
        and found.target is not None
        and found.target != found.module
        and LAYERS.get(found.target, 99) >= LAYERS.get(found.module, -1)
    ]


def strays(root: Path) -> list[str]:
    """Imports of a library outside its home, wherever in a file they stand."""
    return [
        str(found)
        for found in read_imports(root)
        if found.library in HOMES and found.module not in HOMES[found.library]
    ]


def under(root: Path, module: str) -> set[str]:
    """A module and all modules that importing it imports."""
    targets: dict[str, set[str]] = {}
    for found in read_imports(root):
        if found.runs_on_import and found.target:
            targets.setdefault(found.module, set()).add(found.target)
    reached, waiting = set(), {module}
    while waiting:
        reached.add(name := waiting.pop())
        waiting |= targets.get(name, set()) - reached
    return reached


def libraries_on_import(root: Path, module: str) -> dict[str, str]:
    """Third-party libraries that importing a module of qwave imports, and where."""
    reached = under(root, module)
    return {
        found.library: str(found)
        for found in read_imports(root)
        if found.module in reached | {""}
        and found.runs_on_import
        and found.target is None
        and found.library not in sys.stdlib_module_names
    }


ROOT = Path(str(qwave.__file__)).parent


def test_every_module_has_a_layer() -> None:
    assert modules_of(ROOT) >= {"config", "data", "nn", "packing", "scores", "engine"}
    assert not unplaced(ROOT)


def test_a_module_imports_only_from_lower_layers() -> None:
    assert not upward_imports(ROOT)


def test_the_readers_see_the_imports_of_this_very_package() -> None:
    seen = {(found.module, found.target) for found in read_imports(ROOT)}
    assert {("engine", "nn"), ("nn", "config"), ("sweep", "engine")} <= seen
    assert under(ROOT, "engine") >= {"engine", "nn", "packing", "data", "config"}
    assert set(libraries_on_import(ROOT, "engine")) >= {"torch", "numpy"}


def test_config_imports_the_standard_library_only() -> None:
    used = {found.library: str(found) for found in read_imports(ROOT) if found.module == "config"}
    assert not set(used) - sys.stdlib_module_names - {"qwave"}, used


@pytest.mark.parametrize("module", TORCHLESS)
def test_torch_stays_out_of_what_runs_without_it(module: str) -> None:
    assert "torch" not in libraries_on_import(ROOT, module), libraries_on_import(ROOT, module)


def test_each_library_stays_in_its_home() -> None:
    assert not strays(ROOT)


@pytest.mark.parametrize("module", ["engine", "nn", "packing", "scores", "runtime"])
def test_the_engine_needs_torch_numpy_and_scikit_learn_only(module: str) -> None:
    used = libraries_on_import(ROOT, module)
    assert not set(used) - ENGINE_LIBRARIES, used


def test_the_runtime_needs_numpy_only() -> None:
    used = libraries_on_import(ROOT, "runtime")
    assert set(used) == {"numpy"}, used


def test_there_is_no_module_of_leftovers() -> None:
    names = {path.stem for path in ROOT.rglob("*.py")} | {p.name for p in ROOT.rglob("*")}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_importing_qwave_has_no_side_effects(fresh_python: Callable[..., str]) -> None:
    code = (
        "import sys, logging, warnings\n"
        "filters = list(warnings.filters)\n"
        "import qwave\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
        "print(sorted(name for name in sys.modules if name.startswith('qwave')))\n"
        "print(warnings.filters == filters, logging.getLogger().handlers)\n"
    )
    assert fresh_python(code).splitlines() == ["[]", "['qwave']", "True []"]


@pytest.mark.slow
def test_torch_is_not_loaded_by_what_runs_without_it(fresh_python: Callable[..., str]) -> None:
    present = [module for module in TORCHLESS if module in modules_of(ROOT)]
    assert {"config", "packing", "runtime"} <= set(present)
    imports = "\n".join(f"import qwave.{module}" for module in present)
    code = f"import sys\n{imports}\nprint('torch' in sys.modules)"
    assert fresh_python(code).splitlines()[-1] == "False"


def test_every_public_name_is_there_and_unknown_names_are_refused() -> None:
    homes = {home: modules_of(ROOT) >= {home} for home in set(qwave._HOMES.values())}
    assert sorted(qwave.__all__) == sorted(qwave._HOMES)
    for name in qwave.__all__:
        if homes[qwave._HOMES[name]]:
            assert getattr(qwave, name).__name__ == name
    assert set(qwave.__all__) <= set(dir(qwave))
    with pytest.raises(AttributeError, match="module 'qwave' has no attribute 'train'"):
        _ = qwave.train


# --- the readers themselves, on packages made to break each rule ---


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """A package named qwave of the given files, `__` standing for a slash."""

    def write(**files: str) -> Path:
        root = tmp_path / "qwave"
        for name, text in {"__init__": "", **files}.items():
            path = root / f"{name.replace('__', '/', 1) if name[0] != '_' else name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent != root:
                (path.parent / "__init__.py").touch()
            path.write_text(text)
        return root

    return write


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nn", "from qwave.engine import Mixture"),
        ("nn", "import qwave.engine.train"),
        ("nn", "from qwave.data import load"),  # a sibling
        ("nn", "from qwave import data"),
        ("nn", "from . import engine"),
        ("nn", "from .engine import train"),
        ("nn", "def f():\n    from qwave.engine import train"),
        ("nn", "try:\n    import qwave.engine\nexcept ImportError:\n    pass"),
        ("nn", "class A:\n    import qwave.engine"),
        ("nn", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import qwave.engine"),
        ("nn", "import qwave"),
        ("nn", "from qwave import load_packed"),
        ("nn", "import qwave.unknown"),
        ("config__trial", "from qwave.data import load"),
        ("config__trial", "from ..data import load"),
    ],
)
def test_an_import_from_above_or_beside_is_found(
    package: Callable[..., Path], name: str, text: str
) -> None:
    found = upward_imports(package(**{name: text}))
    assert len(found) == 1
    assert name.replace("__", "/") in found[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("engine", "from qwave.data import load\nfrom qwave import nn\nfrom .nn import M"),
        ("config__trial", "from qwave.config.errors import E\nfrom .errors import E"),
        ("packing__file", "from qwave.data import load"),
        ("cli", "import qwaves\nimport numpy"),
    ],
)
def test_an_import_from_below_or_within_is_allowed(
    package: Callable[..., Path], name: str, text: str
) -> None:
    assert not upward_imports(package(**{name: text}))


def test_a_module_without_a_layer_is_found(package: Callable[..., Path]) -> None:
    root = package(config="", utils="", helpers__one="")
    assert unplaced(root) == {"utils", "helpers"}


def test_a_library_outside_its_home_is_found(package: Callable[..., Path]) -> None:
    root = package(
        store="import mlflow",
        space="import optuna, pydantic",
        scores="import numpy",
        data="def f():\n    import optuna.trial",
        engine="from matplotlib import pyplot",
    )
    found = " ".join(strays(root))
    assert len(strays(root)) == 2
    assert "data.py:2 imports optuna" in found
    assert "engine.py:1 imports matplotlib" in found


def test_torch_is_found_through_other_modules_but_not_inside_functions(
    package: Callable[..., Path],
) -> None:
    root = package(
        config="",
        nn="import torch.nn",
        packing="from qwave.nn import quantize",
        runtime="from qwave.packing import unpack",
        data="def f():\n    import torch",
        store="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
    )
    assert under(root, "runtime") == {"runtime", "packing", "nn"}
    assert libraries_on_import(root, "runtime") == {"torch": "nn.py:1 imports torch.nn"}
    assert libraries_on_import(root, "data") == {}
    assert libraries_on_import(root, "store") == {}


def test_what_the_package_itself_imports_counts_for_every_module(
    package: Callable[..., Path],
) -> None:
    root = package(__init__="import torch", config="")
    assert set(libraries_on_import(root, "config")) == {"torch"}
