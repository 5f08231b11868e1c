"""Files on disk: what is no file is not waited for, and what lies about its length is not read."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from qwave.config import PackedFileError
from qwave.packing import from_bytes, from_file, to_bytes
from qwave.packing.file import _read
from qwave.packing.header import header_to_text

from .models import MIXTURE, PLAIN, join, small_model

GIGABYTE = 2**30


def sparse_file(folder: Path, start: bytes, n_bytes: int = GIGABYTE) -> Path:
    """A file of a gigabyte that begins with some bytes; it takes no room on disk."""
    file = folder / "big.qwave"
    file.write_bytes(start)
    os.truncate(file, n_bytes)
    return file


def assert_refused_unread(file: Path, match: str, most_bytes: int = 500_000) -> None:
    tracemalloc.start()
    with pytest.raises(PackedFileError, match=match):
        from_file(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most_bytes, f"{peak} bytes of memory"


@pytest.mark.parametrize("schemes", [MIXTURE, PLAIN], ids=["mixture", "plain"])
def test_file_is_read_as_its_bytes_are(schemes: tuple[str, ...], tmp_path: Path) -> None:
    content = to_bytes(small_model(*schemes))
    file = tmp_path / "模型 model.qwave"
    file.write_bytes(content)
    link = tmp_path / "link"
    link.symlink_to(file)
    for path in (file, str(file), link):
        assert to_bytes(from_file(path)) == content
    for damaged in (b"", content[:7], content[:100], content[:-1], content + b"\0"):
        file.write_bytes(damaged)
        with pytest.raises(PackedFileError, match=f"^{file}: not a ") as of_file:
            from_file(file)
        with pytest.raises(PackedFileError) as of_bytes:
            from_bytes(damaged, str(file))
        assert str(of_file.value) == str(of_bytes.value)


@pytest.mark.parametrize("name", ["nothing", "folder/nothing", "broken", "loop", "a\0b"])
def test_missing_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(PackedFileError, match=f"^no such file: {tmp_path}/{name}$"):
        from_file(tmp_path / name)


def test_folders_pipes_and_devices_are_refused_unopened(
    tmp_path: Path, fresh_python: Callable[..., str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    paths = [str(tmp_path), str(tmp_path / "pipe"), "/dev/zero", "/dev/null"]
    code = f"""
import qwave.packing
for path in {paths}:
    try:
        qwave.packing.from_file(path)
    except qwave.QwaveError as error:
        print(error)
"""
    # In a process of its own, which is ended if it waits for the pipe.
    assert fresh_python(code).splitlines() == [
        f"no such file: {path} (it is a folder, a pipe or a device)" for path in paths
    ]


@pytest.mark.parametrize("length", [GIGABYTE - 8, GIGABYTE, 2**40, 2**64 - 1, 1_000_001])
def test_header_of_a_gigabyte_is_refused_unread(length: int, tmp_path: Path) -> None:
    file = sparse_file(tmp_path, length.to_bytes(8, "little"))
    match = f"^{file}: not a packed qwave model: {GIGABYTE} bytes, header length {length}$"
    assert_refused_unread(file, match)


def test_gigabyte_that_its_header_asks_for_is_refused_unread(tmp_path: Path) -> None:
    text = header_to_text(small_model(*PLAIN, hidden=()).header)
    features = (GIGABYTE - 12) // 3
    tensor = {"dtype": "U8", "shape": [GIGABYTE], "data_offsets": [0, GIGABYTE]}
    head = join({"__metadata__": {**text, "features": str(features)}, "t": tensor}, b"")
    file = sparse_file(tmp_path, head, len(head) + GIGABYTE)
    match = f"impossible model: .* at most {2**28} weights, but this one has {3 * features}$"
    assert_refused_unread(file, match)


@pytest.mark.parametrize("n_missing", [1, 20])
def test_file_that_becomes_shorter_while_it_is_read_is_refused(n_missing: int) -> None:
    content = to_bytes(small_model(*PLAIN))
    match = f"^cut: not a readable packed model: the file became {n_missing} bytes shorter$"
    with pytest.raises(PackedFileError, match=match):
        _read(io.BytesIO(content[:-n_missing]), len(content), "cut")
    with pytest.raises(PackedFileError, match="^cut: not a readable packed model: "):
        _read(io.BytesIO(content[:100]), len(content), "cut")
