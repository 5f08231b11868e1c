"""Golden files: what was written once is read forever.

``golden/v1`` holds files of format version 1, written once by `tests.packing.make_golden`, and
beside each what the qwave of that day predicted with it; ``golden/v2`` likewise. A new format
version adds a folder of its own; the earlier files stay as they are and stay readable. Only files
of the current version are the same bytes when they are written again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwave.config import PackedFileError
from qwave.packing import FORMAT_VERSION, from_bytes, from_file, to_bytes
from qwave.runtime import load_packed

from .make_golden import CASES, GOLDEN, TOLERANCE
from .models import join, split

FILES = sorted(GOLDEN.glob("v*/*.qwave"))
CURRENT = [file for file in FILES if file.parent.name == f"v{FORMAT_VERSION}"]


def label(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def expected(file: Path) -> dict[str, Any]:
    """Clips `x`, and what was predicted of them with a file."""
    found: dict[str, Any] = json.loads(file.with_suffix(".json").read_text("utf-8"))
    return found


def test_every_version_up_to_this_one_has_golden_files() -> None:
    versions = {file.parent.name for file in FILES}
    assert versions == {f"v{version}" for version in range(1, FORMAT_VERSION + 1)}


def test_this_version_has_a_golden_file_of_every_case() -> None:
    assert {file.stem for file in CURRENT} == set(CASES)
    assert all(file.stat().st_size < 2000 for file in CURRENT)


@pytest.mark.parametrize("file", FILES, ids=label)
def test_golden_file_predicts_what_it_did(file: Path) -> None:
    wanted = expected(file)
    model = load_packed(file)
    assert list(model.class_names) == wanted.pop("class_names")
    header = model.packed.header
    assert header.encoder == wanted.pop("encoder", "")  # of which version 1 knows nothing
    assert header.sure_probability == wanted.pop("sure_probability", 0.0)
    found = model.examine(np.array(wanted.pop("x"), dtype=np.float32))._asdict()
    assert set(found) == set(wanted)
    for key in wanted:
        np.testing.assert_allclose(
            found[key], wanted[key], rtol=0, atol=TOLERANCE, err_msg=f"{file.stem}: {key}"
        )


@pytest.mark.parametrize("file", CURRENT, ids=label)
def test_golden_file_written_again_is_the_same_bytes(file: Path) -> None:
    content = file.read_bytes()
    assert to_bytes(from_file(file)) == content
    assert to_bytes(from_bytes(content, "golden")) == content


@pytest.mark.parametrize("file", FILES, ids=label)
def test_golden_file_has_one_form_in_its_version(file: Path) -> None:
    content = file.read_bytes()
    metadata, rest = split(content)
    text = metadata["__metadata__"]
    assert text["qwave"] == file.parent.name[1:]
    assert join(metadata, rest) == content
    metadata["__metadata__"] = dict(reversed(text.items()))
    with pytest.raises(PackedFileError, match="^other: not a readable packed model: byte "):
        from_bytes(join(metadata, rest), "other")


@pytest.mark.parametrize("file", FILES, ids=label)
def test_golden_file_written_in_this_version_is_the_same_model(file: Path) -> None:
    found = from_bytes(to_bytes(from_file(file)), "written")
    wanted = from_file(file)
    assert found.header == wanted.header
    for name, layer in wanted.layers.items():
        assert np.array_equal(found.layers[name].codes, layer.codes), name
