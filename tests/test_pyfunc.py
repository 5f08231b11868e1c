"""What MLflow loads and serves: the answers of the runtime, in a table."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server import invocations

from qwave.config import (
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    PackedFileError,
    QwaveError,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.packing import PackedModel
from qwave.pyfunc import PackedPyfunc, _load_pyfunc
from qwave.runtime import PackedClassifier, save_packed
from qwave.store import Store, Tracker, register_model
from tests.number_forms import FORMS

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

MODELS = {
    "linear": ModelConfig(("int1",), (), input_dropout=0.2),
    "best-at-1kB": ModelConfig(("ternary",), (6, 4), dropout=0.3),
    # A mixture with curiosity.
    "best-at-50kB": ModelConfig(
        ("int1", "int4", "fp32"), (4,), top_k=2, curiosity=CuriosityConfig(0.5, 4)
    ),
    "popcount": ModelConfig(("popcount", "int16"), (4,), top_k=1),
}


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(2, distance=0.5)


@pytest.fixture(scope="module")
def models(data: EmbeddingSet) -> dict[str, PackedModel]:
    """By alias."""
    normalization = DataConfig(normalization="standard")
    train = TrainConfig(epochs=20, batch_size=16, learning_rate=0.01)
    configs = {k: TrialConfig(data=normalization, model=v, train=train) for k, v in MODELS.items()}
    return {alias: fit_model(config, data).packed for alias, config in configs.items()}


def _expected(model: PackedModel, x: np.ndarray) -> dict[str, list[Any]]:
    """The answers of the runtime, column by column."""
    classifier = PackedClassifier(model)
    said = classifier.examine(x)
    columns = {
        "label": classifier.predict(x).tolist(),
        "probability": [max(row) for row in said.probabilities.tolist()],
        "mutual_information": said.mutual_information.tolist(),
    }
    for i, name in enumerate(model.header.class_names):
        columns[f"p_{name}"] = said.probabilities[:, i].tolist()
    return columns


# --- the loader by itself ---


@pytest.mark.parametrize("alias", MODELS)
def test_every_answer_is_the_runtimes(
    models: dict[str, PackedModel], alias: str, data: EmbeddingSet, tmp_path: Path
) -> None:
    save_packed(models[alias], tmp_path / "model.qwave")
    table = _load_pyfunc(str(tmp_path / "model.qwave")).predict(data.x)
    assert table.to_dict("list") == _expected(models[alias], data.x)
    assert table["label"].nunique() > 1
    assert (table.dtypes.iloc[1:] == np.float32).all()
    proba = PackedClassifier(models[alias]).predict_proba(data.x)
    np.testing.assert_allclose(table.iloc[:, 3:], proba, atol=1e-6)


def test_equal_classes_give_the_first(models: dict[str, PackedModel], data: EmbeddingSet) -> None:
    model = models["linear"]
    layer = model.layers["e0.0"]
    assert layer.scale is not None
    silent = dataclasses.replace(
        layer, scale=np.zeros_like(layer.scale), bias=np.zeros_like(layer.bias)
    )
    model = dataclasses.replace(model, layers={"e0.0": silent})
    table = PackedPyfunc(PackedClassifier(model)).predict(data.x[:2])
    assert list(table["label"]) == ["class 0", "class 0"]
    assert table["probability"].tolist() == [np.float32(1 / 3)] * 2


def test_the_numbers_of_one_clip_are_a_row(
    models: dict[str, PackedModel], data: EmbeddingSet
) -> None:
    served, x = PackedPyfunc(PackedClassifier(models["best-at-50kB"])), data.x
    expected = served.predict(x[:1])
    for one in (x[0], x[0].tolist(), pd.Series(x[0]), x[:, :12][0].astype(np.float64)):
        pd.testing.assert_frame_equal(served.predict(one), expected, check_exact=True)


def test_a_dictionary_of_columns_is_a_table(
    models: dict[str, PackedModel], data: EmbeddingSet
) -> None:
    served, x = PackedPyfunc(PackedClassifier(models["best-at-50kB"])), data.x[:5]
    columns: dict[str, Any] = {f"f{i}": x[:, i] for i in range(12)}
    pd.testing.assert_frame_equal(served.predict(columns), served.predict(x), check_exact=True)
    columns["f3"] = x[:2, 3]
    with pytest.raises(QwaveError, match=r"^x must be columns of one length: "):
        served.predict(columns)


@pytest.mark.parametrize("alias", MODELS)
def test_no_clips_give_an_empty_table_of_the_same_columns(
    models: dict[str, PackedModel], alias: str, data: EmbeddingSet
) -> None:
    served = PackedPyfunc(PackedClassifier(models[alias]))
    table = served.predict(data.x[:0])
    assert len(table) == 0
    assert list(table.columns) == list(served.predict(data.x[:1]).columns)


def test_rows_of_another_width_and_nan_are_refused(
    models: dict[str, PackedModel], data: EmbeddingSet
) -> None:
    served, x = PackedPyfunc(PackedClassifier(models["linear"])), data.x[:7].copy()
    message = re.escape("x must have shape [clips, 12], but has shape (7, 4)")
    with pytest.raises(QwaveError, match=f"^{message}$"):
        served.predict(x[:, :4])
    message = re.escape("x must have shape [clips, 12], but has shape (11,)")
    with pytest.raises(QwaveError, match=f"^{message}$"):
        served.predict(x[0, :11])
    x[3, 1] = np.nan
    with pytest.raises(QwaveError, match=r"^x must be finite, but x\[3, 1\] is nan$"):
        served.predict(pd.DataFrame(x))


def test_a_missing_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.qwave"
    with pytest.raises(PackedFileError, match=f"^no such file: {re.escape(str(file))}$"):
        _load_pyfunc(str(file))
    file.write_bytes(b"\x80\x04K\x01.")  # a pickled 1
    match = f"^{re.escape(str(file))}: not a packed qwave model: 5 bytes"
    with pytest.raises(PackedFileError, match=match):
        _load_pyfunc(str(file))


def test_loading_takes_neither_torch_nor_mlflow(fresh_python: Callable[..., str]) -> None:
    code = "import sys, qwave.pyfunc; print({'torch', 'mlflow', 'sklearn'} & set(sys.modules))"
    assert fresh_python(code) == "set()"


# --- the same models in a registry ---


class Registry(NamedTuple):
    """Where the models are registered as `front`, each with its alias."""

    environment: dict[str, str]
    folders: dict[str, Path]


@pytest.fixture(scope="module")
def registry(
    models: dict[str, PackedModel],
    data: EmbeddingSet,
    empty_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Registry:
    store = tmp_path_factory.mktemp("served") / "store, with ü and 100% #1"
    store.mkdir()
    shutil.copy(empty_database, store)
    tracker = Tracker(Store(store))
    run_id = tracker.start_run(tracker.experiment("sweep"), "study")
    folders = {}
    for alias, model in models.items():
        file = store / f"{alias}.qwave"
        save_packed(model, file)
        register_model(
            tracker,
            run_id=run_id,
            name="front",
            model_file=file,
            input_example=data.x[:2],
            class_names=data.class_names,
            aliases=[alias],
            tags={},
            description="",
        )
        (place,) = store.glob(f"artifacts/sweep/models/*/artifacts/data/{file.name}")
        folders[alias] = place.parents[1].resolve()
    uris = {"MLFLOW_TRACKING_URI": tracker.uri, "MLFLOW_REGISTRY_URI": tracker.uri}
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return Registry({**inherited, **uris, "MLFLOW_DISABLE_TELEMETRY": "true"}, folders)


# First, every way to another qwave is closed: the folder that it is installed from as well.
LOADING = """
import importlib.util, json, sys
from pathlib import Path
sys.path = [entry for entry in sys.path if not Path(entry or ".", "qwave").is_dir()]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
assert importlib.util.find_spec("qwave") is None
import mlflow
tables = {}
for alias in sys.argv[1:]:
    model = mlflow.pyfunc.load_model(f"models:/front@{alias}")
    tables[alias] = model.predict(model.input_example).to_dict("list")
