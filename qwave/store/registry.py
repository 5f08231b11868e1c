"""Packed models in MLflow's registry: versions, aliases, and folders that MLflow can serve.

`mlflow.pyfunc.log_model` and `mlflow.register_model` write to the one store that is set globally.
What they do is done here step by step, by a client of the tracker's store: a logged model of the
run, its folder, a version of the registered model, its aliases.

The folder of a model holds everything that serving needs besides the pinned requirements: the
packed file, and the source of the modules that read it. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qwave.config import ConfigError, DataError, PackedFileError
from qwave.config.sweep import require_name
from qwave.store.tracker import Tracker, local_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

_LOADER_MODULE = "qwave.pyfunc"
# The loader and the modules that it imports: 0.15 MB of source. All of qwave would be five times
# as much, and the embeddings of ESC-10 beside it.
_SHIPPED_MODULES = ("caching", "compiler", "config", "data", "packing", "pyfunc", "runtime")
_REQUIREMENTS = ("numpy", "pandas")
_DIGEST_TAG = "qwave.model_digest"
_ORIGIN_TAGS = ("mlflow.user", "mlflow.source.")
_VERSIONS_TAG = "mlflow.modelVersions"  # by which MLflow's pages find the versions of a model


class RegisteredModel(NamedTuple):
    """A version of a registered model.

    Attributes:
        name: Name of the registered model.
        version: Number of the version, from 1.
        uri: Address of the version, ``models:/<name>/<version>``.
    """

    name: str
    version: int
    uri: str


def register_model(
    tracker: Tracker,
    *,
    run_id: str,
    name: str,
    model_file: Path,
    input_example: np.ndarray,
    class_names: Sequence[str],
    aliases: Sequence[str],
    tags: Mapping[str, str],
    description: str,
) -> RegisteredModel:
    """Make a packed file a version of a registered model, and move aliases to that version.

    A file whose bytes are registered under this name already is no second version: that version
    gets the tags, the description and the aliases, and stays with the run that it came from. Other
    aliases of it, and of other versions, stay as they are.

    The logged model takes over the run's parameters, and of its metrics those that were logged
    once and are finite.

    Args:
        tracker: The store; its registry is the same database.
        run_id: The run that the model came from, open or closed.
        name: Registered model, made where there is none: letters, digits, ``_ - .``.
        model_file: The packed file.
        input_example: A few raw embeddings, finite [n, d].
        class_names: Names of the classes in the file, in its order.
        aliases: Aliases to move to the version, such as ``best-at-50kB``.
        tags: Tags of the version and the logged model.
        description: Description of the version, in Markdown.

    Raises:
        ConfigError: MLflow cannot have the name or an alias.
        DataError: The example is not [n, d], empty or not finite, or two classes share a name.
        PackedFileError: There is no such file.
    """
    require_name(name)
    for alias in aliases:
        _require_alias(alias)
    _require_distinct(class_names)
    example = _checked_example(input_example)
    if not model_file.is_file():
        raise PackedFileError(f"no such file: {model_file}")
    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()

    from mlflow import MlflowClient

    # With the registry's address as well, which would otherwise be the global one.
    client = MlflowClient(tracking_uri=tracker.uri, registry_uri=tracker.uri)
    tags = {**tags, _DIGEST_TAG: digest}
    version = _find_version(client, name, digest)
    if version is None:
        logged = _log_model(client, run_id, name, model_file, example, class_names, tags)
        version = _create_version(client, logged, run_id, name, tags, description)
    else:
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, value)
        client.update_model_version(name, str(version), description)
    for alias in aliases:
        client.set_registered_model_alias(name, alias, str(version))
    return RegisteredModel(name, version, f"models:/{name}/{version}")


def _require_alias(alias: str) -> None:
    """Refuse what MLflow would refuse, which it does after the version is there."""
    if not re.fullmatch(r"[\w-]{1,255}", alias):
        raise ConfigError(
            "an alias must be 1 to 255 letters, digits, '_' or '-' (`best-at-50kB`), but got "
            f"{alias!r}"
        )
    if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        raise ConfigError(
            f"the alias {alias!r} is reserved: MLflow gives 'latest' and 'v1', 'v2', ... itself"
        )


def _require_distinct(class_names: Sequence[str]) -> None:
    twice = sorted({name for name in class_names if list(class_names).count(name) > 1})
    if twice:
        raise DataError(
            "each class must have a name of its own to be a column of the answers, but "
            f"{', '.join(map(repr, twice))} stands for several"
        )


def _checked_example(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(
            f"the input example must be rows, [clips, features], but has shape {x.shape}"
        )
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise DataError(
            f"the input example must be finite, but x[{row}, {column}] is {x[row, column]}"
        )
    return x


def _find_version(client: MlflowClient, name: str, digest: str) -> int | None:
    """The newest version of these bytes whose folder is still where it was registered."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{_DIGEST_TAG}` = '{digest}'")
    present = [int(v.version) for v in found if (local_path(str(v.source)) / "MLmodel").is_file()]
    return max(present, default=None)


