"""The record that people browse: MLflow's experiments, runs and artifacts.

It takes plain values and explicit run ids: MLflow's global active run, tracking URI and experiment
are never touched, so that a program around qwave keeps its own.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qwave.caching import require_home
from qwave.config import StoreError
from qwave.store.database import mend_paths, require_database
from qwave.store.folder import Store
from qwave.store.origin import DatasetInput, context_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow's limits of one batch.
_MAX_METRICS, _MAX_PARAMS, _MAX_TAGS = 1000, 100, 100
_MAX_PARAM_LENGTH = 6000
_MAX_EXPERIMENT_NAME = 500

_Written = TypeVar("_Written")


class Tracker:
    """A connection to the MLflow database and the artifacts of one store.

    Open it once, before other processes use the store: the first opening creates the tables, and
    two of them race.

    Where the folder was moved or copied, the paths that MLflow keeps are mended. Runs and
    experiments that were only marked as deleted, as MLflow's UI does, are restored when they are
    needed. A note on stderr tells of both.

    Raises:
        StoreError: The folder holds another MLflow store, or one of another version.
    """

    def __init__(self, store: Store) -> None:
        # Read when mlflow is imported, which is therefore not done at the top of this module. A
        # person who wants telemetry can still set the variable.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        require_home()  # without one, mlflow cannot even be imported
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        # Creating the tables writes a hundred lines at INFO.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.uri, self.artifact_root = store.tracking_uri, store.artifact_root
        require_database(store)
        try:
            self._client: MlflowClient = MlflowClient(tracking_uri=self.uri)
            self._client.search_experiments(max_results=1)
            earlier = mend_paths(store)
        except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
            raise StoreError(
                f"{store.database} cannot be opened by this MLflow: {error}"
            ) from error
        if earlier:
            _note(
                f"--store {store} was moved or copied: MLflow looked for its artifacts in "
                f"{', '.join(map(str, earlier))}, and does so in {self.artifact_root} now"
            )

        # The same for every run of this process, and 10 ms to look up.
        self._context_tags = context_tags()
        # Artifacts of the runs that were started here and are open: MLflow would read a whole run.
        self._folders: dict[str, Path] = {}

    def experiment(self, name: str) -> str:
        """Id of the experiment of that name, made where there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            self._restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        location = (self.artifact_root / name).as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _restore_experiment(self, experiment_id: str) -> bool:
        """Restore an experiment, and its runs, if it was deleted; returns whether it was."""
        found = self._client.get_experiment(experiment_id)
        if found.lifecycle_stage != "deleted":
            return False
        self._client.restore_experiment(experiment_id)
        _note(f"the MLflow experiment {found.name!r} was deleted (in the UI?): it is restored")
        return True

    def has_runs(self, name: str) -> bool:
        """Whether the experiment of that name holds a run that was not deleted."""
        found = self._client.get_experiment_by_name(name)
        return found is not None and bool(
            self._client.search_runs([found.experiment_id], max_results=1)
        )

    def retire_experiment(self, name: str, *, is_kept: bool = False) -> str | None:
        """Rename an experiment after the present time and delete it (it can be restored).

        Args:
            name: Name of the experiment.
            is_kept: Do not delete the experiment, unless it was deleted before.

        Returns:
            Its new name, or None where there is no such experiment.
        """
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        is_deleted = found.lifecycle_stage == "deleted"
        if is_deleted:  # and could not be renamed
            self._client.restore_experiment(found.experiment_id)
        when = time.strftime("until %Y-%m-%d %H:%M:%S")
        renamed = _with_suffix(name, f" ({when})")
        if self._client.get_experiment_by_name(renamed) is not None:
            # The same second again: of two quick starts, or of a clock that was put back.
            renamed = _with_suffix(name, f" ({when}, experiment {found.experiment_id})")
        self._client.rename_experiment(found.experiment_id, renamed)
        if is_deleted or not is_kept:
            self._client.delete_experiment(found.experiment_id)
        return renamed

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
        tags = {**self._context_tags, **(tags or {})}
        run = self._written(
            lambda: self._client.create_run(experiment_id, run_name=name, tags=tags),
            lambda: self._restore_experiment(experiment_id),
        )
        run_id = str(run.info.run_id)
        self._folders[run_id] = local_path(run.info.artifact_uri)
        self.log(run_id, params=params, metrics=metrics)
        if dataset is not None:
            self._client.log_inputs(run_id, [dataset.for_mlflow()])
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
            params: Parameters by name, written as text; they cannot be changed afterwards.
            metrics: Metrics by name, one value each.
            series: Metrics by name, (step, value) pairs each.
            tags: Tags by name; they overwrite earlier ones.
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
            batch = (
                points[i * _MAX_METRICS : (i + 1) * _MAX_METRICS],
                texts[i * _MAX_PARAMS : (i + 1) * _MAX_PARAMS],
                labels[i * _MAX_TAGS : (i + 1) * _MAX_TAGS],
            )
            self._written(
                functools.partial(self._client.log_batch, run_id, *batch),
                lambda: self._restore_run(run_id),
            )

    def artifact_folder(self, run_id: str) -> Path:
        """The folder of a run's artifacts, made where it is not there yet; write into it.

        The store is local, so that files need not be written elsewhere and copied, which took
        19 ms for the 37 files of a trial.

        Where MLflow has lost the run (its database was removed, or `mlflow gc` ran), the folder
        is found by the run's id, if it is still there.

        Raises:
            StoreError: MLflow has no such run, and the store no folder of it.
        """
        folder = self._folders.get(run_id) or self._recorded_folder(run_id)
        if folder is None:
            raise StoreError(
                f"MLflow has no run {run_id} in {self.uri} (was it deleted for good?), and there "
                f"are no artifacts of it in {self.artifact_root}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def find_artifacts(self, run_id: str) -> Path | None:
        """The folder of `artifact_folder`, if it is there; None if not. Makes nothing."""
        folder = self._folders.get(run_id) or self._recorded_folder(run_id)
        return folder if folder is not None and folder.is_dir() else None

    def _recorded_folder(self, run_id: str) -> Path | None:
        run = self._find(run_id)
        if run is not None:
            return local_path(run.info.artifact_uri)
        return next(self.artifact_root.glob(f"*/{run_id}/artifacts"), None)

    def _find(self, run_id: str) -> Run | None:
        """A run, deleted or not; None where it is gone for good."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _restore_run(self, run_id: str) -> bool:
        """Restore a run, and its experiment, if they were deleted; returns whether they were."""
        run = self._find(run_id)
        if run is None:
            raise StoreError(
                f"MLflow has no run {run_id} in {self.uri} any more (was it deleted for good?): "
                "the same command goes on without it"
            )
        if self._restore_experiment(run.info.experiment_id):
            return True
        if run.info.lifecycle_stage != "deleted":
            return False
        self._client.restore_run(run_id)
        _note(f"the MLflow run {run.info.run_name!r} was deleted (in the UI?): it is restored")
        return True

    def restore_runs(self, experiment_id: str) -> None:
        """Restore what was deleted of an experiment's runs of trials and of the study."""
        from mlflow.entities import ViewType

        query = "tags.`qwave.kind` != 'export'"
        run_ids: list[str] = []
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [experiment_id], query, ViewType.DELETED_ONLY, 1000, page_token=token
            )
            run_ids += [run.info.run_id for run in page]
            token = page.token or ""
        for run_id in run_ids:
            self._client.restore_run(run_id)
        if run_ids:
            _note(
                f"{len(run_ids)} MLflow run{'s' * (len(run_ids) > 1)} of experiment "
                f"{experiment_id} were deleted (in the UI?), and are restored"
            )

    def _written(self, write: Callable[[], _Written], restore: Callable[[], bool]) -> _Written:
        """Write; once more, if what is written to had been deleted and could be restored."""
        from mlflow.exceptions import MlflowException

        try:
            return write()
        except MlflowException:
            if not restore():
                raise
            return write()

    def end_run(self, run_id: str, status: str = "FINISHED") -> None:
        """Close a run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._written(
            lambda: self._client.set_terminated(run_id, status),
            lambda: self._restore_run(run_id),
        )
        self._folders.pop(run_id, None)

    def resume_run(self, run_id: str) -> bool:
        """Mark a closed run as running again; False where MLflow has no such run any more."""
        if self._find(run_id) is None:
            return False
        self._written(
            lambda: self._client.update_run(run_id, status="RUNNING"),
            lambda: self._restore_run(run_id),
        )
        return True

    def status(self, run_id: str) -> str | None:
        """``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``; None where there is no such run."""
        run = self._find(run_id)
        return None if run is None else str(run.info.status)

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


def _with_suffix(name: str, suffix: str) -> str:
    return name[: _MAX_EXPERIMENT_NAME - len(suffix)] + suffix


def local_path(uri: str) -> Path:
    """The path of a ``file:`` address, or of a plain path, as MLflow keeps either."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(uri))


def _note(text: str) -> None:
    """Tell a person what was found and repaired."""
    sys.stderr.write(f"note: {text}\n")