files = [m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "qwave"]
print(json.dumps([tables, files, "torch" in sys.modules]))
"""


@pytest.mark.slow
def test_a_fresh_process_loads_by_alias_and_answers_as_the_runtime_from_shipped_source(
    registry: Registry, models: dict[str, PackedModel], data: EmbeddingSet, tmp_path: Path
) -> None:
    done = _run(["-c", LOADING, *MODELS], registry, tmp_path)
    tables, files, has_torch = json.loads(done.splitlines()[-1])
    for alias, model in models.items():
        assert tables[alias] == _expected(model, data.x[:2]), alias
    assert not has_torch
    # From one of the folders; and no module is in it that loading and predicting do not take.
    (code,) = [
        folder / "code" / "qwave"
        for folder in registry.folders.values()
        if Path(files[0]).is_relative_to(folder)
    ]
    loaded = {Path(file).relative_to(code).parts[0] for file in files}
    assert loaded == {path.name for path in code.iterdir()} - {"__pycache__"}


@pytest.mark.slow
def test_mlflow_models_predict_answers_as_the_runtime(
    registry: Registry, models: dict[str, PackedModel], data: EmbeddingSet, tmp_path: Path
) -> None:
    # A qwave that cannot be imported stands in the way, where Python looks first.
    (tmp_path / "qwave.py").write_text("raise ImportError('the wrong qwave')")
    (tmp_path / "in.json").write_text(json.dumps({"inputs": data.x[:5].tolist()}))
    command = "-m mlflow models predict -i in.json -o out.json --env-manager local -m"
    _run([*command.split(), "models:/front@best-at-50kB"], registry, tmp_path)
    predictions = json.loads((tmp_path / "out.json").read_text())["predictions"]
    expected = _expected(models["best-at-50kB"], data.x[:5])
    rows = zip(*expected.values(), strict=True)
    assert predictions == [dict(zip(expected, row, strict=True)) for row in rows]


def _run(arguments: list[str], registry: Registry, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=registry.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def loaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> PyFuncModel:
    """The mixture, in this process, with this process's qwave."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # MLflow puts the shipped source first
    return mlflow.pyfunc.load_model(str(registry.folders["best-at-50kB"]))