def _log_model(
    client: MlflowClient,
    run_id: str,
    name: str,
    model_file: Path,
    example: np.ndarray,
    class_names: Sequence[str],
    tags: Mapping[str, str],
) -> LoggedModel:
    """Log a model as `mlflow.pyfunc.log_model` does: its entity, its folder, the run's output."""
    from mlflow.entities import LoggedModelOutput, Metric

    run = client.get_run(run_id)
    # The user, the program and its git commit.
    origin = {k: v for k, v in run.data.tags.items() if k.startswith(_ORIGIN_TAGS)}
    logged = client.create_logged_model(
        run.info.experiment_id,
        name.replace(".", "-"),  # a dot is allowed in the registry, but not here
        run_id,
        {**origin, **tags},
        run.data.params,
        "classifier",
    )
    try:
        _write_folder(logged, model_file, example, class_names)
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    histories = [client.get_metric_history(run_id, key) for key in run.data.metrics]
    # Not NaN: MLflow keeps it for a run, and shows 0 for a model. The same timestamps, so that
    # the run's own metrics stay as they are.
    scores = [
        Metric(score.key, score.value, score.timestamp, score.step, logged.model_id)
        for score, *more in histories
        if not more and math.isfinite(score.value)
    ]
    client.log_batch(run_id, scores)
    return client.finalize_logged_model(logged.model_id, "READY")


def _write_folder(
    logged: LoggedModel, model_file: Path, example: np.ndarray, class_names: Sequence[str]
) -> None:
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        signature=_signature(class_names),
        metadata={"input": f"embeddings, numbers of any type, [clips, {example.shape[1]}]"},
    )
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "qwave")
        _copy_source(source)
        pyfunc.save_model(
            local_path(logged.artifact_location),
            loader_module=_LOADER_MODULE,
            data_path=str(model_file),
            code_paths=[str(source)],
            mlflow_model=model,
            input_example=example,
            # Given, since MLflow takes seconds to find them out by loading the model.
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in _REQUIREMENTS],
            # It would else take the lock file of the project that the program was started in.
            uv_project_path=temporary,
        )


def _signature(class_names: Sequence[str]) -> ModelSignature:
    """The columns of `qwave.pyfunc`.

    Inputs have no schema: `qwave.pyfunc` takes numbers in any form, and says itself what is wrong
    with others. A tensor's schema lets MLflow refuse all lists, and arrays and frames of any other
    dtype, float64 among them; a schema of columns lets it refuse whole numbers, and cut rows that
    are too wide without a word.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    numbers = ["probability", "mutual_information", *[f"p_{name}" for name in class_names]]
    return ModelSignature(
        outputs=Schema(
            [
                ColSpec(DataType.string, "label"),
                *[ColSpec(DataType.float, column) for column in numbers],
            ]
        ),
    )


def _copy_source(target: Path) -> None:
    """Copy the shipped modules as a package."""
    package = Path(__file__).parents[1]
    files = [package / "__init__.py"]
    for module in _SHIPPED_MODULES:
        for pattern in (f"{module}.py", f"{module}/**/*.py", f"{module}/**/*.[ch]"):
            files += package.glob(pattern)
    for file in files:
        copy = target / file.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _create_version(
    client: MlflowClient,
    logged: LoggedModel,
    run_id: str,
    name: str,
    tags: Mapping[str, str],
    description: str,
) -> int:
    """Register a logged model, as `mlflow.register_model` does; returns the version."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        logged.artifact_location,  # ``models:/<model id>`` would be looked up in the global store
        run_id,
        dict(tags),
        description=description,
    )
    version = int(created.version)
    versions = json.dumps([{"name": name, "version": str(version)}])
    client.set_logged_model_tags(logged.model_id, {_VERSIONS_TAG: versions})
    return version
