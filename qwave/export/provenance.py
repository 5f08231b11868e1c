"""Where a model was made: the version of qwave, its commit, the machine, the day."""

from __future__ import annotations

import datetime
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from qwave.export.latency import processor_name


class Provenance(NamedTuple):
    """What a card says about its making.

    Attributes:
        qwave_version: Of the package.
        git_commit: Of the working copy that qwave runs from, or None.
        processor: Name of the processor.
        system: Operating system and Python.
        date: The day, in UTC: 2026-02-28.
    """

    qwave_version: str
    git_commit: str | None
    processor: str
    system: str
    date: str


def present_provenance() -> Provenance:
    """Of a model that is made now."""
    return Provenance(
        metadata.version("qwave"),
        git_commit(Path(__file__).resolve().parents[2]),
        processor_name(),
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def git_commit(folder: Path) -> str | None:
    """Commit of a working copy, with a note if files differ from it.

    None for a folder that is none itself (an installed package may lie inside somebody else's),
    and where git is not there or refuses.
    """
    if not (folder / ".git").exists():
        return None
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain"])
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}, with changes that are not committed" if changes else commit
