"""The record that people browse. The only module that knows MLflow.

It takes plain values and explicit run ids: MLflow's global active run, tracking URI and experiment
are never touched, so that a program around qwave keeps its own.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwave.config import StoreError
from qwave.shell import command_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's limits of one batch.
_MAX_METRICS, _MAX_PARAMS, _MAX_TAGS = 1000, 100, 100
_MAX_PARAM_LENGTH = 6000


@dataclass(frozen=True)
class DatasetInput:
    """What MLflow shows as a run's dataset.

    Attributes:
        name: Short name.
        digest: Digest of the content.
        source: Where it was read from.
        profile: Counts such as ``num_rows``.
    """

    name: str
    digest: str
    source: str
    profile: Mapping[str, int]


class Tracker:
    """A connection to one local MLflow store: ``mlflow.db`` and ``artifacts/`` in a folder.

    Open it once, before other processes use the store: the first opening creates the tables, and
    two of them race.

    Raises:
        StoreError: The folder holds another MLflow store, or one of another version.
    """

    def __init__(self, store: Path) -> None:
        # Read when mlflow is imported, which is therefore not done at the top of this module. A
        # person who wants telemetry can still set the variable.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from mlflow.tracking.context.registry import resolve_tags
        from sqlalchemy.exc import SQLAlchemyError

        # Creating the tables writes a hundred lines at INFO.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.uri = f"sqlite:///{(store / 'mlflow.db').resolve()}"
        self.artifact_root = (store / "artifacts").resolve()
        try:
            self._client: MlflowClient = MlflowClient(tracking_uri=self.uri)
            self._client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError) as error:
            raise StoreError(
                f"{store / 'mlflow.db'} cannot be opened by this MLflow: {error}"
            ) from error

        # User, source and its git commit: the same for every run of this process, and 10 ms to
        # look up.
        self._context_tags: dict[str, str] = resolve_tags()
        # Of the runs that were started here and are open: asking MLflow reads the whole run.
        self._folders: dict[str, Path] = {}

    def experiment(self, name: str) -> str:
        """Id of the experiment of that name, made where there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise StoreError(
                    f"the MLflow experiment {name!r} was deleted in the UI; restore it with "
                    f"`mlflow experiments restore -x {found.experiment_id}`, or choose another "
                    "name= for the sweep"
                )
            return str(found.experiment_id)
        location = (self.artifact_root / name).as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def retire_experiment(self, name: str) -> None:
        """Rename an experiment after the present time and delete it (it can be restored)."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._client.rename_experiment(found.experiment_id, f"{name} (until {stamp})")
        self._client.delete_experiment(found.experiment_id)

    def start_run(
        self,
        experiment_id: str,
        name: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        dataset: DatasetInput | None = None,
    ) -> str:
        """Start a run with the tags that MLflow's own `start_run` would give it; returns its id.

        The user, the source and its git commit are among those tags.
        """
        run = self._client.create_run(
            experiment_id, run_name=name, tags={**self._context_tags, **(tags or {})}
        )
        run_id = str(run.info.run_id)
        self._folders[run_id] = _local_path(run.info.artifact_uri)
        self.log(run_id, params=params, metrics=metrics)
        if dataset is not None:
            self._log_dataset(run_id, dataset)
        return run_id

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        series: Mapping[str, Iterable[tuple[int, float]]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write values in as few batches as MLflow allows.

        Args:
            run_id: The run.
            params: Written as text; may not be changed afterwards.
            metrics: One value each.
            series: (step, value) pairs each.
            tags: Overwrite earlier ones.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        points = [Metric(key, float(value), now, 0) for key, value in (metrics or {}).items()]
        points += [
            Metric(key, float(value), now, step)
            for key, pairs in (series or {}).items()
            for step, value in pairs
        ]
        texts = [Param(k, str(v)[:_MAX_PARAM_LENGTH]) for k, v in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        n_batches = max(
            math.ceil(len(points) / _MAX_METRICS),
            math.ceil(len(texts) / _MAX_PARAMS),
            math.ceil(len(labels) / _MAX_TAGS),
        )
        for i in range(n_batches):
            self._client.log_batch(
                run_id,
                points[i * _MAX_METRICS : (i + 1) * _MAX_METRICS],
                texts[i * _MAX_PARAMS : (i + 1) * _MAX_PARAMS],
                labels[i * _MAX_TAGS : (i + 1) * _MAX_TAGS],
            )

    def artifact_folder(self, run_id: str) -> Path:
        """The folder of a run's artifacts, made where it is not there yet; write into it.

        The store is local, so that files need not be written elsewhere and copied: the 37 files
        of a trial took 19 ms that way.

        Raises:
            StoreError: MLflow has no such run.
        """
        folder = self._folders.get(run_id)
        if folder is None:
            folder = self._recorded_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _recorded_folder(self, run_id: str) -> Path:
        from mlflow.exceptions import MlflowException

        try:
            return _local_path(self._client.get_run(run_id).info.artifact_uri)
        except MlflowException as error:
            raise StoreError(
                f"MLflow has no run {run_id} in {self.uri} (was it deleted for good?): {error}"
            ) from error

    def end_run(self, run_id: str, status: str = "FINISHED") -> None:
        """Close a run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._client.set_terminated(run_id, status)
        self._folders.pop(run_id, None)

    def resume_run(self, run_id: str) -> None:
        """Mark a closed run as running again."""
        self._client.update_run(run_id, status="RUNNING")

    def status(self, run_id: str) -> str:
        """``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``."""
        return str(self._client.get_run(run_id).info.status)

    def open_runs(self, experiment_id: str, kind: str) -> list[str]:
        """Ids of the runs of a kind (tag `qwave.kind`) that nobody has closed."""
        query = f"attributes.status = 'RUNNING' and tags.`qwave.kind` = '{kind}'"
        found = self._client.search_runs([experiment_id], query, max_results=1000)
        return [str(run.info.run_id) for run in found]

    def find_run(self, experiment_id: str, kind: str) -> str | None:
        """Id of the newest run of a kind (tag `qwave.kind`), open or not; None without one."""
        query = f"tags.`qwave.kind` = '{kind}'"
        found = self._client.search_runs([experiment_id], query, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _log_dataset(self, run_id: str, dataset: DatasetInput) -> None:
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as Input

        entity = Dataset(
            name=dataset.name,
            digest=dataset.digest,
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps(dict(dataset.profile)),
        )
        context = InputTag("mlflow.data.context", "cross-validation")
        self._client.log_inputs(run_id, [Input(entity, [context])])


def _local_path(uri: str) -> Path:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(uri))


def ui_command(store: Path) -> str:
    """The command that opens the MLflow UI on a store, to be pasted into a shell."""
    uri = f"sqlite:///{(store / 'mlflow.db').resolve()}"
    return command_line("mlflow", "ui", "--backend-store-uri", uri)
