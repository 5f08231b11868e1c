"""MLflow's database in a store: is it whole, and do its absolute paths lead into the store?

MLflow writes the absolute path of every artifact into its database. In a folder that was moved or
copied, these paths would still lead to where the folder was.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from qwave.config import StoreError
from qwave.store.folder import Store
from qwave.text import for_shell

# All columns that MLflow 3.17 reads paths of artifacts from.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
_WAIT_SECONDS = 20  # for another process that is writing, as MLflow itself waits


def require_database(store: Store) -> None:
    """Refuse a damaged database at once: MLflow would try to open it for a minute.

    Raises:
        StoreError: SQLite cannot read it. Without the file the next start makes a new one: what
            a study is and goes on from lies in Optuna's journal.
    """
    file = store.database
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(file, timeout=_WAIT_SECONDS)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:  # in use, or it may not be read: MLflow waits, and says so
        return
    except sqlite3.DatabaseError as error:
        aside = for_shell("mv", file, file.with_suffix(".damaged"))
        raise StoreError(
            f"{file} is damaged ({error}); put back a copy of it, or set it aside with {aside}: "
            "the same command then makes a new one and goes on; all trials are in optuna.journal, "
            "only MLflow's view of the earlier ones is lost"
        ) from error


def mend_paths(store: Store) -> list[Path]:
    """Make MLflow look for a store's artifacts where the store lies now.

    One transaction; nothing is written where nothing has moved. Artifacts that never lay in the
    store, such as those of experiments that were made in MLflow's UI, stay where they are.

    Args:
        store: The store; whoever holds its lock may mend it.

    Returns:
        The folders in which MLflow looked for artifacts until now.
    """
    root = store.artifact_root
    connection = sqlite3.connect(store.database, timeout=_WAIT_SECONDS, isolation_level=None)
    with closing(connection):
        earlier = sorted(_earlier_roots(connection) - {root.as_uri()})
        if not earlier:
            return []
        connection.execute("BEGIN IMMEDIATE")
        for uri in earlier:
            _replace_prefix(connection, uri, root.as_uri())
            _replace_prefix(connection, unquote(uri.removeprefix("file://")), str(root))
        connection.execute("COMMIT")
    return [Path(unquote(uri.removeprefix("file://"))) for uri in earlier]


def _earlier_roots(connection: sqlite3.Connection) -> set[str]:
    """URIs of all folders that were the root of artifacts when an experiment was made.

    An experiment is qwave's if a run of it says so; one without a run, if it lies as qwave lays
    experiments.
    """
    rows = connection.execute(
        "SELECT name, artifact_location, EXISTS (SELECT 1 FROM runs JOIN tags USING (run_uuid) "
        "WHERE runs.experiment_id = experiments.experiment_id AND tags.key = 'qwave.kind'), "
        "EXISTS (SELECT 1 FROM runs WHERE runs.experiment_id = experiments.experiment_id) "
        "FROM experiments WHERE artifact_location LIKE 'file:///%'"
    )
    roots = set()
    for name, location, is_ours, has_runs in rows:
        parent, _, last = location.rpartition("/")
        lies_like_ours = parent.endswith("/artifacts") and name.split(" (until ")[0] == last
        if is_ours or (not has_runs and lies_like_ours):
            roots.add(parent)
    return roots


def _replace_prefix(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _COLUMNS:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE substr({column}, 1, ?) = ?",
            (new, len(old) + 1, len(old) + 1, f"{old}/"),
        )
