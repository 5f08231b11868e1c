"""The cache folder: the user's, or one for this process where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwave import caching
from qwave.caching import find_cache_folder, require_home

NO_HOME = (
    "import os, pwd\n"
    "def unknown(uid):\n"
    "    raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
    "pwd.getpwuid = unknown\n"
    "for key in ('HOME', 'XDG_CACHE_HOME', 'LOGNAME', 'USER', 'LNAME', 'USERNAME'):\n"
    "    os.environ.pop(key, None)\n"
)


@pytest.fixture(autouse=True)
def _no_folder_of_another_test() -> Iterator[None]:
    caching._own_folder.cache_clear()
    yield
    caching._own_folder.cache_clear()


def test_the_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert find_cache_folder() == (tmp_path / ".cache" / "qwave", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert find_cache_folder() == (tmp_path / "other" / "qwave", True)
    assert list((tmp_path / "other" / "qwave").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_replaced_for_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder, is_kept = find_cache_folder()
    assert not is_kept
    (folder / "something").touch()


def test_a_user_without_a_home_has_a_folder_that_ends_with_the_process(
    fresh_python: Callable[..., str], tmp_path: Path
) -> None:
    said = fresh_python(
        NO_HOME
        + "from qwave.caching import find_cache_folder\n"
        + "folder, is_kept = find_cache_folder()\n"
        + "(folder / 'file').touch()\n"
        + "print(folder, is_kept)\n",
        TMPDIR=str(tmp_path),
    )
    folder, is_kept = said.split()
    assert is_kept == "False"
    assert Path(folder).parent == tmp_path
    assert not Path(folder).exists()


@pytest.mark.slow
def test_a_store_is_opened_without_a_home(
    fresh_python: Callable[..., str], tmp_path: Path
) -> None:
    """MLflow asks for one as soon as it is imported."""
    said = fresh_python(
        NO_HOME
        + "from pathlib import Path\n"
        + "from qwave.store import Store, Tracker\n"
        + f"tracker = Tracker(Store(Path({str(tmp_path)!r})))\n"
        + "run_id = tracker.start_run(tracker.experiment('sweep'), 'run')\n"
        + "print(tracker._client.get_run(run_id).data.tags['mlflow.user'])\n",
    )
    assert said == "unknown"


def test_a_home_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    require_home()
    assert os.environ["HOME"] == str(tmp_path)