def test_what_is_shown_names_the_columns_of_the_answers_and_the_width(
    loaded: PyFuncModel, models: dict[str, PackedModel], data: EmbeddingSet
) -> None:
    signature = loaded.metadata.signature
    assert signature is not None
    assert signature.outputs.input_names() == list(_expected(models["best-at-50kB"], data.x))
    types = [str(kind.to_numpy()) for kind in signature.outputs.input_types()]
    assert types == ["<U0", *["float32"] * 5]
    shown = "embeddings, numbers of any type, [clips, 12]"
    assert loaded.metadata.metadata == {"input": shown}


@pytest.mark.parametrize("form", FORMS)
def test_mlflow_passes_on_numbers_in_every_form(
    loaded: PyFuncModel, models: dict[str, PackedModel], data: EmbeddingSet, form: str
) -> None:
    x = np.round(data.x[:7])
    table = loaded.predict(FORMS[form](x))
    assert isinstance(table, pd.DataFrame)
    assert table.to_dict("list") == _expected(models["best-at-50kB"], x)


def _columns(x: np.ndarray) -> list[str]:
    return [f"f{i}" for i in range(x.shape[1])]


# What a request holds, by its key.
REQUESTS: dict[str, Callable[[np.ndarray], Any]] = {
    "inputs": lambda x: x.tolist(),
    "instances": lambda x: x.tolist(),
    "dataframe_split": lambda x: {"columns": _columns(x), "data": x.tolist()},
    "dataframe_records": lambda x: pd.DataFrame(x, columns=_columns(x)).to_dict("records"),
}


@pytest.mark.parametrize("key", REQUESTS)
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_requests_of_every_form_are_answered(
    loaded: PyFuncModel, models: dict[str, PackedModel], data: EmbeddingSet, key: str, dtype: type
) -> None:
    x: np.ndarray = np.round(data.x[:5]).astype(dtype)
    request = json.dumps({key: REQUESTS[key](x)})
    schema = loaded.metadata.get_input_schema()
    answer = invocations(request, "application/json", loaded, schema)
    expected = _expected(models["best-at-50kB"], x)
    rows = zip(*expected.values(), strict=True)
    found = json.loads(answer.response)["predictions"]
    assert found == [dict(zip(expected, row, strict=True)) for row in rows]
